"""Makes the report from the findings: one document, which markdown and html render.

Every conclusion comes from `findings`. Nothing depends on the date or on the order of files: the
same runs give the same report.
"""

import shlex
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from analysis.findings.comparisons import other_words, setting_words
from analysis.findings.convergence import TARGET_FRACTION
from analysis.findings.facts import Comparison, Findings
from analysis.findings.thresholds import CLOSE_RATIO, MATTERS_RATIO
from analysis.reading.runs import Run, Sweep
from analysis.report import charts
from analysis.report.charts import Setting, group_settings, name_tokenizers
from analysis.report.document import (
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
from analysis.report.table import build_parts, build_runs, build_settings
from analysis.words import texts
from analysis.words.language import WORDS
from analysis.words.numbers import number
from analysis.words.texts import Label, Language
from batchopt.record.keys import Word

RESULTS_FILE = "batch_optimization_results.csv"

MAX_COMPARISONS = 12
"""More than this nobody reads one by one."""

MAX_INCOMPLETE = 30
"""Runs without completion that are listed; the file of results has all."""

TOLD = ("fastest", "least_memory", "least_energy")
"""The aims that the report tells; quality is a check, and the others follow from these."""

MAX_SEEDS = 10
"""The report proposes at most this many seeds."""

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
    sections = (
        ("short", texts.IN_SHORT, _in_short(runs, findings, language)),
        ("findings", texts.FINDINGS, _findings(findings, language)),
        ("figures", texts.FIGURES, _figures(settings, findings, language)),
        ("limits", texts.LIMITS, _limits(findings, language)),
        ("next", texts.NEXT, _next_commands(sweeps, runs, labels, findings, language)),
        ("setting", texts.WHAT_WAS_RUN, _what_was_run(sweeps, runs, language)),
        ("measured", texts.MEASURED, _measured(runs, findings, language)),
        ("runs", texts.RUNS, _runs(runs, frame, labels, language)),
    )
    return Document(
        title=texts.TITLE.say(language),
        language=language,
        sections=tuple(
            Section(key, title.say(language), blocks)
            for key, title, made in sections
            if (blocks := tuple(made))
        ),
        words={key: label.say(language) for key, label in texts.CONTROLS.items()},
    )


def _in_short(runs: Sequence[Run], findings: Findings, language: Language) -> Iterable[Block]:
    """Yields the answer, the command that finishes the sweep, and one row a setting."""
    words = WORDS[language]
    tokenizer = name_tokenizers(runs, language)
    for comparison in _shown(findings):
        yield from _heading(comparison, language)
        yield Paragraph(
            tuple(
                Strong(part) if place % 2 else part
                for place, part in enumerate(words.answer(comparison))
                if part
            )
        )
        if comparison is findings.comparisons[0]:
            yield from _resume(findings, language)
        yield build_settings(comparison, tokenizer, language)
    if len(findings.comparisons) > MAX_COMPARISONS:
        yield Paragraph(
            texts.COMPARISONS_CUT.say(
                language, shown=MAX_COMPARISONS, all=len(findings.comparisons)
            )
        )
    yield Paragraph((texts.TABLE_NOTE.say(language), " ", texts.EVERY_NUMBER.say(language),
                     Inline(RESULTS_FILE), "."))  # fmt: skip


def _resume(findings: Findings, language: Language) -> Iterable[Block]:
    for sweep, count in findings.unfinished:
        yield Paragraph(WORDS[language].unfinished(count))
        yield Code(_command("batchopt.resume", sweep))


def _shown(findings: Findings) -> tuple[Comparison, ...]:
    return findings.comparisons[:MAX_COMPARISONS]


def _heading(comparison: Comparison, language: Language) -> Iterable[Block]:
    facets = WORDS[language].facets(comparison)
    return [Paragraph((Strong(facets),))] if facets else []


def _what_was_run(
    sweeps: Sequence[Sweep], runs: Sequence[Run], language: Language
) -> Sequence[Block]:
    measured = [run for run in runs if run.environment]
    environments = [run.environment for run in measured]
    facts: list[tuple[Label, Sequence[Any]]] = [
        (texts.FACT_SWEEP, [Inline(sweep.path) for sweep in sweeps]),
        (texts.FACT_COMMAND, [Inline(sweep.command) for sweep in sweeps if sweep.command]),
        (texts.FACT_RUNS, [_statuses(runs, language)]),
        (texts.FACT_DEVICE, [environment.get("device_name") for environment in environments]),
        (texts.FACT_DRIVER, [environment.get("driver_version") for environment in environments]),
        (texts.FACT_PRECISION, [environment.get("precision") for environment in environments]),
        (texts.FACT_HOST, [environment.get("hostname") for environment in environments]),
        (texts.FACT_PLATFORM, [environment.get("platform") for environment in environments]),
        (texts.FACT_PYTHON, [environment.get("python") for environment in environments]),
        (texts.FACT_LIBRARIES, [_packages(environment) for environment in environments]),
        (texts.FACT_COMMIT, [_commit(environment, language) for environment in environments]),
        (texts.FACT_MODEL, [_model(run, language) for run in measured]),
        (texts.FACT_DATA, [_data(run, language) for run in measured]),
        (texts.FACT_TRAINING, [_training(run, language) for run in measured]),
        (texts.FACT_SEEDS, [run.seed for run in runs]),
    ]
    return [
        Table(
            (texts.HEAD_WHAT.say(language), texts.HEAD_VALUE.say(language)),
            tuple((name.say(language), _list(values)) for name, values in facts if _list(values)),
        )
    ]


def _figures(
    settings: Sequence[Setting], findings: Findings, language: Language
) -> Iterable[Figure]:
    drawn = settings[: charts.MAX_SETTINGS]
    cut = (
        [texts.SETTINGS_CUT.say(language, shown=len(drawn), all=len(settings))]
        if len(drawn) < len(settings)
        else []
    )
    plans: tuple[tuple[str, Label, Label, tuple[charts.Chart | None, ...]], ...] = (
        (
            "memory_vs_speed",
            texts.MEMORY_VS_SPEED,
            texts.MEMORY_VS_SPEED_CAPTION,
            (charts.memory_vs_speed(drawn, language),),
        ),
        (
            "training_curves",
            texts.CURVES_TITLE,
            texts.CURVES_CAPTION,
            charts.training_curves(drawn, findings.comparisons[0].target, language),
        ),
        (
            "step_time",
            texts.STEP_TIME_TITLE,
            texts.STEP_TIME_CAPTION,
            (charts.step_time(drawn, language),),
        ),
        ("padding", texts.PADDING_TITLE, texts.PADDING_CAPTION, (charts.padding(drawn, language),)),
    )
    for name, title, caption, parts in plans:
        kept = tuple(part for part in parts if part is not None)
        if kept:
            sentences = [caption.say(language), *cut]
            yield Figure(name, title.say(language), " ".join(sentences), kept)


def _findings(findings: Findings, language: Language) -> Iterable[Block]:
    words = WORDS[language]
    for comparison in _shown(findings):
        yield from _heading(comparison, language)
        told = [one for one in comparison.aims if one.aim.key in TOLD and one.ranking]
        bullets: list[Text] = [
            (
                Strong(words.aim_title(one.aim.key)),
                f": {' '.join([words.in_one_sentence(one), *words.notes(one)])} "
                f"{words.more_seeds(one)}".rstrip(),
            )
            for one in told
        ]
        yield Bullets((*bullets, *words.decisions(comparison)))
        details = [
            (Strong(words.aim_title(one.aim.key)), f": {' '.join(words.details(one))}")
            for one in told
            if words.details(one)
        ]
        if details:
            yield Details(texts.STATISTICS.say(language), (Bullets(tuple(details)),))
    if findings.trainings is not None and findings.trainings.outcome != "not measured":
        yield Paragraph(words.trainings(findings.trainings))


def _runs(
    runs: Sequence[Run], frame: pd.DataFrame, labels: Sequence[str], language: Language
) -> Iterable[Block]:
    """Every run, and why those that did not complete ended; folded."""
    completed = sum(run.completed for run in runs)
    yield Details(
        texts.COMPLETED_OF.say(language, completed=completed, planned=len(runs)),
        (build_runs(runs, frame, labels, language),),
    )
    ended = [(run, label) for run, label in zip(runs, labels, strict=True) if not run.completed]
    if not ended:
        return
    told = [
        block for run, label in ended[:MAX_INCOMPLETE] for block in _ending(run, label, language)
    ]
    if len(ended) > MAX_INCOMPLETE:
        more = texts.INCOMPLETE_CUT.say(language, shown=MAX_INCOMPLETE, all=len(ended))
        told.append(Paragraph((more, Inline(RESULTS_FILE), ".")))
    yield Details(texts.INCOMPLETE.say(language), tuple(told))


def _ending(run: Run, label: str, language: Language) -> Iterable[Block]:
    """How a run ended, and the end of its log."""
    status = texts.STATUSES[run.status].say(language)
    seed = "" if run.seed is None else f", {texts.SEED.say(language, seed=run.seed)}"
    known = WORDS[language].cause(run.cause) if run.cause else texts.NO_CAUSE.say(language)
    why = f" {_sentence(known)}" if known else ""
    yield Bullets(((Strong(label), f"{seed}: {status}.{why} (", Inline(run.run_dir), ")"),))
    if run.cause and known is None:
        # A message of Python or a library is quoted.
        yield Code(run.cause, "text")
    tail = _log_tail(run)
    if tail:
        summary = texts.LOG_TAIL.say(language, lines=len(tail))
        yield Details((summary, Inline("train.log")), (Code("\n".join(tail), "text"),))


def _limits(findings: Findings, language: Language) -> Iterable[Block]:
    limits = WORDS[language].limits(findings)
    yield Bullets(tuple(limits)) if limits else Paragraph(texts.NO_LIMIT.say(language))


def _measured(runs: Sequence[Run], findings: Findings, language: Language) -> Sequence[Block]:
    sources = _list(run.metrics.get("memory_source") for run in runs)
    warmups = _list(run.metrics.get("warmup_steps_left_out") for run in runs)
    values = {
        "source": sources or texts.NOT_RECORDED.say(language),
        "warmup": f" ({warmups})" if warmups else "",
        "tokenizer": name_tokenizers(runs, language),
        "target": f"{100 * TARGET_FRACTION:.0f}",
        "limit": number(100 * (CLOSE_RATIO - 1), 1),
        "margin": f"{100 * findings.comparisons[0].margin:g}",
        "least": number(100 * (MATTERS_RATIO - 1), 1),
    }
    sentences = [label.say(language, **values) for label in texts.MEASUREMENTS]
    batches = _list(comparison.reference_batch for comparison in findings.comparisons)
    if batches:
        sentences.append(texts.SAME_BATCH.say(language, batch=batches))
    parts = build_parts(_shown(findings), runs, language)
    if parts is None:
        return [Bullets(tuple(sentences))]
    return [Bullets(tuple(sentences)), Paragraph((Strong(texts.PARTS_TITLE.say(language)),)), parts]


def _next_commands(
    sweeps: Sequence[Sweep],
    runs: Sequence[Run],
    labels: Sequence[str],
    findings: Findings,
    language: Language,
) -> Iterable[Block]:
    words = WORDS[language]
    first = dict(zip(reversed(labels), reversed(runs), strict=True))
    longer: dict[str, list[str]] = {}
    for finding in findings.comparisons[0].aims:
        if finding.choice is not None and finding.aim.key in TOLD:
            kept = [
                override
                for override in setting_words(first[finding.choice])
                if Word.parse(override).key
                not in ("training.num_train_epochs", "training.max_steps")
            ]
            command = _command("batchopt.train", *kept, "training.num_train_epochs=10")
            longer.setdefault(command, []).append(words.aim_title(finding.aim.key))
    for command, aims in longer.items():
        yield Paragraph(texts.TRAIN_LONGER.say(language, aims=", ".join(aims)))
        yield Code(command)

    sweep = f"sweep={','.join(one.path for one in sweeps)}"
    decided = [finding for finding in findings.comparisons[0].aims if finding.certainty == "yes"]
    if decided and len(findings.comparisons) == 1:
        yield Paragraph(texts.ADOPT.say(language))
        adopt = _command("analysis", sweep, f"adopt={decided[0].aim.key}")
        yield Code(f"{adopt}\n{_command('batchopt.train', '+experiment=final')}")

    seeds: dict[str, set[int | None]] = {}
    for run, label in zip(runs, labels, strict=True):
        seeds.setdefault(label, set()).add(run.seed)
    wanted = _seeds_wanted(findings)
    presets = [preset for preset in dict.fromkeys(run.preset for run in runs) if preset]
    common = set(other_words(runs[0])).intersection(*(other_words(run) for run in runs))
    if presets and any(findings.completed) and min(map(len, seeds.values())) < wanted:
        yield Paragraph(texts.MORE_SEEDS.say(language))
        yield Code(
            _command(
                "batchopt.train",
                "-m",
                f"batch={','.join(presets)}",
                *(override for override in other_words(runs[0]) if override in common),
                f"seed={','.join(map(str, range(1, wanted + 1)))}",
            )
        )
    yield Paragraph(texts.AGAIN.say(language))
    yield Code(_command("analysis", sweep, *([f"language={language}"] * (language != "en"))))


def _seeds_wanted(findings: Findings) -> int:
    """Seeds of each setting that would decide what can be decided; three show the noise at all."""
    needs = [
        finding.more_seeds.need
        for comparison in findings.comparisons
        for finding in comparison.aims
        if finding.more_seeds and finding.more_seeds.need is not None
    ]
    return max([3, *(need for need in needs if need <= MAX_SEEDS)])


def _command(module: str, *arguments: str) -> str:
    return " ".join(["python -m", module, *map(shlex.quote, arguments)])


def _log_tail(run: Run) -> list[str]:
    """The last lines of a run's log; none where it has no log."""
    path = run.directory / "train.log" if run.directory else None
    if path is None or not path.is_file():
        return []
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - 200 * LOG_LINES))
        return log.read().decode(errors="replace").splitlines()[-LOG_LINES:]


