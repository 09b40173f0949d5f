"""An accelerator in pure Python: what a GPU would run, a test runs without one.

Tensors say that they live on `pygpu:0`. Their data are CPU tensors, so every result is a real
one, equal to the CPU's. As on a GPU, a tensor of the CPU that meets one of the device raises. What
would make the host wait for a GPU is listed, with the line of Python that asked for it; kernels
and copied bytes are counted.

    with python_device() as device:
        model.to(device.name)
        ...
        assert device.waits == []

torch has one free device type (PrivateUse1) and calls Python for it: `OnDevice` gets every
operation on its tensors, and the kernels of `_register` make new ones.
"""

import functools
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from accelerate import state
from torch.utils import _pytree as pytree
from torch.utils import backend_registration

from batchopt.training import trainer

NAME = "pygpu"

NEEDS_A_VALUE = {
    *("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount"),
    *("_unique2", "unique_dim", "unique_consecutive", "repeat_interleave"),
}
"""Operations that give the host a number, or the size of their result."""

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}

COPIES = {"_to_copy", "copy_"}

HALF = "linear matmul mm bmm addmm baddbmm addbmm scaled_dot_product_attention"
FLOAT = "softmax.int log_softmax.int layer_norm nll_loss cross_entropy_loss pow.Tensor_Scalar"
"""What autocast computes in the lower precision and in fp32, as on CUDA."""


TAKE_A_NUMBER = {"fill", "fill_", "masked_fill", "masked_fill_"}


def _takes_host(func):
    """Whether a number in a tensor of the host may go into this operation, as on CUDA."""
    return torch.Tag.pointwise in func.tags or func.overloadpacket.__name__ in TAKE_A_NUMBER


class Device:
    """What happened on the device since `reset`."""

    name = NAME

    def __init__(self) -> None:
        self.on = False
        self.finished = 0
        """Number of waits ever: an event that was recorded before the last one has passed."""
        self.reset()

    def reset(self) -> None:
        self.waits: list[str] = []
        """Each is `operation @ module:line`."""
        self.kernels: Counter[str] = Counter()
        self.bytes_to_device = self.bytes_to_host = 0
        self.calls: list[str] = []
        """Of the functions that torch.cuda has too: empty_cache and others."""

    def wait(self, why: str) -> None:
        self.finished += 1
        self.waits.append(f"{why} @ {_caller()}")


DEVICE = Device()


def _caller() -> str:
    """The innermost line outside of torch and this module; a thread of autograd has none."""
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module != __name__ and module.partition(".")[0] != "torch":
            return f"{module}:{frame.f_lineno}"
        frame = frame.f_back
    return "backward"


class OnDevice(torch.Tensor):
    """A tensor of the device; `inner` has its data."""

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            layout=inner.layout,
            device=torch.device(NAME, 0),
        )
        tensor.inner = inner
        return tensor

    def tolist(self):
        return self.cpu().tolist()

    def untyped_storage(self):
        return self.inner.untyped_storage()

    def __reduce_ex__(self, protocol):
        # As torch.load(map_location="cpu") brings tensors of a GPU back, and as the Trainer does.
        DEVICE.wait("save")
        return self.inner.__reduce_ex__(protocol)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return _run(func, args, kwargs or {})


def _run(func, args, kwargs):
    """Runs one operation on the data, once it is known to be one that a GPU would run."""
    name = func.overloadpacket.__name__
    tensors = [x for x in pytree.arg_tree_leaves(*args, **kwargs) if isinstance(x, torch.Tensor)]
    if name in COPIES:
        _count_copy(name, args, kwargs)
    elif strangers := [
        x
        for x in tensors
        if not isinstance(x, OnDevice) and not (x.dim() == 0 and _takes_host(func))
    ]:
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found at least two, "
            f"{NAME}:0 and cpu: {[tuple(x.shape) for x in strangers]}"
        )
    if name in NEEDS_A_VALUE:
        DEVICE.wait(name)
    if name in INDEXING and any(x is not None and x.dtype == torch.bool for x in args[1]):
        DEVICE.wait("boolean index")
    if not func.is_view and name not in ("_local_scalar_dense", "detach", "lift_fresh"):
        DEVICE.kernels[name] += 1
    to_host = "device" in kwargs and torch.device(kwargs["device"]).type == "cpu"
    if "device" in kwargs:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    bare_args, bare_kwargs = pytree.tree_map_only(OnDevice, lambda x: x.inner, (args, kwargs))
    out = func(*bare_args, **bare_kwargs)
    for x in tensors:
        if isinstance(x, OnDevice) and x.shape != x.inner.shape:
            raise NotImplementedError(f"{func} changes a shape in place")
    if to_host:
        return out
    known = {id(x.inner): x for x in tensors if isinstance(x, OnDevice)}  # changed in place
    return pytree.tree_map_only(
        torch.Tensor, lambda x: known[id(x)] if id(x) in known else OnDevice(x), out
    )


