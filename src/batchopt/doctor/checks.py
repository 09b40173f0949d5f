"""Each check of the doctor: what was found, whether it is in the way, and the remedy."""

import importlib.util
import os
import platform
import re
import shutil
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from batchopt import __version__
from batchopt.doctor import torch_facts
from batchopt.machine import cores, nvml
from batchopt.machine.cgroup import cpu_quota, memory_limit, read_text
from batchopt.machine.environment import describe_environment
from batchopt.machine.threads import Watch
from batchopt.machine.torch_build import DRIVER_FOR_CUDA_13, OLDEST_DRIVER
from batchopt.request.config import Config
from batchopt.slurm import jobs as slurm

GIB = 2**30


HUB_TIMEOUT_S = 3.0

LITTLE_DISK_BYTES = 10 * GIB
"""Two checkpoints of a model of 250 M parameters, with AdamW's state, take 6 GiB a run."""

LITTLE_MEMORY_BYTES = 2 * GIB
"""Torch, the libraries and Kiwi hold about 1 GiB before a model is loaded."""


class State(StrEnum):
    """How a thing stands: there, there with a drawback, or not there."""

    ok = "ok"
    warning = "warning"
    missing = "missing"


@dataclass(frozen=True, slots=True)
class Check:
    """One line.

    `needed` things keep every training from running while they are missing. `values` are the
    numbers behind the words, for --json.
    """

    name: str
    state: State
    found: str
    remedy: str | None = None
    needed: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


def examine() -> list[Check]:
    """Looks at everything; takes as long as importing torch."""
    watch = Watch()
    asking = torch_facts.ask()
    rest = [*_processor(), _memory(), *_disks(), _kiwi(), _font(), _trackers(), _hub(), _slurm()]
    torch = torch_facts.answer_of(asking)
    rest.insert(1, _neighbours(watch.others()))
    devices, trouble = _devices()
    gpus = [trouble] if trouble else [_gpu(device, torch) for device in devices]
    python, packages = _asked()
    return [_python(python), *_packages(packages), _torch(torch, devices), *gpus, *rest]


def _asked() -> tuple[str, list[str]]:
    """The Python and the packages that pyproject.toml asks for.

    A wheel carries them; of a checkout the file itself counts, since what an editable install once
    noted grows old.
    """
    pyproject = _pyproject()
    if pyproject.is_file():
        project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
        return project["requires-python"], project["dependencies"]
    return metadata.metadata("batchopt")["Requires-Python"], metadata.requires("batchopt") or []


def _pyproject() -> Path:
    """The file of a checkout; a wheel has none."""
    return Path(__file__).resolve().parents[3] / "pyproject.toml"


def _python(asked: str) -> Check:
    version = platform.python_version()
    if SpecifierSet(asked).contains(version, prereleases=True):
        return Check("python", State.ok, f"{version}, as {asked} asks ({sys.executable})")
    remedy = f"make .venv anew with a Python {asked}"
    return Check("python", State.missing, f"{version}; batchopt asks {asked}", remedy, needed=True)


def _packages(texts: Sequence[str]) -> Iterator[Check]:
    """One line for all that are as asked, and one for each that is not."""
    fitting = {}
    for asked in map(Requirement, texts):
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        remedy = f"pip install '{asked.name}{asked.specifier}'"
        try:
            version = metadata.version(asked.name)
        except metadata.PackageNotFoundError:
            yield Check(asked.name, State.missing, "not installed", remedy, needed=True)
            continue
        if asked.specifier.contains(version, prereleases=True):
            fitting[asked.name] = version
        else:
            found = f"{version}; batchopt asks {asked.specifier}"
            yield Check(asked.name, State.warning, found, remedy)
    main_ones = ", ".join(
        f"{name} {fitting[name]}"
        for name in ("transformers", "accelerate", "datasets", "hydra-core")
        if name in fitting
    )
    yield Check(
        "packages",
        State.ok,
        f"{len(fitting)} as batchopt {__version__} asks: {main_ones}, …",
        values={"versions": fitting},
    )


