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
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

from batchopt.request.config import Precision
from batchopt.step.attention import leave_flash
from batchopt.step.loss import micro_batch_loss
from batchopt.training.adapters import dtype_of

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


def _added_product(_: Shape, left: Shape, right: Shape, *__: object, **___: object) -> int:
    return 2 * left[0] * left[1] * right[1]


UNCOUNTED = {
    # What the counter of torch does not know: products that are added in place (the loss in
    # slices), and the attention kernels of CPUs.
    torch.ops.aten.addmm_: _added_product,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(model: Any, micro_batch: dict[str, Tensor], *, sliced: bool = False) -> int:
    """Counts the operations of forward and backward on one micro-batch, without computing them.

    With `sliced` the head counts at the target tokens alone.

    Tensors without content go through a copy of the model that has no content either, so neither
    the memory nor the state of the run changes. A frozen weight has no gradient to count.
    """
    with FakeTensorMode(allow_non_fake_inputs=True) as fake, torch.random.fork_rng():
        # Made anew, since a fake tensor made of a weight would keep it from being exchanged later.
        empty: dict[int, Any] = {
            id(weight): nn.Parameter(_like(weight), weight.requires_grad)
            for weight in model.parameters()
        }
        empty |= {id(buffer): _like(buffer) for buffer in model.buffers()}
        twin = copy.deepcopy(model, empty).train()  # after a generation it is in evaluation mode
        leave_flash(twin)
        batch: dict[str, Tensor] = {
            name: fake.from_tensor(tensor.cpu()) for name, tensor in micro_batch.items()
        }
        with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
            micro_batch_loss(twin, batch, 1, 0.0, sliced=sliced).backward()  # type: ignore[no-untyped-call]
    return int(counter.get_total_flops())


def _like(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype)


WARM_UP_S = 0.5
"""An idle GPU takes a while to reach its clock."""

PRODUCTS = 20
"""On a GPU, between two readings of the clock: one product is as short as its launch."""

PRODUCTS_ON_CPU = 36
"""Each timed by itself."""


def measure_peak(device: torch.device, precision: Precision) -> float:
    """Measures the device's peak in FLOP/s, on large products of random matrices.

    In the arithmetic of the training, with the threads it has. Leaves no memory behind, and the
    random numbers of the training alone.
    """
    dtype = dtype_of(precision)
    size = 768 if device.type == "cpu" else 4096
    # Of zeros and ones a GPU computes products faster than of anything else: bits do not change.
    drawn = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    factor = drawn.to(device, dtype)
    product = torch.empty_like(factor)
    seconds = _on_cpu(factor, product) if device.type == "cpu" else _on_gpu(factor, product)
    del factor, product
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
    return 2 * size**3 / seconds


def _on_cpu(factor: Tensor, product: Tensor) -> float:
    """Seconds of a product: the median of the best third, so no cold start and no neighbour."""
    times = []
    for _ in range(PRODUCTS_ON_CPU):
        began = time.perf_counter()
        torch.mm(factor, factor, out=product)
        times.append(time.perf_counter() - began)
    return median(sorted(times)[: PRODUCTS_ON_CPU // 3])


def _on_gpu(factor: Tensor, product: Tensor) -> float:
    """Seconds of a product at full clock, by the GPU's own clock."""
    gpu = torch.get_device_module(factor.device)

    def products() -> float:
        begin, end = (gpu.Event(enable_timing=True) for _ in range(2))
        begin.record()
        for _ in range(PRODUCTS):
            torch.mm(factor, factor, out=product)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / PRODUCTS

    warm = time.perf_counter() + WARM_UP_S
    while time.perf_counter() < warm:
        products()
    return median(products() for _ in range(5))
