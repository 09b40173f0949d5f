"""NVIDIA's management library: which GPUs a run may have, and what one of them reads.

This module alone knows pynvml (package nvidia-ml-py), imports it only where a device is
measured, and lets none of its errors out: they cannot be hashed or pickled. A device is named by
its UUID, never by a position: NVML ignores CUDA_VISIBLE_DEVICES and CUDA renumbers.

Sources: https://docs.nvidia.com/deploy/nvml-api/ for the readings,
https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/environment-variables.html for
CUDA_VISIBLE_DEVICES and CUDA_DEVICE_ORDER.
"""

import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

Value = TypeVar("Value")
EnergySource = Literal["counter", "integrated_power"]

ANSWER_S = 60.0
"""How long the driver may take. Without its persistence mode it wakes the GPUs at each opening,
which takes some seconds a GPU."""


class NvmlError(RuntimeError):
    """NVML could not do what was asked; pynvml's error is the cause."""


class NvmlUnavailable(NvmlError):
    """There is no NVML on this machine, or no driver behind it."""


class DeviceNotFound(NvmlError):
    """No device here has this UUID."""


class DriverHangs(NvmlError):
    """The driver has not answered in time; the thread that asked it may never return."""


class DeviceLost(NvmlError):
    """The GPU fell off the bus or must be reset; whatever ran on it is gone."""


class NoPermission(NvmlError):
    """The system keeps this device or this reading from us."""


