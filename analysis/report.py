"""Makes the report from the findings: one document, which markdown and html render.

Every sentence that ranks comes from `findings`; here it is only set. No dates and no file order
of the moment: the same runs give the same report.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis import charts, text_en
from analysis import labels as say
from analysis.charts import Setting, group_settings, name_tokenizers
from analysis.document import (
    Block,
    Bullets,
    Code,
    Details,
    Document,
    Figure,
    Inline,
    Paragraph,
    Section,
    Strong,
    Table,
    Text,
)
from analysis.facts import Findings
from analysis.findings import CLOSE_RATIO
from analysis.frame import TARGET_FRACTION
from analysis.labels import Label, Language
from analysis.read import Run, Sweep
from analysis.table import build_table
from analysis.text import number

RESULTS_FILE = "batch_optimization_results.csv"

LOG_LINES = 20
"""Of a run that did not complete: as much of the log's end as usually says why."""


def build_document(
    sweeps: Sequence[Sweep],
    runs: Sequence[Run],
    frame: pd.DataFrame,
    labels: Sequence[str],
    findings: Findings,
    *,
    language: Language = "en",
) -> Document:
    """Makes the whole report."""
    settings = group_settings(runs, frame, labels)
    table = build_table(runs, frame, labels, findings, language)
    sections = (
        ("short", say.IN_SHORT, _recommendations(runs, findings, language)),
        ("setting", say.WHAT_WAS_RUN, _what_was_run(sweeps, runs, language)),
        ("results", say.RESULTS, _results(table, settings, language)),
        ("findings", say.FINDINGS, _findings(runs, findings, language)),
        ("incomplete", say.INCOMPLETE, _incomplete(runs, labels, language)),
        ("limits", say.LIMITS, _limits(findings, language)),
        ("measured", say.MEASURED, _measured(runs, findings, language)),
        ("next", say.NEXT, _next_commands(sweeps, runs, labels, findings, language)),
    )
    return Document(
        title=say.TITLE.say(language),
        language=language,
        sections=tuple(
            Section(key, title.say(language), tuple(blocks))
            for key, title, blocks in sections
            if blocks
        ),
        words={key: label.say(language) for key, label in say.CONTROLS.items()},
    )


def _recommendations(
    runs: Sequence[Run], findings: Findings, language: Language
) -> Sequence[Block]:
    rows = []
    for finding in findings.comparisons[0].aims:
        by_label = {standing.label: standing for standing in finding.ranking}
        leader = by_label.get(finding.choice or "")
        rows.append(
            (
                text_en.aim_title(finding.aim.key),
                finding.choice or say.NO_RECOMMENDATION.say(language),
                ""
                if leader is None
                else f"{number(leader.mean)} {text_en.aim_unit(finding.aim.key)}",
                finding.certainty,
            )
        )
    return [
        Paragraph(
            say.COMPLETED_OF.say(
                language, completed=sum(run.completed for run in runs), planned=len(runs)
            )
        ),
        Table(
            tuple(
                head.say(language, tokenizer=name_tokenizers(runs, language))
                for head in (say.HEAD_AIM, say.HEAD_SETTING, say.HEAD_OBSERVED, say.HEAD_DECIDED)
            ),
            tuple(rows),
        ),
        Paragraph(say.DECIDED_NOTE.say(language, limit=number(100 * (CLOSE_RATIO - 1), 1))),
    ]


def _what_was_run(
    sweeps: Sequence[Sweep], runs: Sequence[Run], language: Language
) -> Sequence[Block]:
    measured = [run for run in runs if run.environment]
    environments = [run.environment for run in measured]
    facts: list[tuple[Label, Sequence[Any]]] = [
        (say.FACT_SWEEP, [Inline(sweep.path) for sweep in sweeps]),
        (say.FACT_COMMAND, [Inline(sweep.command) for sweep in sweeps if sweep.command]),
        (say.FACT_RUNS, [_statuses(runs, language)]),
        (say.FACT_DEVICE, [environment.get("device_name") for environment in environments]),
        (say.FACT_DRIVER, [environment.get("driver_version") for environment in environments]),
        (say.FACT_PRECISION, [environment.get("precision") for environment in environments]),
        (say.FACT_HOST, [environment.get("hostname") for environment in environments]),
        (say.FACT_PLATFORM, [environment.get("platform") for environment in environments]),
        (say.FACT_PYTHON, [environment.get("python") for environment in environments]),
        (say.FACT_LIBRARIES, [_packages(environment) for environment in environments]),
        (say.FACT_COMMIT, [_commit(environment, language) for environment in environments]),
        (say.FACT_MODEL, [_model(run, language) for run in measured]),
        (say.FACT_DATA, [_data(run, language) for run in measured]),
        (say.FACT_TRAINING, [_training(run, language) for run in measured]),
        (say.FACT_SEEDS, [run.seed for run in runs]),
    ]
    return [
        Table(
            (say.HEAD_WHAT.say(language), say.HEAD_VALUE.say(language)),
            tuple((name.say(language), _list(values)) for name, values in facts if _list(values)),
        )
    ]


