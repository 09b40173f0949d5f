"""Logs the GPU memory, power and energy of your process with the Trainer.

torch.cuda.max_memory_allocated() does not include the context, cuBLAS and NCCL. NVML counts
everything that the process holds on the GPU.
"""

import os

from transformers import TrainerCallback

from batchopt import DeviceMonitor, NvmlError, visible_devices


class GpuMemory(TrainerCallback):
    """Adds the device's figures to each line that the Trainer logs."""

    def __init__(self, monitor):
        self.monitor = monitor

    def on_log(self, args, state, control, logs=None, **kwargs):
        now = self.monitor.sample(pids={os.getpid()})
        used = now.process_used_bytes or now.device_used_bytes
        logs |= {"gpu_used_bytes": used, "power_w": now.power_w, "energy_j": now.energy_j}


def main():
    try:
        device = visible_devices(os.environ)[0]
    except (NvmlError, IndexError) as error:
        print(f"no GPU to watch: {error}")
        return None
    with DeviceMonitor(device.uuid) as monitor:
        logs = {}
        # In your script: Seq2SeqTrainer(..., callbacks=[GpuMemory(monitor)])
        GpuMemory(monitor).on_log(None, None, None, logs=logs)
        print(device.name, logs)
    return logs


if __name__ == "__main__":
    main()