class NotSupported(NvmlError):
    """The card, its MIG device or the driver has no such reading."""


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that a run can be given: a GPU, or a MIG device of one.

    `index` is NVML's number of the GPU, for people only. `total_memory_bytes` is None where the
    GPU has no memory of its own. `order_is_certain` is False where an index of
    CUDA_VISIBLE_DEVICES chose the device and CUDA may count otherwise than was assumed here.
    `compute_capability` is such as "9.0", None where the driver does not tell.
    """

    uuid: str
    name: str
    index: int
    pci_bus_id: str
    total_memory_bytes: int | None
    driver_version: str
    is_mig: bool = False
    order_is_certain: bool = True
    compute_capability: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceSample:
    """What a device reads at one moment; None is what could not be read.

    `process_used_bytes` is the sum over the run's processes, None while none of them is listed.
    `device_used_bytes` is everybody's; on drivers before 510 it includes the driver's reserve.
    `utilization` is the share (0 to 1) of the last period in which a kernel ran. `power_w` may
    be the mean of the last second. `energy_j` counts from the opening of the monitor.
    `foreign_pids` are processes on the device that are not the run's.

    In a container NVML may know the run by a number of another namespace. `newcomer_used_bytes` is
    the memory of the one process that came after the opening while none of the run's was listed.
    `others_added_bytes` is what foreign processes hold beyond what they held at the opening; None
    where NVML lists a foreign newcomer without its memory.
    """

    process_used_bytes: int | None
    device_used_bytes: int | None
    utilization: float | None
    power_w: float | None
    energy_j: float | None
    temperature_c: int | None
    throttle_reasons: tuple[str, ...] | None
    foreign_pids: tuple[int, ...] | None
    newcomer_used_bytes: int | None = None
    others_added_bytes: int | None = 0


def in_time(
    subject: str,
    call: Callable[[], Value],
    *,
    within_s: float | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Value:
    """Calls NVML in a thread, and waits for the answer.

    No signal reaches a process whose main thread waits in a driver that hangs; here it waits in
    Python.

    Args:
        subject: What the call is about, for the error.
        call: What to call.
        within_s: Seconds to wait; None: ANSWER_S.
        give_up: Asked ten times a second whether to wait no longer.

    Raises:
        DriverHangs: No answer in time, or given up.
    """
    answer: Future[Value] = Future()

    def ask() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    began = time.monotonic()
    # Neither the end of the process nor an executor's exit waits for a daemon thread.
    threading.Thread(target=ask, name="batchopt-nvml", daemon=True).start()
    limit_s = ANSWER_S if within_s is None else within_s
    while True:
        try:
            return answer.result(timeout=min(0.1, limit_s))
        except TimeoutError:
            if answer.done():  # the call's own error
                raise
        waited_s = time.monotonic() - began
        if waited_s >= limit_s or give_up():
            raise DriverHangs(
                f"{subject}: the driver has not answered for {waited_s:.0f} s; see `dmesg | grep "
                "-i nvrm`; a driver that hangs needs a reboot"
            )


def visible_devices(environ: Mapping[str, str]) -> list[DeviceInfo]:
    """Lists the devices that CUDA_VISIBLE_DEVICES leaves, in its order, as CUDA reads it.

    The list ends at the first entry that names nothing, and a device named twice leaves none.
    Indices count the GPUs that this process may open: the numbering inside a container or a
    SLURM step. Where the variable is unset, every MIG device of a GPU counts, though one CUDA
    process sees only the first: a run is given one by its UUID.

    Raises:
        NvmlUnavailable: There is no NVIDIA driver here.
        DriverHangs: It has not answered within ANSWER_S.
    """
    gpus, none_lost = in_time("listing the GPUs", _list_gpus)
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return [device for gpu in gpus for device in gpu.devices]
    # By default CUDA puts the fastest first, which NVML cannot tell from among different cards.
    in_pci_order = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    certain = none_lost and (in_pci_order or len({gpu.name for gpu in gpus}) <= 1)
    # The first entry says what the others are. Source: torch.cuda._parse_visible_devices.
    prefix = next((kind for kind in ("GPU-", "MIG-") if value.startswith(kind)), "")
    chosen: list[DeviceInfo] = []
    for entry in value.split(","):
        if not prefix:
            device = _by_index(gpus, entry)
        else:
            device = _by_uuid(gpus, entry) if entry.startswith(prefix) else None
        if device is None:
            break
        if device in chosen:
            return []
        chosen.append(device)
    return [replace(device, order_is_certain=certain or bool(prefix)) for device in chosen]


class DeviceMonitor:
    """Reads one device; a context manager, open from its construction on.

    Each call waits for the driver, however long that takes: see `in_time`.

    What the device does not have reads None; `unavailable` says why, by the name of the reading.
    `baseline_used_bytes` is what the device held when the monitor was opened: open it before the
    run starts. `energy_source` is how `energy_j` is found: the card's own counter, else the
    trapezoids of the power over the samples.

    Args:
        uuid: UUID of a GPU or MIG device.
        clock: Monotonic time in seconds, for the integral of the power.

    Raises:
        NvmlUnavailable: There is no NVIDIA driver here.
        DeviceNotFound: No device here has this UUID.
        DeviceLost: The GPU must be reset.
    """

    unavailable: dict[str, str]
    baseline_used_bytes: int | None
    energy_source: EnergySource | None

    def __init__(self, uuid: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.uuid = uuid
        self.unavailable = {}
        self._lacking: set[str] = set()
        self._clock = clock
        with _nvml(uuid) as nvml, ExitStack() as stack:
            self._nvml = nvml
            # The monitor's own hold on NVML, which close() alone lets go. A finalizer that did so
            # could run while pynvml holds its lock, and would wait for it for ever.
            nvml.nvmlInit()
            stack.callback(nvml.nvmlShutdown)
            try:
                self._handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            except (nvml.NVMLError_NotFound, nvml.NVMLError_InvalidArgument) as error:
                raise DeviceNotFound(
                    f"{uuid}: there is no such GPU or MIG device here; `nvidia-smi -L` lists them"
                ) from error
            self._memory_version = self._newest_memory_version()
            self.baseline_used_bytes = self._device_used_bytes()
            self._own_pids_seen = False
            self._first = _used_by_pid(self._processes() or ())
            self._newcomer: int | None = None
            self._power_at = (clock(), self._power_w())
            self._energy_j = 0.0
            self._first_counter_j = self._counter_j()
            if self._first_counter_j is not None:
                self.energy_source = "counter"
            elif self._power_at[1] is not None:
                self.energy_source = "integrated_power"
            else:
                self.energy_source = None
            self._open = stack.pop_all()

    def __enter__(self) -> "DeviceMonitor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of NVML; the monitor cannot be read any more."""
        self._open.close()

    def sample(self, pids: Collection[int]) -> DeviceSample:
        """Reads everything once.

        Args:
            pids: All processes of the run.

        Raises:
            DeviceLost: The GPU fell off the bus or must be reset.
        """
        nvml, handle = self._nvml, self._handle
        listed = self._processes()
        used = None if listed is None else _used_by_pid(listed)
        foreign = self._foreign_pids(used, pids)
        power_w = self._power_w()
        return DeviceSample(
            process_used_bytes=self._process_used_bytes(used, pids),
            device_used_bytes=self._device_used_bytes(),
            utilization=self._read(
                "utilization", lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            ),
            power_w=power_w,
            energy_j=self._energy(power_w),
            # NVIDIA has announced the end of the first; not every driver has the second.
            temperature_c=self._read(
                "temperature_c",
                lambda: _first_there(
                    nvml,
                    ("nvmlDeviceGetTemperature", "nvmlDeviceGetTemperatureV"),
                    handle,
                    nvml.NVML_TEMPERATURE_GPU,
                ),
            ),
            throttle_reasons=self._read(
                "throttle_reasons",
                lambda: _throttle_reasons(
                    _first_there(
                        nvml,
                        (
                            "nvmlDeviceGetCurrentClocksEventReasons",
                            "nvmlDeviceGetCurrentClocksThrottleReasons",
                        ),
                        handle,
                    )
                ),
            ),
            foreign_pids=foreign,
            newcomer_used_bytes=None if self._newcomer is None else (used or {})[self._newcomer],
            others_added_bytes=self._others_added_bytes(used or {}, foreign or ()),
        )

    def graphics_processes(self) -> dict[int, int | None]:
        """Reads the memory in bytes of each process that draws on the device, such as a desktop's.

        None is what NVML does not tell. Empty where it does not list them.
        """
        names = (
            "nvmlDeviceGetGraphicsRunningProcesses_v3",
            "nvmlDeviceGetGraphicsRunningProcesses_v2",
        )
        call = lambda: list(_first_there(self._nvml, names, self._handle))  # noqa: E731
        return _used_by_pid(self._read("graphics_processes", call) or ())

    def _read(self, name: str, call: Callable[[], Value]) -> Value | None:
        """Reads one value; None, and the reason kept, where that fails.

        What is not supported is not asked for again; what only failed is.
        """
        if name in self._lacking:
            return None
        try:
            value = call()
        except self._nvml.NVMLError as cause:
            error = _translated(cause, self.uuid)
            if isinstance(error, DeviceLost):
                raise error from cause
            if isinstance(error, NotSupported | NoPermission):
                self._lacking.add(name)
            self.unavailable[name] = str(error)
            return None
        self.unavailable.pop(name, None)
        return value

    def _processes(self) -> list[Any] | None:
        names = (
            "nvmlDeviceGetComputeRunningProcesses_v3",
            "nvmlDeviceGetComputeRunningProcesses_v2",
        )
        return self._read("processes", lambda: list(_first_there(self._nvml, names, self._handle)))

    def _process_used_bytes(
        self, used: Mapping[int, int | None] | None, pids: Collection[int]
    ) -> int | None:
        if used is None:
            return None
        ours = [of_process for pid, of_process in used.items() if pid in pids]
        if not ours or None in ours:
            self.unavailable["process_used_bytes"] = (
                f"{self.uuid}: NVML gives no memory for the run's processes: they do not use the "
                "device yet, or NVML counts PIDs in another namespace (docker: --pid=host)"
            )
            return None
        self.unavailable.pop("process_used_bytes", None)
        return sum(of_process or 0 for of_process in ours)

    def _foreign_pids(
        self, used: Mapping[int, int | None] | None, pids: Collection[int]
    ) -> tuple[int, ...] | None:
        """The processes that are not the run's; finds the run's newcomer, if it is hidden."""
        if used is None:
            self._newcomer = None
            return None
        self._own_pids_seen |= not used.keys().isdisjoint(pids)
        new = used.keys() - self._first.keys() - set(pids)
        # Until the run is seen under its own PIDs, a newcomer may be the run by another number.
        # Where several come at once, nobody can tell which of them is the run.
        if self._own_pids_seen:
            self._newcomer = None
        elif self._newcomer not in new:
            self._newcomer = next(iter(new)) if len(new) == 1 else None
        return tuple(sorted(used.keys() - set(pids) - {self._newcomer}))

    def _others_added_bytes(
        self, used: Mapping[int, int | None], foreign: Iterable[int]
    ) -> int | None:
        added = -sum(self._first[pid] or 0 for pid in self._first.keys() - used.keys())
        for pid in foreign:
            now, before = used[pid], self._first.get(pid, 0)
            if now is None and before is not None:
                return None
            added += (now or 0) - (before or 0)
        return added

    def _newest_memory_version(self) -> int | None:
        """NVML's v2, which leaves the driver's reserve out; None, its v1, before driver 510."""
        nvml = self._nvml
        try:
            nvml.nvmlDeviceGetMemoryInfo(self._handle, version=nvml.nvmlMemory_v2)
        except nvml.NVMLError:
            return None
        return int(nvml.nvmlMemory_v2)

    def _device_used_bytes(self) -> int | None:
        return self._read(
            "device_used_bytes",
            lambda: int(
                self._nvml.nvmlDeviceGetMemoryInfo(self._handle, version=self._memory_version).used
            ),
        )

    def _power_w(self) -> float | None:
        return self._read("power_w", lambda: self._nvml.nvmlDeviceGetPowerUsage(self._handle) / 1e3)

    def _counter_j(self) -> float | None:
        return self._read(
            "energy_counter",
            lambda: self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle) / 1e3,
        )

    def _energy(self, power_w: float | None) -> float | None:
        if self._first_counter_j is not None:
            counter_j = self._counter_j()
            return None if counter_j is None else counter_j - self._first_counter_j
        then_s, then_w = self._power_at
        if power_w is None or then_w is None:
            return None
        now_s = self._clock()
        self._energy_j += (now_s - then_s) * (then_w + power_w) / 2
        self._power_at = (now_s, power_w)
        return self._energy_j


