"""The settings of one aim against each other, over the seeds that they share.

Seeds are blocks: the runs of one seed see the same examples, and lie close in time where the sweep
ran seed by seed. Costs are compared as ratios, quality as differences.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, harmonic_mean

from analysis.findings.facts import Aim, Contrast, Standing
from analysis.findings.noise import Noise
from analysis.findings.statistics import (
    Interval,
    TTest,
    block_effects,
    block_spread,
    block_test,
    holm,
    trend_tests,
    welch_test,
)
from analysis.findings.thresholds import CLOSE_RATIO, MATTERS_RATIO

ALPHA = 0.05


class Contrasts:
    """Compares the settings of one aim.

    Args:
        aim: What is measured.
        samples: For each setting its value in each block.
        noise: What varies within runs.
        margin: ROUGE F1, 0 to 1: differences within it do not matter.
        order: For each setting where its runs stand in the order of time, where the settings ran
            one after the other; a steady drift is then estimated too.
    """

    def __init__(
        self,
        aim: Aim,
        samples: Mapping[str, Mapping[Hashable, float]],
        noise: Noise,
        margin: float,
        *,
        order: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        self.aim, self.samples, self.noise, self.margin = aim, samples, noise, margin
        values = [value for own in samples.values() for value in own.values()]
        self.ratio = aim.key != "best_quality" and bool(values) and min(values) > 0
        self._logs: dict[str, dict[Hashable, float]] = {
            label: {key: math.log(one) if self.ratio else one for key, one in own.items()}
            for label, own in samples.items()
        }
        self._spread = block_spread(list(self._logs.values()))
        self._places = {label: place for place, label in enumerate(samples)}
        self._trend = None
        if order and all(len(order.get(label, ())) == len(own) for label, own in samples.items()):
            self._trend = trend_tests(
                [
                    list(zip(map(float, order[label]), own.values(), strict=True))
                    for label, own in self._logs.items()
                ]
            )

    def ranking(self) -> list[Standing]:
        """The settings, best first: by what they would have if each had run in every block."""
        labels = list(self.samples)
        effects = block_effects(list(self._logs.values()))
        if effects is None:
            effects = [fmean(own.values()) for own in self._logs.values()]
        sign = -1 if self.aim.higher_is_better else 1
        # Rounding of the fit must not order what is equal.
        order = sorted(
            range(len(labels)), key=lambda place: (round(sign * effects[place], 12), place)
        )
        return [
            Standing(labels[place], tuple(self.samples[labels[place]].values())) for place in order
        ]

    def against(
        self, first: str, others: Sequence[str], *, better: bool = False, reverse: bool = False
    ) -> tuple[Contrast, ...]:
        """Compares one setting with others; p-values are corrected for their number (Holm).

        Args:
            first: A setting.
            others: Settings.
            better: Whether `apart` asks for the first to be the better one.
            reverse: Whether to give each of the others against the first.
        """
        pairs = [(other, first) if reverse else (first, other) for other in others]
        tests = [self._test(*pair) for pair in pairs]
        quality = self.aim.key == "best_quality"
        family = len(self.samples) * (len(self.samples) - 1) // 2 if quality else None
        differ = iter(holm([test.p_value for test, _ in tests if test], family))
        return tuple(
            self._contrast(
                *pair,
                test,
                paired=paired,
                p_value=next(differ) if test else None,
                # Said of all pairs together, which needs no correction (intersection-union).
                equal_p=test.equivalence_p(self.margin) if test and quality else None,
                better=better,
            )
            for pair, (test, paired) in zip(pairs, tests, strict=True)
        )

    def pair(self, first: str, second: str) -> Contrast | None:
        """Compares two settings; None where one was not measured."""
        if first not in self.samples or second not in self.samples or first == second:
            return None
        return self.against(first, [second])[0]

    def _shared(self, first: str, second: str) -> list[Hashable]:
        two = self._logs[second]
        return [key for key in self._logs[first] if key in two]

    def _test(self, first: str, second: str) -> tuple[TTest | None, bool]:
        one, two = self._logs[first], self._logs[second]
        if self._trend:
            return self._trend(self._places[first], self._places[second]), False
        shared = self._shared(first, second)
        if shared:
            return block_test([one[key] - two[key] for key in shared], self._spread), True
        return welch_test(list(one.values()), list(two.values())), False

    def _contrast(
        self,
        first: str,
        second: str,
        test: TTest | None,
        *,
        paired: bool,
        p_value: float | None,
        equal_p: float | None,
        better: bool,
    ) -> Contrast:
        one, two = self._logs[first], self._logs[second]
        shared = self._shared(first, second)
        if test:
            estimate = test.interval.estimate
        elif shared:
            estimate = fmean(one[key] - two[key] for key in shared)
        else:
            estimate = fmean(one.values()) - fmean(two.values())
        over = None
        if test:
            over = test.interval.exp() if self.ratio else test.interval
        shown = math.exp(estimate) if self.ratio else estimate
        single = test is None or self.aim.of_quality
        within = self.noise.within(self.aim, first, second, shown) if single else None
        favours = estimate > 0 if self.aim.higher_is_better else estimate < 0
        count = len(shared) or harmonic_mean((len(one), len(two)))
        return Contrast(
            first=first,
            second=second,
            scale="ratio" if self.ratio else "difference",
            estimate=shown,
            over_runs=over,
            paired=paired,
            seeds=len(shared) if paired else min(len(one), len(two)),
            drift_corrected=self._trend is not None,
            spread=test.error * math.sqrt(count) if test else None,
            within_runs=within,
            p_value=p_value,
            equivalent=None
            if equal_p is None
            else equal_p < ALPHA and _inside(within, self.margin),
            apart=(favours or not better) and self._is_apart(estimate, p_value, within),
        )

    def _is_apart(self, estimate: float, p_value: float | None, within: Interval | None) -> bool:
        """Whether a difference (of logarithms for a ratio) is beyond the noise."""
        beyond = within is None or within.excludes(1.0 if self.ratio else 0.0)
        if self.ratio and abs(estimate) < math.log(MATTERS_RATIO):
            return False
        if p_value is not None:
            return p_value < ALPHA and beyond
        if self.aim.of_quality or not self.ratio:
            return False  # one seed cannot show the noise between seeds
        return abs(estimate) >= math.log(CLOSE_RATIO) and beyond


def _inside(interval: Interval | None, margin: float) -> bool:
    return interval is None or (interval.low > -margin and interval.high < margin)