def _statuses(runs: Sequence[Run], language: Language) -> str:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.status] = counts.get(run.status, 0) + 1
    listed = ", ".join(
        f"{texts.STATUSES[status].say(language)} {count}" for status, count in counts.items()
    )
    return texts.PLANNED.say(language, count=len(runs), listed=listed)


def _packages(environment: Any) -> str:
    packages = environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in packages.items())


def _commit(environment: Any, language: Language) -> str | None:
    commit = environment.get("git_commit")
    dirty = texts.DIRTY.say(language) if environment.get("git_dirty") else ""
    return commit and f"{commit[:12]}{dirty}"


def _model(run: Run, language: Language) -> str | None:
    name, parameters = run.model.get("name"), run.model.get("parameters")
    trained = run.model.get("trainable_parameters")
    if not name or not parameters:
        return name
    said = texts.PARAMETERS.say(language, count=f"{parameters:,}")
    if trained and trained != parameters:
        of_them = texts.TRAINED_PARAMETERS.say(language, count=f"{trained:,}")
        said = f"{said}, {of_them} ({run.model.get('adapter')})"
    return f"{name}, {said}"


def _data(run: Run, language: Language) -> str | None:
    if not run.data:
        return None
    known = {key: run.data.get(key) or 0 for key in texts.DATA_KEYS}
    return texts.DATA.say(language, source=run.data.get("source"), **known)


def _training(run: Run, language: Language) -> str | None:
    steps = run.plan.get("optimizer_steps")
    return steps and texts.TRAINING.say(language, steps=steps, packing=run.plan.get("packing"))


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
