"""Makes recommendation.json: for each aim the choice and the numbers behind it.

Its schema is analysis/schemas/recommendation.schema.json; keys are only ever added. What stands
at the top is the first comparison, the largest; `comparisons` has all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from analysis.findings.comparisons import setting_words
from analysis.findings.facts import Comparison, Contrast, Costs, Finding, Findings, Row
from analysis.findings.statistics import Interval
from analysis.reading.runs import Run, Sweep
from analysis.words import en

SCHEMA_VERSION = 1


def describe(
    sweeps: Sequence[Sweep], runs: Sequence[Run], labels: Sequence[str], findings: Findings
) -> dict[str, Any]:
    """Makes the whole document. Its sentences are always in English."""
    examples = dict(zip(labels, runs, strict=True))
    parts = [_comparison(part, examples, findings) for part in findings.comparisons]
    return {
        "schema_version": SCHEMA_VERSION,
        "sweeps": [sweep.path for sweep in sweeps],
        "rouge_tokenizer": _known(run.metrics.get("rouge_tokenizer") for run in runs),
        "memory_source": _known(run.metrics.get("memory_source") for run in runs),
        "recommendations": parts[0]["recommendations"],
        "limits": en.limits(findings),
        "comparisons": parts,
    }


def _comparison(part: Comparison, runs: Mapping[str, Run], findings: Findings) -> dict[str, Any]:
    return {
        "facets": dict(part.facets),
        "effective_batch_size": part.reference_batch,
        "runs": len(part.places),
        "completed_runs": sum(findings.completed[place] for place in part.places),
        "not_ranked_because_of": {
            "speed": list(part.blocks_speed),
            "memory": list(part.blocks_memory),
            "quality": list(part.blocks_quality),
        },
        "equivalence_margin": part.margin,
        "recommendations": {one.aim.key: _finding(one, runs) for one in part.aims},
        "quality_differences": [_contrast(one) for one in part.finding("best_quality").contrasts],
        "pareto_front": None,  # not found any more; the key stays
        "knee": part.knee
        and {
            "choice": _costs(part.knee.choice),
            "fastest": _costs(part.knee.fastest),
            "tolerance": part.knee.tolerance,
        },
        "memory_budget": part.budget
        and {
            "gib": part.budget.gib,
            "choice": part.budget.choice and _costs(part.budget.choice),
            "too_large": [_costs(one) for one in part.budget.too_large],
            "out_of_memory": list(part.budget.out_of_memory),
        },
        "payback": part.payback and asdict(part.payback),
        "effective_batch": part.batch_size and asdict(part.batch_size),
        "answer": "".join(en.answer(part)),
        "baseline": part.baseline,
        "same_training": asdict(part.same_training),
        "quality_check": {
            "outcome": part.quality.outcome,
            "gap": part.quality.gap and _contrast(part.quality.gap),
            "not_measured": list(part.quality.unmeasured),
        },
        "convergence": {"target_rouge_f1": part.target, "steps": part.steps_to_target},
        "settings": [_row(one) for one in part.rows],
        "says": en.decisions(part),
    }


def _finding(finding: Finding, runs: Mapping[str, Run]) -> dict[str, Any]:
    run = runs.get(finding.choice) if finding.choice else None
    return {
        "choice": finding.choice,
        "preset": run.preset if run else None,
        "overrides": setting_words(run) if run else None,
        "per_device_train_batch_size": run.plan["per_device_train_batch_size"] if run else None,
        "gradient_accumulation_steps": run.plan["gradient_accumulation_steps"] if run else None,
        "decided": finding.decided,
        "certainty": finding.certainty,
        "reason": en.reason(finding),
        "measured_by": finding.aim.column,
        "unit": en.aim_unit(finding.aim.key),
        "values": {
            standing.label: {
                "mean": standing.mean,
                "values": list(standing.values),
                "interval": _interval(standing.interval),
            }
            for standing in finding.ranking
        },
        "choice_minus_other": {
            one.second: _interval(one.over_runs)
            for one in finding.contrasts
            if one.scale == "difference" and one.over_runs
        },
        "against_others": [_contrast(one) for one in finding.contrasts],
        "more_seeds": finding.more_seeds
        and {
            "have": finding.more_seeds.have,
            "need": finding.more_seeds.need,
            "variance_known": finding.more_seeds.variance_known,
            "validation_examples": finding.more_seeds.examples,
        },
        "untrusted": list(finding.untrusted),
        "left_out": list(finding.left_out),
    }


def _contrast(one: Contrast) -> dict[str, Any]:
    return {
        "first": one.first,
        "second": one.second,
        "scale": one.scale,
        "estimate": one.estimate,
        "between_runs": _interval(one.over_runs),
        "within_runs": _interval(one.within_runs),
        "paired_by_seed": one.paired,
        "shared_seeds": one.seeds if one.paired else 0,
        "corrected_for_drift": one.drift_corrected,
        "p_value": one.p_value,
        "beyond_noise": one.apart,
        "equivalent": one.equivalent,
    }


def _row(row: Row) -> dict[str, Any]:
    full = row.full
    time = full.train_time_s if full else None
    return {
        "setting": row.label,
        "runs": dict(row.endings),
        "disturbed_runs": row.disturbed,
        "steps_per_second": row.speed and row.speed.mean,
        "peak_memory_gib": row.memory and row.memory.mean,
        "best_rouge_f1": row.quality and row.quality.mean,
        "speed_against_baseline": row.speed_change and _contrast(row.speed_change),
        "memory_against_baseline": row.memory_change and _contrast(row.memory_change),
        "time_to_target_s": row.time_to_target_s,
        "full_length": full
        and {
            "steps": full.steps,
            "train_time_s": time.estimate if isinstance(time, Interval) else time,
            "energy_wh": full.energy_wh,
            "headroom_gib": full.headroom_gib,
        },
    }


def _interval(interval: Interval | None) -> dict[str, float] | None:
    if interval is None:
        return None
    return {
        "difference": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
    }


def _costs(costs: Costs) -> dict[str, Any]:
    return asdict(costs)


def _known(values: Any) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value))
