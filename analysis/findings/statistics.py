"""Pure statistics: no files, no pandas, no wording. Shapes are in the docstrings.

The distributions are scipy's. Its t tests warn where values are equal or nearly so, which is
what equal trainings give; so the three lines of a t test are here, and tests hold them to scipy.
"""

import math
import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

MIN_FREEDOM = 2
"""From this many degrees of freedom on the pooled noise speaks for a single block."""

MIN_PAIRS = 8
"""Of fewer paired times no interval is made."""

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


def block_spread(samples: Sequence[Mapping[Hashable, float]]) -> tuple[float, int] | None:
    """How much the values of a randomized block design vary beside settings and blocks.

    The model is value = setting + block + noise, fitted by least squares; blocks may be missing
    for some settings. Pooling the noise over all settings is what gives few blocks their power.

    Args:
        samples: For each setting its value in each block.

    Returns:
        The standard deviation of the noise of one value, and its degrees of freedom; None where
        nothing is left to estimate it from.

    Source: Montgomery, Design and Analysis of Experiments, chapter 4.
    """
    cells = [
        (setting, block, value)
        for setting, own in enumerate(samples)
        for block, value in own.items()
    ]
    blocks = {block: place for place, block in enumerate(dict.fromkeys(b for _, b, _ in cells))}
    design = np.zeros((len(cells), len(samples) + len(blocks)))
    for row, (setting, block, _) in enumerate(cells):
        design[row, setting] = design[row, len(samples) + blocks[block]] = 1
    values = np.array([value for _, _, value in cells])
    if not len(values):
        return None
    solution, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(values) - int(rank)
    if freedom < 1:
        return None
    residuals = values - design @ solution
    squares = float(residuals @ residuals)
    # What is left of equal values is rounding.
    tiny = (1e-12 * float(np.abs(values).max())) ** 2 * len(values)
    return (math.sqrt(squares / freedom) if squares > tiny else 0.0), freedom


def block_effects(samples: Sequence[Mapping[Hashable, float]]) -> list[float] | None:
    """The mean of each setting, as if each had been measured in every block.

    Returns:
        None where some settings share no block with the others, not even by way of a third one.
    """
    blocks = {
        block: place
        for place, block in enumerate(dict.fromkeys(block for own in samples for block in own))
    }
    rows, values = [], []
    for setting, own in enumerate(samples):
        for block, value in own.items():
            row = np.zeros(len(samples) + len(blocks))
            row[setting] = row[len(samples) + blocks[block]] = 1
            rows.append(row)
            values.append(value)
    if not rows:
        return None
    solution, _, rank, _ = np.linalg.lstsq(np.array(rows), np.array(values), rcond=None)
    if rank < len(samples) + len(blocks) - 1:
        return None
    level = float(solution[len(samples) :].mean())
    return [float(effect) + level for effect in solution[: len(samples)]]


def block_test(
    differences: Sequence[float], spread: tuple[float, int] | None, confidence: float = 0.95
) -> TTest | None:
    """Tests whether differences within blocks, shape (n,), have the mean zero.

    Args:
        differences: Of two settings, one for each block that both have.
        spread: Of `block_spread`, over all settings. Where these two vary more from each other
            than the pooled noise says, their own spread counts.
        confidence: Of the interval.

    Returns:
        None for no difference, and for one where the spread is not known with two degrees of
        freedom.
    """
    own = paired_test(differences, confidence)
    if spread is None or not differences or (own is None and spread[1] < MIN_FREEDOM):
        return own
    deviation, freedom = spread
    pooled = deviation * math.sqrt(2 / len(differences))
    error = pooled if own is None else max(own.error, pooled)
    return _t_test(statistics.fmean(differences), error, freedom, confidence)