_IDLE_AND_CLOCK_SETTING = 0x1 | 0x2
_THROTTLE_REASONS = {
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
    0x200: "board_limit",
    0x400: "reliability",
}


def _throttle_reasons(bits: int) -> tuple[str, ...]:
    """Names what holds the clocks down, without idleness and clocks that somebody chose.

    Source: nvmlClocksEventReasons in nvml.h. A bit without a name is given as a number.
    """
    active = (1 << position for position in range(bits.bit_length()) if bits >> position & 1)
    return tuple(
        _THROTTLE_REASONS.get(bit, hex(bit)) for bit in active if not bit & _IDLE_AND_CLOCK_SETTING
    )


@dataclass(frozen=True, slots=True)
class _Gpu:
    """A card that CUDA counts, with what can be run on: itself, or its MIG devices by names."""

    uuid: str
    name: str
    pci_bus_id: str
    devices: tuple[DeviceInfo, ...]
    mig_names: Mapping[str, DeviceInfo]


def _used_by_pid(processes: Iterable[Any]) -> dict[int, int | None]:
    """Bytes of each process; None where NVML does not tell.

    In another PID namespace NVML gives None or 0 bytes, which no process that computes can have:
    https://github.com/Project-HAMi/HAMi-core/issues/112
    """
    used: dict[int, int | None] = {}
    for process in processes:
        before = used.get(process.pid, 0)
        now = process.usedGpuMemory
        used[process.pid] = int(now) + before if now and before is not None else None
    return used