def _torch(facts: Mapping[str, Any], devices: Sequence[nvml.DeviceInfo]) -> Check:
    if "failed" in facts:
        remedy = "install torch for this machine: https://pytorch.org/get-started/locally"
        found = f"cannot be imported: {facts['failed']}"
        return Check("torch", State.missing, found, remedy, needed=True)
    cuda = facts["cuda"]
    build = f"CUDA {cuda}" if cuda else "without CUDA"
    found = f"{facts['version']}, built {'for ' if cuda else ''}{build}"
    device = "cuda" if devices and facts["devices"] else "cpu"
    values = {"cuda": cuda, "device": device}
    computes = any(one["precisions"]["fp32"] is None for one in facts["devices"])
    if devices and not computes:
        why = f": {facts['error']}" if facts["error"] else ""
        return Check(
            "torch",
            State.warning,
            f"{found}; it does not use the GPU, so trainings run on the CPU{why}"
            if not facts["devices"]
            else f"{found}; it has no kernels for this GPU",
            _torch_for(devices, facts),
            values=values,
        )
    return Check("torch", State.ok, found, values=values)


def _torch_for(devices: Sequence[nvml.DeviceInfo], facts: Mapping[str, Any]) -> str:
    """The command that installs a build of torch for this driver and these GPUs.

    Sources: https://github.com/pytorch/pytorch/blob/main/RELEASE.md (builds and GPUs: CUDA 12.6 up
    to compute capability 9.0, CUDA 13 from 7.5 on) and
    https://docs.nvidia.com/deploy/cuda-compatibility/ (drivers: 525 for CUDA 12, 580 for CUDA 13).
    """
    driver = int(devices[0].driver_version.partition(".")[0])
    known = [float(device.compute_capability) for device in devices if device.compute_capability]
    if driver < OLDEST_DRIVER:
        return f"update the driver ({driver}) to {DRIVER_FOR_CUDA_13} or newer"
    if driver >= DRIVER_FOR_CUDA_13 and min(known, default=9.0) >= 7.5:
        build = "cu130"
    elif max(known, default=9.0) < 10.0:
        build = "cu126"
    else:
        return (
            f"update the driver ({driver}) to {DRIVER_FOR_CUDA_13} or newer: builds of torch for "
            f"CUDA 12.6 have no kernels for compute capability {max(known)}"
        )
    if (facts["cuda"] or "").replace(".", "") == build.removeprefix("cu"):
        return "torch's build fits this driver: `nvidia-smi` and `dmesg | grep -i nvrm` may say why"
    index = f"https://download.pytorch.org/whl/{build}"
    if _pyproject().is_file():
        return f"make setup TORCH_INDEX={index}"
    version = facts["version"].partition("+")[0]
    return f"pip install --force-reinstall torch=={version} --index-url {index}"


def _devices() -> tuple[list[nvml.DeviceInfo], Check | None]:
    """The GPUs that a run may have; a line where there is none."""
    try:
        devices = nvml.visible_devices(os.environ)
    except nvml.NvmlError as error:
        found, _, remedy = str(error).removeprefix("listing the GPUs: ").partition("; ")
        return [], Check("GPU", State.missing, f"none: {found}", f"for a GPU: {remedy}")
    if devices:
        return devices, None
    value = os.environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return [], Check("GPU", State.missing, "the driver is there, and no GPU")
    found = f"none: CUDA_VISIBLE_DEVICES={value!r} leaves no GPU"
    return [], Check("GPU", State.missing, found, "unset it, or name one that nvidia-smi -L lists")


