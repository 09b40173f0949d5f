"""Sweeps of simulated runs, to ask how often the whole decision is wrong.

The runs go through the product's own table, findings and answer; only the numbers are drawn.
"""

import math
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from analysis.findings.comparisons import label_settings
from analysis.findings.facts import Comparison
from analysis.findings.frame import build_frame
from analysis.findings.judge import find
from analysis.findings.units import BYTES_PER_GIB
from analysis.reading.runs import Run

PLANS = {"05a": (8, 8), "05b": (16, 4), "05c": (64, 1)}
RUN_S = 300
START = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)


def drift(kind: str, runs: int, generator: np.random.Generator) -> np.ndarray:
    """What each run in the order of time takes longer, as a logarithm; shape (runs,).

    "iid": nothing; "linear": 5 % from the first run to the last; "ar": AR(1), 3 %, memory 0.8.
    """
    if kind == "linear":
        return np.linspace(0, 0.05, runs)
    if kind == "ar":
        found = np.empty(runs)
        found[0] = generator.normal(0, 0.03)
        for place in range(1, runs):
            step = 0.03 * math.sqrt(1 - 0.8**2) * generator.normal()
            found[place] = 0.8 * found[place - 1] + step
        return found
    return np.zeros(runs)


def simulate(
    generator: np.random.Generator,
    *,
    seeds: int,
    kind: str = "iid",
    noise: float = 0.01,
    true: float = 0.0,
    block_noise: float = 0.0,
    order: str = "blocked",
) -> Comparison:
    """Draws a sweep of three presets and judges it.

    Args:
        generator: Of the random numbers.
        seeds: Of each preset.
        kind: Of the drift of the machine.
        noise: Standard deviation of each run's speed and memory, as a share.
        true: By how much 05b is really faster and needs less, as a share.
        block_noise: What all runs of a seed share, as a share.
        order: "blocked": seed by seed, the presets shuffled; "as_given": preset by preset.
    """
    presets = list(PLANS)
    if order == "blocked":
        jobs = [
            (str(preset), seed)
            for seed in range(seeds)
            for preset in generator.permutation(presets)
        ]
    else:
        jobs = [(preset, seed) for preset in presets for seed in range(seeds)]
    slower = drift(kind, len(jobs), generator)
    shared = generator.normal(0, block_noise, seeds) if block_noise else np.zeros(seeds)
    quality = generator.normal(0.5, 0.01, seeds)
    runs = []
    for place, (preset, seed) in enumerate(jobs):
        better = math.log1p(true) if preset == "05b" else 0.0
        speed = 0.5 * math.exp(better + shared[seed] - slower[place] + noise * generator.normal())
        peak = math.exp(shared[seed] - better + slower[place] + noise * generator.normal())
        score = quality[seed] - 0.2 * slower[place] + 0.004 * generator.normal()
        runs.append(_run(preset, seed + 1, place, speed=speed, peak=peak, score=float(score)))
    frame = build_frame(runs)
    (comparison,) = find(runs, frame, label_settings(runs)).comparisons
    return comparison


def _run(preset: str, seed: int, place: int, *, speed: float, peak: float, score: float) -> Run:
    batch, accumulation = PLANS[preset]
    began = START + timedelta(seconds=RUN_S * place)
    plan: dict[str, Any] = {
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "effective_batch_size": 64,
        "optimizer_steps": 100,
    }
    return Run(
        sweep="simulated",
        number=place,
        run_dir=f"{place}_{preset}",
        preset=preset,
        seed=seed,
        overrides=(f"batch={preset}", f"seed={seed}"),
        status="completed",
        cause=None,
        plan=plan,
        metrics={
            "steps_per_second": speed,
            "peak_memory_bytes": peak * BYTES_PER_GIB,
            "best_rouge_f1": score,
            "initial_rouge_f1": 0.02,
            "train_time_s": 100 / speed,
        },
        environment={"device_kind": "cpu", "hostname": "node1"},
        evaluations=(
            {"step": 0, "train_time_s": 0.0, "rouge_f1": 0.02},
            {"step": 100, "train_time_s": 100 / speed, "rouge_f1": score},
        ),
        started_at=began.isoformat(),
        ended_at=(began + timedelta(seconds=RUN_S)).isoformat(),
    )


def said_yes(comparison: Comparison) -> dict[str, bool]:
    """For speed, memory and quality whether the decision tells the presets apart."""
    return {
        "speed": comparison.finding("fastest").certainty == "yes",
        "memory": comparison.finding("least_memory").certainty == "yes",
        "quality": comparison.quality.outcome == "gap",
    }


def main(sweeps: int) -> None:
    """Prints the shares of wrong and of right decisions as a table of Markdown."""
    print("| runs | speed | memory | quality |\n|---|---|---|---|")
    cases: list[tuple[str, dict[str, Any]]] = [
        (f"equal, {kind}, {seeds} seeds", {"kind": kind, "seeds": seeds})
        for kind in ("iid", "linear", "ar")
        for seeds in (3, 5)
    ]
    cases += [
        (f"true 3 %, block noise 3 %, {seeds} seeds",
         {"seeds": seeds, "true": 0.03, "block_noise": 0.03, "noise": 0.005})
        for seeds in (3, 5)
    ]  # fmt: skip
    cases += [
        (f"equal, {kind}, 3 seeds, preset by preset",
         {"kind": kind, "seeds": 3, "order": "as_given"})
        for kind in ("linear", "ar")
    ]  # fmt: skip
    for number, (name, case) in enumerate(cases):
        generator = np.random.default_rng(number)
        said = [said_yes(simulate(generator, **case)) for _ in range(sweeps)]
        found = [f"{sum(one[aim] for one in said) / sweeps:.3f}" for aim in said[0]]
        if "order" in case:  # only the speed is corrected, since only a speed drifts
            found[1:] = ["", ""]
        print(f"| {name} | {' | '.join(found)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
