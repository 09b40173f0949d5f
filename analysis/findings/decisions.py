"""What follows from the findings of a comparison: the rows, the answer, and what to do next.

A cost that is said of a setting is the mean of its own runs; a difference between two settings is
over the seeds that both have.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from analysis.findings.contrasts import ALPHA, Contrasts
from analysis.findings.facts import (
    Answer,
    Budget,
    Comparison,
    Contrast,
    Costs,
    Finding,
    FullLength,
    Knee,
    MoreSeeds,
    Payback,
    QualityCheck,
    Row,
)
from analysis.findings.statistics import Interval, pairs_to_equate, pairs_to_tell
from analysis.findings.thresholds import CLOSE_RATIO
from analysis.findings.units import BYTES_PER_GIB, JOULES_PER_WH
from analysis.reading.runs import Run
from batchopt.record.statuses import Status

KNEE_TOLERANCE = 0.05
"""Of the fastest's speed: what one may give up for less memory."""

MANY_SETTINGS = 30

SEED_LIMIT = 100
FIRST_SEEDS = 3
"""What shows some spread where one seed shows none."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person named for the report."""

    memory_budget_gib: float | None = None
    baseline: str | None = None
    full_steps: int | None = None


def decide(
    comparison: Comparison,
    runs: Sequence[Run],
    places: Mapping[str, Sequence[int]],
    tables: Mapping[str, Contrasts],
    wishes: Wishes,
) -> Comparison:
    """Adds what follows from the findings of the aims.

    Args:
        comparison: With its aims judged.
        runs: All runs.
        places: Where each setting's runs are.
        tables: What compares the settings, for each aim by its key.
        wishes: What a person named.
    """
    own = [runs[place] for place in comparison.places]
    costs = _costs(comparison)
    rows = _rows(comparison, runs, places, tables, wishes)
    baseline = _baseline(rows, tables["fastest"], wishes.baseline)
    rows = [_against(row, baseline, tables) for row in rows]
    endings = {label: [runs[place].status for place in found] for label, found in places.items()}
    comparison = replace(
        comparison,
        rows=tuple(rows),
        baseline=baseline,
        beaten=find_beaten(tables["fastest"], tables["least_memory"]),
        quality=check_quality(comparison, rows, tables["best_quality"]),
        knee=find_knee(costs),
        budget=None
        if wishes.memory_budget_gib is None
        else find_budget(costs, wishes.memory_budget_gib, endings),
        payback=find_payback(comparison, costs, own),
    )
    return replace(comparison, answer=find_answer(comparison, tables))


def _rows(
    comparison: Comparison,
    runs: Sequence[Run],
    places: Mapping[str, Sequence[int]],
    tables: Mapping[str, Contrasts],
    wishes: Wishes,
) -> list[Row]:
    speed, memory, quality = (
        {one.label: one for one in tables[key].ranking()}
        for key in ("fastest", "least_memory", "best_quality")
    )
    rows = []
    for label, found in places.items():
        own = [runs[place] for place in found]
        completed = [run for run in own if run.completed]
        steps = comparison.steps_to_target
        row = Row(
            label=label,
            places=tuple(found),
            endings=tuple(Counter(run.status for run in own).items()),
            disturbed=sum(bool(run.timing_untrusted) for run in completed),
            speed=speed.get(label),
            memory=memory.get(label),
            quality=quality.get(label),
        )
        if row.speed and steps is not None and label in quality:
            row = replace(row, time_to_target_s=steps / row.speed.mean)
        rows.append(replace(row, full=_full_length(row, own, wishes)))
    # By the first run's plan, so that the rows read like a curve.
    return sorted(
        rows, key=lambda row: runs[row.places[0]].plan.get("per_device_train_batch_size") or 0
    )


def full_steps(runs: Sequence[Run]) -> int | None:
    """Optimizer steps of the whole training that the config asks for; None: not known.

    `training.max_steps` only shortens a sweep; `training.num_train_epochs` is the full length.
    """
    for run in runs:
        examples, batch = run.plan.get("train_examples"), run.plan.get("effective_batch_size")
        epochs = run.config.get("training.num_train_epochs")
        if examples and batch and epochs is not None:
            return math.ceil(int(examples) / int(batch)) * int(float(epochs))
    steps = [run.plan.get("optimizer_steps") for run in runs]
    return next((int(one) for one in steps if one), None)


def _full_length(row: Row, runs: Sequence[Run], wishes: Wishes) -> FullLength | None:
    steps = wishes.full_steps or full_steps(runs)
    if steps is None or row.speed is None:
        return None
    interval = row.speed.interval
    seconds: Interval | float = steps / row.speed.mean
    if interval and interval.low > 0:
        seconds = Interval(
            steps / row.speed.mean, steps / interval.high, steps / interval.low, interval.confidence
        )
    energies = [
        run.metrics["energy_j"] / run.metrics["optimizer_steps_done"]
        for run in runs
        if run.completed
        and not run.timing_untrusted
        and run.metrics.get("energy_j")
        and run.metrics.get("optimizer_steps_done")
    ]
    device = [run.environment.get("device_total_memory_bytes") or _limit_bytes(run) for run in runs]
    known = [size for size in device if size]
    room = wishes.memory_budget_gib or (min(known) / BYTES_PER_GIB if known else None)
    peak = max(row.memory.values) if row.memory else None
    return FullLength(
        steps=steps,
        train_time_s=seconds,
        energy_wh=steps * sum(energies) / len(energies) / JOULES_PER_WH if energies else None,
        headroom_gib=None if room is None or peak is None else room - peak,
    )


