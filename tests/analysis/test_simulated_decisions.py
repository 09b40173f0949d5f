"""How often the whole decision is wrong, and how often it finds what is there: by simulation.

The table of all cases: `cd tests; python -m support.simulated 1000`.
"""

import numpy as np
import pytest
from support.simulated import said_yes, simulate

SWEEPS = 60


def shares(seed: int, **sweep: object) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    said = [said_yes(simulate(generator, **sweep)) for _ in range(SWEEPS)]  # type: ignore[arg-type]
    return {aim: sum(one[aim] for one in said) / SWEEPS for aim in said[0]}


@pytest.mark.parametrize("kind", ["iid", "linear", "ar"])
@pytest.mark.parametrize("seeds", [3, 5])
def test_three_equal_presets_are_rarely_told_apart(kind: str, seeds: int) -> None:
    """At most 5 % each; of 60 sweeps more than 7 would be seen in 2 % of such tests at 5 %."""
    found = shares(seeds, seeds=seeds, kind=kind)
    assert {aim: share for aim, share in found.items() if share > 7 / SWEEPS} == {}


def test_a_true_difference_is_found_behind_the_noise_of_blocks() -> None:
    """3 % at three seeds, where all runs of a seed share a noise of 3 %."""
    found = shares(1, seeds=3, true=0.03, block_noise=0.03, noise=0.005)
    assert found["speed"] >= 0.8
    assert found["memory"] >= 0.8


def test_a_drift_is_no_preset_where_the_presets_ran_one_after_the_other() -> None:
    found = shares(2, seeds=3, kind="linear", order="as_given", noise=0.003)
    assert found["speed"] <= 7 / SWEEPS
    # And a true difference far beyond the drift is still found.
    assert (
        shares(3, seeds=3, kind="linear", order="as_given", noise=0.003, true=0.15)["speed"] > 0.8
    )


def test_the_moment_of_a_change_of_speed_is_told() -> None:
    from analysis.findings.facts import OneAfterTheOther, SpeedShift

    generator = np.random.default_rng(4)
    told = [simulate(generator, seeds=5, kind="linear", noise=0.003).limits for _ in range(10)]
    assert sum(any(isinstance(one, SpeedShift) for one in limits) for limits in told) >= 8
    calm = [simulate(generator, seeds=5, noise=0.003).limits for _ in range(10)]
    assert sum(any(isinstance(one, SpeedShift) for one in limits) for limits in calm) <= 1
    ordered = simulate(generator, seeds=3, order="as_given").limits
    assert any(isinstance(one, OneAfterTheOther) for one in ordered)
