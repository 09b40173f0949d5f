"""The allocator's peaks are kept by phase; what is read is what torch.cuda tells."""

from batchopt.training.allocator import Allocator


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
