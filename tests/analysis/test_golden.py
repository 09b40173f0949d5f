"""A recorded sweep of 3 presets x 3 seeds, one out of memory and one missing, and its report.

recorded/ was written by support.analysis_sweep. After a change that is meant to move the
report: UPDATE_GOLDEN=1 python -m pytest tests/analysis/test_golden.py, and read the difference.
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from analysis.__main__ import Analysis, Request, find
from analysis.report import markdown, recommendation
from analysis.report.build import build_document

DATA = Path(__file__).parent
SWEEP = Path("recorded/multirun/2026-11-23/10-30-00")


def analyse(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Analysis:
    monkeypatch.chdir(directory)  # paths in the report are those that a person sees from here
    return find([SWEEP], Request())


def report(analysis: Analysis) -> str:
    return markdown.render(
        build_document(
            analysis.sweeps, analysis.runs, analysis.frame, analysis.labels, analysis.findings
        )
    )


def test_the_report_of_the_recorded_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    analysis = analyse(DATA, monkeypatch)
    described = recommendation.describe(
        analysis.sweeps, analysis.runs, analysis.labels, analysis.findings
    )
    found = {
        "report.md": report(analysis),
        "recommendation.json": json.dumps(described, indent=2, ensure_ascii=False) + "\n",
    }
    for name, text in found.items():
        path = DATA / "golden" / name
        if os.environ.get("UPDATE_GOLDEN"):
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert text == path.read_text(encoding="utf-8"), f"{name} has changed"


def test_every_planned_run_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    statuses = analyse(DATA, monkeypatch).frame["status"].tolist()
    assert len(statuses) == 9
    assert (statuses.count("completed"), statuses.count("oom")) == (7, 1)
    assert statuses.count("missing") == 1


def test_changed_numbers_change_the_conclusion(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(DATA / "recorded", tmp_path / "recorded")
    before = choices(analyse(tmp_path, monkeypatch))
    for path in (tmp_path / SWEEP).glob("*/record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["preset"] == "05a" and record["status"] == "completed":
            record["metrics"]["steps_per_second"] *= 2
            record["metrics"]["peak_memory_bytes"] *= 2
            path.write_text(json.dumps(record), encoding="utf-8")
    after = choices(analyse(tmp_path, monkeypatch))
    assert (before["fastest"], before["least_memory"]) == ("05b (16 × 4)", "05a (8 × 8)")
    assert (after["fastest"], after["least_memory"]) == ("05a (8 × 8)", "05b (16 × 4)")
    assert before["best_quality"] is after["best_quality"] is None


def choices(analysis: Analysis) -> dict[str, str | None]:
    return {one.aim.key: one.choice for one in analysis.findings.comparisons[0].aims}
