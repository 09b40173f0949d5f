"""One row for every planned run, with the columns of batch_optimization_results.csv."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.findings.comparisons import group, pair_of
from analysis.findings.convergence import crossing, target_rouge
from analysis.findings.units import BYTES_PER_GIB, JOULES_PER_WH, SECONDS_PER_MINUTE
from analysis.reading.runs import Run
from batchopt.record.statuses import Status

COLUMNS = (
    "sweep",
    "run",
    "run_dir",
    "preset",
    "seed",
    "overrides",
    "status",
    "cause",
    "oom",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "effective_batch_size",
    "device_name",
    "memory_source",
    "mean_memory_gib",
    "peak_memory_gib",
    "peak_allocated_gib",
    "peak_reserved_gib",
    "steps_per_second",
    "samples_per_second",
    "tokens_per_second",
    "padding_fraction",
    "train_time_min",
    "eval_time_min",
    "total_time_min",
    "train_loss",
    "eval_loss",
    "rouge1_f1",
    "rouge2_f1",
    "rougeL_f1",
    "rouge_f1",
    "initial_rouge_f1",
    "best_rouge_f1",
    "best_step",
    "time_to_target_min",
    "steps_to_target",
    "rouge_gain_per_min",
    "rouge_per_gib",
    "energy_wh",
    "mfu",
    "gradient_noise_scale",
    # The columns up to here are fixed; later ones are only ever added, at the end.
    "comparison",
    "timing_untrusted",
    "requested",
    "step_time_q1_s",
    "step_time_median_s",
    "step_time_q3_s",
    "best_rouge_per_total_min",
)
_TEXT = (
    "sweep",
    "run_dir",
    "preset",
    "overrides",
    "status",
    "cause",
    "device_name",
    "memory_source",
    "timing_untrusted",
    "requested",
)
_WHOLE = (
    "run",
    "seed",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "effective_batch_size",
    "best_step",
    "steps_to_target",
    "comparison",
)


def build_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """Makes the table of all planned runs, in their order; missing values are not measured."""
    groups = [[runs[place] for place in places] for _, places in group(runs)]
    numbers = {id(run): number for number, own in enumerate(groups, 1) for run in own}
    targets = [target_rouge(own) for own in groups]
    rows = [
        _row(run, targets[numbers[id(run)] - 1]) | {"comparison": numbers[id(run)]} for run in runs
    ]
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    types = dict.fromkeys(COLUMNS, "Float64")
    types |= dict.fromkeys(_TEXT, "string") | dict.fromkeys(_WHOLE, "Int64") | {"oom": "bool"}
    return frame.astype(types)


def _row(run: Run, target: float | None) -> dict[str, Any]:
    metrics = run.metrics
    best, initial = metrics.get("best_rouge_f1"), metrics.get("initial_rouge_f1")
    peak_gib = _divide(metrics.get("peak_memory_bytes"), BYTES_PER_GIB)
    # Recorded numbers that keep name and unit; the columns below are added or converted.
    same = {name: metrics.get(name) for name in COLUMNS}
    steps_to_target = crossing(run, target, "step")
    at_best = next(
        (row for row in run.evaluations if row["step"] == metrics.get("best_step")), None
    )
    gain = None if best is None or initial is None else best - initial
    return same | {
        "sweep": run.sweep,
        "run": run.number,
        "run_dir": run.run_dir,
        "preset": run.preset,
        "seed": run.seed,
        "overrides": " ".join(run.overrides) or None,
        "status": run.status,
        "cause": run.cause,
        "oom": run.status == Status.oom,
        "per_device_train_batch_size": run.plan.get("per_device_train_batch_size"),
        "gradient_accumulation_steps": run.plan.get("gradient_accumulation_steps"),
        "effective_batch_size": run.plan.get("effective_batch_size"),
        "device_name": run.environment.get("device_name"),
        "timing_untrusted": "; ".join(run.timing_untrusted) or None,
        "requested": pair_of(run.requested) or "auto" if run.requested else None,
        "mean_memory_gib": _divide(metrics.get("mean_memory_bytes"), BYTES_PER_GIB),
        "peak_memory_gib": peak_gib,
        "peak_allocated_gib": _divide(metrics.get("peak_allocated_bytes"), BYTES_PER_GIB),
        "peak_reserved_gib": _divide(metrics.get("peak_reserved_bytes"), BYTES_PER_GIB),
        "train_time_min": _divide(metrics.get("train_time_s"), SECONDS_PER_MINUTE),
        "eval_time_min": _divide(metrics.get("eval_time_s"), SECONDS_PER_MINUTE),
        "total_time_min": _divide(metrics.get("total_time_s"), SECONDS_PER_MINUTE),
        "time_to_target_min": _divide(crossing(run, target, "train_time_s"), SECONDS_PER_MINUTE),
        # A step is whole: the first one at which the target is reached.
        "steps_to_target": None if steps_to_target is None else math.ceil(steps_to_target),
        "rouge_gain_per_min": at_best
        and _divide(gain, at_best["train_time_s"] / SECONDS_PER_MINUTE),
        "rouge_per_gib": _divide(best, peak_gib),
        "best_rouge_per_total_min": _divide(
            best, _divide(metrics.get("total_time_s"), SECONDS_PER_MINUTE)
        ),
        "energy_wh": _divide(metrics.get("energy_j"), JOULES_PER_WH),
    }


def _divide(numerator: float | None, denominator: float | None) -> float | None:
    """Divides; None where a side was not measured or there is nothing to divide by."""
    return numerator / denominator if numerator is not None and denominator else None
