"""Whether the machine changed its speed while a sweep ran, and in which order the runs went.

A machine that warms up or gets busy slows later runs. Where the settings take turns, each seed's
runs lie close together and the pairing by seed removes most of it. Where one setting ran after the
other, the order is mistaken for an effect unless the drift is estimated too.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from statistics import fmean

from analysis.findings.facts import SpeedShift
from analysis.findings.statistics import find_shift
from analysis.reading.runs import Run

SHIFT = 0.02
"""A smaller change of speed is not told."""

ALPHA = 0.01


def in_order(runs: Sequence[Run]) -> list[int] | None:
    """Orders the places of the runs by their start; None if runs overlap or times are unknown.

    Runs that overlap used different devices, or their times are not those of real runs.
    """
    spans = [(_seconds(run.started_at), _seconds(run.ended_at)) for run in runs]
    if any(start is None or end is None for start, end in spans):
        return None
    order = sorted(range(len(runs)), key=lambda place: spans[place][0] or 0.0)
    for earlier, later in pairwise(order):
        ended, began = spans[earlier][1], spans[later][0]
        assert ended is not None and began is not None
        if began < ended - 1 or began == spans[earlier][0]:  # times are whole seconds
            return None
    return order


def turns(settings: Mapping[str, Sequence[Run]]) -> dict[str, list[int]] | None:
    """Where each run stands in the order, by setting; None where the settings took turns.

    One after the other: all runs of a setting lie before all runs of the next. That says nothing
    for single runs, nor where the order is not known.
    """
    runs = [run for own in settings.values() for run in own]
    order = in_order(runs)
    if order is None or min(map(len, settings.values())) < 2:
        return None
    position = {place: at for at, place in enumerate(order)}
    names = [label for label, own in settings.items() for _ in own]
    at: dict[str, list[int]] = {label: [] for label in settings}
    for place, label in enumerate(names):
        at[label].append(position[place])
    ranges = sorted((min(own), max(own)) for own in at.values())
    apart = all(one[1] < two[0] for one, two in pairwise(ranges))
    return at if apart else None


def find_speed_shift(settings: Mapping[str, Sequence[Run]]) -> SpeedShift | None:
    """The moment at which all settings became faster or slower; None where there is none.

    Args:
        settings: Completed runs with a speed. Each run is compared with its setting's mean.
    """
    runs: list[Run] = []
    rest: list[float] = []
    for own in settings.values():
        speeds = [math.log(run.metrics["steps_per_second"]) for run in own]
        runs += own
        rest += [speed - fmean(speeds) for speed in speeds]
    order = in_order(runs)
    if order is None:
        return None
    shift = find_shift([rest[place] for place in order])
    if shift is None or shift.p_value > ALPHA or abs(math.expm1(shift.change)) < SHIFT:
        return None
    first = runs[order[shift.place]]
    return SpeedShift(first.run_dir, str(first.started_at), math.expm1(shift.change))


def _seconds(moment: str | None) -> float | None:
    try:
        return datetime.fromisoformat(moment).timestamp() if moment else None
    except ValueError:
        return None