def _limit_bytes(run: Run) -> float | None:
    limit = run.config.get("device.memory_limit_gib", "null")
    return None if limit == "null" else float(limit) * BYTES_PER_GIB


def _baseline(rows: Sequence[Row], speed: Contrasts, wanted: str | None) -> str | None:
    """The label of the baseline: what a person named, else the slowest setting."""
    if wanted is not None:
        named = [row.label for row in rows if wanted in (row.label, row.label.split(" (")[0])]
        if named:
            return named[0]
    ranking = speed.ranking()
    return ranking[-1].label if len(ranking) > 1 else None


def _against(row: Row, baseline: str | None, tables: Mapping[str, Contrasts]) -> Row:
    if baseline is None or row.label == baseline:
        return row
    return replace(
        row,
        speed_change=tables["fastest"].pair(row.label, baseline),
        memory_change=tables["least_memory"].pair(row.label, baseline),
    )


def check_quality(comparison: Comparison, rows: Sequence[Row], table: Contrasts) -> QualityCheck:
    """Whether the settings of one training came out alike.

    A gap counts if it is beyond the noise of seeds and of validation examples, and beyond the
    margin. Settings that take the same gradient should have none.
    """
    finding = comparison.finding("best_quality")
    ranking = finding.ranking
    missing = tuple(row.label for row in rows if row.quality is None)
    names = tuple(one.label for one in ranking)

    def check(outcome: str, gap: Contrast | None = None) -> QualityCheck:
        return QualityCheck(outcome, gap, names, missing)  # type: ignore[arg-type]

    if len(ranking) < 2:
        return check("not measured")
    if comparison.target is None:
        return check("not learnt")
    if not any(one.over_runs for one in finding.contrasts):
        return check("one seed")
    pairs = [
        one
        # Of many only the best is compared with each other one: pairs grow with the square.
        for place, standing in enumerate(ranking if len(ranking) <= MANY_SETTINGS else ranking[:1])
        for one in table.against(standing.label, names[place + 1 :], better=True)
    ]
    gaps = [one for one in pairs if one.apart and abs(one.estimate) > comparison.margin]
    if gaps:
        return check("gap", max(gaps, key=lambda one: abs(one.estimate)))
    same = all(one.equivalent for one in pairs)
    return check("same" if same else "open")


def find_beaten(speed: Contrasts, memory: Contrasts) -> tuple[tuple[str, str], ...]:
    """Finds the settings that are slower and need more memory than another, beyond the noise."""
    labels = [one.label for one in speed.ranking() if one.label in memory.samples]
    beaten: dict[str, str] = {}
    for label in labels[:MANY_SETTINGS]:
        others = [one for one in labels if one != label and one not in beaten]
        slower = speed.against(label, others, better=True)
        larger = memory.against(label, others, better=True)
        for one, two in zip(slower, larger, strict=True):
            if one.apart and two.apart and one.over_runs and two.over_runs:
                beaten.setdefault(one.second, label)
    return tuple(beaten.items())


def find_answer(comparison: Comparison, tables: Mapping[str, Contrasts]) -> Answer:
    """What to use: the fastest; of several that may be, the one with least memory."""
    fastest, memory = comparison.finding("fastest"), comparison.finding("least_memory")
    rows = {row.label: row for row in comparison.rows}
    if fastest.outcome not in ("ranked", "tied") or len(fastest.ranking) < 2:
        return Answer("no", rows[fastest.choice] if fastest.choice else None)
    choice = fastest.ranking[0].label
    alike = tuple(one.second for one in fastest.contrasts if not one.apart)
    speed, peak = tables["fastest"], tables["least_memory"]
    leanest = False
    if alike:
        # Nothing shows which of these is the fastest: memory decides, if it does.
        order = [one.label for one in memory.ranking if one.label in (choice, *alike)]
        if order and all(one.apart for one in peak.against(order[0], order[1:], better=True)):
            alike = tuple(one for one in (choice, *alike) if one != order[0])
            choice, leanest = order[0], len(order) > 1
    lean = memory.ranking[0].label if memory.outcome == "ranked" else choice
    others = [one.label for one in fastest.ranking if one.label != choice]
    against = speed.pair(choice, others[0])
    lean_memory = peak.pair(lean, choice)
    if lean_memory is None or not lean_memory.apart:
        lean = choice
    return Answer(
        certainty=fastest.certainty,
        choice=rows[choice],
        alike=alike,
        leanest=leanest,
        runner_up=against,
        lean=None if lean == choice else rows[lean],
        lean_speed=None if lean == choice else speed.pair(lean, choice),
        lean_memory=None if lean == choice else lean_memory,
    )


