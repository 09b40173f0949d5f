"""The process that trains one run: `python -m batchopt.training.worker RUN_DIR`.

Everything heavy is here, so that the memory of a run is the memory of one process, and the death of
a run the death of one process. It is imported once it is known what the run needs. The worker
writes the files of the run. At the end it reports its outcome to the supervisor, which makes
record.json of it.
"""

import argparse
import copy
import signal
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.machine import host_memory
from batchopt.machine.imports import without_collector
from batchopt.record.files import TRAIN_LOG
from batchopt.record.statuses import Phase, Status
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import Packing
from batchopt.request.read_back import read_run
from batchopt.training import adapters, checkpoints
from batchopt.training.failures import describe
from batchopt.training.supervised import add_supervision, be_supervised, log_to, logger

if TYPE_CHECKING:
    from batchopt.training.recorder import Recorder
    from batchopt.training.trainer import ExactTrainer


def main() -> int:
    """Runs the worker; exits with 0 even if the run failed, since it has reported that."""
    parser = argparse.ArgumentParser(description="Train one run; batchopt.train starts this.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--per-device-train-batch-size", type=int, required=True)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--earlier-s", type=float, default=0.0, help="time of earlier attempts")
    add_supervision(parser)
    arguments = parser.parse_args()
    events = be_supervised(arguments)
    log_to(arguments.run_dir / TRAIN_LOG, events)
    request = _request(arguments.run_dir)
    if not isinstance(request, RequestError):
        adapters.settle_imports(request.config.adapter)
    with without_collector():
        from batchopt.training.recorder import Recorder

    started = time.monotonic() - arguments.earlier_s
    recorder = Recorder(arguments.run_dir, events, started, arguments.attempt)
    events.tell(outcome=run(recorder, request, arguments))
    return 0


def _request(run_dir: Path) -> RunRequest | RequestError:
    """The run, or what is wrong with it: there is nothing yet that reports it."""
    try:
        return read_run(run_dir)
    except RequestError as error:
        return error


def run(
    recorder: "Recorder", request: RunRequest | RequestError, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Trains the run and returns its outcome; a failing run does not raise."""
    with without_collector():
        import batchopt.training.trainer  # noqa: F401 - the largest part, which `build` wants
        from batchopt.training.build import build_trainer
        from batchopt.training.recorder import StopRequested

    outcome: dict[str, Any] = {"traceback": None}
    signal.signal(signal.SIGTERM, lambda *_: recorder.request_stop())
    try:
        recorder.phase(Phase.load)
        if isinstance(request, RequestError):
            raise request
        plan = BatchPlan(
            arguments.per_device_train_batch_size, request.config.batch.effective_batch_size
        )
        trainer, facts = build_trainer(
            request,
            plan,
            recorder,
            gradient_checkpointing=arguments.gradient_checkpointing,
            tracked=True,
        )
        outcome |= asdict(facts)
        train(trainer)
        outcome |= _ended(recorder, facts.plan.optimizer_steps)
        if outcome["status"] == Status.completed:
            checkpoints.keep_weights_only(recorder.run_dir)
    except StopRequested:
        outcome |= {"status": Status.interrupted, "cause": "stopped before the training began"}
    except Exception as error:  # any error belongs into the record
        host_memory.lift_limit()
        status, cause = describe(error)
        outcome |= {"status": status, "cause": cause, "traceback": traceback.format_exc()}
        logger.error("%s: %s", status, cause)
        logger.info("%s", outcome["traceback"])
    outcome["metrics"] = recorder.metrics()
    return outcome


def _ended(recorder: "Recorder", planned: int) -> dict[str, Any]:
    """The status and cause of a training that returned; early stopping completes it."""
    done = len(recorder.steps)
    if recorder.stop_requested and done < planned:
        return {"status": Status.interrupted, "cause": f"stopped after step {done} of {planned}"}
    return {"status": Status.completed, "cause": f"completed {done} optimizer steps"}


def train(trainer: "ExactTrainer") -> None:
    """Trains and evaluates, from the last whole checkpoint if there is one.

    Notes the figures of the allocator and the utilisation even if the training fails.
    """
    import torch

    from batchopt.training import waiting
    from batchopt.training.allocator import Allocator
    from batchopt.training.flops import measure_peak
    from batchopt.training.memory_split import optimizer_bytes
    from batchopt.training.trainer import resolve_precision

    recorder, config, device = trainer.recorder, trainer.config, trainer.args.device
    cuda = device.type != "cpu"
    precision = resolve_precision(config.training.precision, cpu=not cuda)
    # The scoring process still loads, on a core of the CPU that is measured next: wait for it.
    trainer.evaluator.rouge.submit([""], [[""]]).result()
    peak = measure_peak(device, precision)
    per_token = _flops_per_token(trainer)
    if not cuda:
        host_memory.trim()
    if config.device.memory_limit_gib is not None and not cuda:
        host_memory.limit_anonymous(int(config.device.memory_limit_gib * 2**30))
    allocator = Allocator(torch.get_device_module(device)) if cuda else None
    if allocator is not None:
        recorder.on_phase = allocator.enter
    checkpoint = checkpoints.newest_whole(recorder.run_dir)
    if checkpoint is not None:
        recorder.restore(checkpoint)
        logger.info("resuming from step %d", checkpoints.step_of(checkpoint))
    else:
        recorder.begin_anew()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        host_memory.lift_limit()
        if allocator is not None:
            recorder.other_metrics |= allocator.metrics()
        speed = recorder.metrics()["tokens_per_second"]
        recorder.other_metrics |= {
            "peak_flops_per_second": peak,
            "flops_per_token": per_token,
            "passive_wait_s": None if cuda else waiting.slept_s(),
            "optimizer_bytes": optimizer_bytes(trainer.optimizer),
            "mfu": speed * per_token / peak if speed and per_token else None,
        }


def _flops_per_token(trainer: "ExactTrainer") -> float | None:
    """Model FLOPs of one source or target token, in the first micro-batch of the first step.

    None for quantised weights: their operations read the content of the tensors.
    """
    from batchopt.step.architecture import architecture_of
    from batchopt.training.flops import count_flops

    if adapters.is_quantised(trainer.model):
        return None

    architecture = architecture_of(trainer.model)
    sampler = trainer.step_sampler()
    collate = copy.copy(trainer.collator)
    if collate.packing is Packing.unpadded:
        # The operations on a joined row depend on the content of its position_ids.
        collate.packing = Packing.sorted
    step = collate([trainer.train_rows[index] for index in next(iter(sampler))])
    batch = step["micro_batches"][0]
    sliced = trainer.sliced and architecture.counts_head_at_targets
    try:
        return count_flops(trainer.model, batch, sliced=sliced) / float(architecture.tokens(batch))
    except Exception as error:  # a model that needs the content of its tensors has no utilisation
        logger.warning("mfu is not measured: the operations cannot be counted (%s)", error)
        return None


if __name__ == "__main__":
    sys.exit(main())
