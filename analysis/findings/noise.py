"""How much a run varies in itself: over its validation examples, its steps, its course.

This is what single runs can show. It leaves out how much runs vary from each other, and says
nothing of that.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from analysis.findings.facts import Aim
from analysis.findings.statistics import Interval, paired_bootstrap, ratio_of_means
from analysis.reading.runs import Run

PARTS = 10
"""Of a run's course, for the peak of its memory in each."""


class Noise:
    """Answers for the settings of one comparison; reads and computes only what is asked for."""

    def __init__(self, runs: Mapping[str, Sequence[Run]]) -> None:
        self._runs = runs
        self._steps = cache(self._read_steps)
        self._peaks = cache(self._read_peaks)
        self._scores = cache(self._read_scores)

    def within(self, aim: Aim, first: str, second: str, estimate: float) -> Interval | None:
        """The interval of first against second over what varies within runs; None: not known.

        Args:
            aim: Of quality: a difference of ROUGE F1; of speed or memory: a ratio.
            first: Label of a setting.
            second: Label of another one.
            estimate: What the interval is to lie round.
        """
        match aim.key:
            case "best_quality":
                differences = self._differences(first, second)
                # The predictions are of the last evaluation; their noise is that of the best too.
                if differences is None:
                    return None
                return paired_bootstrap(differences).around(estimate)
            case "fastest":
                # Times, so the other way round.
                return ratio_of_means(self._steps(second), self._steps(first))
            case "least_memory":
                return ratio_of_means(self._peaks(first), self._peaks(second))
        return None

    def examples(self, label: str) -> int:
        """How many validation examples a setting was scored on; 0: not known."""
        return max(map(len, self._scores(label).values()), default=0)

    def _differences(self, first: str, second: str) -> NDArray[np.float64] | None:
        """Differences of ROUGE F1 of shape (seeds, examples), over what both settings have."""
        one, two = self._scores(first), self._scores(second)
        seeds = [seed for seed in one if seed in two]
        if not seeds:
            return None
        examples = set.intersection(*(set(side[seed]) for side in (one, two) for seed in seeds))
        if len(examples) < 2:
            return None
        order = sorted(examples)
        return np.array([[one[seed][name] - two[seed][name] for name in order] for seed in seeds])

    def _read_steps(self, label: str) -> list[float]:
        """Seconds of an optimizer step, in the mean between two logged ones, after the warm-up.

        Means over several steps, which depend on each other less than single steps do.
        """
        return [
            duration
            for run in self._runs[label]
            if not run.timing_untrusted
            for duration in step_times(run)
        ]

    def _read_peaks(self, label: str) -> list[float]:
        return [peak for run in self._runs[label] for peak in part_peaks(run)]

    def _read_scores(self, label: str) -> dict[int | None, dict[str, float]]:
        """ROUGE F1 of each example, by seed; the mean where a seed was run again."""
        found: dict[int | None, list[dict[str, float]]] = {}
        for run in self._runs[label]:
            if run.examples:
                scores = dict(zip(run.examples, run.scores, strict=True))
                found.setdefault(run.seed, []).append(scores)
        return {
            seed: {
                name: fmean(own[name] for own in runs) for name in set.intersection(*map(set, runs))
            }
            for seed, runs in found.items()
        }


def step_times(run: Run) -> list[float]:
    """Seconds of an optimizer step between each two logged ones, without the first steps."""
    left_out = run.metrics.get("warmup_steps_left_out") or 0
    step, clock = (
        np.asarray([row[name] for row in run.training]) for name in ("step", "train_time_s")
    )
    steady = step >= left_out
    steps, seconds = np.diff(step[steady]), np.diff(clock[steady])
    forward = (steps > 0) & (seconds > 0)
    return [float(value) for value in seconds[forward] / steps[forward]]


def part_peaks(run: Run) -> list[float]:
    """The peak of the sampled memory in each part of the training, in bytes."""
    samples = np.asarray([row["memory_bytes"] for row in run.memory if row["training"] > 0])
    if len(samples) < 2 * PARTS:
        return []
    return [float(part.max()) for part in np.array_split(samples, PARTS)]
