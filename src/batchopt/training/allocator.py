"""What torch's caching allocator of CUDA holds, phase by phase."""

from dataclasses import dataclass
from typing import Any

from batchopt.record.statuses import Phase


@dataclass(slots=True)
class Peak:
    """The highest figures of one phase, in bytes."""

    allocated: int = 0
    reserved: int = 0


class Allocator:
    """Keeps the peaks of the phases apart.

    The first optimizer steps are a phase of their own: the allocator and the libraries' workspaces
    are still growing then.

    Args:
        cuda: `torch.cuda`, or what reads like it.
    """

    def __init__(self, cuda: Any) -> None:
        self._cuda = cuda
        self._phase: str = Phase.load
        self.peaks: dict[str, Peak] = {}

    def enter(self, phase: str) -> None:
        """Ends the phase before; its peaks are kept."""
        self._keep()
        self._phase = phase
        self._cuda.reset_peak_memory_stats()

    def metrics(self) -> dict[str, int | None]:
        """The figures of the record.

        Allocated is what tensors hold; reserved what the allocator has taken from the driver. The
        difference at the peak is fragmentation and cache.
        """
        self._keep()
        stats = self._cuda.memory_stats()
        training = [self.peaks[name] for name in ("first_steps", Phase.train) if name in self.peaks]
        evaluation = self.peaks.get(Phase.evaluate, Peak())
        allocated = max((peak.allocated for peak in training), default=None)
        reserved = max((peak.reserved for peak in training), default=None)
        return {
            "peak_allocated_bytes": allocated,
            "peak_reserved_bytes": reserved,
            "fragmentation_bytes": None
            if allocated is None or reserved is None
            else reserved - allocated,
            "eval_peak_allocated_bytes": evaluation.allocated or None,
            "num_alloc_retries": stats.get("num_alloc_retries"),
            "num_ooms": stats.get("num_ooms"),
        }

    def _keep(self) -> None:
        peak = self.peaks.setdefault(self._phase, Peak())
        peak.allocated = max(peak.allocated, self._cuda.max_memory_allocated())
        peak.reserved = max(peak.reserved, self._cuda.max_memory_reserved())
