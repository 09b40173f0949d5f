"""Pure statistics of few values: no files, no pandas, no wording."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats


@dataclass(frozen=True, slots=True)
class Interval:
    """A difference of two means, in the unit of the values, and its confidence interval."""

    difference: float
    low: float
    high: float
    confidence: float

    @property
    def excludes_zero(self) -> bool:
        """Whether the sign of the difference is beyond the noise, at this confidence."""
        return self.low > 0 or self.high < 0


def welch_interval(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95
) -> Interval | None:
    """Estimates mean(first) - mean(second) without assuming equal variances.

    Returns:
        None where either side has fewer than two values: their spread is not known.

    Source: Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28
    """
    if min(len(first), len(second)) < 2:
        return None
    difference = statistics.fmean(first) - statistics.fmean(second)
    squared_errors = [statistics.variance(side) / len(side) for side in (first, second)]
    total = sum(squared_errors)
    if total == 0:
        return Interval(difference, difference, difference, confidence)
    # Welch-Satterthwaite; shares instead of squares of tiny numbers, which would underflow.
    shares = [error / total for error in squared_errors]
    freedom = 1 / sum(
        share**2 / (len(side) - 1) for share, side in zip(shares, (first, second), strict=True)
    )
    margin = float(stats.t.ppf((1 + confidence) / 2, freedom)) * math.sqrt(total)
    return Interval(difference, difference - margin, difference + margin, confidence)


def ranges_overlap(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether some value of one side lies within the range of the other."""
    return min(first) <= max(second) and min(second) <= max(first)
