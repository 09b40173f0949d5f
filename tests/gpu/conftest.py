"""The GPU that the tests of this folder share, and the table that they print."""

from collections.abc import Iterator

import pytest
from support import TOP, warm
from support.on_gpu import GPUS, Seen

from batchopt.machine import nvml
from batchopt.machine.device import why_busy
from batchopt.request.config import DeviceConfig


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Iterator[nvml.DeviceInfo]:
    """The GPU of these tests, seen alone: a free one or, where all are in use, the first."""
    free = [gpu for gpu in GPUS if why_busy(gpu, DeviceConfig()) is None]
    chosen = (free or GPUS)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", chosen.uuid)
        patch.setattr(warm, "fits", lambda words, environ: False)  # CUDA does not survive a fork
        yield chosen


@pytest.fixture(scope="session")
def seen(gpu: nvml.DeviceInfo) -> Iterator[Seen]:
    """What was seen; printed at the end as a table for docs/gpu-checklist.md.

    Each row is also in outputs/gpu-seen.md as soon as it is there, for a day that ends early.
    """
    seen = Seen(TOP / "outputs" / "gpu-seen.md")
    seen("GPU", gpu.name)
    seen("driver", gpu.driver_version)
    yield seen
    print("\n\n" + seen.table())