def _by_index(gpus: list[_Gpu], entry: str) -> DeviceInfo | None:
    # CUDA reads a number as C's strtoul does: "1gpu" is 1. Source: torch.cuda.
    number = re.match(r"\s*\+?(\d+)", entry)
    if number is None or int(number[1]) >= len(gpus):
        return None
    return next(iter(gpus[int(number[1])].devices), None)


def _by_uuid(gpus: list[_Gpu], entry: str) -> DeviceInfo | None:
    names: dict[str, DeviceInfo] = {}
    for gpu in gpus:
        names |= gpu.mig_names
        if gpu.devices:  # a card cut into MIG devices stands for its first
            names[gpu.uuid] = gpu.devices[0]
    if entry in names:
        return names[entry]
    matches = [device for name, device in names.items() if name.startswith(entry)]
    return matches[0] if len(matches) == 1 else None


def _list_gpus() -> tuple[list[_Gpu], bool]:
    with _nvml("listing the GPUs") as nvml:
        return _gpus(nvml)


def _gpus(nvml: Any) -> tuple[list[_Gpu], bool]:
    """The GPUs that this process may open, in PCI order, and whether none of the others is lost.

    CUDA does not count another job's GPU. Whether it counts a lost one is not known.
    """
    driver_version = nvml.nvmlSystemGetDriverVersion()
    gpus = []
    none_lost = True
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(nvml, index, driver_version))
        except nvml.NVMLError_NoPermission:
            continue
        except (nvml.NVMLError_GpuIsLost, nvml.NVMLError_ResetRequired):
            none_lost = False
    return sorted(gpus, key=lambda gpu: gpu.pci_bus_id), none_lost


