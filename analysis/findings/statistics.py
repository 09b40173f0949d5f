"""Pure statistics: no files, no pandas, no wording. Shapes are in the docstrings.

The distributions are scipy's. Its t tests warn where values are equal or nearly so, which is
what equal trainings give; so the three lines of a t test are here, and tests hold them to scipy.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

RESAMPLES = 2000
"""The ends of a 95 % interval then move by about 2 % of its width from seed to seed."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate, in the unit of the values, and its confidence interval."""

    estimate: float
    low: float
    high: float
    confidence: float

    def excludes(self, value: float) -> bool:
        """Whether a value is beyond the noise, at this confidence."""
        return self.low > value or self.high < value

    def exp(self) -> "Interval":
        """The interval of a ratio, from that of its logarithm."""
        return Interval(
            math.exp(self.estimate), math.exp(self.low), math.exp(self.high), self.confidence
        )

    def around(self, estimate: float) -> "Interval":
        """The same noise round another estimate."""
        shift = estimate - self.estimate
        return Interval(estimate, self.low + shift, self.high + shift, self.confidence)


@dataclass(frozen=True, slots=True)
class TTest:
    """A t test of a difference against zero."""

    interval: Interval
    p_value: float
    """Two-sided."""
    error: float
    """Standard error of the difference; 0 where the values do not vary."""
    freedom: float

    def equivalence_p(self, margin: float) -> float:
        """The p-value of "the true difference is at least the margin": two one-sided tests.

        Source: Schuirmann 1987, https://doi.org/10.1007/BF01068419
        """
        estimate = self.interval.estimate
        if self.error == 0:
            return 0.0 if abs(estimate) < margin else 1.0
        above = stats.t.sf((estimate + margin) / self.error, self.freedom)
        below = stats.t.cdf((estimate - margin) / self.error, self.freedom)
        return float(max(above, below))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval | None:
    """The mean of values of shape (n,) with Student's interval; None for fewer than two."""
    test = paired_test(values, confidence)
    return test.interval if test else None


def paired_test(differences: Sequence[float], confidence: float = 0.95) -> TTest | None:
    """Tests whether paired differences, shape (n,), have the mean zero; None for fewer than two."""
    count = len(differences)
    if count < 2:
        return None
    error = statistics.stdev(differences) / math.sqrt(count)
    return _t_test(statistics.fmean(differences), error, count - 1, confidence)


