"""The report: what it says in both languages, and that what it quotes stays a quotation."""

import html
import re
import string
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from support import TOP
from support.analysis_sweep import make_sweep

from analysis.__main__ import analyse
from analysis.findings.comparisons import label_settings
from analysis.findings.frame import build_frame
from analysis.findings.judge import find
from analysis.reading.runs import read_sweeps
from analysis.report import build as report_module
from analysis.report import markdown
from analysis.report.build import LOG_LINES, build_document
from analysis.report.document import (
    Code,
    Details,
    Document,
    Inline,
    Paragraph,
    Section,
    Strong,
    Table,
    plain,
)
from analysis.words import en, ko, texts

THREE: list[dict[str, Any]] = [
    {"preset": "05a", "speed": 0.46, "peak_gib": 0.61},
    {"preset": "05b", "speed": 0.52, "peak_gib": 0.74},
    {"preset": "05c", "speed": 0.41, "peak_gib": 1.32},
]
OOM = {"preset": "05c", "status": "oom", "cause": "out of memory: 2 GiB"}


def document_of(sweep: Path, language: texts.Language = "en") -> Document:
    sweeps = read_sweeps([sweep])
    runs = [run for sweep in sweeps for run in sweep.runs]
    frame, names = build_frame(runs), label_settings(runs)
    findings = find(runs, frame, names)
    return build_document(sweeps, runs, frame, names, findings, language=language)


def report_of(sweep: Path, language: texts.Language = "en") -> str:
    return markdown.render(document_of(sweep, language))