def trend_tests(
    samples: Sequence[Sequence[tuple[float, float]]], confidence: float = 0.95
) -> Callable[[int, int], TTest] | None:
    """Tests settings that were measured one after another, corrected for a steady drift.

    The model is value = setting + slope * time + noise: an analysis of covariance.

    Args:
        samples: For each setting its (time, value) pairs.
        confidence: Of the intervals.

    Returns:
        A function that tests mean(first) - mean(second) at one time, by their places; None where
        there are too few values.
    """
    cells = [(setting, *pair) for setting, own in enumerate(samples) for pair in own]
    count = len(samples)
    design = np.zeros((len(cells), count + 1))
    for row, (setting, time, _) in enumerate(cells):
        design[row, setting], design[row, count] = 1, time
    values = np.array([value for *_, value in cells])
    freedom = len(cells) - count - 1
    if freedom < 1 or np.linalg.matrix_rank(design) < count + 1:
        return None
    inverse = np.linalg.inv(design.T @ design)
    solution = inverse @ design.T @ values
    residuals = values - design @ solution
    variance = float(residuals @ residuals) / freedom

    def test(first: int, second: int) -> TTest:
        contrast = np.zeros(count + 1)
        contrast[first], contrast[second] = 1, -1
        error = math.sqrt(max(0.0, variance * float(contrast @ inverse @ contrast)))
        return _t_test(float(contrast @ solution), error, freedom, confidence)

    return test


def ratio_of_paired_sums(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """sum(first) / sum(second) of positive values that are paired and follow each other in time.

    The error of the logarithm is that of the mean of first/mean(first) - second/mean(second)
    (delta method), from a circular block bootstrap: neighbours depend on each other, so stretches
    of them are drawn. With as many blocks as the interval has degrees of freedom, Student's
    quantile makes up for their small number.

    Args:
        first: Shape (n,).
        second: Shape (n,).
        confidence: Of the interval.

    Returns:
        None for fewer than `MIN_PAIRS` pairs.

    Source: Politis, Romano 1992, A circular block-resampling procedure for stationary data;
    Flegal, Jones 2010, https://doi.org/10.1214/09-AOS735 (blocks of sqrt(n), Student's quantile).
    """
    count = len(first)
    if count < MIN_PAIRS:
        return None
    one, two = np.asarray(first, float), np.asarray(second, float)
    shares = one / one.mean() - two / two.mean()
    size = max(2, round(count**0.5))
    blocks = count / size
    # The variance over all draws of circular blocks has a closed form: no drawing is needed.
    circular = np.concatenate([shares, shares[: size - 1]])
    sums = np.cumsum(np.concatenate([[0.0], circular]))
    means = (sums[size:] - sums[:-size]) / size
    variance = float(means.var()) / (blocks - 1)
    freedom = blocks - 1
    # A short series does not show how long its memory is: an AR(1) process is the floor.
    spread = float(shares.var(ddof=1))
    if spread > 0:
        memory = float(shares[1:] @ shares[:-1]) / (spread * (count - 1))
        memory = min(max(0.0, memory + (1 + 3 * memory) / count), 0.95)  # Kendall's correction
        worth = max(2.5, count * (1 - memory) / (1 + memory))  # independent pairs of as much
        variance, freedom = max(variance, spread / worth), min(freedom, worth - 1)
    logarithm = math.log(float(one.sum() / two.sum()))
    return _t_test(logarithm, math.sqrt(variance), freedom, confidence).interval.exp()


@dataclass(frozen=True, slots=True)
class Shift:
    """A change of level in a series."""

    place: int
    """The first value after it."""
    change: float
    """Mean after it less mean before it."""
    p_value: float


def find_shift(values: Sequence[float], draws: int = 2000) -> Shift | None:
    """Finds the split of a series, shape (n,), that separates two levels best.

    The p-value is the share of random orders with a split as strong (permutation test): it
    accounts for the search.

    Returns:
        None for fewer than six values, or values that are all equal.
    """
    count = len(values)
    if count < 6:
        return None
    series = np.asarray(values, float) - float(np.mean(values))
    if float(np.abs(series).max()) == 0:
        return None
    places = np.arange(2, count - 1)
    weights = 1 / np.sqrt(places * (count - places) / count)

    def strength(orders: NDArray[np.float64]) -> NDArray[np.float64]:
        # The distance of the two means over its error, for each split.
        sums = np.cumsum(orders, axis=-1)[..., places - 1]
        return np.abs(sums) * weights

    own = strength(series)
    generator = np.random.default_rng(0)
    shuffled = generator.permuted(np.tile(series, (draws, 1)), axis=1)
    as_strong = int((strength(shuffled).max(axis=1) >= own.max() - 1e-12).sum())
    place = int(places[int(own.argmax())])
    change = float(series[place:].mean() - series[:place].mean())
    return Shift(place, change, (as_strong + 1) / (draws + 1))


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
