"""From a sweep's results to batch=best: `python -m analysis adopt=AIM`, as a person runs it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import TOP
from support.analysis_sweep import make_sweep
from support.processes import run_to_end

from analysis.__main__ import main
from analysis.report.adopt import preset_directory
from batchopt.errors import RequestError

THREE = [
    {"preset": "05a", "speed": 0.46, "peak_gib": 0.61},
    {"preset": "05b", "speed": 0.52, "peak_gib": 0.74},
    {"preset": "05c", "speed": 0.41, "peak_gib": 1.32},
]
REPEATED = [
    {**job, "seed": seed, "speed": job["speed"] * (1 + 0.002 * seed)}
    for job in THREE
    for seed in (1, 2, 3)
]
CLOSE = [{**job, "speed": 0.5 + 0.001 * place} for place, job in enumerate(THREE)]


def adopt(tmp_path: Path, jobs: list[dict[str, Any]], *words: str) -> int:
    sweep = make_sweep(tmp_path, jobs)
    return main(
        [
            f"sweep={sweep}",
            f"output={tmp_path / 'out'}",
            f"adopt_dir={tmp_path / 'conf'}",
            *words,
        ]
    )


@pytest.mark.parametrize(("aim", "pair"), [("fastest", (16, 4)), ("least_memory", (8, 8))])
def test_the_choice_of_an_aim_is_written_with_its_origin(
    tmp_path: Path, aim: str, pair: tuple[int, int]
) -> None:
    assert adopt(tmp_path, REPEATED, f"adopt={aim}") == 0
    text = (tmp_path / "conf" / "best.yaml").read_text()
    preset = yaml.safe_load(text)
    assert preset == {
        "per_device_train_batch_size": pair[0],
        "gradient_accumulation_steps": pair[1],
        "effective_batch_size": 64,
        "packing": "sorted",
    }
    comments = [line for line in text.splitlines() if line.startswith("#")]
    for word in (
        "2026-11-23/10-30-00",
        f"adopt={aim}",
        "AMD EPYC 7763",
        "Decided by the data: yes",
    ):
        assert any(word in line for line in comments), word


def test_what_the_data_cannot_decide_is_refused_in_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(tmp_path, CLOSE, "adopt=fastest") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "adopt=fastest" in said
    assert "2 more seeds" in said
    assert "adopt_anyway=true" in said
    assert not (tmp_path / "conf").exists()
    assert not (tmp_path / "out").exists()


def test_single_runs_decide_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """05b is 13 % ahead, in one run of each: half of such leads are noise on a restless machine."""
    assert adopt(tmp_path, THREE, "adopt=fastest") == 2
    assert "2 more seeds" in capsys.readouterr().err
    again = tmp_path / "again"
    assert adopt(again, THREE, "adopt=fastest", "adopt_anyway=true") == 0
    assert "Decided by the data: single runs" in (again / "conf" / "best.yaml").read_text()


def test_a_person_may_insist(tmp_path: Path) -> None:
    assert adopt(tmp_path, CLOSE, "adopt=fastest", "adopt_anyway=true") == 0
    text = (tmp_path / "conf" / "best.yaml").read_text()
    assert yaml.safe_load(text)["per_device_train_batch_size"] == 64
    assert "# Decided by the data: no" in text


def test_quality_within_noise_is_never_adopted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert adopt(tmp_path, THREE, "adopt=best_quality") == 2
    assert "adopt=best_quality" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("adopt=cheapest", "must be one of fastest, least_memory"),
        ("baseline=05z", "is no setting of these runs; they are 05a, 05a (8 × 8)"),
        ("full_steps=1.5", "must be a whole number from 1"),
        ("adopt_anyway=perhaps", "must be true or false"),
        ("memory_budget_gib=much", "must be a number above 0"),
        ("equivalence_margin=-1", "must be a number above 0"),
        ("figures=gif", "must be of png, svg, pdf"),
        ("language=fr", "must be en or ko"),
    ],
)
def test_wrong_values_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str, says: str
) -> None:
    assert adopt(tmp_path, THREE, word) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert says in said
    assert word.split("=", maxsplit=1)[0] in said


def test_nothing_completed_adopts_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    failed = [{**job, "status": "oom"} for job in THREE]
    assert adopt(tmp_path, failed, "adopt=fastest", "adopt_anyway=true") == 2
    assert "No comparable run measured this" in capsys.readouterr().err


def test_a_refusal_says_that_the_timing_was_disturbed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    disturbed = [{**job, "metrics": {"timing_untrusted": ["other work"]}} for job in THREE]
    assert adopt(tmp_path, disturbed, "adopt=fastest") == 2
    assert "the timing of all their runs was disturbed" in capsys.readouterr().err


def test_comparisons_that_disagree_adopt_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [
        {**job, "speed": speed, "overrides": [f"batch={job['preset']}", f"data.seed={rate}"]}
        for rate, speeds in (("1", (0.4, 0.5, 0.6)), ("2", (0.6, 0.5, 0.4)))
        for job, speed in zip(THREE, speeds, strict=True)
    ]
    assert adopt(tmp_path, jobs, "adopt=fastest") == 2
    assert "the comparisons disagree" in capsys.readouterr().err


def test_an_installed_batchopt_is_not_written_into(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(
        "analysis.report.adopt.__file__", str(tmp_path / "analysis" / "report" / "adopt.py")
    )
    with pytest.raises(RequestError, match="adopt_dir=DIR"):
        preset_directory(None)


def test_the_adopted_preset_composes_alone_and_in_experiments(tmp_path: Path) -> None:
    """In a checkout of its own, through the real command lines."""
    for name in ("analysis", "conf", "src"):
        shutil.copytree(TOP / name, tmp_path / name)
    (tmp_path / "pyproject.toml").touch()
    sweep = make_sweep(tmp_path, REPEATED)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return run_to_end(
            [sys.executable, "-m", *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{tmp_path / 'src'}"},
        )

    (tmp_path / "conf" / "batch" / "best.yaml").unlink(missing_ok=True)
    before = run("batchopt.train", "batch=best", "--cfg", "job")
    assert before.returncode == 2
    assert "make adopt" in before.stderr
    done = run("analysis", f"sweep={sweep}", "adopt=fastest")
    assert (done.returncode, done.stderr) == (0, "")
    assert "conf/batch/best.yaml" in done.stdout
    for words in (("batch=best",), ("+experiment=final",), ("experiment=final",)):
        composed = run("batchopt.train", *words, "--cfg", "job")
        assert composed.returncode == 0, composed.stderr
        config = yaml.safe_load(composed.stdout)
        assert config["batch"]["per_device_train_batch_size"] == 16
        assert config["training"]["num_train_epochs"] == (5 if words == ("batch=best",) else 20)