def _results(table: Table, settings: Sequence[Setting], language: Language) -> Sequence[Block]:
    note = [say.BEST_NOTE.say(language)] if table.best else []
    return [
        table,
        Paragraph((" ".join([*note, say.EVERY_NUMBER.say(language)]), Inline(RESULTS_FILE), ".")),
        *_figures(settings, language),
    ]


def _figures(settings: Sequence[Setting], language: Language) -> Iterable[Figure]:
    drawn = settings[: charts.MAX_SETTINGS]
    cut = (
        [say.SETTINGS_CUT.say(language, shown=len(drawn), all=len(settings))]
        if len(drawn) < len(settings)
        else []
    )
    plans: tuple[tuple[str, Label, Label, tuple[charts.Chart | None, ...]], ...] = (
        (
            "memory_vs_speed",
            say.MEMORY_VS_SPEED,
            say.MEMORY_VS_SPEED_CAPTION,
            (charts.memory_vs_speed(drawn, language),),
        ),
        (
            "training_curves",
            say.CURVES_TITLE,
            say.CURVES_CAPTION,
            charts.training_curves(drawn, language),
        ),
        ("pareto", say.PARETO_TITLE, say.PARETO_CAPTION, charts.pareto(drawn, language)),
        (
            "step_time",
            say.STEP_TIME_TITLE,
            say.STEP_TIME_CAPTION,
            (charts.step_time(drawn, language),),
        ),
        ("padding", say.PADDING_TITLE, say.PADDING_CAPTION, (charts.padding(drawn, language),)),
    )
    for name, title, caption, parts in plans:
        kept = tuple(part for part in parts if part is not None)
        if kept:
            sentences = [caption.say(language), *cut]
            yield Figure(name, title.say(language), " ".join(sentences), kept)


def _findings(runs: Sequence[Run], findings: Findings, language: Language) -> Sequence[Block]:
    bullets: list[Text] = [
        (Strong(text_en.aim_title(finding.aim.key)), f": {text_en.reason(finding)}")
        for finding in findings.comparisons[0].aims
    ]
    bullets += text_en.decisions(findings.comparisons[0])
    quality = next(
        finding for finding in findings.comparisons[0].aims if finding.aim.key == "best_quality"
    )
    chart = charts.quality_differences(quality, language)
    blocks: list[Block] = [Bullets(tuple(bullets))]
    if chart is not None:
        caption = say.DIFFERENCES_CAPTION.say(language)
        blocks.append(Figure(chart.key, chart.title, caption, (chart,)))
    return blocks


def _incomplete(runs: Sequence[Run], labels: Sequence[str], language: Language) -> Sequence[Block]:
    blocks: list[Block] = []
    for run, label in zip(runs, labels, strict=True):
        if run.completed:
            continue
        status = say.STATUSES[run.status].say(language)
        seed = "" if run.seed is None else f", {say.SEED.say(language, seed=run.seed)}"
        cause = _sentence(run.cause) or say.NO_CAUSE.say(language)
        blocks.append(
            Bullets(((Strong(label), f"{seed}: {status}. {cause} (", Inline(run.run_dir), ")"),))
        )
        tail = _log_tail(run)
        if tail:
            summary = say.LOG_TAIL.say(language, lines=len(tail))
            blocks.append(Details((summary, Inline("train.log")), (Code("\n".join(tail), "text"),)))
    return blocks


def _limits(findings: Findings, language: Language) -> Sequence[Block]:
    if not text_en.limits(findings):
        return [Paragraph(say.NO_LIMIT.say(language))]
    return [Bullets(tuple(text_en.limits(findings)))]


def _measured(runs: Sequence[Run], findings: Findings, language: Language) -> Sequence[Block]:
    sources = _list(run.metrics.get("memory_source") for run in runs)
    warmups = _list(run.metrics.get("warmup_steps_left_out") for run in runs)
    values = {
        "source": sources or say.NOT_RECORDED.say(language),
        "warmup": f" ({warmups})" if warmups else "",
        "tokenizer": name_tokenizers(runs, language),
        "target": f"{100 * TARGET_FRACTION:.0f}",
        "limit": number(100 * (CLOSE_RATIO - 1), 1),
    }
    sentences = [label.say(language, **values) for label in say.MEASUREMENTS]
    if findings.comparisons[0].reference_batch is not None:
        sentences.append(
            say.SAME_BATCH.say(language, batch=findings.comparisons[0].reference_batch)
        )
    return [Bullets(tuple(sentences))]


