"""Runs one run in a process of its own, measures it from outside, and writes its record.

The supervisor is light (no torch) and outlives whatever the worker does. It samples memory
itself, so that the instrument takes nothing from what it measures and a killed run still leaves
its figures. It writes record.json once, when the worker has ended, however it ended.
"""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from batchopt import run_files
from batchopt.compose import RunRequest, config_hash
from batchopt.environment import describe_environment
from batchopt.measurement import Measurement, find_device, open_monitor
from batchopt.nvml import DeviceInfo

SCHEMA_VERSION = 1

GRACE_S = 30.0
"""How long a worker may take to end after SIGTERM before it is killed."""

METRICS = (
    "peak_memory_bytes",
    "mean_memory_bytes",
    "baseline_memory_bytes",
    "memory_source",
    "peak_allocated_bytes",
    "peak_reserved_bytes",
    "num_alloc_retries",
    "steps_per_second",
    "samples_per_second",
    "tokens_per_second",
    "padded_tokens_per_second",
    "padding_fraction",
    "source_padding_fraction",
    "target_padding_fraction",
    "micro_batches_per_step",
    "largest_micro_batch_tokens",
    "optimizer_steps_done",
    "warmup_steps_left_out",
    "train_time_s",
    "eval_time_s",
    "total_time_s",
    "train_loss",
    "eval_loss",
    "rouge1_f1",
    "rouge2_f1",
    "rougeL_f1",
    "rouge_f1",
    "initial_rouge_f1",
    "best_rouge_f1",
    "best_step",
    "rouge_tokenizer",
    "energy_j",
    "mean_power_w",
    "mean_utilization",
    "mfu",
    "gradient_noise_scale",
)
"""Every metric of a record; None where it was not measured."""


def supervise(request: RunRequest, run_dir: Path) -> str:
    """Trains one run in a child process and writes record.json.

    Returns:
        The status of the run.

    Raises:
        KeyboardInterrupt: Ctrl-C; the worker has ended and the record is written.
    """
    started_at, started = _now(), time.monotonic()
    run_files.write_json(
        run_dir / run_files.RUNNING,
        {"pid": os.getpid(), "hostname": os.uname().nodename, "started_at": started_at},
    )
    environment = describe_environment()
    device = find_device(request.config.device.kind.value)
    interrupted = False
    with ExitStack() as stack:
        # Opened before the worker starts: what the device holds now is not the run's.
        monitor = open_monitor(device, stack)
        worker, events = stack.enter_context(_worker(run_dir, device))
        measured = stack.enter_context(Measurement(run_dir, worker.pid, monitor, started))
        try:
            _watch(worker, events, measured, request.config.device.sample_interval_s)
        except KeyboardInterrupt:
            interrupted = True
            _end(worker)
    outcome = run_files.read_json(run_dir / run_files.OUTCOME) or {}
    status, cause = _ending(outcome, worker.returncode, interrupted)
    facts = outcome.get("device", {})
    if facts.get("device_kind") == "cpu":
        device = None
    record = {
        "schema_version": SCHEMA_VERSION,
        "status": status,
        "cause": cause,
        "started_at": started_at,
        "ended_at": _now(),
        "preset": request.preset,
        "seed": request.config.seed,
        "overrides": list(request.overrides),
        "plan": outcome.get("plan") or _plan(request),
        "metrics": dict.fromkeys(METRICS)
        | {key: value for key, value in outcome.get("metrics", {}).items() if key in METRICS}
        | measured.metrics(on_device=device is not None)
        | {"total_time_s": time.monotonic() - started},
        "environment": environment
        | facts
        | {
            "device_name": device.name if device else environment["cpu_model"],
            "device_uuid": device.uuid if device else None,
            "driver_version": device.driver_version if device else None,
        },
        "data": outcome.get("data"),
        "model": outcome.get("model"),
        "data_fingerprint": outcome.get("data_fingerprint"),
        "config_hash": config_hash(request.config),
        "traceback": outcome.get("traceback"),
    }
    run_files.write_json(run_dir / run_files.RECORD, record)
    (run_dir / run_files.OUTCOME).unlink(missing_ok=True)
    (run_dir / run_files.RUNNING).unlink(missing_ok=True)
    if interrupted:
        raise KeyboardInterrupt
    return status


@contextmanager
def _worker(
    run_dir: Path, device: DeviceInfo | None
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Starts the worker and yields it with the descriptor that its events come from."""
    events, events_write = os.pipe()
    lifeline_read, lifeline = os.pipe()
    try:
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "batchopt.worker", str(run_dir)),
                *("--events", str(events_write), "--lifeline", str(lifeline_read)),
            ],
            # The worker sees the one device that is measured, by its UUID, or none.
            env=os.environ | {"CUDA_VISIBLE_DEVICES": device.uuid if device else ""},
            pass_fds=(events_write, lifeline_read),
            stdin=subprocess.DEVNULL,
            # A group of its own: Ctrl-C in the terminal reaches the supervisor alone, which then
            # ends the worker in order.
            process_group=0,
        )
        os.close(events_write)
        os.close(lifeline_read)
        try:
            yield worker, events
        finally:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
    finally:
        os.close(events)
        os.close(lifeline)


def _watch(
    worker: subprocess.Popen[bytes], events: int, measured: Measurement, interval_s: float
) -> None:
    """Samples the run and follows its phases until the worker has ended."""
    unread = b""
    selector = selectors.DefaultSelector()
    selector.register(events, selectors.EVENT_READ)
    while worker.poll() is None:
        measured.sample()
        if not selector.select(timeout=interval_s):
            continue
        received = os.read(events, 65536)
        if not received:  # the worker has closed its end: it is about to be gone
            worker.wait()
            return
        *complete, unread = (unread + received).split(b"\n")
        for line in complete:
            measured.enter(json.loads(line)["phase"])


def _end(worker: subprocess.Popen[bytes]) -> None:
    """Ends the worker: asks, waits, then insists; a second Ctrl-C insists at once."""
    worker.terminate()
    try:
        worker.wait(GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def _ending(outcome: dict[str, Any], returncode: int, interrupted: bool) -> tuple[str, str]:
    if interrupted:
        return "interrupted", "stopped with Ctrl-C"
    if outcome:
        return outcome["status"], outcome["cause"]
    if returncode < 0:
        name = signal.Signals(-returncode).name
        status = "killed" if name in ("SIGKILL", "SIGTERM") else "failed"
        return status, f"the training process ended by {name}"
    return "failed", f"the training process ended with exit code {returncode} and no outcome"


def _plan(request: RunRequest) -> dict[str, Any]:
    return {
        "per_device_train_batch_size": request.plan.per_device_train_batch_size,
        "gradient_accumulation_steps": request.plan.gradient_accumulation_steps,
        "effective_batch_size": request.plan.effective_batch_size,
        "packing": request.config.batch.packing.value,
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
