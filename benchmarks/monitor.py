"""What sampling costs a training: `make bench-monitor`.

A process like the supervisor follows this one at the default interval, and is stopped (SIGSTOP)
and continued in turns, block by block of optimizer steps. Printed is the ratio of the time of a
step with sampling to one without, by pairs of neighbouring blocks: median and quartiles. On a
machine with a GPU, NVML is read too.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import torch

from batchopt.request.compose import compose_run
from batchopt.request.words import read_words
from batchopt.step.batches import StepCollator
from batchopt.step.loss import micro_batch_loss
from batchopt.verify.proof import prepare

PAIRS, BLOCK, WARMUP = 60, 4, 10

FOLLOW = """
import sys, time
from contextlib import ExitStack
from pathlib import Path
from batchopt.machine.device import find_device
from batchopt.record.statuses import Phase
from batchopt.run.measurement import Measurement, open_monitor
pid, folder, interval = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
with ExitStack() as stack:
    monitor = open_monitor(find_device("auto"), stack)
    measured = Measurement(folder, pid, monitor, interval_s=interval, started=time.monotonic())
    stack.enter_context(measured)
    measured.enter(Phase.train)
    time.sleep(3600)
"""


def main() -> None:
    words = read_words(sys.argv[1:])
    request = compose_run(["batch=05b", *words])
    setting = prepare(request, steps=1)
    model = setting.model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    step = StepCollator(
        request.plan,
        packing=request.config.batch.packing,
        max_tokens_per_micro_batch=None,
        pad_token_id=setting.tokenizer.pad_token_id,
    )(setting.steps[0])

    def block() -> float:
        began = time.perf_counter()
        for _ in range(BLOCK):
            for micro_batch in step["micro_batches"]:
                batch = {name: tensor.to(setting.device) for name, tensor in micro_batch.items()}
                micro_batch_loss(model, batch, step["target_tokens"], 0.0).backward()
            optimizer.step()
            optimizer.zero_grad()
        if setting.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - began) / BLOCK

    for _ in range(WARMUP):
        block()
    interval = request.config.device.sample_interval_s
    with tempfile.TemporaryDirectory() as folder:
        follower = subprocess.Popen(
            [sys.executable, "-c", FOLLOW, str(os.getpid()), folder, str(interval)]
        )
        time.sleep(3.0)
        ratios, seconds = [], []
        for pair in range(PAIRS):
            times = {}
            # The order turns, so that a drift of the machine favours neither.
            for sampled in (True, False) if pair % 2 else (False, True):
                follower.send_signal(signal.SIGCONT if sampled else signal.SIGSTOP)
                times[sampled] = block()
            ratios.append(times[True] / times[False])
            seconds.append(times[False])
        follower.kill()
        follower.wait()
    low, middle, high = statistics.quantiles(ratios)
    print(
        f"a step of {statistics.median(seconds):.3f} s takes {middle:.4f} times as long while "
        f"sampled every {interval:g} s (quartiles {low:.4f} to {high:.4f}, {PAIRS} pairs of "
        f"{BLOCK} steps)"
    )


if __name__ == "__main__":
    main()
