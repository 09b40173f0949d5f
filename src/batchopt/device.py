"""Which device a run gets."""

import os

from batchopt import nvml


def find_device(kind: str) -> nvml.DeviceInfo | None:
    """Finds the GPU that a run on `device.kind` gets, the first visible one; None: the CPU.

    Raises:
        NvmlError: A GPU is demanded and NVML finds none.
    """
    if kind == "cpu":
        return None
    try:
        devices = nvml.visible_devices(os.environ)
    except nvml.NvmlError:
        if kind == "cuda":
            raise
        return None
    if not devices and kind == "cuda":
        raise nvml.DeviceNotFound("CUDA_VISIBLE_DEVICES leaves no GPU")
    return devices[0] if devices else None
