"""The allocator's peaks are kept by phase; what is read is what torch.cuda tells."""

import os
from types import SimpleNamespace

import pytest
from support.fake_nvml import GIB, FakeNvml, card

from batchopt.training.allocator import Allocator, MemoryLimit, own_device_bytes


class Cuda:
    """Reads like torch.cuda: a peak since the last reset."""

    def __init__(self) -> None:
        self.allocated = self.reserved = self.peak_allocated = self.peak_reserved = 0

    def use(self, allocated: int, reserved: int) -> None:
        self.allocated, self.reserved = allocated, reserved
        self.peak_allocated = max(self.peak_allocated, allocated)
        self.peak_reserved = max(self.peak_reserved, reserved)

    def max_memory_allocated(self) -> int:
        return self.peak_allocated

    def max_memory_reserved(self) -> int:
        return self.peak_reserved

    def reset_peak_memory_stats(self) -> None:
        self.peak_allocated, self.peak_reserved = self.allocated, self.reserved

    def memory_stats(self) -> dict[str, int]:
        return {"num_alloc_retries": 2, "num_ooms": 1}

    def memory_reserved(self) -> int:
        return self.reserved

    def empty_cache(self) -> None:
        self.reserved = self.allocated

    def mem_get_info(self) -> tuple[int, int]:
        return 0, 40 * GIB

    def set_per_process_memory_fraction(self, share: float) -> None:
        self.share = share


def test_evaluation_and_loading_do_not_count_to_the_training():
    cuda = Cuda()
    allocator = Allocator(cuda)
    cuda.use(900, 1000)  # loading
    cuda.use(100, 1000)
    for phase, allocated in (("evaluate", 800), ("first_steps", 500), ("train", 400)):
        allocator.enter(phase)
        cuda.use(allocated, 1000)
        cuda.use(100, 1000)
    metrics = allocator.metrics()
    assert metrics["peak_allocated_bytes"] == 500
    assert metrics["peak_reserved_bytes"] == 1000
    assert metrics["fragmentation_bytes"] == 500
    assert metrics["eval_peak_allocated_bytes"] == 800
    assert (metrics["num_alloc_retries"], metrics["num_ooms"]) == (2, 1)


def test_a_phase_that_comes_back_keeps_its_highest():
    cuda = Cuda()
    allocator = Allocator(cuda)
    for allocated in (300, 700, 200):
        allocator.enter("train")
        cuda.use(allocated, 800)
        cuda.use(0, 800)
        allocator.enter("evaluate")
    assert allocator.metrics()["peak_allocated_bytes"] == 700


def test_a_run_that_never_trained_has_no_figures():
    assert Allocator(Cuda()).metrics()["peak_allocated_bytes"] is None


def test_neither_training_nor_evaluation_has_the_others_cache_in_its_peak():
    """An evaluation that took 900 left them to the allocator; the training needs 300."""
    cuda = Cuda()
    allocator = Allocator(cuda)
    reserved = {}
    for phase, needed in (("evaluate", 900), ("first_steps", 300), ("evaluate", 200)):
        allocator.enter(phase)
        cuda.use(needed, max(needed, cuda.reserved))
        cuda.use(100, cuda.reserved)
        reserved[phase] = cuda.reserved
    assert reserved == {"evaluate": 200, "first_steps": 300}
    assert allocator.metrics()["peak_reserved_bytes"] == 300


def test_a_log_line_leaves_the_cache_alone():
    """The training takes up its phase again after each; to empty the cache would make it slow."""
    cuda = Cuda()
    allocator = Allocator(cuda)
    for phase in ("first_steps", "train", "save", "train"):
        allocator.enter(phase)
        cuda.use(100, 500)
    assert cuda.reserved == 500


def step_ends(limit: MemoryLimit) -> None:
    limit.on_step_end(*[SimpleNamespace()] * 3)


def test_what_a_neighbour_has_does_not_count_to_the_limit(fake: FakeNvml) -> None:
    """A neighbour with 20 GiB beside a run with 2 GiB, 1 GiB of it outside the allocator."""
    fake.set(card(0, used=20 * GIB, processes=f"777:{20 * GIB}"))
    cuda = Cuda()
    limit = MemoryLimit(8 * GIB, cuda, own_device_bytes())
    cuda.use(GIB, GIB)
    fake.set(card(0, used=22 * GIB, processes=f"777:{20 * GIB};{os.getpid()}:{2 * GIB}"))
    step_ends(limit)
    assert cuda.share == pytest.approx((8 - 1) / 40)


def test_where_processes_are_hidden_it_is_what_was_added_since_cuda_started(
    fake: FakeNvml,
) -> None:
    fake.set(card(0, used=20 * GIB, processes=None))
    cuda = Cuda()
    limit = MemoryLimit(8 * GIB, cuda, own_device_bytes())
    cuda.use(GIB, GIB)
    fake.set(card(0, used=22 * GIB))
    step_ends(limit)
    assert cuda.share == pytest.approx((8 - 1) / 40)


def test_where_the_run_is_hidden_and_a_neighbour_grows_the_limit_does_not_shrink(
    fake: FakeNvml,
) -> None:
    """The neighbour is listed and the run is not: in a container, or under another user."""
    fake.set(card(0, used=10 * GIB, processes=f"777:{10 * GIB}"))
    cuda = Cuda()
    limit = MemoryLimit(8 * GIB, cuda, own_device_bytes())
    cuda.use(GIB, GIB)
    fake.set(card(0, used=17 * GIB, processes=f"777:{15 * GIB}"))
    step_ends(limit)
    assert cuda.share == pytest.approx((8 - 1) / 40)


def test_a_first_step_beyond_the_limit_is_out_of_memory():
    cuda = Cuda()
    limit = MemoryLimit(3 * GIB, cuda, lambda: 2 * GIB)
    cuda.use(GIB, 5 * GIB // 2)
    cuda.use(GIB, GIB)
    with pytest.raises(MemoryError, match=r"took 3\.50 GiB, 1\.00 of it outside"):
        step_ends(limit)


def test_without_nvml_the_allocators_own_memory_is_limited():
    cuda = Cuda()
    limit = MemoryLimit(10 * GIB, cuda, lambda: None)
    step_ends(limit)
    assert cuda.share == pytest.approx(0.25)
    cuda.share = 0.0
    step_ends(limit)
    assert cuda.share == 0.0, "once, after the first step"
