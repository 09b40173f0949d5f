"""batchopt: which per-device batch size and how much gradient accumulation?

The names below are for other people's training code, and stay; everything else is batchopt's own
and may change. They are imported when they are first used, so that `import batchopt` is light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchopt.batch_plan import BatchPlan
    from batchopt.config import Packing
    from batchopt.loss import exact_loss, micro_batch_loss
    from batchopt.micro_batches import Padding, padding, plan_micro_batches
    from batchopt.nvml import DeviceInfo, DeviceMonitor, DeviceSample, NvmlError, visible_devices
    from batchopt.results import RunRecord, read_run, read_sweep
    from batchopt.steps import StepCollator, StepSampler

__version__ = "0.1.0"

__all__ = [
    "BatchPlan",
    "DeviceInfo",
    "DeviceMonitor",
    "DeviceSample",
    "NvmlError",
    "Packing",
    "Padding",
    "RunRecord",
    "StepCollator",
    "StepSampler",
    "exact_loss",
    "micro_batch_loss",
    "padding",
    "plan_micro_batches",
    "read_run",
    "read_sweep",
    "visible_devices",
]

_MODULES = {
    "batch_plan": ("BatchPlan",),
    "config": ("Packing",),
    "loss": ("exact_loss", "micro_batch_loss"),
    "micro_batches": ("Padding", "padding", "plan_micro_batches"),
    "nvml": ("DeviceInfo", "DeviceMonitor", "DeviceSample", "NvmlError", "visible_devices"),
    "results": ("RunRecord", "read_run", "read_sweep"),
    "steps": ("StepCollator", "StepSampler"),
}
"""Where each public name lives."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"batchopt.{module}"), name)
    raise AttributeError(f"module 'batchopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