def _gpu(device: nvml.DeviceInfo, torch: Mapping[str, Any]) -> Check:
    name = f"GPU {device.index}" + (" (MIG)" if device.is_mig else "")
    size = device.total_memory_bytes
    memory = "memory shared with the CPU" if size is None else f"{size / GIB:.1f} GiB"
    found = f"{device.name}, {memory}, driver {device.driver_version}"
    values: dict[str, Any] = {
        "uuid": device.uuid,
        "total_memory_bytes": size,
        "driver_version": device.driver_version,
    }
    try:
        monitor, foreign = nvml.in_time(device.uuid, lambda: _read(device.uuid))
    except nvml.NvmlError as error:
        why, _, remedy = str(error).partition("; ")
        return Check(name, State.warning, f"{found}; {why}", remedy, values=values)
    unread = {
        reading: why.removeprefix(f"{device.uuid}: ")
        for reading, why in monitor.unavailable.items()
        # No run is on the device yet, and no training needs to know who draws.
        if reading not in ("process_used_bytes", "graphics_processes")
    }
    values |= {"energy_source": monitor.energy_source, "unavailable_readings": unread}
    drawbacks, remedies = [], []
    seen = next((one for one in torch.get("devices", ()) if one["uuid"] in device.uuid), None)
    if seen is not None:
        values |= {"capability": seen["capability"], "precisions": seen["precisions"]}
        works = [precision for precision, why in seen["precisions"].items() if why is None]
        found += f", compute capability {seen['capability']}, {' '.join(works) or 'no precision'}"
        for precision, why in seen["precisions"].items():
            if why is not None:
                drawbacks.append(f"no {precision}: {why}")
        if "bf16" not in works:
            remedies.append("set training.precision to one that works")
    if unread:
        drawbacks += [f"NVML does not read {reading}: {why}" for reading, why in unread.items()]
        remedies.append("what is not read is recorded as not measured")
    else:
        found += f", all NVML readings (energy: {str(monitor.energy_source).replace('_', ' ')})"
    if foreign:
        pids = ", ".join(map(str, foreign))
        drawbacks.append(f"in use by process {pids}")
        remedies.append("stop it or choose another GPU: timings beside it are not to be trusted")
    if not device.order_is_certain:
        drawbacks.append("CUDA may number these GPUs otherwise")
        remedies.append("set CUDA_DEVICE_ORDER=PCI_BUS_ID, or name the GPU by its UUID")
    state = State.warning if drawbacks else State.ok
    return Check(
        name, state, "; ".join([found, *drawbacks]), "; ".join(remedies) or None, values=values
    )


def _read(uuid: str) -> tuple[nvml.DeviceMonitor, tuple[int, ...]]:
    """A monitor that has read once, closed again, and who else computes on the device."""
    with nvml.DeviceMonitor(uuid) as monitor:
        drawing = monitor.graphics_processes()
        foreign = monitor.sample(()).foreign_pids or ()
        return monitor, tuple(pid for pid in foreign if pid not in drawing)