def _gpu(nvml: Any, index: int, driver_version: str) -> _Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid = nvml.nvmlDeviceGetUUID(handle)
    pci_bus_id = nvml.nvmlDeviceGetPciInfo(handle).busId
    capability = _compute_capability(nvml, handle)

    def info(handle: Any, *, is_mig: bool) -> DeviceInfo:
        return DeviceInfo(
            uuid=nvml.nvmlDeviceGetUUID(handle),
            name=nvml.nvmlDeviceGetName(handle),
            index=index,
            pci_bus_id=pci_bus_id,
            total_memory_bytes=_total_memory_bytes(nvml, handle),
            driver_version=driver_version,
            is_mig=is_mig,
            compute_capability=capability,
        )

    mig_names: dict[str, DeviceInfo] = {}
    devices = []
    if _has_mig_devices(nvml, handle):
        for mig in _mig_handles(nvml, handle):
            device = info(mig, is_mig=True)
            instance = nvml.nvmlDeviceGetGpuInstanceId(mig)
            compute_instance = nvml.nvmlDeviceGetComputeInstanceId(mig)
            devices.append(device)
            mig_names[device.uuid] = device
            mig_names[f"MIG-{uuid}/{instance}/{compute_instance}"] = device
    else:
        devices.append(info(handle, is_mig=False))
    return _Gpu(uuid, nvml.nvmlDeviceGetName(handle), pci_bus_id, tuple(devices), mig_names)


def _total_memory_bytes(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except nvml.NVMLError_NotSupported:  # memory shared with the CPU
        return None


def _compute_capability(nvml: Any, handle: Any) -> str | None:
    try:
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return None
    return f"{major}.{minor}"


def _has_mig_devices(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig_handles(nvml: Any, handle: Any) -> Iterator[Any]:
    for position in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, position)
        except (nvml.NVMLError_NotFound, nvml.NVMLError_NoPermission):
            continue


def _first_there(nvml: Any, names: Iterable[str], *arguments: Any) -> Any:
    """Calls the first of these functions that both pynvml and the driver have."""
    for name in names:
        function = getattr(nvml, name, None)
        if function is not None:
            try:
                return function(*arguments)
            except nvml.NVMLError_FunctionNotFound:
                continue
    raise nvml.NVMLError_FunctionNotFound


@contextmanager
def _nvml(subject: str) -> Iterator[Any]:
    """NVML, initialised; what it raises comes out as ours and says what it was about."""
    import pynvml

    try:
        pynvml.nvmlInit()
        try:
            yield pynvml
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        raise _translated(error, subject) from error


def _translated(error: Any, subject: str) -> NvmlError:
    """Our error for one of pynvml's, with what can be done about it."""
    import pynvml

    install = "install the NVIDIA driver; a container needs --gpus and NVIDIA's runtime"
    reset = "the run is gone; see `dmesg | grep Xid`, then reset the GPU or reboot"
    meanings: dict[int, tuple[type[NvmlError], str]] = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: (NvmlUnavailable, install),
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: (NvmlUnavailable, install),
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: (
            NvmlUnavailable,
            "the driver was updated under the running kernel module; reboot",
        ),
        pynvml.NVML_ERROR_GPU_IS_LOST: (DeviceLost, reset),
        pynvml.NVML_ERROR_RESET_REQUIRED: (DeviceLost, reset),
        pynvml.NVML_ERROR_NO_PERMISSION: (
            NoPermission,
            "the container, cgroup or file mode of /dev/nvidia* forbids it",
        ),
        pynvml.NVML_ERROR_NOT_SUPPORTED: (NotSupported, "this device does not have it"),
        pynvml.NVML_ERROR_INVALID_ARGUMENT: (NotSupported, "this device does not have it"),
        pynvml.NVML_ERROR_FUNCTION_NOT_FOUND: (NotSupported, "this driver does not have it"),
        pynvml.NVML_ERROR_ARGUMENT_VERSION_MISMATCH: (
            NotSupported,
            "this driver does not have it",
        ),
    }
    kind, remedy = meanings.get(error.value, (NvmlError, "`nvidia-smi` may say more"))
    return kind(f"{subject}: NVML says {str(error).rstrip('.')!r}; {remedy}")
