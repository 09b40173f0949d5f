"""Measures the memory and time of batch sizes, each in a process of its own."""

import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from batchopt.errors import RequestError, name_ending
from batchopt.machine.nvml import DeviceInfo
from batchopt.record.statuses import Status
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import Config
from batchopt.run.child_process import Stop, run_child


@dataclass(frozen=True, slots=True)
class Probe:
    """The memory of one batch size: the peaks of training and of evaluation, in bytes.

    `fits` is None if the size was not tried, because a smaller one had failed.
    """

    plan: BatchPlan
    fits: bool | None
    cause: str
    train_peak_bytes: int | None = None
    eval_peak_bytes: int | None = None
    seconds_per_step: float | None = None
    tokens: int | None = None
    """Padded source and target tokens of the worst micro-batch."""

    @property
    def peak_bytes(self) -> int | None:
        """The peak of the whole run."""
        peaks = [self.train_peak_bytes, self.eval_peak_bytes]
        return max((peak for peak in peaks if peak is not None), default=None)


def probe_all(
    request: RunRequest, plans: Iterable[BatchPlan], device: DeviceInfo | None, stop: Stop
) -> list[Probe]:
    """Probes from the smallest size up; a size larger than one that failed is not run.

    Raises:
        KeyboardInterrupt: `stop` noted a signal.
        RequestError: A probe failed for another reason than memory.
    """
    probes: list[Probe] = []
    failed: Probe | None = None
    for plan in sorted(set(plans), key=lambda plan: plan.per_device_train_batch_size):
        if failed is not None:
            probes.append(Probe(plan, None, f"implied by {failed.plan}"))
            continue
        probe = probe_one(request, plan, device, stop)
        probes.append(probe)
        failed = None if probe.fits else probe
    return probes


def probe_one(request: RunRequest, plan: BatchPlan, device: DeviceInfo | None, stop: Stop) -> Probe:
    """Probes one size in a child.

    Raises:
        KeyboardInterrupt: `stop` noted a signal.
        RequestError: The probe failed for another reason than memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="batchopt-probe-"))
    try:
        ending = run_child(
            "batchopt.probe.worker",
            [
                f"--per-device-train-batch-size={plan.per_device_train_batch_size}",
                *request.overrides,
            ],
            folder,
            device,
            stop=stop,
            limits=request.config.run,
            interval_s=request.config.device.sample_interval_s,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if ending.signals:
        raise KeyboardInterrupt
    outcome = ending.told.get("outcome", {})
    status = outcome.get("status") or (Status.oom if ending.kernel_killed else "died")
    if status not in (Status.completed, Status.oom):
        cause = outcome.get("cause") or f"the process ended with {name_ending(ending.returncode)}"
        raise RequestError(f"probing {plan}: {cause}")
    metrics = ending.measurement.metrics(on_device=device is not None)
    worst = outcome.get("worst")
    fits = status == Status.completed
    return Probe(
        plan,
        fits=fits,
        cause=outcome.get("cause", "out of memory"),
        # The memory of a failed probe only says how far it came.
        train_peak_bytes=metrics["peak_memory_bytes"] if fits else None,
        eval_peak_bytes=metrics["eval_peak_memory_bytes"] if fits else None,
        seconds_per_step=outcome.get("seconds_per_step"),
        tokens=worst
        and plan.per_device_train_batch_size * (worst["source_tokens"] + worst["target_tokens"]),
    )


def budget_bytes(config: Config, device: DeviceInfo | None) -> int:
    """The memory that a run may use: the configured limit, that of the GPU, or the free memory."""
    if config.device.memory_limit_gib is not None:
        return int(config.device.memory_limit_gib * 2**30)
    if device is not None and device.total_memory_bytes is not None:
        return device.total_memory_bytes
    return int(psutil.virtual_memory().available)
