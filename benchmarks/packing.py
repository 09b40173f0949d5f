"""Preset x packing, measured: `make bench-packing [DATA='data=files data.train_file=…']`.

For every preset all packings train the same optimizer steps from the same weights, taking turns
step by step, so that whatever else the machine does hits all of them alike. What is printed are
ratios to `none` of the same preset: padded tokens, optimizer steps per second (median and range
over the steps), peak memory; and the planner's own time as a share of the step. Memory is taken in
a process of its own for each, since an allocator does not give back what it has once had.
"""

import copy
import json
import os
import statistics
import sys
import time

import own_process
import torch

from batchopt.machine.host_memory import read_process_memory, take_peak
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import PADDED, Packing
from batchopt.request.presets import compose_presets
from batchopt.request.words import read_words
from batchopt.step.batches import StepCollator
from batchopt.step.loss import micro_batch_loss
from batchopt.step.micro_batches import padding, plan_micro_batches
from batchopt.step.tables import add_rows_in_place
from batchopt.training.trainer import adds_in_place
from batchopt.verify.proof import Setting, prepare

WARMUP, STEPS = 3, 15


def train_step(setting: Setting, model, optimizer, step) -> None:
    in_place = adds_in_place(setting.config)
    for micro_batch in step["micro_batches"]:
        batch = {name: tensor.to(setting.device) for name, tensor in micro_batch.items()}
        micro_batch_loss(
            model, batch, step["target_tokens"], 0.0, sliced=True, in_place=in_place
        ).backward()
    optimizer.step()
    optimizer.zero_grad()
    if setting.device.type == "cuda":
        torch.cuda.synchronize()


def collate(setting: Setting, plan: BatchPlan, packing: Packing, rows):
    return StepCollator(
        plan,
        packing=packing,
        max_tokens_per_micro_batch=None,
        pad_token_id=setting.tokenizer.pad_token_id,
    )(rows)


def fresh(setting: Setting):
    model = copy.deepcopy(setting.model)
    if adds_in_place(setting.config):
        add_rows_in_place(model)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-4)


def interleaved(setting: Setting, plan: BatchPlan) -> dict[Packing, list[float]]:
    """Seconds of each step, by packing."""
    trained = {packing: fresh(setting) for packing in PADDED}
    seconds = {packing: [] for packing in PADDED}
    for number, rows in enumerate(setting.steps):
        for packing in PADDED:
            started = time.perf_counter()
            step = collate(setting, plan, packing, rows)
            train_step(setting, *trained[packing], step)
            if number >= WARMUP:
                seconds[packing].append(time.perf_counter() - started)
    return seconds


def peak_memory(request: RunRequest, plan: BatchPlan, packing: Packing) -> int:
    """Bytes above what was there before the first step; the process does nothing else."""
    setting = prepare(request, steps=WARMUP + STEPS)
    model, optimizer = fresh(setting)
    before = read_process_memory(os.getpid()).anonymous_bytes
    take_peak()
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for rows in setting.steps:
        train_step(setting, model, optimizer, collate(setting, plan, packing, rows))
    if setting.device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return take_peak() - before


def planner_seconds(setting: Setting, plan: BatchPlan, packing: Packing) -> float:
    """Median seconds of one plan."""
    seconds = []
    for rows in setting.steps:
        lengths = [(len(row["input_ids"]), len(row["labels"])) for row in rows]
        started = time.perf_counter()
        plan_micro_batches(
            lengths, per_device_train_batch_size=plan.per_device_train_batch_size, packing=packing
        )
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def padded_tokens(setting: Setting, plan: BatchPlan, packing: Packing) -> int:
    total = 0
    for rows in setting.steps:
        lengths = [(len(row["input_ids"]), len(row["labels"])) for row in rows]
        cut = plan_micro_batches(
            lengths, per_device_train_batch_size=plan.per_device_train_batch_size, packing=packing
        )
        counts = padding(lengths, cut)
        total += counts.padded_source_tokens + counts.padded_target_tokens
    return total


def main() -> None:
    words = read_words([word for word in sys.argv[1:] if not word.startswith("--memory=")])
    asked = [word for word in sys.argv[1:] if word.startswith("--memory=")]
    presets = compose_presets(words)
    request, plans = presets.request, presets.plans
    if asked:
        name, packing = asked[0].removeprefix("--memory=").split(",")
        print(json.dumps(peak_memory(request, plans[name], Packing[packing])))
        return
    setting = prepare(request, steps=WARMUP + STEPS)
    print("| preset | packing | padded tokens | steps/s (range) | peak memory | planner / step |")
    print("|---|---|---|---|---|---|")
    for name, plan in plans.items():
        seconds = interleaved(setting, plan)
        memory = {
            packing: own_process.measure(__file__, f"--memory={name},{packing.value}", *words)
            for packing in PADDED
        }
        base = padded_tokens(setting, plan, Packing.none)
        for packing in PADDED:
            pairs = zip(seconds[Packing.none], seconds[packing], strict=True)
            ratios = sorted(none / ours for none, ours in pairs)
            share = planner_seconds(setting, plan, packing) / statistics.median(seconds[packing])
            tokens = padded_tokens(setting, plan, packing) / base
            low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
            print(
                f"| {name} ({plan}) | {packing.value} | {tokens:.2f} | "
                f"{statistics.median(ratios):.2f} ({low:.2f} to {high:.2f}) | "
                f"{memory[packing] / memory[Packing.none]:.2f} | {share:.1%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
