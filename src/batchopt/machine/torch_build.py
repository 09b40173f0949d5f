"""Whether the installed build of torch can use a GPU: read from its files, without importing it."""

import runpy
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from batchopt.machine.nvml import DeviceInfo

OLDEST_DRIVER, DRIVER_FOR_CUDA_13 = 525, 580
"""Drivers (Linux) that run builds of torch for CUDA 12 and 13.
Source: https://docs.nvidia.com/deploy/cuda-compatibility/"""


def why_unused(device: DeviceInfo) -> str | None:
    """Says why torch will not use this GPU; None where nothing speaks against it.

    There are other reasons, which only torch finds out: `python -m batchopt.doctor` asks it.
    """
    facts = _version_facts()
    if facts is None:
        return None
    version, cuda, other = facts
    if other:  # ROCm or XPU: not NVML's GPUs
        return f"torch {version} is a build for {other}"
    if cuda is None:
        return f"torch {version} is a build without CUDA"
    needed = DRIVER_FOR_CUDA_13 if int(cuda.partition(".")[0]) >= 13 else OLDEST_DRIVER
    driver = device.driver_version
    if driver.partition(".")[0].isdigit() and int(driver.partition(".")[0]) < needed:
        return f"torch {version} is a build for CUDA {cuda}, and the driver ({driver}) is too old"
    return None


def trains_on_cpu(device: DeviceInfo | None) -> bool:
    """Whether a run that gets this device trains on the CPU: it is that, or torch cannot use it."""
    return device is None or why_unused(device) is not None


@cache
def _version_facts() -> tuple[str, str | None, str | None] | None:
    """Torch's version, its CUDA, and another platform's version; None where it is not installed."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    try:
        facts = runpy.run_path(str(Path(spec.origin).parent / "version.py"))
    except OSError:
        return None
    other = next((name for name in ("hip", "xpu") if facts.get(name)), None)
    return str(facts["__version__"]), facts.get("cuda"), other
