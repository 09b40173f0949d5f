"""Floating-point operations: of a micro-batch, and the peak of the device.

Model FLOPs utilisation is (operations per token x tokens per second) / peak. It counts the
operations of forward and backward on the real tokens, without recomputation: padding and gradient
checkpointing cost time and are no progress. Source: https://arxiv.org/abs/2204.02311, appendix B.
"""

import copy
import time
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from batchopt.request.config import Precision
from batchopt.step.loss import micro_batch_loss

Shape = tuple[int, ...]

SOURCE = "FlopCounterMode over a measured GEMM"
"""The method behind `mfu`."""


def _attention(query: Shape, key: Shape, value: Shape, *_: object, **__: object) -> int:
    return int(sdpa_flop_count(query, key, value))  # type: ignore[no-untyped-call]


def _attention_backward(
    gradient: Shape, query: Shape, key: Shape, value: Shape, *_: object, **__: object
) -> int:
    count = sdpa_backward_flop_count(gradient, query, key, value)  # type: ignore[no-untyped-call]
    return int(count)


CPU_ATTENTION = {
    # The counter of torch knows only the attention kernels of CUDA.
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(model: Any, micro_batch: dict[str, Tensor]) -> int:
    """Counts the operations of forward and backward on one micro-batch, without computing them.

    Tensors without content go through a new model of the same configuration, so neither the memory
    nor the state of the run changes.
    """
    config = copy.deepcopy(model.config)
    with FakeTensorMode() as fake, torch.random.fork_rng():
        twin = type(model)(config)
        batch: dict[str, Tensor] = {
            name: fake.from_tensor(tensor.cpu()) for name, tensor in micro_batch.items()
        }
        with FlopCounterMode(display=False, custom_mapping=CPU_ATTENTION) as counter:
            micro_batch_loss(twin, batch, 1, 0.0).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def measure_peak(device: torch.device, precision: Precision) -> float:
    """Measures the peak of the device in FLOP/s, by large matrix products.

    In the precision of the training, with the threads that torch has. Leaves no memory behind.
    """
    dtype = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}.get(
        precision, torch.float32
    )
    size = 4096 if device.type == "cuda" else 768
    left = torch.ones(size, size, dtype=dtype, device=device)
    times = []
    for _ in range(36):
        began = time.perf_counter()
        torch.mm(left, left)
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    del left
    if device.type == "cuda":
        torch.cuda.empty_cache()
    # The median of the best third leaves out a cold start, a busy neighbour and a lucky reading.
    return 2 * size**3 / median(sorted(times)[:12])
