"""Which device a run gets: one that is visible, that no other run has, that nobody else uses."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

from batchopt.machine import nvml
from batchopt.machine.lease import Lease, acquire, inherited
from batchopt.request.config import DeviceConfig

logger = logging.getLogger(__name__)

CPU = "cpu"
"""The name under which the CPU is leased."""

UNSEEN_SHARE = 0.1
"""Above this share of used memory a GPU counts as busy, even if NVML lists no process: in a
container it lists none. What processes that draw have, such as a desktop's, does not count."""


def visible_devices(kind: str) -> list[nvml.DeviceInfo | None]:
    """Lists the devices that a run on `device.kind` may get, the first choice first; None: the CPU.

    Raises:
        NvmlError: A GPU is demanded and NVML finds none.
    """
    if kind == "cpu":
        return [None]
    try:
        devices = nvml.visible_devices(os.environ)
    except nvml.NvmlError:
        if kind == "cuda":
            raise
        return [None]
    if not devices and kind == "cuda":
        raise nvml.DeviceNotFound("CUDA_VISIBLE_DEVICES leaves no GPU")
    return [*devices] or [None]


def find_device(kind: str) -> nvml.DeviceInfo | None:
    """Finds the device that is the first choice of `visible_devices`, whoever uses it.

    Raises:
        NvmlError: A GPU is demanded and NVML finds none.
    """
    return visible_devices(kind)[0]


def lease_for_run(config: DeviceConfig, run_dir: Path) -> tuple[nvml.DeviceInfo | None, Lease]:
    """Takes a device for one run, waiting in line where none is free; None: the CPU.

    Hand `pass_fds` of the lease to the process that trains, and close the lease when it has ended.
    Where the launcher has taken a device for this run, it is that one.

    Raises:
        NvmlError: A GPU is demanded and NVML finds none.
        RequestError: The directory of the leases is not fit for use.
    """
    devices = {lease_name(device): device for device in visible_devices(config.kind.value)}
    names = list(devices)
    if is_allocated():
        return devices[names[0]], Lease(names[0], None)
    lease = inherited(names, str(run_dir)) or acquire(
        names,
        str(run_dir),
        tell=lambda why: logger.info("%s waits for a device: %s", run_dir, why),
        why_busy=lambda name: why_busy(devices[name], config),
    )
    return devices[lease.device], lease


def lease_name(device: nvml.DeviceInfo | None) -> str:
    """The name under which a device is leased."""
    return CPU if device is None else device.uuid


def is_allocated() -> bool:
    """Whether SLURM has given this job its devices: then nobody else's lease counts."""
    return "SLURM_JOB_ID" in os.environ


def why_busy(
    device: nvml.DeviceInfo | None,
    config: DeviceConfig,
    give_up: Callable[[], bool] = lambda: False,
) -> str | None:
    """Says who else uses a device that no run of batchopt has; None: nobody, or it does not matter.

    A GPU that cannot be read is not used either: it would take one run after the other to its end.

    Args:
        device: The device; None: the CPU.
        config: Whether it matters.
        give_up: Asked again and again whether to wait no longer for a driver that does not answer.
    """
    if device is None or not config.wait_for_free:
        return None
    uuid = device.uuid
    try:
        reading, drawing = nvml.in_time(uuid, lambda: _read(uuid), give_up=give_up)
    except nvml.NvmlError as error:
        return f"cannot be read: {error}"
    remedy = "device.wait_for_free=false shares it"
    # Some desktops compute too.
    foreign = set(reading.foreign_pids or ()) - drawing.keys()
    if foreign:
        pids = ", ".join(str(pid) for pid in sorted(foreign))
        return f"is used outside batchopt by pid {pids} ({remedy})"
    used, total = reading.device_used_bytes, device.total_memory_bytes
    if used is None or not total or None in drawing.values():
        return None  # a desktop without figures may have all of it
    unexplained = used - sum(of_process or 0 for of_process in drawing.values())
    if unexplained > UNSEEN_SHARE * total:
        return f"is used by somebody whom NVML does not list ({remedy})"
    return None


def _read(uuid: str) -> tuple[nvml.DeviceSample, dict[int, int | None]]:
    """One sample of a device, and the memory of the processes that draw on it."""
    with nvml.DeviceMonitor(uuid) as monitor:
        return monitor.sample(()), monitor.graphics_processes()
