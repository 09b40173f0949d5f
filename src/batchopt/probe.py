"""What would fit? `python -m batchopt.probe [OVERRIDES]`.

Each batch size is measured in a process of its own on the data set's worst micro-batch; a line
through the measured peaks tells those of other sizes, and so what fits on other cards. `batch=auto`
chooses by the same figures.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
from rich import box
from rich.console import Console
from rich.table import Table

from batchopt.attempt import Stop, run_child
from batchopt.batch_plan import BatchPlan, divisor_pairs
from batchopt.cli import OK, SOME_FAILED, Parser, answer
from batchopt.compose import RunRequest, accept_plus, compose_run, preset_plans
from batchopt.config import Config, ProbeSizes
from batchopt.device import lease_for_run
from batchopt.errors import RequestError
from batchopt.nvml import DeviceInfo
from batchopt.prepare import prepare_shared
from batchopt.run_files import write_json

CARDS_GIB = (8, 12, 16, 24, 40, 80)
"""Memory of usual cards."""

CLOSE = 1.03
"""Times nearer than this are taken for equal: the smaller batch then has more room."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What one batch size needs: the highest memory of training and of evaluation, in bytes.

    `fits` is None where it was not tried, since a smaller one had failed already.
    """

    plan: BatchPlan
    fits: bool | None
    cause: str
    train_peak_bytes: int | None = None
    eval_peak_bytes: int | None = None
    seconds_per_step: float | None = None
    tokens: int | None = None
    """Padded source and target tokens of the worst micro-batch."""

    @property
    def peak_bytes(self) -> int | None:
        """The highest of the whole run."""
        peaks = [self.train_peak_bytes, self.eval_peak_bytes]
        return max((peak for peak in peaks if peak is not None), default=None)


@dataclass(frozen=True, slots=True)
class MemoryLine:
    """Memory of training as a line over the padded tokens of a micro-batch, by least squares.

    Evaluation has batches of its own size and needs the same whatever the training's.
    """

    fixed_bytes: float
    per_token_bytes: float
    eval_peak_bytes: int
    held_out_errors: dict[str, float]
    """For each size the relative error of its prediction from the others; empty under three."""

    def at(self, tokens: int) -> float:
        """The peak for a micro-batch of so many padded tokens."""
        return max(self.fixed_bytes + self.per_token_bytes * tokens, self.eval_peak_bytes)


@dataclass(frozen=True, slots=True)
class Choice:
    """What batch=auto took, and why."""

    plan: BatchPlan
    reason: str
    probes: tuple[Probe, ...]


def main(words: list[str]) -> int:
    """Probes and prints."""
    parser = Parser(
        prog="python -m batchopt.probe",
        description="Measure what each batch size needs on this device for this data's worst "
        "micro-batch, and predict the rest. probe.sizes=all probes every divisor.",
        epilog="Overrides are those of batchopt.train: data=files data.train_file=… model=…",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    arguments = parser.parse_intermixed_args(words)
    overrides = [accept_plus(word) for word in arguments.overrides]
    request = compose_run(overrides)
    names = preset_plans(overrides)
    plans = list(names.values())
    if request.config.probe.sizes is ProbeSizes.all:
        plans = divisor_pairs(request.config.batch.effective_batch_size)
    prepare_shared([request])
    device, lease = lease_for_run(request.config.device, Path("a probe"))
    with lease, Stop() as stop:
        probes = probe_all(request, plans, device, stop)
    line = fit_line(probes)
    budget = budget_bytes(request.config, device)
    _print(probes, {plan: name for name, plan in names.items()}, line, budget)
    if arguments.json:
        write_json(
            arguments.json,
            {
                "device": device.name if device else "CPU",
                "budget_bytes": budget,
                "memory": line and asdict(line),
                "probes": [asdict(probe) | {"batch": str(probe.plan)} for probe in probes],
            },
        )
    return OK if any(probe.fits for probe in probes) else SOME_FAILED


def probe_all(
    request: RunRequest, plans: Iterable[BatchPlan], device: DeviceInfo | None, stop: Stop
) -> list[Probe]:
    """Probes from the smallest size up; what is larger than one that failed is not run.

    Raises:
        KeyboardInterrupt: `stop` took note of a signal.
        RequestError: One failed for another reason than memory.
    """
    probes: list[Probe] = []
    failed: Probe | None = None
    for plan in sorted(set(plans), key=lambda plan: plan.per_device_train_batch_size):
        if failed is not None:
            probes.append(Probe(plan, None, f"implied by {failed.plan}"))
            continue
        probe = probe_one(request, plan, device, stop)
        probes.append(probe)
        failed = None if probe.fits else probe
    return probes


def probe_one(request: RunRequest, plan: BatchPlan, device: DeviceInfo | None, stop: Stop) -> Probe:
    """Probes one size in a child.

    Raises:
        KeyboardInterrupt: `stop` took note of a signal.
        RequestError: It failed for another reason than memory.
    """
    folder = Path(tempfile.mkdtemp(prefix="batchopt-probe-"))
    try:
        ending = run_child(
            "batchopt.probe_worker",
            [
                f"--per-device-train-batch-size={plan.per_device_train_batch_size}",
                *request.overrides,
            ],
            folder,
            device,
            stop=stop,
            limits=request.config.run,
            interval_s=request.config.device.sample_interval_s,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if ending.signals:
        raise KeyboardInterrupt
    outcome = ending.told.get("outcome", {})
    status = outcome.get("status") or ("oom" if ending.kernel_killed else "died")
    if status not in ("completed", "oom"):
        cause = outcome.get("cause") or f"the process ended with {ending.returncode}"
        raise RequestError(f"probing {plan}: {cause}")
    metrics = ending.metrics(on_device=device is not None)
    worst = outcome.get("worst")
    fits = status == "completed"
    return Probe(
        plan,
        fits=fits,
        cause=outcome.get("cause", "out of memory"),
        # Of one that failed the memory says only how far it came.
        train_peak_bytes=metrics["peak_memory_bytes"] if fits else None,
        eval_peak_bytes=metrics["eval_peak_memory_bytes"] if fits else None,
        seconds_per_step=outcome.get("seconds_per_step"),
        tokens=worst
        and plan.per_device_train_batch_size * (worst["source_tokens"] + worst["target_tokens"]),
    )


def fit_line(probes: Sequence[Probe]) -> MemoryLine | None:
    """Fits memory to padded tokens; None under two measured sizes."""
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
    # It runs after the training and finds what that left: the smallest size shows its own need.
    peaks = [probe.eval_peak_bytes for probe in probes if probe.eval_peak_bytes]
    return MemoryLine(fixed, slope, min(peaks, default=0), errors)


def _least_squares(points: Sequence[tuple[int, int]]) -> tuple[float, float]:
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    return mean_y - slope * mean_x, slope


def budget_bytes(config: Config, device: DeviceInfo | None) -> int:
    """The memory that a run may use here: the limit asked for, the GPU's, or what is free."""
    if config.device.memory_limit_gib is not None:
        return int(config.device.memory_limit_gib * 2**30)
    if device is not None and device.total_memory_bytes is not None:
        return device.total_memory_bytes
    return int(psutil.virtual_memory().available)