def _processor() -> Iterator[Check]:
    threads, physical = cores.usable(), psutil.cpu_count(logical=False)
    model = describe_environment()["cpu_model"] or platform.machine()
    bf16 = bool(re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", read_text("/proc/cpuinfo")))
    found = (
        f"{model}, {threads} threads for this process, {physical or 'unknown'} cores; fp32, "
        f"bf16 {'in hardware' if bf16 else 'only emulated (slow)'}"
    )
    quota = cpu_quota()
    values = {"threads": threads, "cores": physical, "cgroup_cpus": quota, "bf16_in_hardware": bf16}
    if quota is not None and quota < threads:
        yield Check(
            "CPU",
            State.warning,
            f"{found}; the cgroup gives it the time of {quota:g}",
            "sweeps start as many threads as that; device.threads says otherwise",
            values=values,
        )
    else:
        yield Check("CPU", State.ok, found, values=values)


def _neighbours(others: cores.Others) -> Check:
    """Who keeps the cores busy: beside them every time that is measured is too long."""
    values = {"cores_of_others": others.cores}
    if others.cores < cores.NOTICED_CORES:
        return Check("CPU now", State.ok, "no other process uses the cores", values=values)
    remedy = (
        f"wait for them, or train on a quiet machine: a sweep that starts now takes "
        f"{cores.free(others)} of {cores.usable()} threads, and its speeds are marked as disturbed"
    )
    return Check("CPU now", State.warning, str(others), remedy, values=values)


def _memory() -> Check:
    now, limit = psutil.virtual_memory(), memory_limit()
    usable = now.available if limit is None else min(now.available, limit)
    found = f"{now.available / GIB:.1f} of {now.total / GIB:.1f} GiB available"
    found += ", no cgroup limit" if limit is None else f", cgroup limit {limit / GIB:.1f} GiB"
    values = {
        "total_bytes": now.total,
        "available_bytes": now.available,
        "cgroup_limit_bytes": limit,
    }
    if usable >= LITTLE_MEMORY_BYTES:
        return Check("memory", State.ok, found, values=values)
    remedy = "free some, or ask for more (SLURM: hydra.launcher.mem_gb; docker: --memory)"
    return Check("memory", State.warning, found, remedy, values=values)


def _disks() -> Iterator[Check]:
    hub_cache = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    for name, place, needed in (
        ("working directory", Path.cwd(), True),
        ("cache_dir", Path(Config().cache_dir), True),
        ("hub cache", Path(hub_cache).expanduser(), False),
    ):
        there = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
        free = psutil.disk_usage(str(there)).free
        found = f"{place}, {free / GIB:.1f} GiB free"
        values = {"path": str(place.absolute()), "free_bytes": free}
        trouble = _unwritable(there)
        if trouble:
            remedy = "work in a directory that can be written" if needed else "set HF_HOME"
            found = f"{there} cannot be written: {trouble}"
            yield Check(name, State.missing, found, remedy, needed=needed, values=values)
        elif free < LITTLE_DISK_BYTES:
            remedy = "free some; training.save_checkpoints=false takes none for checkpoints"
            yield Check(name, State.warning, found, remedy, values=values)
        else:
            yield Check(name, State.ok, found, values=values)


def _kiwi() -> Check:
    if importlib.util.find_spec("kiwipiepy") is None:
        return Check(
            "Kiwi",
            State.missing,
            "Korean summaries cannot be scored by morphemes",
            "pip install 'batchopt[ko]' (in a checkout: pip install kiwipiepy), or choose another "
            "metric.tokenizer",
        )
    return Check("Kiwi", State.ok, f"kiwipiepy {metadata.version('kiwipiepy')}")


def _font() -> Check:
    """The font that the analysis draws Hangul with; system fonts are not asked."""
    spec = importlib.util.find_spec("koreanize_matplotlib")
    font = Path(spec.origin).parent / "fonts" / "NanumGothic.ttf" if spec and spec.origin else None
    if font is None or not font.is_file():
        return Check(
            "Hangul font",
            State.missing,
            "figures show boxes for Hangul",
            "pip install koreanize-matplotlib",
        )
    return Check("Hangul font", State.ok, "NanumGothic, of koreanize-matplotlib")


def _trackers() -> Check:
    from batchopt.training.trackers import MODULES

    there = [
        tracker.value
        for tracker, modules in MODULES.items()
        if all(importlib.util.find_spec(module) for module in modules)
    ]
    absent = [tracker.value for tracker in MODULES if tracker.value not in there]
    found = f"tracker={'|'.join(there)}" + (f", not installed: {', '.join(absent)}" * bool(absent))
    remedy = "pip install 'batchopt[NAME]', if you want one" if absent else None
    return Check("trackers", State.ok, found, remedy)


def _hub() -> Check:
    # Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return Check("hub", State.ok, "not asked (HF_HUB_OFFLINE): only what is cached is there")
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    host = endpoint.rpartition("@")[2]  # a name and a password are nobody's business
    try:
        request = urllib.request.Request(endpoint, method="HEAD")
        with urllib.request.urlopen(request, timeout=HUB_TIMEOUT_S):
            return Check("hub", State.ok, f"{host} answers")
    except urllib.error.HTTPError as error:
        found = f"{host} answers with HTTP {error.code}"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        found = f"{host} is not reachable ({getattr(reason, 'strerror', None) or reason})"
    remedy = (
        "data=sample and model=tiny need no hub; local folders do as model.name_or_path and "
        "data.name; HF_HUB_OFFLINE=1 uses what is cached without asking"
    )
    return Check("hub", State.warning, found, remedy)


def _slurm() -> Check:
    if shutil.which("sbatch") is None:
        found, remedy = "no sbatch in PATH", "only hydra/launcher=slurm needs it"
        return Check("SLURM", State.missing, found, remedy)
    version, partitions = slurm.version(), slurm.partitions()
    if not partitions:
        found = f"{version or 'sbatch is there'}, and no cluster answers"
        return Check("SLURM", State.warning, found, "`sinfo` says why")
    return Check("SLURM", State.ok, f"{version}, partitions: {', '.join(partitions)}")


def _unwritable(folder: Path) -> str | None:
    """Why no file can be made in a folder; permissions alone do not tell."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or str(error)
