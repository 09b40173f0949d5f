"""The analysis, from files to artifacts. Every sweep here is written by analysis_sweep."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support import TOP
from support.analysis_sweep import GIB, make_sweep

from analysis.__main__ import analyse, main, parse_arguments, write_files
from analysis.findings.comparisons import label_settings
from analysis.findings.facts import Finding, Findings
from analysis.findings.frame import COLUMNS, build_frame
from analysis.findings.judge import find
from analysis.reading.runs import Run, newest_sweep, read_sweeps
from analysis.report import markdown
from analysis.report.build import build_document
from analysis.words import en
from analysis.words.numbers import number
from batchopt.errors import RequestError

THREE = [
    {"preset": "05a", "speed": 0.46, "peak_gib": 0.61},
    {"preset": "05b", "speed": 0.52, "peak_gib": 0.74},
    {"preset": "05c", "speed": 0.41, "peak_gib": 1.32},
]

FIXED_COLUMNS = (
    "sweep, run, run_dir, preset, seed, overrides, status, cause, oom, "
    "per_device_train_batch_size, gradient_accumulation_steps, effective_batch_size, device_name, "
    "memory_source, mean_memory_gib, peak_memory_gib, peak_allocated_gib, peak_reserved_gib, "
    "steps_per_second, samples_per_second, tokens_per_second, padding_fraction, train_time_min, "
    "eval_time_min, total_time_min, train_loss, eval_loss, rouge1_f1, rouge2_f1, rougeL_f1, "
    "rouge_f1, initial_rouge_f1, best_rouge_f1, best_step, time_to_target_min, steps_to_target, "
    "rouge_gain_per_min, rouge_per_gib, energy_wh, mfu, gradient_noise_scale"
)


def read(*paths: Path) -> tuple[list[Any], pd.DataFrame]:
    runs = [run for sweep in read_sweeps(paths) for run in sweep.runs]
    return runs, build_frame(runs)


def judge(*paths: Path) -> Findings:
    runs, frame = read(*paths)
    return find(runs, frame, label_settings(runs))


def by_aim(findings: Findings, place: int = 0) -> dict[str, Finding]:
    return {finding.aim.key: finding for finding in findings.comparisons[place].aims}


def limits(findings: Findings) -> list[str]:
    return en.limits(findings)


def report_of(sweep: Path) -> str:
    sweeps = read_sweeps([sweep])
    runs, frame = read(sweep)
    labels = label_settings(runs)
    findings = find(runs, frame, labels)
    return markdown.render(build_document(sweeps, runs, frame, labels, findings))


def rouge(best: float) -> list[tuple[int, float]]:
    return [(0, 0.02), (50, best * 0.6), (100, best * 0.9), (157, best)]


# The table


def test_columns_are_those_of_the_design(tmp_path: Path) -> None:
    # Later columns are only ever added.
    assert ", ".join(COLUMNS).startswith(FIXED_COLUMNS + ", ")
    assert list(read(make_sweep(tmp_path, THREE))[1]) == list(COLUMNS)


def test_derived_columns_against_values_by_hand(tmp_path: Path) -> None:
    slow = [(0, 0.1), (60, 0.3), (120, 0.4)]
    fast = [(0, 0.1), (60, 0.475), (120, 0.5)]
    metrics = {"energy_j": 7200.0, "peak_allocated_bytes": GIB // 2, "mfu": 0.25}
    sweep = make_sweep(
        tmp_path,
        [
            {"preset": "05a", "speed": 0.5, "peak_gib": 2, "rouge": slow, "metrics": metrics},
            {"preset": "05b", "speed": 1.0, "peak_gib": 4, "rouge": fast},
        ],
    )
    frame = read(sweep)[1]
    # The mean curve ends at 0.45, so the target is 0.4275: 05a never reaches it, 05b on the line
    # from 0.1 at step 0 to 0.475 at step 60, one step a second.
    assert frame["steps_to_target"].tolist() == [pd.NA, 53]
    assert pd.isna(frame["time_to_target_min"][0])
    assert frame["time_to_target_min"][1] == pytest.approx(0.3275 / 0.375)
    assert frame["best_rouge_per_total_min"].tolist() == pytest.approx(
        [0.4 / ((157 / 0.5 + 30) / 60), 0.5 / ((157 + 30) / 60)]
    )
    # (0.4 - 0.1) in 240 s = 4 min; (0.5 - 0.1) in 120 s = 2 min.
    assert frame["rouge_gain_per_min"].tolist() == pytest.approx([0.075, 0.2])
    assert frame["rouge_per_gib"].tolist() == pytest.approx([0.2, 0.125])
    assert frame["train_time_min"].tolist() == pytest.approx([157 / 0.5 / 60, 157 / 60])
    assert frame["energy_wh"][0] == pytest.approx(2.0)
    assert frame["peak_allocated_gib"][0] == 0.5
    assert frame["mfu"][0] == 0.25
    assert frame["mean_memory_gib"].tolist() == pytest.approx([1.6, 3.2], abs=1e-8)


def test_not_measured_is_empty_and_not_zero(tmp_path: Path) -> None:
    assert main([f"sweep={make_sweep(tmp_path, THREE)}", f"output={tmp_path}"]) == 0
    csv = tmp_path / "batch_optimization_results.csv"
    assert csv.read_text().startswith(FIXED_COLUMNS.replace(" ", "") + ",")
    frame = pd.read_csv(csv, dtype=str, keep_default_na=False)
    for column in ("peak_allocated_gib", "peak_reserved_gib", "energy_wh", "mfu"):
        assert set(frame[column]) == {""}


def test_a_run_that_was_best_before_training_has_no_gain_per_minute(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [{"preset": "05a", "rouge": [(0, 0.3), (157, 0.2)]}])
    assert pd.isna(read(sweep)[1]["rouge_gain_per_min"][0])


def test_missing_and_oom_runs_are_rows(tmp_path: Path) -> None:
    jobs = [THREE[0], {"preset": "05b", "status": "missing"}, {"preset": "05c", "status": "oom"}]
    frame = read(make_sweep(tmp_path, jobs))[1]
    assert frame["status"].tolist() == ["completed", "missing", "oom"]
    assert frame["oom"].tolist() == [False, False, True]
    assert frame["cause"][1] == "never started"
    assert frame["preset"].tolist() == ["05a", "05b", "05c"]
    assert frame["per_device_train_batch_size"].tolist() == [8, 16, 64]
    assert frame["steps_per_second"].isna().tolist() == [False, True, True]


# Runs without a record


@pytest.mark.parametrize(
    ("hostname", "alive", "status"),
    [(None, False, "killed"), (None, True, "running"), ("elsewhere", False, "running")],
)
def test_a_run_without_a_record_is_running_or_killed(
    tmp_path: Path, hostname: str | None, alive: bool, status: str
) -> None:
    sweep = make_sweep(tmp_path, THREE)
    run = sweep / "1_batch=05b,seed=1"
    (run / "record.json").unlink()
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    running = {
        "pid": os.getpid() if alive else dead.pid,
        "hostname": hostname or os.uname().nodename,
        "started_at": "2026-11-23T10:30:00Z",
    }
    (run / "running.json").write_text(json.dumps(running))
    frame = read(sweep)[1]
    assert frame["status"][1] == status
    if status == "killed":
        assert frame["cause"][1] == "the process that supervised the run ended without a record"
    else:
        assert "not final" in report_of(sweep)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema_version": 1, "stat', "cannot be read as JSON"),
        ("[]", "does not hold a JSON object"),
        ('{"schema_version": "2", "status": "completed"}', "schema_version is '2'"),
        ('{"schema_version": 2, "status": "splendid"}', "status is 'splendid'"),
        ('{"schema_version": 1, "status": "fine"}', "status is 'fine'"),
        ('{"schema_version": 1, "status": "completed", "metrics": {"mfu": "x"}}', "metrics.mfu"),
        ('{"schema_version": 1, "status": "completed", "metrics": {"mfu": NaN}}', "NaN"),
        ('{"schema_version": 1, "status": "completed", "seed": "x"}', "seed"),
    ],
)
def test_a_damaged_record_is_a_failed_row_that_names_the_file(
    tmp_path: Path, content: str, says: str
) -> None:
    sweep = make_sweep(tmp_path, THREE)
    (sweep / "1_batch=05b,seed=1" / "record.json").write_text(content)
    frame = read(sweep)[1]
    assert frame["status"].tolist() == ["completed", "failed", "completed"]
    assert "record.json" in frame["cause"][1]
    assert says in frame["cause"][1]
    assert frame["preset"][1] == "05b"


def test_torn_and_foreign_lines_are_left_out(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, THREE)
    before = read(sweep)[0][0]
    run = sweep / "0_batch=05a,seed=1"
    for name in ("metrics.jsonl", "memory.jsonl"):
        with (run / name).open("a") as stream:
            stream.write('{"kind": "news", "step": 3}\n[1]\n{"kind": "train", "step": 9')
    after = read(sweep)[0][0]
    assert (after.training, after.evaluations, after.memory) == (
        before.training,
        before.evaluations,
        before.memory,
    )


# What follows from the numbers


def test_conclusions_flip_when_the_numbers_flip(tmp_path: Path) -> None:
    first, second = (
        make_sweep(
            tmp_path / name,
            [
                {"preset": "05a", "speed": a, "peak_gib": b, "rouge": rouge(c)},
                {"preset": "05b", "speed": b, "peak_gib": a, "rouge": rouge(1 - c)},
            ],
        )
        for name, a, b, c in (("one", 0.4, 0.8, 0.4), ("two", 0.8, 0.4, 0.6))
    )
    choices = [
        {
            key: finding.ranking[0].label[:3]
            for key, finding in by_aim(judge(sweep)).items()
            if finding.ranking
        }
        for sweep in (first, second)
    ]
    assert choices[0]["fastest"] == "05b"
    assert choices[0]["least_memory"] == "05b"
    assert choices[0]["best_quality"] == "05b"
    swapped = {"05a": "05b", "05b": "05a"}
    assert choices[1] == {key: swapped[choice] for key, choice in choices[0].items()}


def test_one_seed_suggests_speed_and_memory_but_never_quality(tmp_path: Path) -> None:
    jobs = [{**job, "rouge": rouge(0.3 + 0.2 * place)} for place, job in enumerate(THREE)]
    sweep = make_sweep(tmp_path, jobs)
    aims = by_aim(judge(sweep))
    assert aims["fastest"].choice == "05b (16 × 4)"
    assert aims["fastest"].certainty == "single runs"
    assert not aims["fastest"].decided
    assert "13 % faster than 05a (8 × 8) (0.460)" in en.reason(aims["fastest"])
    assert "how much repeats differ cannot be told" in en.reason(aims["fastest"])
    assert aims["least_memory"].certainty == "single runs"
    assert aims["best_quality"].outcome == "one training"
    for key in ("best_rouge_per_minute", "best_rouge_per_gib"):
        assert aims[key].certainty == "no"
        assert "With one seed" in en.reason(aims[key])
        assert "cannot be told from noise" in en.reason(aims[key])
    assert "one seed only" in report_of(sweep)


def test_a_small_difference_between_single_runs_is_not_ranked(tmp_path: Path) -> None:
    jobs = [{"preset": "05a", "speed": 0.50}, {"preset": "05b", "speed": 0.51}]
    fastest = by_aim(judge(make_sweep(tmp_path, jobs)))["fastest"]
    assert fastest.certainty == "no"
    assert "05a (8 × 8) may be as good" in en.reason(fastest)


def test_a_tie_recommends_nobody(tmp_path: Path) -> None:
    jobs = [{"preset": preset, "rouge": [(0, 0.0), (157, 0.0)]} for preset in ("05a", "05b")]
    sweep = make_sweep(tmp_path, jobs)
    quality = by_aim(judge(sweep))["best_quality"]
    assert quality.choice is None
    assert judge(sweep).comparisons[0].quality.outcome == "not learnt"
    tied = by_aim(judge(sweep))["fastest"]
    assert tied.choice is None
    assert "05a (8 × 8) and 05b (16 × 4) have the same best value" in en.reason(tied)
    assert read(sweep)[1]["steps_to_target"].isna().all()  # nothing was learnt


def test_repeated_runs_decide_speed(tmp_path: Path) -> None:
    jobs = [
        {"preset": preset, "seed": seed, "speed": speed + 0.01 * seed}
        for preset, speed in (("05a", 0.5), ("05b", 0.6))
        for seed in (1, 2, 3)
    ]
    fastest = by_aim(judge(make_sweep(tmp_path, jobs)))["fastest"]
    assert (fastest.choice, fastest.certainty) == ("05b (16 × 4)", "yes")
    assert "over 3 shared seeds" in en.reason(fastest)


@pytest.mark.parametrize(("gap", "decided"), [(0.001, False), (0.1, True)])
def test_seeds_decide_quality_only_beyond_their_spread(
    tmp_path: Path, gap: float, decided: bool
) -> None:
    jobs = [
        {"preset": preset, "seed": seed, "rouge": rouge(0.5 + shift + 0.01 * noise)}
        for preset, shift, noises in (("05a", 0.0, (1, 2, 3)), ("05b", gap, (2, 1, 3)))
        for seed, noise in zip((1, 2, 3), noises, strict=True)
    ]
    (comparison,) = judge(make_sweep(tmp_path, jobs)).comparisons
    quality = by_aim(judge(tmp_path / "multirun"))["best_quality"]
    # They are one training: a gap is a fault, and no reason to choose.
    assert quality.choice is None
    assert comparison.quality.outcome == ("gap" if decided else "open")
    (contrast,) = quality.contrasts
    assert contrast.paired
    assert contrast.estimate == pytest.approx(gap)
    assert contrast.interval.low < gap < contrast.interval.high


def test_the_same_seed_twice_is_one_seed(tmp_path: Path) -> None:
    jobs = [
        {"preset": preset, "rouge": rouge(0.5 + shift), "speed": 0.5 + 0.001 * again}
        for preset, shift in (("05a", 0.0), ("05b", 0.1))
        for again in (0, 1)
    ]
    sweep = make_sweep(tmp_path, jobs)
    # Same overrides, hence same names but for the number: four runs, one seed.
    assert not by_aim(judge(sweep))["best_quality"].decided


@pytest.mark.parametrize(
    ("change", "speed", "quality"),
    [
        ({"environment": {"device_name": "Other CPU"}}, False, True),
        ({"environment": {"hostname": "node2"}}, False, True),
        ({"environment": {"packages": {"torch": "2.12.0+cpu"}}}, False, True),
        ({"data_fingerprint": "other"}, False, False),
        ({"metrics": {"rouge_tokenizer": "character"}}, True, False),
    ],
)
def test_runs_that_differ_otherwise_are_not_ranked(
    tmp_path: Path, change: dict[str, Any], speed: bool, quality: bool
) -> None:
    sweep = make_sweep(tmp_path, [*THREE[:2], {**THREE[2], **change}])
    findings = judge(sweep)
    aims = by_aim(findings)
    # The two that can be compared still are; the third is left out of what the change touches.
    assert aims["fastest"].choice == "05b (16 × 4)"
    for key, fits in (("fastest", speed), ("least_memory", speed), ("best_quality", quality)):
        assert aims[key].left_out == (() if fits else ("05c (64 × 1)",))
        assert len(aims[key].ranking) == (3 if fits else 2)
    warned = [line for line in limits(findings) if line.startswith("The runs differ in ")]
    assert len(warned) == 1
    assert "05c (64 × 1)" in warned[0]
    if not speed:
        assert "05c (64 × 1) is not ranked: the runs differ in " in en.reason(aims["fastest"])
        row = next(line for line in report_of(sweep).splitlines() if line.startswith("| 05c"))
        assert "0.410" not in row


def test_two_settings_on_two_machines_are_not_ranked(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, [THREE[0], {**THREE[1], "environment": {"hostname": "node2"}}])
    fastest = by_aim(judge(sweep))["fastest"]
    assert (fastest.outcome, fastest.choice) == ("blocked", None)
    assert en.reason(fastest).startswith("No ranking: the runs differ in machine")
    assert "No setting is recommended for its speed" in report_of(sweep)


def test_memory_measured_in_two_ways_is_not_ranked(tmp_path: Path) -> None:
    other = {**THREE[2], "metrics": {"memory_source": "nvml_process"}}
    aims = by_aim(judge(make_sweep(tmp_path, [*THREE[:2], other])))
    assert aims["least_memory"].left_out == ("05c (64 × 1)",)
    assert aims["fastest"].choice == "05b (16 × 4)"


def test_another_effective_batch_is_named_and_left_out(tmp_path: Path) -> None:
    odd = {"preset": "32", "pair": (32, 1), "speed": 9.0, "peak_gib": 0.1}
    findings = judge(make_sweep(tmp_path, [*THREE, odd]))
    assert by_aim(findings)["fastest"].choice == "05b (16 × 4)"
    assert any("32 (32 × 1) has an effective batch of 32" in line for line in limits(findings))


def test_a_shared_gpu_is_a_limit(tmp_path: Path) -> None:
    gpu = {"device_name": "H100", "device_kind": "cuda", "device_uuid": "GPU-1"}
    jobs = [{**job, "environment": gpu} for job in THREE]
    jobs[1] = {**jobs[1], "metrics": {"baseline_memory_bytes": 5 * GIB}}
    shared = [line for line in limits(judge(make_sweep(tmp_path, jobs))) if "shared" in line]
    assert len(shared) == 1
    assert "05b (16 × 4)" in shared[0]
    assert "5.00 GiB" in shared[0]


def test_a_choice_with_a_failed_run_says_so(tmp_path: Path) -> None:
    jobs = [*THREE, {"preset": "05b", "seed": 2, "status": "oom"}]
    assert "(1 oom)" in en.reason(by_aim(judge(make_sweep(tmp_path, jobs)))["fastest"])


def test_settings_that_differ_in_an_override_are_not_mixed(tmp_path: Path) -> None:
    jobs = [
        {
            "preset": "05a",
            "seed": seed,
            "overrides": [
                *("batch=05a", "model=tiny", f"training.learning_rate={rate}", f"seed={seed}")
            ],
        }
        for rate in ("1e-4", "3e-4")
        for seed in (1, 2)
    ]
    runs = read(make_sweep(tmp_path, jobs))[0]
    assert label_settings(runs) == [
        *["05a (8 × 8), learning_rate=0.0001"] * 2,
        *["05a (8 × 8), learning_rate=0.0003"] * 2,
    ]


def test_numbers_have_sensible_digits() -> None:
    assert [number(value) for value in (0, 0.00123456, 0.5, 12.345, 123456.7)] == [
        *("0", "0.00123", "0.500", "12.3", "123,457")
    ]


# The artifacts


def test_the_recommendation_agrees_with_the_report(tmp_path: Path) -> None:
    artifacts = analyse([make_sweep(tmp_path, THREE)])
    recommendation = json.loads(artifacts["recommendation.json"])
    fastest = recommendation["recommendations"]["fastest"]
    assert (fastest["preset"], fastest["certainty"]) == ("05b", "single runs")
    assert fastest["per_device_train_batch_size"] == 16
    assert fastest["values"]["05b (16 × 4)"]["mean"] == 0.52
    report = artifacts["batch_optimization_report.md"].decode().replace("**", "")
    assert recommendation["comparisons"][0]["answer"] in report


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, THREE)
    assert analyse([sweep]) == analyse([sweep])


def test_files_are_written_all_or_none(tmp_path: Path) -> None:
    write_files(tmp_path / "out", {"a": b"old", "b": b"old"})
    with pytest.raises(TypeError):
        write_files(tmp_path / "out", {"a": b"new", "b": None})  # type: ignore[dict-item]
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert left == {"a": b"old", "b": b"old"}


# The command


def command(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "analysis", *words],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(TOP)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_newest_sweep_is_analysed_from_any_directory(tmp_path: Path) -> None:
    newer = make_sweep(tmp_path, THREE[:1], name="2026-11-22/a")
    older = make_sweep(tmp_path, THREE[:2], name="2026-11-23/b")
    os.utime(older / "sweep.json", (0, 0))
    assert newest_sweep(tmp_path / "multirun") == newer
    done = command(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    output = tmp_path / "outputs/analysis/batch_optimization"
    assert sorted(path.name for path in output.iterdir()) == [
        "batch_optimization_report.html",
        "batch_optimization_report.md",
        "batch_optimization_results.csv",
        "memory_vs_speed.png",
        "padding.png",
        "recommendation.json",
        "summary_table.png",
        "training_curves.png",
    ]
    table = pd.read_csv(output / "batch_optimization_results.csv")
    assert table["sweep"].tolist() == ["multirun/2026-11-22/a"]


def test_an_empty_directory_is_refused_in_one_line(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "python -m batchopt.train -m batch=05a,05b,05c" in done.stderr
    assert not (tmp_path / "outputs").exists()


def refusal(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"schema_version": 1, "command": "", "jobs": []}', "plans no job"),
        ('{"schema_version": 1}', "command is None; it must be text"),
        ('{"schema_version": 1, "command": "", "jobs": [{"number": 0}]}', "overrides is None"),
        ('{"schema_version": 0, "jobs": []}', "schema_version is 0"),
        ('{"schema_version": 1, "jo', "cannot be read as JSON"),
    ],
)
def test_a_broken_sweep_is_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    sweep = make_sweep(tmp_path, THREE)
    (sweep / "sweep.json").write_text(content)
    said = refusal(capsys, f"sweep={sweep}", f"output={tmp_path / 'out'}")
    assert says in said
    assert str(sweep / "sweep.json") in said
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_refused_with_the_right_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "the options are sweep, output, language" in refusal(capsys, "sweeps=x")
    assert "sweep=PATH" in refusal(capsys, "verbose")
    assert "is not a directory" in refusal(capsys, f"sweep={tmp_path / 'none'}")
    assert "holds no run" in refusal(capsys, f"sweep={tmp_path}")
    with pytest.raises(RequestError):
        parse_arguments(["sweep="])


def test_many_runs_are_longer_than_a_path_may_be_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [tmp_path / f"{number}_batch=05a,seed={number}" for number in range(120)]
    for run in runs:
        run.mkdir()
    assert parse_arguments([f"sweep={','.join(map(str, runs))}"]).sweep == tuple(runs)
    assert "r0 is not a directory" in refusal(capsys, f"sweep={','.join(['r0'] * 2000)}")
    assert "is no path that is there" in refusal(capsys, "r0," * 2000)


def test_sweeps_runs_and_trees_can_be_named(tmp_path: Path) -> None:
    first = make_sweep(tmp_path, THREE, name="d/one")
    second = make_sweep(tmp_path, THREE[:1], name="d/two")
    assert len(read(first, second)[0]) == 4
    assert len(read(tmp_path / "multirun", first)[0]) == 4  # nothing counts twice
    single = first / "1_batch=05b,seed=1"  # the comma is part of its name
    assert main([f"sweep={single}", f"output={tmp_path / 'out'}"]) == 0
    table = pd.read_csv(tmp_path / "out/batch_optimization_results.csv")
    assert table["preset"].tolist() == ["05b"]
    assert main([f"sweep={first},{second}", f"output={tmp_path / 'out'}"]) == 0
    assert len(pd.read_csv(tmp_path / "out/batch_optimization_results.csv")) == 4


def test_single_runs_named_together_are_compared_like_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they lie in outputs/runs, with commas and "=" in their names; named in every way."""
    sweep = make_sweep(tmp_path, THREE)
    runs = tmp_path / "outputs/runs/2026-11-26"
    for run in sorted(path for path in sweep.iterdir() if path.is_dir()):
        shutil.copytree(run, runs / f"10-0{run.name[0]}-00_{run.name[2:]}")
    monkeypatch.chdir(tmp_path)
    names = sorted(str(path.relative_to(tmp_path)) for path in runs.iterdir())
    assert any("," in name and "=" in name for name in names)
    planned, expected = read(sweep)
    for words in (names, [f"sweep={','.join(names)}"], [f"sweep=[{','.join(names)}]"], [str(runs)]):
        found, frame = read(*parse_arguments(words).sweep)
        assert label_settings(found) == label_settings(planned)
        same = ["preset", "seed", "steps_per_second", "peak_memory_gib", "best_rouge_f1"]
        pd.testing.assert_frame_equal(frame[same], expected[same])
        assert len(find(found, frame, label_settings(found)).comparisons) == 1
    assert main([*names, f"output={tmp_path / 'out'}"]) == 0


def test_help_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "analysis", "--help"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sweep=PATH" in done.stdout
    for name in ("pandas", "matplotlib", "scipy", "numpy"):
        assert f"| {name}\n" not in done.stderr


@pytest.mark.parametrize(
    ("packing", "scale", "words"),
    [
        ("none", 500.0, ["was 500 examples", "looks small"]),
        ("none", 100.0, ["neither small nor large"]),
        ("none", 20.0, ["looks large"]),
        ("sorted", 500.0, ["at most 500", "upper bound", "cannot say", "packing=none"]),
        ("sorted", 20.0, ["at most 20", "looks large"]),
    ],
)
def test_the_effective_batch_is_judged_by_the_noise_scale_and_no_further(packing, scale, words):
    run = Run(
        sweep="s",
        number=0,
        run_dir="r",
        preset="05a",
        seed=1,
        overrides=(),
        status="completed",
        cause=None,
        plan={"effective_batch_size": 64, "packing": packing},
        metrics={"gradient_noise_scale": scale},
    )
    (comparison,) = find([run], build_frame([run]), ["05a"]).comparisons
    sentence = en.batch_size(comparison)
    assert [word for word in words if word not in sentence] == []