def _count_copy(name, args, kwargs):
    if name == "_to_copy":
        source, target = args[0], torch.device(kwargs.get("device") or args[0].device).type
    else:
        target, source = args[0].device.type, args[1]
    size = source.numel() * source.itemsize
    non_blocking = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
    if source.device.type == target:
        return
    if target == "cpu":
        DEVICE.bytes_to_host += size
        if not non_blocking:
            DEVICE.wait("copy to the host")
    else:
        DEVICE.bytes_to_device += size
        if not (non_blocking and source.is_pinned()):
            DEVICE.wait("copy from pageable memory" if non_blocking else "copy to the device")


class Event:
    """Reads like torch.cuda.Event: has passed once the host has waited after it."""

    def __init__(self, enable_timing=False):
        self.timed = enable_timing
        self.at = None

    def record(self):
        self.at = DEVICE.finished, time.perf_counter()

    def query(self):
        return self.at is None or self.at[0] < DEVICE.finished

    def synchronize(self):
        if not self.query():
            DEVICE.wait("event")

    def elapsed_time(self, end):
        if not (self.timed and end.timed and self.query() and end.query()):
            raise RuntimeError("device not ready")
        return 1e3 * (end.at[1] - self.at[1])


class Module:
    """Reads like torch.cuda, as far as something asks for it."""

    Event = Event

    def is_available(self):
        return DEVICE.on

    def is_initialized(self):
        return DEVICE.on

    def device_count(self):
        return 1

    def current_device(self):
        return 0

    def set_device(self, device):
        pass

    def manual_seed_all(self, seed):
        pass

    def _is_in_bad_fork(self):
        return False

    def get_amp_supported_dtype(self):
        return [torch.bfloat16, torch.float16]

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)

    def synchronize(self, device=None):
        DEVICE.wait("synchronize")

    def empty_cache(self):
        DEVICE.calls.append("empty_cache")

    def reset_peak_memory_stats(self):
        DEVICE.calls.append("reset_peak_memory_stats")

    def max_memory_allocated(self):
        return 0

    def max_memory_reserved(self):
        return 0

    def memory_reserved(self):
        return 0

    def memory_stats(self):
        return {}


class Hook(torch._C._acc.PrivateUse1Hooks):
    def is_available(self):
        return DEVICE.on

    def has_primary_context(self, device):
        return DEVICE.on

    def is_built(self):
        return True


def _autocast(operation, dtype, *args, **kwargs):
    dtype = dtype or torch.get_autocast_dtype(NAME)

    def cast(x):
        return x.to(dtype) if x.is_floating_point() and x.device.type == NAME else x

    args, kwargs = pytree.tree_map_only(torch.Tensor, cast, (args, kwargs))
    with torch.autocast(NAME, enabled=False):
        return operation(*args, **kwargs)


def _register():
    """Makes the device known to torch; returns what keeps its kernels there."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module(), Hook())
    here = torch.library.Library("aten", "IMPL")

    def factory(make, name):
        def kernel(*args, dtype=None, layout=None, device=None, pin_memory=None, **rest):
            return OnDevice(make(*args, dtype=dtype, **rest))

        here.impl(name, kernel, "PrivateUse1")

    factory(torch.empty, "empty.memory_format")
    factory(torch.empty_strided, "empty_strided")
    for overload in ("arange", "arange.start", "arange.start_step"):
        factory(torch.arange, overload)

    def copy_from(source, target, non_blocking=False):
        # Where torch.tensor makes one, operations do not come by `OnDevice`.
        return _run(torch.ops.aten.copy_.default, (target, source, non_blocking), {})

    here.impl("_copy_from", copy_from, "PrivateUse1")

    # Pinned memory of the host: a mark on the storage, so that views of it are pinned too.
    def pin(tensor, device=None):
        pinned = tensor.clone()
        pinned.untyped_storage().pinned = True
        return pinned

    here.impl("_pin_memory", pin, "CPU")
    here.impl("is_pinned", lambda x, device=None: hasattr(x.untyped_storage(), "pinned"), "CPU")

    every = torch.library.Library("_", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, dtype in ((HALF, None), (FLOAT, torch.float32)):
        for name in names.split():
            packet, _, overload = name.partition(".")
            operation = getattr(getattr(torch.ops.aten, packet), overload or "default")
            here.impl(name, functools.partial(_autocast, operation, dtype), "AutocastPrivateUse1")
    return here, every


# As this is imported, which pytest does before any test runs: torch takes one such device a process
# and never forgets it, and autograd wants to know of it before the first backward pass.
_KERNELS = _register()


@contextmanager
def python_device() -> Iterator[Device]:
    """Lets accelerate and batchopt find the device instead of the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DEVICE, "on", True)
        patch.setenv("ACCELERATE_TORCH_DEVICE", f"{NAME}:0")
        patch.setattr(trainer, "use_cuda", lambda config: True)
        card = SimpleNamespace(total_memory=2**33)
        patch.setattr(torch.cuda, "get_device_properties", lambda _: card)
        patch.setattr(torch.cuda, "get_device_name", lambda: "a device of pure Python")
        # Else `Module.to` makes new parameters of tensors of another class, and unties weights.
        patch.setattr(torch.__future__, "_swap_module_params_on_conversion", True)
        DEVICE.reset()
        yield DEVICE
    state.AcceleratorState._reset_state(reset_partial_state=True)