def welch_test(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> TTest | None:
    """Tests mean(first) - mean(second), shapes (n,) and (m,), without assuming equal variances.

    Returns:
        None where either side has fewer than two values: their spread is not known.

    Source: Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    if min(len(first), len(second)) < 2:
        return None
    return _welch(
        statistics.fmean(first) - statistics.fmean(second),
        [statistics.variance(side) / len(side) for side in (first, second)],
        [len(first), len(second)],
        confidence,
    )


def _welch(
    difference: float, squared_errors: Sequence[float], counts: Sequence[int], confidence: float
) -> TTest:
    total = sum(squared_errors)
    if total == 0:
        return _t_test(difference, 0.0, sum(counts) - 2, confidence)
    # Welch-Satterthwaite; shares instead of squares of tiny numbers, which would underflow.
    freedom = 1 / sum(
        (part / total) ** 2 / (count - 1)
        for part, count in zip(squared_errors, counts, strict=True)
    )
    return _t_test(difference, math.sqrt(total), freedom, confidence)


def _t_test(estimate: float, error: float, freedom: float, confidence: float) -> TTest:
    margin = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    if error == 0:
        p_value = 1.0 if estimate == 0 else 0.0
    else:
        p_value = float(2 * stats.t.sf(abs(estimate) / error, freedom))
    interval = Interval(estimate, estimate - margin, estimate + margin, confidence)
    return TTest(interval, p_value, error, freedom)


def holm(p_values: Sequence[float], family: int | None = None) -> list[float]:
    """Corrects p-values, shape (n,), for their number, so that one false alarm in all is rare.

    Args:
        p_values: In any order; the answer has the same.
        family: How many comparisons there are, where only some of them were tested.

    Source: Holm 1979, https://www.jstor.org/stable/4615733
    """
    family = max(family or 0, len(p_values))
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (family - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def paired_bootstrap(
    differences: NDArray[np.float64], *, confidence: float = 0.95, resamples: int = RESAMPLES
) -> Interval:
    """The mean of differences and a percentile interval over seeds and examples.

    Whole seeds are drawn as blocks, and the same examples are drawn in all of them. With few
    seeds the noise between them comes out too small; `paired_test` over their means is to be
    asked too. The same differences give the same interval.

    Args:
        differences: Of two settings; shape (seeds, examples), paired in both.
        confidence: Of the interval.
        resamples: How often to draw.

    Source: Koehn 2004, https://aclanthology.org/W04-3250 (paired by example); Owen 2007,
    https://doi.org/10.1214/07-AOAS122 (rows and columns drawn independently).
    """
    seeds, examples = differences.shape
    generator = np.random.default_rng(0)
    seed_weights = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=resamples)
    means = np.empty(resamples)
    for start in range(0, resamples, 256):  # all weights at once would be large
        stop = min(start + 256, resamples)
        weights = generator.multinomial(
            examples, np.full(examples, 1 / examples), size=stop - start
        )
        by_seed = weights @ differences.T / examples  # (draws, seeds)
        means[start:stop] = (by_seed * seed_weights[start:stop]).sum(axis=1) / seeds
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(differences.mean()), float(low), float(high), confidence)


def ratio_of_means(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """mean(first) / mean(second) of positive values, shapes (n,) and (m,), with its interval.

    The error of the logarithm of a mean is the mean's relative error (delta method).

    Returns:
        None where either side has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        return None
    sides = [np.asarray(side) for side in (first, second)]
    means = [float(side.mean()) for side in sides]
    relative = [
        float(side.var(ddof=1)) / mean**2 / len(side)
        for side, mean in zip(sides, means, strict=True)
    ]
    logarithm = math.log(means[0] / means[1])
    return _welch(logarithm, relative, [len(first), len(second)], confidence).interval.exp()


def ranges_overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether some value of one side lies within the range of the other."""
    return min(first) <= max(second) and min(second) <= max(first)


def pairs_to_tell(
    spread: float, difference: float, *, alpha: float, power: float = 0.8, limit: int = 100
) -> int | None:
    """How many pairs a paired t test needs to find a difference.

    Args:
        spread: Standard deviation of the paired differences.
        difference: The true difference that is to be found, in the same unit.
        alpha: Two-sided level of the test, corrected where there are several.
        power: Probability of finding it.
        limit: More than this are not looked for.

    Returns:
        None where it takes more than `limit`.

    Source: Chow, Shao, Wang 2008, Sample Size Calculations in Clinical Research, 3.1.1, with
    Student's quantiles instead of the normal ones.
    """
    return _enough(spread, difference, alpha / 2, 1 - power, limit)


def pairs_to_equate(
    spread: float, margin: float, *, alpha: float, power: float = 0.8, limit: int = 100
) -> int | None:
    """How many pairs two one-sided tests need to show equal what is equal.

    Args:
        spread: Standard deviation of the paired differences.
        margin: Differences within it do not matter.
        alpha: Level of each test, corrected where there are several.
        power: Probability of showing it where the true difference is zero.
        limit: More than this are not looked for.

    Returns:
        None where it takes more than `limit`.

    Source: Chow, Shao, Wang 2008, 3.1.3 (test for equivalence, power over both sides).
    """
    return _enough(spread, margin, alpha, (1 - power) / 2, limit)


def _enough(
    spread: float, distance: float, alpha_tail: float, beta_tail: float, limit: int
) -> int | None:
    """The fewest n >= 2 with n >= ((t_alpha + t_beta) * spread / distance)^2."""
    for count in range(2, limit + 1):
        quantiles = stats.t.isf([alpha_tail, beta_tail], count - 1)
        if count >= (float(quantiles.sum()) * spread / distance) ** 2:
            return count
    return None