def page_of(text: str) -> str:
    """What a reader of GitHub's Markdown gets, raw HTML allowed."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def document_with(*blocks: Any) -> Document:
    return Document("t", "en", (Section("s", "s", blocks),), {})


def test_the_report_names_what_its_numbers_are(tmp_path: Path) -> None:
    report = report_of(make_sweep(tmp_path, [*THREE[:2], OOM]))
    for text in (
        "best ROUGE F1 [kiwi]",
        "process_anonymous",
        "AMD EPYC 7763",
        "torch 2.13.0+cpu",
        "oom. Out of memory: 2 GiB.",
        "python -m batchopt.train batch=05b training.num_train_epochs=10",
        "python -m batchopt.train -m batch=05a,05b,05c seed=1,2,3",
        "2 of 3 planned runs completed",
    ):
        assert text in report


def test_every_image_of_the_report_is_drawn(tmp_path: Path) -> None:
    artifacts = analyse([make_sweep(tmp_path, THREE)])
    named = re.findall(r"!\[[^]]*\]\(([^)]*)\)", artifacts["batch_optimization_report.md"].decode())
    assert len(named) >= 3
    assert [name for name in named if name not in artifacts] == []


def test_a_run_that_did_not_complete_shows_the_end_of_its_log(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [*THREE[:2], OOM])
    log = [f"line {number} of <b>the log</b>" for number in range(500)]
    (sweep / "2_batch=05c,seed=1" / "train.log").write_text("\n".join(log))
    report = report_of(sweep)
    assert "\n".join(log[-LOG_LINES:]) in report
    assert log[-LOG_LINES - 1] not in report
    assert "<b>" not in page_of(report)


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "</summary><img src=x onerror=alert(1)>",
        "[click](javascript:alert(1))",
        "a | b\n\n# head",
        "`code` *strong* __under__ ~~gone~~ $x_1$ \\",
        "```\n</details>",
        "&lt;b&gt;",
    ],
)
def test_what_data_says_is_shown_as_it_is(attack: str) -> None:
    text = markdown.render(
        document_with(
            Paragraph((attack, " ", Strong(attack), " ", Inline(attack))),
            Table(("head",), ((attack,), ((Inline(attack),),))),
            Details(attack, (Code(attack, "text"),)),
        )
    )
    page = page_of(text)
    tags = set(re.findall(r"</?(\w+)", page))
    ours = {"h1", "h2", "p", "strong", "code", "pre", "table", "thead", "tbody", "tr", "th", "td"}
    assert tags <= ours | {"details", "summary"}
    assert page.count("<h1") == page.count("<h2") == 1
    assert page.count("<tr") == 3
    seen = html.unescape(" ".join(re.sub(r"<[^>]+>", "", page).split()))
    assert seen.count(" ".join(attack.split())) == 7  # every place it was put


def test_the_korean_report_is_korean(tmp_path: Path) -> None:
    report = report_of(make_sweep(tmp_path, [*THREE[:2], OOM]), "ko")
    for text in ("## 요약", "| 설정 |", "메모리 부족(OOM)", "language=ko", "시드가 하나뿐이어서"):
        assert text in report
    # What a run or a person wrote stays as it is; everything else is ours, and Korean.
    ours = re.sub(r"```.*?```", "", report, flags=re.DOTALL)
    sentences = [part for part in re.split(r"(?<=\.)\s|\n", ours) if part.endswith(".")]
    assert len(sentences) > 20
    assert [part for part in sentences if not re.search("[가-힣]", part)] == []


def test_korean_says_everything_that_english_says() -> None:
    """All but why a preset is not adopted, which is an error of the command."""
    for name in ("TITLES", "UNITS", "FACTS"):
        assert getattr(en, name).keys() == getattr(ko, name).keys()
    names = [[one.__name__ for one in module.DECISIONS] for module in (en, ko)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("설정", "설정은"),
        ("메모리", "메모리는"),
        ("05a", "05a는"),
        ("05b (16 × 4)", "05b (16 × 4)는"),
        ("05a (8 × 8) [0.46]", "05a (8 × 8) [0.46]는"),
        ("64", "64는"),
        ("128", "128은"),
        ("0.52", "0.52는"),
        ("model", "model은"),
        ("learning_rate=1e-4", "learning_rate=1e-4는"),
        ("3.2분", "3.2분은"),
    ],
)
def test_a_particle_follows_the_sound(word: str, wanted: str) -> None:
    assert ko.particle(word, "은", "는") == wanted


def test_each_comparison_is_told_under_its_own_name(tmp_path: Path) -> None:
    jobs = [
        {**job, "overrides": [f"batch={job['preset']}", f"training.learning_rate={rate}", "seed=1"]}
        for job in THREE
        for rate in ("1e-4", "3e-4")
    ]
    document = document_of(make_sweep(tmp_path, jobs))
    short = next(section for section in document.sections if section.key == "short")
    names = [block.text for block in short.blocks if isinstance(block, Paragraph)]
    told = [plain(name) for name in names if isinstance(name, tuple)]
    headings = [name for name in told if name.startswith("training.learning_rate = ")]
    assert len(headings) == 2
    assert sum("was the fastest" in name for name in told) == 2  # an answer for each
    assert len([block for block in short.blocks if isinstance(block, Table)]) == 2


def test_a_large_sweep_has_a_report_of_bounded_length(tmp_path: Path) -> None:
    jobs = [{"preset": "05a", "seed": seed, "status": "failed"} for seed in range(40)]
    report = report_of(make_sweep(tmp_path, [*THREE, *jobs]))
    assert report.count("the run ended failed") < 2 * report_module.MAX_INCOMPLETE
    assert f"{report_module.MAX_INCOMPLETE} of 40" in report


def test_both_languages_hold_the_same_document(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [*THREE[:2], OOM])
    english, korean = document_of(sweep), document_of(sweep, "ko")
    for mine, theirs in zip(english.sections, korean.sections, strict=True):
        assert mine.key == theirs.key
        assert [type(block) for block in mine.blocks] == [type(block) for block in theirs.blocks]


def all_labels() -> list[texts.Label]:
    found = []
    for value in vars(texts).values():
        if isinstance(value, texts.Label):
            found.append(value)
        elif isinstance(value, dict):
            found += [one for one in value.values() if isinstance(one, texts.Label)]
        elif isinstance(value, tuple):
            found += [one for one in value if isinstance(one, texts.Label)]
    return found


@pytest.mark.parametrize("label", all_labels(), ids=lambda label: label.en[:30])
def test_a_label_takes_the_same_values_in_both_languages(label: texts.Label) -> None:
    def fields(text: str) -> set[str | None]:
        return {field for _, field, _, _ in string.Formatter().parse(text)} - {None}

    assert fields(label.en) == fields(label.ko)
    assert label.en.isascii() or set(re.sub(r"[ -~\n]", "", label.en)) <= set("±")


def test_every_label_is_used() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (TOP / "analysis").rglob("*.py"))
    names = [name for name, value in vars(texts).items() if isinstance(value, texts.Label)]
    assert len(names) > 50
    assert [name for name in names if len(re.findall(rf"\b{name}\b", sources)) < 2] == []


@pytest.mark.parametrize(
    ("cause", "korean"),
    [
        ("never started", "시작하지 않았습니다"),
        ("CUDA out of memory. Tried to allocate 512.00 MiB (phase train)", "512.00 MiB를 할당"),
        ("out of memory (phase train, micro-batches of 64)", "메모리가 부족합니다"),
        ("the kernel's OOM killer ended a process of this machine", "OOM killer"),
        ("longer than run.timeout_min=30; no checkpoint (phase train)", "run.timeout_min=30보다"),
        ("stopped by Ctrl-C; checkpoint at step 5", "Ctrl-C로 중단"),
        ("the training process crashed (SIGSEGV) (phase train)", "비정상 종료되었습니다(SIGSEGV)"),
        ("another process (pid 12) used the device in 40% of the samples", "40%에서 다른 프로세스"),
        (
            "other processes used 1.2 of 2 CPU cores while the run trained (most of it: x)",
            "2개 가운데",
        ),
    ],
)
def test_what_batchopt_wrote_into_a_record_is_said_in_korean(cause: str, korean: str) -> None:
    said = ko.cause(cause)
    assert said is not None
    assert korean in said
    assert not re.search(r"[a-z]{3,} [a-z]{3,}", said)  # no English words follow each other
    assert ko.cause("ValueError: a library's own words") is None


def test_a_cause_of_a_library_is_quoted_in_korean(tmp_path: Path) -> None:
    failed = {**THREE[2], "status": "failed", "cause": "ValueError: bad row 3"}
    report = report_of(make_sweep(tmp_path, [*THREE[:2], failed]), "ko")
    assert "```text\nValueError: bad row 3\n```" in report


def test_the_report_opens_with_the_answer_and_what_is_to_be_finished(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [*THREE[:2], {**THREE[2], "status": "missing"}])
    lines = [line for line in report_of(sweep).splitlines() if line]
    assert lines[1] == "## In short"
    assert lines[2].startswith("**05b (16 × 4)** was the fastest in single runs")
    assert f"python -m batchopt.resume {sweep}" in "\n".join(lines[3:7])
    # Out of memory is a result: resuming would give it again.
    oom = report_of(make_sweep(tmp_path / "oom", [*THREE[:2], OOM]))
    assert "batchopt.resume" not in oom
    assert "| 05c (64 × 1) | 0; out of memory 1 |" in oom


def test_disturbed_runs_are_told_in_both_tables_and_marked_best_in_none(tmp_path: Path) -> None:
    noisy = {"metrics": {"timing_untrusted": ["another process used the device"]}}
    jobs = [
        {
            **job,
            "seed": seed,
            "speed": 0.9 if seed == 3 and job["preset"] == "05c" else job["speed"],
        }
        | (noisy if seed == 3 and job["preset"] == "05c" else {})
        for job in THREE
        for seed in (1, 2, 3)
    ]
    report = report_of(make_sweep(tmp_path, jobs))
    assert "timing of 1 disturbed" in report
    assert "completed; timing not trusted" in report
    assert "0.900" in report  # among the runs
    assert "**0.900" not in report
