"""Has training processes say that they train on a GPU, while they train on the CPU.

For PYTHONPATH, beside a scripted NVML: the record then has what NVML said of the device.
"""

import sys
from dataclasses import replace

if "batchopt.training.worker" in sys.orig_argv:
    from batchopt.training import build

    cpu = build.set_up_device
    build.set_up_device = lambda config: replace(cpu(config), device_kind="cuda")
