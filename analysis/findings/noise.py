"""How much single runs vary in themselves: over their validation examples, and over their steps.

This is what one run can show. It leaves out how much runs vary from each other.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import pairwise
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from analysis.findings.facts import Aim
from analysis.findings.statistics import Interval, paired_bootstrap, ratio_of_paired_sums
from analysis.reading.runs import Run


class Noise:
    """Measures the noise within the runs of one comparison; computes on demand."""

    def __init__(self, runs: Mapping[str, Sequence[Run]]) -> None:
        self._runs = runs
        self._scores = cache(self._read_scores)

    def within(self, aim: Aim, first: str, second: str, estimate: float) -> Interval | None:
        """The interval of first against second over what varies within runs; None: not known.

        Args:
            aim: Of quality: a difference of ROUGE F1; of speed: a ratio.
            first: Label of a setting.
            second: Label of another one.
            estimate: What the interval of a difference is to lie round.
        """
        match aim.key:
            case "best_quality":
                differences = self._differences(first, second)
                # The predictions are of the last evaluation; their noise is that of the best too.
                if differences is None:
                    return None
                return paired_bootstrap(differences).around(estimate)
            case "fastest":
                return self._speed_ratio(first, second)
        return None

    def examples(self, label: str) -> int | None:
        """How many validation examples a setting was scored on; None: not known."""
        return max(map(len, self._scores(label).values()), default=None)

    def _speed_ratio(self, first: str, second: str) -> Interval | None:
        """The ratio of two speeds over the steps that both took, in a seed that both ran.

        The same step has the same examples in every setting, so that their times are pairs.
        """
        one, two = (
            {run.seed: run for run in self._runs[label] if not run.timing_untrusted}
            for label in (first, second)
        )
        for seed in one:
            if seed in two:
                mine, theirs = step_times(one[seed]), step_times(two[seed])
                shared = sorted(mine.keys() & theirs.keys())
                # Times, so the other way round.
                return ratio_of_paired_sums(
                    [theirs[step] for step in shared], [mine[step] for step in shared]
                )
        return None

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


def step_times(run: Run) -> dict[tuple[int, int], float]:
    """Seconds of training between each two logged steps after the warm-up, by these two steps."""
    left_out = run.metrics.get("warmup_steps_left_out")
    steady = [row for row in run.training if left_out is None or row["step"] >= left_out]
    return {
        (int(before["step"]), int(after["step"])): after["train_time_s"] - before["train_time_s"]
        for before, after in pairwise(steady)
        if after["step"] > before["step"] and after["train_time_s"] > before["train_time_s"]
    }