def choose(request: RunRequest, device: DeviceInfo | None, stop: Stop) -> Choice:
    """Chooses the fastest size whose worst case fits with the margin asked for.

    Sizes need not divide the effective batch: the loss is normalised by the step, so a smaller
    last micro-batch changes nothing.

    Raises:
        KeyboardInterrupt: `stop` took note of a signal.
        RequestError: Not even single examples fit.
    """
    config = request.config
    effective = config.batch.effective_batch_size
    budget = budget_bytes(config, device)
    room = (1 - config.probe.memory_margin) * budget
    doubling = [size for size in (8, 16, 32, 64, 128, 256) if size < effective]
    probes = probe_all(
        request, [BatchPlan(size, effective) for size in (*doubling, effective)], device, stop
    )
    fitting = _fitting(probes, room)
    line = fit_line(probes)
    if fitting and line is not None and line.per_token_bytes > 0 and len(fitting) < len(probes):
        largest = fitting[-1]
        assert largest.tokens is not None
        each = largest.tokens / largest.plan.per_device_train_batch_size
        most = int((room - line.fixed_bytes) / line.per_token_bytes / each)
        between = most // 8 * 8
        if largest.plan.per_device_train_batch_size < between < effective:
            probes.append(probe_one(request, BatchPlan(between, effective), device, stop))
    size = 4
    while not _fitting(probes, room) and size:
        probes.append(probe_one(request, BatchPlan(min(size, effective), effective), device, stop))
        size //= 2
    fitting = _fitting(probes, room)
    if not fitting:
        raise RequestError(
            f"batch=auto: not even one example at a time fits into {budget / 2**30:.1f} GiB with "
            f"probe.memory_margin={config.probe.memory_margin:g}; shorten data.max_source_length, "
            "set training.gradient_checkpointing=true or take a smaller model"
        )
    return Choice(*_fastest(fitting, budget, config.probe.memory_margin), tuple(probes))


def _fitting(probes: Sequence[Probe], room: float) -> list[Probe]:
    return sorted(
        (probe for probe in probes if probe.fits and (probe.peak_bytes or 0) <= room),
        key=lambda probe: probe.plan.per_device_train_batch_size,
    )


def _fastest(fitting: Sequence[Probe], budget: int, margin: float) -> tuple[BatchPlan, str]:
    timed = [probe for probe in fitting if probe.seconds_per_step]
    if not timed:
        return fitting[-1].plan, "the largest that fits; no step could be timed"
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


def _print(
    probes: Sequence[Probe], names: dict[BatchPlan, str], line: MemoryLine | None, budget: int
) -> None:
    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("preset", "batch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("peak GiB", "predicted", "s/step"):
        table.add_column(heading, justify="right")
    table.add_column("fits here")
    table.add_column("cards it fits (GiB)", no_wrap=True)
    tokens_each = next(
        (probe.tokens / probe.plan.per_device_train_batch_size for probe in probes if probe.tokens),
        None,
    )
    for probe in probes:
        size = probe.plan.per_device_train_batch_size
        predicted = line.at(int(size * tokens_each)) if line and tokens_each else None
        need = probe.peak_bytes or predicted
        verdict = {True: "yes", False: "no", None: "no, implied"}[probe.fits]
        table.add_row(
            names.get(probe.plan, ""),
            str(probe.plan),
            _gib(probe.peak_bytes),
            _gib(predicted),
            "" if probe.seconds_per_step is None else f"{probe.seconds_per_step:.3f}",
            verdict,
            " ".join(str(card) for card in CARDS_GIB if need and need <= card * 2**30),
        )
    console.print(table)
    if line is not None:
        listed = ", ".join(
            f"{batch}: {error:+.1%}" for batch, error in line.held_out_errors.items()
        )
        error = (
            f"each size, predicted from the others, is off by {listed}"
            if listed
            else "too few sizes to say how well it predicts"
        )
        console.print(
            f"memory = {line.fixed_bytes / 2**30:.2f} GiB + {line.per_token_bytes / 2**10:.1f} KiB "
            f"per padded token of a micro-batch; {error}. Here: {budget / 2**30:.1f} GiB.",
            soft_wrap=True,
        )


def _gib(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.2f}"


if __name__ == "__main__":
    sys.exit(answer(main))
