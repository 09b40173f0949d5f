"""batchopt: which per-device batch size and how much gradient accumulation?

The names below are for the training code of other people, and stay. Everything else is internal
and may change. A name is imported when it is first used, so `import batchopt` is light.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchopt.evaluation.rouge_metric import Rouge
    from batchopt.library.choice import BatchCandidate, BatchChoice
    from batchopt.library.exact_trainer import ExactSeq2SeqTrainer
    from batchopt.library.find_batch import find_batch
    from batchopt.library.keep_effective_batch import KeepEffectiveBatch
    from batchopt.machine.nvml import (
        DeviceInfo,
        DeviceMonitor,
        DeviceSample,
        NvmlError,
        visible_devices,
    )
    from batchopt.record.read import RunRecord, read_run, read_sweep
    from batchopt.request.batch_plan import BatchPlan
    from batchopt.request.config import Packing
    from batchopt.step.architecture import architecture_of
    from batchopt.step.batches import StepCollator, StepSampler
    from batchopt.step.loss import exact_loss, micro_batch_loss
    from batchopt.step.micro_batches import Padding, padding, plan_micro_batches

__version__ = "0.1.0"

__all__ = [
    "BatchCandidate",
    "BatchChoice",
    "BatchPlan",
    "DeviceInfo",
    "DeviceMonitor",
    "DeviceSample",
    "ExactSeq2SeqTrainer",
    "KeepEffectiveBatch",
    "NvmlError",
    "Packing",
    "Padding",
    "Rouge",
    "RunRecord",
    "StepCollator",
    "StepSampler",
    "architecture_of",
    "exact_loss",
    "find_batch",
    "micro_batch_loss",
    "padding",
    "plan_micro_batches",
    "read_run",
    "read_sweep",
    "visible_devices",
]

_MODULES = {
    "evaluation.rouge_metric": ("Rouge",),
    "library.choice": ("BatchCandidate", "BatchChoice"),
    "library.exact_trainer": ("ExactSeq2SeqTrainer",),
    "library.find_batch": ("find_batch",),
    "library.keep_effective_batch": ("KeepEffectiveBatch",),
    "machine.nvml": (
        "DeviceInfo",
        "DeviceMonitor",
        "DeviceSample",
        "NvmlError",
        "visible_devices",
    ),
    "record.read": ("RunRecord", "read_run", "read_sweep"),
    "request.batch_plan": ("BatchPlan",),
    "request.config": ("Packing",),
    "step.architecture": ("architecture_of",),
    "step.batches": ("StepCollator", "StepSampler"),
    "step.loss": ("exact_loss", "micro_batch_loss"),
    "step.micro_batches": ("Padding", "padding", "plan_micro_batches"),
}
"""The module of each public name."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"batchopt.{module}"), name)
    raise AttributeError(f"module 'batchopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
