"""batchopt.machine.nvml against a scripted NVML that real pynvml talks to."""

import gc
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from dataclasses import asdict

import pynvml
import pytest
from support.fake_nvml import GIB, FakeNvml, card, card_uuid

from batchopt.machine import nvml
from batchopt.machine.nvml import DeviceMonitor, DeviceSample, visible_devices

A, B, C = card_uuid(0), card_uuid(1), card_uuid(2)
RUN = 100
NOT_SUPPORTED, NO_PERMISSION, FUNCTION_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 3, 4, 13, 15, 999


@pytest.fixture
def three_cards(fake: FakeNvml) -> FakeNvml:
    fake.set(card(0) | card(1) | card(2))
    return fake


@pytest.fixture
def mig(fake: FakeNvml) -> FakeNvml:
    """One card cut into two MIG devices, with a gap between them, and one whole card."""
    fake.set(card(0, mig_mode=1) | card(1, mig_mode=0))
    for slot, compute_instance in ((0, 1), (2, 11)):
        fake.set(
            {
                f"gpu0.mig{slot}.uuid": f"MIG-{slot}aaaaaaa-0000-0000-0000-000000000000",
                f"gpu0.mig{slot}.name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
                f"gpu0.mig{slot}.total": 20 * GIB,
                f"gpu0.mig{slot}.used": GIB,
                f"gpu0.mig{slot}.processes": f"{RUN}:{GIB}",
                f"gpu0.mig{slot}.gpu_instance": 3,
                f"gpu0.mig{slot}.compute_instance": compute_instance,
            }
        )
    return fake


M0, M2 = (f"MIG-{slot}aaaaaaa-0000-0000-0000-000000000000" for slot in (0, 2))


def visible(value: str | None, **environ: str) -> list[str]:
    if value is not None:
        environ["CUDA_VISIBLE_DEVICES"] = value
    return [device.uuid for device in visible_devices(environ)]


# Which device


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [A, B, C]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),  # SLURM's word for none
        ("0", [A]),
        ("2,0", [C, A]),
        (" 1, +2", [B, C]),
        ("1gpu", [B]),  # strtoul
        ("0,2,-1,1", [A, C]),  # the example of NVIDIA's documentation
        ("0,3,1", [A]),
        ("0,,1", [A]),
        ("0,1,0", []),
        (C, [C]),
        (f"{C},{A}", [C, A]),
        ("GPU-1932f937", [B]),
        ("GPU-", []),  # three cards begin so
        (f"{B},GPU-99999999,{A}", [B]),
        (f"{B},0", [B]),
        (f"0,{B}", [A]),
        (f"{B},GPU-1932", []),  # twice the same
        (f"MIG-{A}/1/0", []),
    ],
)
def test_cuda_visible_devices_is_read_as_cuda_reads_it(
    three_cards: FakeNvml, value: str | None, expected: list[str]
) -> None:
    assert visible(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [M0, M2, B]),
        (M2, [M2]),
        (f"{M2},{M0}", [M2, M0]),
        ("MIG-2aaa", [M2]),
        (f"MIG-{A}/3/11", [M2]),  # the name before driver 470
        (f"MIG-{A}/3/1", [M0]),  # and not the other, whose name begins so
        (f"MIG-{A}/3", []),  # both begin so
        (f"MIG-{A}/7/1", []),
        ("0", [M0]),  # a card that is cut stands for its first MIG device
        (A, [M0]),
        ("1", [B]),
        (f"{M2},{B}", [M2]),
    ],
)
def test_mig_devices_are_found_by_each_of_their_names(
    mig: FakeNvml, value: str | None, expected: list[str]
) -> None:
    assert visible(value) == expected


def test_a_card_with_mig_on_and_no_mig_device_is_no_device(fake: FakeNvml) -> None:
    fake.set(card(0, mig_mode=1) | card(1))
    assert visible(None) == [B]
    assert visible("0,1") == []


def test_a_device_is_described(mig: FakeNvml) -> None:
    first, _, whole = visible_devices({})
    assert asdict(first) == {
        "uuid": M0,
        "name": "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "index": 0,
        "pci_bus_id": "00000000:10:00.0",
        "total_memory_bytes": 20 * GIB,
        "driver_version": "580.65.06",
        "is_mig": True,
        "order_is_certain": True,
        "compute_capability": "8.0",
    }
    assert (whole.uuid, whole.index, whole.is_mig) == (B, 1, False)