def _next_commands(
    sweeps: Sequence[Sweep],
    runs: Sequence[Run],
    labels: Sequence[str],
    findings: Findings,
    language: Language,
) -> Sequence[Block]:
    by_label = dict(zip(labels, runs, strict=True))
    longer: dict[str, list[str]] = {}
    for finding in findings.comparisons[0].aims:
        if finding.choice is not None:
            run = by_label[finding.choice]
            kept = [
                override
                for override in _setting_overrides(run)
                if _key(override) not in ("training.num_train_epochs", "training.max_steps")
            ]
            words = ["python -m batchopt.train", *map(shlex.quote, kept)]
            words.append("training.num_train_epochs=10")
            longer.setdefault(" ".join(words), []).append(text_en.aim_title(finding.aim.key))
    commands = [
        (say.TRAIN_LONGER.say(language, aims=", ".join(aims)), command)
        for command, aims in longer.items()
    ]
    seeds: dict[str, set[int | None]] = {}
    for run, label in zip(runs, labels, strict=True):
        seeds.setdefault(label, set()).add(run.seed)
    presets = [preset for preset in dict.fromkeys(run.preset for run in runs) if preset]
    common = set(_others(runs[0])).intersection(*(_others(run) for run in runs))
    if presets and any(findings.completed) and min(map(len, seeds.values())) < 3:
        words = [
            "python -m batchopt.train -m",
            shlex.quote(f"batch={','.join(presets)}"),
            *(shlex.quote(override) for override in _others(runs[0]) if override in common),
            "seed=1,2,3",
        ]
        commands.append((say.MORE_SEEDS.say(language), " ".join(words)))
    named = ",".join(sweep.path for sweep in sweeps)
    again = ["python -m analysis", shlex.quote(f"sweep={named}")]
    again += [f"language={language}"] if language != "en" else []
    commands.append((say.AGAIN.say(language), " ".join(again)))
    return [block for text, command in commands for block in (Paragraph(text), Code(command))]


def _log_tail(run: Run) -> list[str]:
    """The last lines of a run's log; none where it has no log."""
    path = run.directory / "train.log" if run.directory else None
    if path is None or not path.is_file():
        return []
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 200 * LOG_LINES))
        return log.read().decode(errors="replace").splitlines()[-LOG_LINES:]


def _setting_overrides(run: Run) -> list[str]:
    """The overrides that make this setting, whatever the seed."""
    return [*([f"batch={run.preset}"] if run.preset else []), *_others(run)]


def _others(run: Run) -> list[str]:
    return [override for override in run.overrides if _key(override) not in ("batch", "seed")]


def _key(override: str) -> str:
    return override.lstrip("+~").split("=", 1)[0]


def _statuses(runs: Sequence[Run], language: Language) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    listed = ", ".join(
        f"{say.STATUSES[status].say(language)} {count}" for status, count in counts.items()
    )
    return say.PLANNED.say(language, count=len(runs), listed=listed)


def _packages(environment: Any) -> str:
    packages = environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _commit(environment: Any, language: Language) -> str | None:
    commit = environment.get("git_commit")
    dirty = say.DIRTY.say(language) if environment.get("git_dirty") else ""
    return commit and f"{commit[:12]}{dirty}"


def _model(run: Run, language: Language) -> str | None:
    name, parameters = run.model.get("name"), run.model.get("parameters")
    return name and (
        f"{name}, {say.PARAMETERS.say(language, count=f'{parameters:,}')}" if parameters else name
    )


def _data(run: Run, language: Language) -> str | None:
    if not run.data:
        return None
    known = {key: run.data.get(key) or 0 for key in say.DATA_KEYS}
    return say.DATA.say(language, source=run.data.get("source"), **known)


def _training(run: Run, language: Language) -> str | None:
    steps = run.plan.get("optimizer_steps")
    return steps and say.TRAINING.say(language, steps=steps, packing=run.plan.get("packing"))


def _list(values: Iterable[Any]) -> Any:
    """The different values in their order, without those that are not known.

    Returns:
        A text, of spans where a value is one; empty where nothing is known.
    """
    known = dict.fromkeys(value for value in values if value not in (None, ""))
    if any(isinstance(value, Inline) for value in known):
        return tuple(span for value in known for span in ("; ", value))[1:]
    return "; ".join(map(str, known))


def _sentence(text: str | None) -> str:
    if not text:
        return ""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
