"""Writes the report in Markdown, and recommendation.json.

Every sentence that ranks comes from `findings`; here it is only set. No dates and no file order
of the moment: the same runs give the same report.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from analysis.batch_size import judge_batch_size
from analysis.findings import CLOSE_RATIO, Findings
from analysis.frame import TARGET_FRACTION
from analysis.read import Run, Sweep
from analysis.table import Table, name_tokenizers
from analysis.text import join_words, number, plural

SCHEMA_VERSION = 1


def write_report(
    sweeps: Sequence[Sweep],
    runs: Sequence[Run],
    labels: Sequence[str],
    findings: Findings,
    table: Table,
) -> str:
    """Writes the whole report."""
    sections = (
        ("In short", _recommendations(runs, findings)),
        ("What was run", _what_was_run(sweeps, runs)),
        ("Results", _results(table)),
        ("Findings", _findings(runs, findings)),
        ("Runs that did not complete", _incomplete(runs, labels)),
        ("Limits", _bullets(findings.warnings) or "No other limit was found in the records."),
        ("How each number is measured", _measured(runs, findings)),
        ("To go on", _next_commands(sweeps, runs, labels, findings)),
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections if text)
    return f"# Batch size and gradient accumulation: report\n\n{body}\n"


def describe_recommendation(
    sweeps: Sequence[Sweep], runs: Sequence[Run], labels: Sequence[str], findings: Findings
) -> dict[str, Any]:
    """Makes the content of recommendation.json: for each aim the choice and what is behind it."""
    by_label = dict(zip(labels, runs, strict=True))
    aims = {}
    for finding in findings.aims:
        run = by_label.get(finding.choice) if finding.choice else None
        aims[finding.aim.key] = {
            "choice": finding.choice,
            "preset": run.preset if run else None,
            "overrides": _setting_overrides(run) if run else None,
            "per_device_train_batch_size": run.plan["per_device_train_batch_size"] if run else None,
            "gradient_accumulation_steps": run.plan["gradient_accumulation_steps"] if run else None,
            "decided": finding.decided,
            "certainty": finding.certainty,
            "reason": finding.reason,
            "measured_by": finding.aim.column,
            "unit": finding.aim.unit,
            "values": {
                standing.label: {"mean": standing.mean, "values": list(standing.values)}
                for standing in finding.ranking
            },
            "choice_minus_other": {
                label: {
                    "difference": interval.difference,
                    "low": interval.low,
                    "high": interval.high,
                    "confidence": interval.confidence,
                }
                for label, interval in finding.intervals.items()
            },
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "sweeps": [sweep.path for sweep in sweeps],
        "rouge_tokenizer": name_tokenizers(runs),
        "memory_source": _names(run.metrics.get("memory_source") for run in runs),
        "recommendations": aims,
        "limits": list(findings.warnings),
    }


def _recommendations(runs: Sequence[Run], findings: Findings) -> str:
    completed = sum(run.completed for run in runs)
    rows = []
    for finding in findings.aims:
        by_label = {standing.label: standing for standing in finding.ranking}
        leader = by_label.get(finding.choice or "")
        rows.append(
            (
                finding.aim.title,
                "no recommendation" if finding.choice is None else finding.choice,
                "" if leader is None else f"{number(leader.mean)} {finding.aim.unit}",
                finding.certainty,
            )
        )
    return (
        f"{completed} of {plural(len(runs), 'planned run')} completed. What the last column says: "
        f"yes, it is beyond the noise that was measured; single runs, the distance is over "
        f"{number(100 * (CLOSE_RATIO - 1), 1)} % and runs were not repeated, so their noise is not "
        "known; no, it is only the best that was observed. The reasons are under Findings.\n\n"
        + _table(("aim", "setting", f"observed (ROUGE: {name_tokenizers(runs)})", "decided"), rows)
    )


def _what_was_run(sweeps: Sequence[Sweep], runs: Sequence[Run]) -> str:
    measured = [run for run in runs if run.environment]
    environments = [run.environment for run in measured]
    facts = [
        ("sweep", "; ".join(f"`{sweep.path}`" for sweep in sweeps)),
        ("command", "; ".join(f"`{sweep.command}`" for sweep in sweeps if sweep.command)),
        ("runs", _statuses(runs)),
        ("device", _names(environment.get("device_name") for environment in environments)),
        ("driver", _names(environment.get("driver_version") for environment in environments)),
        ("precision", _names(environment.get("precision") for environment in environments)),
        ("host", _names(environment.get("hostname") for environment in environments)),
        ("platform", _names(environment.get("platform") for environment in environments)),
        ("Python", _names(environment.get("python") for environment in environments)),
        ("libraries", _names(_packages(environment) for environment in environments)),
        ("commit", _names(_commit(environment) for environment in environments)),
        ("model", _names(_model(run) for run in measured)),
        ("data", _names(_data(run) for run in measured)),
        ("training", _names(_training(run) for run in measured)),
        ("seeds", _names(run.seed for run in runs)),
    ]
    return _table(("what", "value"), [(name, value) for name, value in facts if value])


def _results(table: Table) -> str:
    rows = [
        tuple(
            f"**{text}**" if (row, column) in table.best else text
            for column, text in enumerate(cells)
        )
        for row, cells in enumerate(table.cells)
    ]
    note = (
        "Bold: the best value observed in its column, among comparable runs. " if table.best else ""
    )
    return (
        _table([heading.replace("\n", " ") for heading in table.headings], rows)
        + f"\n\n{note}Every number is in `batch_optimization_results.csv`."
        + "\n\n![Memory against speed](memory_vs_speed.png)"
        + "\n\n![Training curves](training_curves.png)"
    )


def _findings(runs: Sequence[Run], findings: Findings) -> str:
    sources = _names(run.metrics.get("memory_source") for run in runs) or "not recorded"
    bullets = []
    for finding in findings.aims:
        notes = [f"ROUGE tokenizer: {name_tokenizers(runs)}"] * finding.aim.of_quality
        notes += [f"memory: {sources}"] * finding.aim.of_memory
        note = f" ({'; '.join(notes)})" if notes else ""
        bullets.append(f"**{finding.aim.title}**{note}: {finding.reason}")
    batch_size = judge_batch_size(runs, findings.reference_batch)
    if batch_size is not None:
        bullets.append(f"**Effective batch**: {batch_size}")
    return _bullets(bullets)


def _incomplete(runs: Sequence[Run], labels: Sequence[str]) -> str:
    return _bullets(
        f"**{label}**, seed {run.seed}: {run.status}. {_sentence(run.cause)} (`{run.run_dir}`)"
        for run, label in zip(runs, labels, strict=True)
        if not run.completed
    )


def _measured(runs: Sequence[Run], findings: Findings) -> str:
    sources = _names(run.metrics.get("memory_source") for run in runs) or "not recorded"
    warmups = _names(run.metrics.get("warmup_steps_left_out") for run in runs)
    sentences = [
        f"Peak and mean memory: {sources}, sampled while training. `nvml_process` is what NVML "
        "counts for the run's processes, `nvml_device_minus_baseline` what the device holds beyond "
        "the time before the run; on the CPU it is the resident anonymous memory of the training "
        "process. Allocated and reserved are torch's allocator, on CUDA only.",
        "Steps, examples and tokens per second: optimizer steps, examples, and source and target "
        "tokens without padding, in the steady state: evaluation and the first steps are left out"
        + (f" ({warmups} steps)." if warmups else "."),
        "Training time: the training loop without evaluation.",
        "ROUGE F1: from 0 to 1, the mean of ROUGE-1, ROUGE-2 and ROUGE-L F1 on the validation "
        f"examples, words as counted by: {name_tokenizers(runs)}. Best is the best evaluation.",
        "Loss: nats per target token, at the last logged step or evaluation.",
        f"To target: training time and optimizer steps until ROUGE first reaches "
        f"{100 * TARGET_FRACTION:.0f} % of the best that a completed run reached.",
        "ROUGE gain per minute: best minus initial ROUGE, divided by the training time until the "
        "best. ROUGE per GiB: best ROUGE divided by peak memory.",
        f"Single runs are ranked by speed or memory only where they differ by more than "
        f"{number(100 * (CLOSE_RATIO - 1), 1)} % (a convention); several seeds by "
        "Welch's interval, at 95 % for all comparisons of one aim together.",
    ]
    if findings.reference_batch is not None:
        sentences.append(
            f"Only completed runs with an effective batch of {findings.reference_batch} are ranked."
        )
    return _bullets(sentences)


def _next_commands(
    sweeps: Sequence[Sweep], runs: Sequence[Run], labels: Sequence[str], findings: Findings
) -> str:
    by_label = dict(zip(labels, runs, strict=True))
    commands: dict[str, list[str]] = {}
    for finding in findings.aims:
        if finding.choice is not None:
            run = by_label[finding.choice]
            kept = [
                override
                for override in _setting_overrides(run)
                if _key(override) not in ("training.num_train_epochs", "training.max_steps")
            ]
            words = ["python -m batchopt.train", *map(shlex.quote, kept)]
            words.append("training.num_train_epochs=10")
            commands.setdefault(" ".join(words), []).append(f'"{finding.aim.title}"')
    lines = [
        f"Train longer with the setting named under {join_words(aims)}:\n\n```sh\n{command}\n```"
        for command, aims in commands.items()
    ]
    seeds: dict[str, set[int | None]] = {}
    for run, label in zip(runs, labels, strict=True):
        seeds.setdefault(label, set()).add(run.seed)
    presets = [preset for preset in dict.fromkeys(run.preset for run in runs) if preset]
    common = set(_others(runs[0])).intersection(*(_others(run) for run in runs))
    if presets and any(findings.comparable) and min(map(len, seeds.values())) < 3:
        words = [
            "python -m batchopt.train -m",
            shlex.quote(f"batch={','.join(presets)}"),
            *(shlex.quote(override) for override in _others(runs[0]) if override in common),
            "seed=1,2,3",
        ]
        lines.append(
            f"More seeds, to tell differences from noise:\n\n```sh\n{' '.join(words)}\n```"
        )
    named = ",".join(sweep.path for sweep in sweeps)
    lines.append(
        f"This report again:\n\n```sh\npython -m analysis {shlex.quote(f'sweep={named}')}\n```"
    )
    return "\n\n".join(lines)


def _setting_overrides(run: Run) -> list[str]:
    """The overrides that make this setting, whatever the seed."""
    return [*([f"batch={run.preset}"] if run.preset else []), *_others(run)]


def _others(run: Run) -> list[str]:
    return [override for override in run.overrides if _key(override) not in ("batch", "seed")]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def _statuses(runs: Sequence[Run]) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    return f"{len(runs)} planned: " + ", ".join(f"{n} {status}" for status, n in counts.items())


def _packages(environment: Any) -> str:
    packages = environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _commit(environment: Any) -> str | None:
    commit = environment.get("git_commit")
    return commit and f"{commit[:12]}{' with changes' if environment.get('git_dirty') else ''}"


def _model(run: Run) -> str | None:
    name, parameters = run.model.get("name"), run.model.get("parameters")
    return name and f"{name}{f', {parameters:,} parameters' if parameters else ''}"


def _data(run: Run) -> str | None:
    if not run.data:
        return None
    return (
        f"{run.data.get('source')}: {run.data.get('train_examples')} training and "
        f"{run.data.get('validation_examples')} validation examples, "
        f"at most {run.data.get('max_source_length')} source and "
        f"{run.data.get('max_target_length')} target tokens; "
        f"{run.data.get('skipped_rows') or 0} rows skipped, "
        f"{run.data.get('truncated_sources') or 0} sources and "
        f"{run.data.get('truncated_targets') or 0} targets cut"
    )


def _training(run: Run) -> str | None:
    steps = run.plan.get("optimizer_steps")
    return steps and f"{steps} optimizer steps, packing {run.plan.get('packing')}"


def _names(values: Iterable[Any]) -> str:
    """Lists the different values in their order, without those that are not known."""
    return "; ".join(dict.fromkeys(str(value) for value in values if value not in (None, "")))


def _sentence(text: str | None) -> str:
    if not text:
        return "No cause was recorded."
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _bullets(sentences: Iterable[str]) -> str:
    return "\n".join(f"- {_one_line(sentence)}" for sentence in sentences)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(
        f"| {' | '.join(_one_line(cell).replace('|', '&#124;') for cell in line)} |"
        for line in lines
    )


def _one_line(text: str) -> str:
    return " ".join(text.split())