def test_indices_follow_the_pci_bus_and_not_nvmls_positions(fake: FakeNvml) -> None:
    fake.set(card(0, pci_bus_id="00000000:C1:00.0") | card(1, pci_bus_id="00000000:3B:00.0"))
    assert visible("0", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [B]
    assert visible(None) == [B, A]


def test_an_index_among_different_cards_is_certain_only_in_pci_order(fake: FakeNvml) -> None:
    fake.set(card(0, name="NVIDIA T4") | card(1))

    def certain(value: str, **environ: str) -> list[bool]:
        devices = visible_devices({"CUDA_VISIBLE_DEVICES": value, **environ})
        return [device.order_is_certain for device in devices]

    assert certain("0,1") == [False, False]
    assert certain("0,1", CUDA_DEVICE_ORDER="FASTEST_FIRST") == [False, False]
    assert certain("0,1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == [True, True]
    assert certain(f"{B},{A}") == [True, True]
    fake.set(card(0))
    assert certain("0,1") == [True, True]


def test_indices_count_only_the_cards_that_the_job_may_open(three_cards: FakeNvml) -> None:
    three_cards.set({"gpu0.error.nvmlDeviceGetHandleByIndex_v2": NO_PERMISSION})
    assert visible("0") == [B]
    assert visible(None) == [B, C]


def test_a_lost_card_leaves_the_others_but_makes_indices_uncertain(three_cards: FakeNvml) -> None:
    three_cards.set({"gpu0.error": GPU_IS_LOST})
    [device] = visible_devices({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
    assert (device.uuid, device.order_is_certain) == (B, False)


def test_a_card_that_shares_the_memory_of_the_cpu_has_no_total(fake: FakeNvml) -> None:
    fake.set(card(0, total=None))
    [device] = visible_devices({})
    assert device.total_memory_bytes is None


# What it reads


def test_one_sample_holds_every_reading_in_its_unit(fake: FakeNvml) -> None:
    fake.set(card(0) | card(1, used=GIB))
    with DeviceMonitor(B) as monitor:
        fake.set(
            card(
                1,
                used=9 * GIB,
                processes=f"{RUN}:{5 * GIB},{RUN + 1}:{GIB},777:{2 * GIB}",
                utilization=87,
                power_mw=312_500,
                energy_mj=1_250_000,
                temperature=61,
                throttle=0x1 | 0x2 | 0x4 | 0x40 | 0x800,
            )
        )
        assert monitor.sample({RUN, RUN + 1, RUN + 2}) == DeviceSample(
            process_used_bytes=6 * GIB,
            device_used_bytes=9 * GIB,
            utilization=0.87,
            power_w=312.5,
            energy_j=250.0,
            temperature_c=61,
            throttle_reasons=("sw_power_cap", "hw_thermal_slowdown", "0x800"),
            foreign_pids=(777,),
            newcomer_used_bytes=None,
            others_added_bytes=2 * GIB,
        )
        assert monitor.baseline_used_bytes == GIB
        assert monitor.energy_source == "counter"
        assert monitor.unavailable == {}


@pytest.mark.parametrize(
    ("key", "function", "reading", "reason"),
    [
        ("processes", "ComputeRunningProcesses_v3", "process_used_bytes", "processes"),
        ("processes", "ComputeRunningProcesses_v3", "foreign_pids", "processes"),
        ("used", "MemoryInfo", "device_used_bytes", "device_used_bytes"),
        ("utilization", "UtilizationRates", "utilization", "utilization"),
        ("power_mw", "PowerUsage", "power_w", "power_w"),
        ("temperature", "Temperature", "temperature_c", "temperature_c"),
        ("throttle", "CurrentClocksEventReasons", "throttle_reasons", "throttle_reasons"),
    ],
)
def test_a_reading_that_the_card_lacks_is_none_and_the_others_remain(
    fake: FakeNvml, key: str, function: str, reading: str, reason: str
) -> None:
    fake.set(card(0, processes=f"{RUN}:1"))
    with DeviceMonitor(A) as monitor:
        whole = asdict(monitor.sample([RUN]))
    fake.set({f"gpu0.{key}": None})
    with DeviceMonitor(A) as monitor:
        sample = asdict(monitor.sample([RUN]))
        assert whole.pop("newcomer_used_bytes") is sample.pop("newcomer_used_bytes") is None
        assert None not in whole.values()
        assert sample[reading] is None
        assert sum(value is None for value in sample.values()) == (2 if key == "processes" else 1)
        assert list(monitor.unavailable) == [reason]
        assert "this device does not have it" in monitor.unavailable[reason]
        # It is not asked for again: a broken answer to the question would be noticed.
        fake.set({f"gpu0.error.nvmlDeviceGet{function}": GPU_IS_LOST})
        assert asdict(monitor.sample([RUN]))[reading] is None


def test_a_reading_that_only_failed_is_tried_again(fake: FakeNvml) -> None:
    fake.set(card(0))
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.error.nvmlDeviceGetTemperature": UNKNOWN})
        assert monitor.sample([]).temperature_c is None
        assert "Unknown Error" in monitor.unavailable["temperature_c"]
        fake.set({"gpu0.error.nvmlDeviceGetTemperature": None})
        assert monitor.sample([]).temperature_c == 30
        assert "temperature_c" not in monitor.unavailable


def test_a_reading_that_is_forbidden_is_none_and_says_so(fake: FakeNvml) -> None:
    fake.set(card(0) | {"gpu0.error.nvmlDeviceGetPowerUsage": NO_PERMISSION})
    with DeviceMonitor(A) as monitor:
        assert monitor.sample([]).power_w is None
        assert "forbids it" in monitor.unavailable["power_w"]


@pytest.mark.parametrize(
    ("function", "reading", "expected"),
    [
        ("ComputeRunningProcesses_v3", "process_used_bytes", 7),
        ("CurrentClocksEventReasons", "throttle_reasons", ()),
        ("CurrentClocksThrottleReasons", "throttle_reasons", ()),
        ("Temperature", "temperature_c", 30),
        ("TemperatureV", "temperature_c", 30),
    ],
)
def test_older_and_newer_drivers_give_the_same_readings(
    fake: FakeNvml, function: str, reading: str, expected: object
) -> None:
    error = {f"error.nvmlDeviceGet{function}": FUNCTION_NOT_FOUND}
    fake.set(card(0, processes=f"{RUN}:7") | error)
    with DeviceMonitor(A) as monitor:
        assert asdict(monitor.sample([RUN]))[reading] == expected


def test_a_mig_device_reads_its_own_memory_and_not_the_cards_power(mig: FakeNvml) -> None:
    with DeviceMonitor(M2) as monitor:
        sample = monitor.sample([RUN])
        assert (sample.process_used_bytes, sample.device_used_bytes) == (GIB, GIB)
        assert sample.power_w is None
        assert sample.energy_j is None
        assert monitor.energy_source is None
        assert {"power_w", "energy_counter"} <= monitor.unavailable.keys()


# Memory


@pytest.mark.parametrize("code", [FUNCTION_NOT_FOUND, 25, NOT_SUPPORTED])
def test_the_drivers_reserve_counts_only_where_memory_v2_is_missing(
    fake: FakeNvml, code: int
) -> None:
    fake.set(card(0, used=GIB, reserved=GIB // 2))
    with DeviceMonitor(A) as monitor:
        assert monitor.baseline_used_bytes == GIB
    fake.set({"error.nvmlDeviceGetMemoryInfo_v2": code})
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.used": 3 * GIB})
        sample = monitor.sample([])
        assert sample.device_used_bytes == 3 * GIB + GIB // 2
        assert monitor.baseline_used_bytes == GIB + GIB // 2, "so that the difference is right"


@pytest.mark.parametrize(
    "processes",
    [
        "",  # no CUDA context yet
        f"345678:{5 * GIB}",  # a container: host's PIDs
        f"{RUN}:na",  # NVML's "not available"
        f"{RUN}:0",  # open kernel modules in a container
        f"{RUN}:{GIB},{RUN + 1}:na",  # a part is not the sum
    ],
)
def test_process_memory_is_none_where_nvml_cannot_know_it(fake: FakeNvml, processes: str) -> None:
    fake.set(card(0, used=GIB))
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.processes": processes, "gpu0.used": 6 * GIB})
        sample = monitor.sample([RUN, RUN + 1])
        assert sample.process_used_bytes is None
        assert "namespace" in monitor.unavailable["process_used_bytes"]


# Neighbours


def test_a_foreign_process_is_named(fake: FakeNvml) -> None:
    fake.set(card(0, processes="55:1"))
    with DeviceMonitor(A) as monitor:
        assert monitor.sample([RUN]).foreign_pids == (55,)
        fake.set({"gpu0.processes": f"55:1,{RUN}:1,44:1"})
        assert monitor.sample([RUN]).foreign_pids == (44, 55)
        fake.set({"gpu0.processes": f"{RUN}:1"})
        assert monitor.sample([RUN]).foreign_pids == ()


def test_the_run_under_another_number_is_not_called_foreign(fake: FakeNvml) -> None:
    fake.set(card(0, processes="55:1"))
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.processes": "55:1,345678:1"})
        assert monitor.sample([RUN]).foreign_pids == (55,)


def test_the_run_by_another_number_is_the_first_newcomer_and_a_second_one_is_foreign(
    fake: FakeNvml,
) -> None:
    fake.set(card(0, processes="55:10", used=10))
    with DeviceMonitor(A) as monitor:
        assert monitor.sample([RUN]).newcomer_used_bytes is None
        fake.set({"gpu0.processes": "55:10,70:300"})
        sample = monitor.sample([RUN])
        assert (sample.newcomer_used_bytes, sample.foreign_pids) == (300, (55,))
        fake.set({"gpu0.processes": "55:12,70:400,71:5000"})
        sample = monitor.sample([RUN])
        assert (sample.newcomer_used_bytes, sample.foreign_pids) == (400, (55, 71))
        assert sample.others_added_bytes == 2 + 5000
        fake.set({"gpu0.processes": "70:400,71:na"})
        sample = monitor.sample([RUN])
        assert (sample.newcomer_used_bytes, sample.others_added_bytes) == (400, None)
        fake.set({"gpu0.processes": f"{RUN}:900,70:400"})
        sample = monitor.sample([RUN])
        assert (sample.process_used_bytes, sample.newcomer_used_bytes) == (900, None)
        assert sample.foreign_pids == (70,)


def test_of_two_newcomers_at_once_none_is_taken_for_the_run(fake: FakeNvml) -> None:
    fake.set(card(0))
    with DeviceMonitor(A) as monitor:
        fake.set({"gpu0.processes": "70:400,71:5000"})
        sample = monitor.sample([RUN])
        assert (sample.newcomer_used_bytes, sample.foreign_pids) == (None, (70, 71))


def test_a_driver_that_hangs_is_given_up(fake: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.set(card(0) | {"hang": 1})
    monkeypatch.setattr(nvml, "ANSWER_S", 0.2)
    with pytest.raises(nvml.DriverHangs, match="listing the GPUs: the driver has not answered"):
        visible_devices({})
    with pytest.raises(nvml.DriverHangs):
        nvml.in_time("test", lambda: visible_devices({}), within_s=3600, give_up=lambda: fake.hangs)
    fake.answer_again()
    assert [device.uuid for device in visible_devices({})] == [A]


# Energy


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_energy_comes_from_the_counter_whatever_the_power_says(fake: FakeNvml) -> None:
    clock = Clock()
    fake.set(card(0, energy_mj=5_000_000, power_mw=None))
    with DeviceMonitor(A, clock=clock) as monitor:
        assert monitor.sample([]).energy_j == 0
        fake.set({"gpu0.energy_mj": 5_123_400})
        clock.now_s += 10
        assert monitor.sample([]).energy_j == pytest.approx(123.4)
        assert monitor.energy_source == "counter"


def test_energy_is_the_integral_of_the_power_where_there_is_no_counter(fake: FakeNvml) -> None:
    clock = Clock()
    fake.set(card(0, energy_mj=None, power_mw=100_000))
    with DeviceMonitor(A, clock=clock) as monitor:
        assert monitor.energy_source == "integrated_power"
        clock.now_s += 2
        fake.set({"gpu0.power_mw": 300_000})
        assert monitor.sample([]).energy_j == pytest.approx(2 * 200)
        clock.now_s += 1
        fake.set({"gpu0.error.nvmlDeviceGetPowerUsage": UNKNOWN})
        assert monitor.sample([]).energy_j is None
        clock.now_s += 3  # the gap is bridged by one trapezoid
        fake.set({"gpu0.error.nvmlDeviceGetPowerUsage": None, "gpu0.power_mw": 100_000})
        assert monitor.sample([]).energy_j == pytest.approx(2 * 200 + 4 * 200)


def test_energy_is_none_where_there_is_neither(fake: FakeNvml) -> None:
    fake.set(card(0, energy_mj=None, power_mw=None))
    with DeviceMonitor(A) as monitor:
        assert monitor.energy_source is None
        assert monitor.sample([]).energy_j is None


# Errors


@pytest.mark.parametrize(
    ("function", "code", "expected", "words"),
    [
        ("nvmlInitWithFlags", 9, nvml.NvmlUnavailable, "install the NVIDIA driver"),
        ("nvmlInitWithFlags", 18, nvml.NvmlUnavailable, "reboot"),
        ("nvmlInitWithFlags", 4, nvml.NoPermission, "/dev/nvidia*"),
        ("nvmlInitWithFlags", 999, nvml.NvmlError, "nvidia-smi"),
        ("nvmlDeviceGetCount_v2", 777, nvml.NvmlError, "an error of the fake NVML"),
        ("nvmlSystemGetDriverVersion", 3, nvml.NotSupported, "does not have it"),
    ],
)
def test_errors_are_ours_with_pynvmls_as_the_cause(
    fake: FakeNvml, function: str, code: int, expected: type[Exception], words: str
) -> None:
    fake.set(card(0) | {f"error.{function}": code})
    with pytest.raises(nvml.NvmlError) as caught:
        visible_devices({})
    error = caught.value
    assert type(error) is expected
    assert words in str(error)
    assert "\n" not in str(error)
    assert isinstance(error.__cause__, pynvml.NVMLError)
    assert error.__cause__.value == code
    # What is done with errors on their way to a record; pynvml's own fail at some of it.
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert {error}
    assert "NVMLError" in "".join(traceback.format_exception(error))


def read_b() -> None:
    with DeviceMonitor(B) as monitor:
        monitor.sample([RUN])


@pytest.mark.parametrize("code", [GPU_IS_LOST, 16])
@pytest.mark.parametrize("read", [lambda: DeviceMonitor(A), read_b], ids=["open", "read"])
def test_a_lost_gpu_is_an_error_when_opened_and_when_read(
    fake: FakeNvml, code: int, read: Callable[[], object]
) -> None:
    fake.set(card(0) | card(1) | {"gpu0.error": code})
    fake.set({"gpu1.error.nvmlDeviceGetUtilizationRates": code})
    with pytest.raises(nvml.DeviceLost, match=r"GPU-.*dmesg") as caught:
        read()
    assert isinstance(caught.value.__cause__, pynvml.NVMLError)


def test_a_uuid_that_is_not_here_is_named(fake: FakeNvml) -> None:
    fake.set(card(0))
    with pytest.raises(nvml.DeviceNotFound, match=f"{B}: .*nvidia-smi -L"):
        DeviceMonitor(B)


def test_a_monitor_that_is_dropped_does_not_call_nvml_from_the_collector(fake: FakeNvml) -> None:
    """pynvml's lock is not reentrant: a finalizer that ran inside it would wait for ever."""
    fake.set(card(0))
    monitor = DeviceMonitor(A)
    with nvml._nvml("test") as library, library.libLoadLock:
        del monitor
        gc.collect()
        assert not library.libLoadLock.acquire(blocking=False)
    pynvml.nvmlShutdown()  # what the dropped monitor still held


def test_nvml_is_let_go_after_use_and_after_an_error(fake: FakeNvml) -> None:
    fake.set(card(0))
    visible_devices({})
    DeviceMonitor(A).close()
    with pytest.raises(nvml.DeviceNotFound):
        DeviceMonitor(B)
    with pytest.raises(ZeroDivisionError), DeviceMonitor(A):
        raise ZeroDivisionError
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()


def python(code: str, **environ: str) -> str:
    environ = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | environ
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout


def test_importing_the_module_loads_neither_pynvml_nor_a_library() -> None:
    assert python("import sys, batchopt.machine.nvml; print('pynvml' in sys.modules)") == "False\n"


def test_without_a_library_nvml_is_unavailable_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    # Also on a machine that has a driver.
    monkeypatch.setattr(pynvml, "nvmlLib", None)
    monkeypatch.setattr(pynvml, "CDLL", absent)
    with pytest.raises(nvml.NvmlUnavailable, match="install the NVIDIA driver") as caught:
        visible_devices({})
    assert isinstance(caught.value.__cause__, pynvml.NVMLError_LibraryNotFound)
    with pytest.raises(nvml.NvmlUnavailable, match=A):
        DeviceMonitor(A)


def test_another_process_can_be_given_the_fake(library: FakeNvml) -> None:
    library.reset()
    library.set(card(0))
    code = "from batchopt.machine.nvml import visible_devices; print(visible_devices({})[0].uuid)"
    assert python(code, **library.environ) == f"{A}\n"
