"""Chooses the batch of `batch=auto` from measurements, and fits memory to tokens."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from batchopt.errors import RequestError
from batchopt.machine.nvml import DeviceInfo
from batchopt.probe.measure import Probe, budget_bytes, probe_all, probe_one
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.run.child_process import Stop
from batchopt.run.supervisor import Choice

CLOSE = 1.03
"""Times within this factor count as equal; the smaller batch, with more room, is then chosen."""


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Memory of training as a line over the padded tokens of a micro-batch, by least squares.

    Evaluation has batches of its own size, so its memory is the same for every training batch.
    """

    fixed_bytes: float
    per_token_bytes: float
    eval_peak_bytes: int
    held_out_errors: dict[str, float]
    """Relative error of predicting each size from the others; empty for fewer than three sizes."""

    def at(self, tokens: int) -> float:
        """The peak, in bytes, for a micro-batch with this number of padded tokens."""
        return max(self.fixed_bytes + self.per_token_bytes * tokens, self.eval_peak_bytes)


def fit_line(probes: Sequence[Probe]) -> MemoryLine | None:
    """Fits memory to padded tokens; None for fewer than two measured sizes."""
    points = {
        probe.plan: (probe.tokens, probe.train_peak_bytes)
        for probe in probes
        if probe.fits and probe.tokens and probe.train_peak_bytes
    }
    if len(points) < 2:
        return None
    errors = {}
    for plan, (tokens, measured) in points.items() if len(points) > 2 else ():
        fixed, slope = _least_squares([point for own, point in points.items() if own != plan])
        errors[str(plan)] = (fixed + slope * tokens) / measured - 1
    fixed, slope = _least_squares(list(points.values()))
    # Evaluation reuses the memory that training left, so the smallest size shows its own need.
    peaks = [probe.eval_peak_bytes for probe in probes if probe.eval_peak_bytes]
    return MemoryLine(fixed, slope, min(peaks, default=0), errors)


def _least_squares(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - slope * mean_x, slope


def choose(request: RunRequest, device: DeviceInfo | None, stop: Stop) -> Choice:
    """Chooses the fastest size that fits in the worst case, with the configured margin.

    Sizes need not divide the effective batch: the loss is normalised by the step, so a smaller
    last micro-batch does not change it.

    Raises:
        KeyboardInterrupt: `stop` noted a signal.
        RequestError: Not even a single example fits.
    """
    config = request.config
    effective = config.batch.effective_batch_size
    budget = budget_bytes(config, device)
    room = (1 - config.probe.memory_margin) * budget
    doubling = [size for size in (8, 16, 32, 64, 128, 256) if size < effective]
    probes = probe_all(
        request, [BatchPlan(size, effective) for size in (*doubling, effective)], device, stop
    )
    fits = fitting(probes, room)
    line = fit_line(probes)
    if fits and line is not None and line.per_token_bytes > 0 and len(fits) < len(probes):
        largest = fits[-1]
        assert largest.tokens is not None
        each = largest.tokens / largest.plan.per_device_train_batch_size
        most = int((room - line.fixed_bytes) / line.per_token_bytes / each)
        between = most // 8 * 8
        if largest.plan.per_device_train_batch_size < between < effective:
            probes.append(probe_one(request, BatchPlan(between, effective), device, stop))
    size = 4
    while not fitting(probes, room) and size:
        probes.append(probe_one(request, BatchPlan(min(size, effective), effective), device, stop))
        size //= 2
    fits = fitting(probes, room)
    if not fits:
        raise RequestError(
            f"batch=auto: not even one example at a time fits into {budget / 2**30:.1f} GiB with "
            f"probe.memory_margin={config.probe.memory_margin:g}; shorten data.max_source_length, "
            "set training.gradient_checkpointing=true or take a smaller model"
        )
    plan, reason = fastest(fits, budget, config.probe.memory_margin)
    return Choice(plan, reason, [asdict(probe) for probe in probes])


def fitting(probes: Sequence[Probe], room: float) -> list[Probe]:
    """The probes that stay within `room` bytes, the smallest size first."""
    return sorted(
        (probe for probe in probes if probe.fits and (probe.peak_bytes or 0) <= room),
        key=lambda probe: probe.plan.per_device_train_batch_size,
    )


def fastest(fits: Sequence[Probe], budget: int, margin: float) -> tuple[BatchPlan, str]:
    """The fastest of the probes that fit, the smaller of equals, and the reason as a sentence."""
    timed = [probe for probe in fits if probe.seconds_per_step]
    if not timed:
        return fits[-1].plan, "the largest that fits; no step could be timed"
    best = min(probe.seconds_per_step or 0.0 for probe in timed)
    chosen = next(probe for probe in timed if (probe.seconds_per_step or 0.0) <= CLOSE * best)
    others = ", ".join(
        f"{probe.plan}: {probe.seconds_per_step:.3g} s" for probe in timed if probe is not chosen
    )
    reason = (
        f"{chosen.seconds_per_step:.3g} s per step, the fastest of what fits"
        f"{f' ({others})' if others else ''}; its worst case takes "
        f"{(chosen.peak_bytes or 0) / 2**30:.2f} of {budget / 2**30:.2f} GiB, of which "
        f"{margin:.0%} are to stay free"
    )
    return chosen.plan, reason