def _costs(comparison: Comparison) -> list[Costs]:
    columns = ("steps_per_second", "peak_memory_gib", "best_rouge_f1")
    means: dict[str, dict[str, float]] = {}
    for finding in comparison.aims:
        if finding.aim.column in columns and finding.outcome != "blocked":
            for standing in finding.ranking:
                means.setdefault(standing.label, {})[finding.aim.column] = standing.mean
    return [Costs(label, *(own.get(column) for column in columns)) for label, own in means.items()]


def find_knee(costs: Iterable[Costs]) -> Knee | None:
    """The least memory among the settings that are nearly as fast as the fastest."""
    measured = [
        (one, one.steps_per_second, one.peak_memory_gib)
        for one in costs
        if one.steps_per_second is not None and one.peak_memory_gib is not None
    ]
    if len(measured) < 2:
        return None
    fastest, top, _ = max(measured, key=lambda one: one[1])
    near = [one for one in measured if one[1] >= (1 - KNEE_TOLERANCE) * top]
    return Knee(min(near, key=lambda one: one[2])[0], fastest, KNEE_TOLERANCE)


def find_budget(costs: Iterable[Costs], gib: float, endings: Mapping[str, Sequence[str]]) -> Budget:
    """The fastest setting whose measured peak fits into so much memory."""
    measured = [(one, one.peak_memory_gib) for one in costs if one.peak_memory_gib is not None]
    fitting = [one for one, peak in measured if peak <= gib]
    fast = [(one, one.steps_per_second) for one in fitting if one.steps_per_second is not None]
    return Budget(
        gib=gib,
        choice=max(fast, key=lambda one: one[1])[0] if fast else None,
        fitting=len(fitting),
        too_large=tuple(one for one, peak in measured if peak > gib),
        out_of_memory=tuple(label for label, own in endings.items() if Status.oom in own),
    )


def find_payback(
    comparison: Comparison, costs: Iterable[Costs], runs: Sequence[Run]
) -> Payback | None:
    """Whether the sweep paid, where a fastest setting was found."""
    fastest = comparison.finding("fastest")
    if fastest.choice is None or fastest.certainty == "no":
        return None
    seconds = {one.label: 1000 / one.steps_per_second for one in costs if one.steps_per_second}
    best = seconds[fastest.choice]
    saving = sum(seconds.values()) / len(seconds) - best
    times = [run.metrics.get("total_time_s") for run in runs]
    cost = sum(time for time in times if time is not None)
    if saving <= 0 or not cost:
        return None
    return Payback(
        choice=fastest.choice,
        cost_s=cost,
        saving_s=saving,
        most_s=max(seconds.values()) - best,
        break_even_steps=1000 * cost / saving,
    )


def seeds_to_decide(finding: Finding, table: Contrasts) -> MoreSeeds | None:
    """How many seeds would decide an aim; None if it is decided, or the settings are the same.

    From the spread that was seen: enough to show a difference as large as the one observed, or,
    where that would not matter, to show that there is none.
    """
    open_ones = [one for one in finding.contrasts if not one.equivalent]
    if finding.certainty == "yes" or not open_ones:
        return None
    have = min(one.seeds for one in open_ones)
    if any(one.spread is None for one in open_ones):
        return MoreSeeds(have, max(FIRST_SEEDS, have + 1), SEED_LIMIT, variance_known=False)
    alpha = ALPHA / len(finding.contrasts)
    counts = [_pairs_needed(one, table.margin, alpha) for one in open_ones if not one.apart]
    # The test was made with what there is and did not decide.
    known = [max(count, have + 1) for count in counts if count is not None]
    return MoreSeeds(
        have,
        max(known, default=have + 1) if len(known) == len(counts) else None,
        SEED_LIMIT,
        variance_known=True,
        examples=_examples_needed(finding, table),
    )


def _pairs_needed(contrast: Contrast, margin: float, alpha: float) -> int | None:
    estimate, matters = contrast.estimate, margin
    if contrast.scale == "ratio":
        estimate, matters = math.log(contrast.estimate), math.log(CLOSE_RATIO)
    assert contrast.spread is not None
    if abs(estimate) > matters:
        return pairs_to_tell(contrast.spread, abs(estimate), alpha=alpha, limit=SEED_LIMIT)
    return pairs_to_equate(contrast.spread, matters, alpha=ALPHA, limit=SEED_LIMIT)


def _examples_needed(finding: Finding, table: Contrasts) -> int | None:
    """How many validation examples show what matters, where those that were used cannot.

    The interval shrinks with the square root of their number.
    """
    examples = table.noise.examples(finding.contrasts[0].first)
    if finding.aim.key != "best_quality" or examples is None:
        return None
    needed = []
    for contrast in finding.contrasts:
        within = contrast.within_runs
        if contrast.apart or within is None:
            continue
        matters = max(table.margin, abs(contrast.estimate))
        half = (within.high - within.low) / 2
        if half > matters:
            needed.append(examples * (half / matters) ** 2)
    return math.ceil(max(needed)) if needed else None
