"""Sweeps on a real SLURM: `make test-slurm`. What each ending leaves in the records."""

import contextlib
import csv
import os
import signal
import subprocess
import sys

import pytest
from cluster import GPUS, NODES
from conftest import NEVER, Site, Submitted

from batchopt.slurm.jobs import job_states
from batchopt.slurm.missing_records import write_missing_records

PRESETS = "batch=05a,05b,05c"

EQUAL = (
    *("preset", "seed", "status", "cause", "oom", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "effective_batch_size", "memory_source", "padding_fraction"),
    *("train_loss", "eval_loss", "rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_f1"),
    *("initial_rouge_f1", "best_rouge_f1", "best_step", "steps_to_target", "gradient_noise_scale"),
)
"""Columns of the results that do not depend on where and how fast a run ran."""


@pytest.fixture(autouse=True)
def reachable(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process asks the same SLURM as the sweeps do."""
    for name, value in site.cluster.environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def clean(site: Site):
    """Leaves no job and no command behind for the next test."""
    yield
    site.cluster.ask("scancel", "--user=root", check=False)
    for process in site.started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def sweep(site: Site, tmp_path_factory):
    """3 presets x 2 seeds on 4 GPUs; what was seen of the runs while they were running."""
    sweep = site.start(PRESETS, "seed=1,2", cwd=tmp_path_factory.mktemp("sweep"))
    site.wait_for("jobs", lambda: list(sweep.cwd.rglob("slurm_jobs.json")), sweep)
    seen: list[tuple[list[str], list[str]]] = []
    while sweep.process.poll() is None:
        devices = [str(running.get("device_uuid")) for running in sweep.running().values()]
        states = site.cluster.ask("squeue", "-h", "-r", "-t", "all", "-o", "%T").split()
        seen.append((devices, states))
        with contextlib.suppress(subprocess.TimeoutExpired):
            sweep.process.wait(0.3)
    sweep.finish()
    return sweep, seen


def test_a_sweep_runs_one_job_per_run_and_completes(sweep):
    submitted, _ = sweep
    assert submitted.process.returncode == 0, submitted.output
    assert [record["status"] for record in submitted.records()] == ["completed"] * 6
    assert [record["environment"]["slurm_job_id"] for record in submitted.records()] == (
        submitted.job_ids()
    )
    assert submitted.output.count("completed") >= 6  # the table


def test_runs_at_the_same_time_have_different_gpus_and_the_rest_waits(sweep):
    _, seen = sweep
    busiest = max((devices for devices, _ in seen), key=len)
    assert len(busiest) == len(NODES) * GPUS
    for devices, _ in seen:
        known = [device for device in devices if device != "None"]
        assert len(set(known)) == len(known), devices
    assert {device for devices, _ in seen for device in devices} - {"None"} == {
        "GPU-00",
        "GPU-01",
        "GPU-10",
        "GPU-11",
    }
    assert max(states.count("RUNNING") for _, states in seen) == len(NODES) * GPUS
    assert any("RUNNING" in states and "PENDING" in states for _, states in seen)


def test_the_analysis_equals_that_of_a_local_sweep(site, sweep, tmp_path):
    submitted, _ = sweep
    here = site.train_here(PRESETS, cwd=tmp_path)
    assert here.finish() == 0, here.output
    local, cluster = (results(each) for each in (here, submitted))
    of_seed_1 = [row for row in cluster if row["seed"] == "1"]
    assert [{key: row[key] for key in EQUAL} for row in of_seed_1] == [
        {key: row[key] for key in EQUAL} for row in local
    ]


def results(sweep: Submitted) -> list[dict[str, str]]:
    subprocess.run(
        [sys.executable, "-m", "analysis", f"sweep={sweep.folder}"],
        cwd=sweep.cwd,
        check=True,
        capture_output=True,
    )
    (path,) = sweep.cwd.rglob("batch_optimization_results.csv")
    with path.open(encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def test_every_way_to_end_a_job_is_told_and_the_summary_is_not_lost(site, clean, tmp_path):
    """Cancelled while it trains, and in the queue; its supervisor killed; its node down.

    The array waits until the accounting has a row for it. That row is stale from then on.
    """
    sweep = site.start(
        *("batch=05a", "seed=1,2,3,4,5", NEVER, "run.stall_min=null"),
        "+hydra.launcher.additional_parameters.no-requeue=true",
        "+hydra.launcher.additional_parameters.hold=true",
        cwd=tmp_path,
    )
    site.wait_for("the jobs", lambda: list(sweep.cwd.rglob("slurm_jobs.json")), sweep)
    array = sweep.job_ids()[0].split("_")[0]
    site.wait_for("the accounting", lambda: site.cluster.ask("sacct", "-nXj", array), sweep)
    site.cluster.ask("scontrol", "release", array)
    site.wait_for("four runs to train", lambda: trained(sweep, range(4), 1), sweep)
    jobs = sweep.job_ids()
    nodes = {number: job_states(jobs)[jobs[number]].node for number in range(4)}
    on_n1 = [number for number, node in nodes.items() if node == "n1"]
    on_n2 = [number for number, node in nodes.items() if node == "n2"]
    assert len(on_n1) == len(on_n2) == GPUS
    site.cluster.ask("scancel", jobs[4], jobs[on_n1[0]])
    os.kill(sweep.running()[sweep.run_dirs[on_n1[1]].name]["pid"], signal.SIGKILL)
    site.cluster.fail_node("n2")
    assert sweep.finish() == 1, sweep.output
    site.cluster.start_node("n2")
    records = sweep.records()
    assert {number: record["status"] for number, record in enumerate(records)} == {
        4: "interrupted",
        on_n1[0]: "interrupted",
        on_n1[1]: "failed",
        **dict.fromkeys(on_n2, "killed"),
    }
    assert "CANCELLED by 0, before it started" in records[4]["cause"]
    assert "CANCELLED by 0 on n1" in records[on_n1[0]]["cause"]
    assert "checkpoint at step" in records[on_n1[0]]["cause"]
    assert "FAILED on n1" in records[on_n1[1]]["cause"]
    for number in on_n2:
        assert "NODE_FAIL on n2" in records[number]["cause"]
        (attempt,) = records[number]["attempts"]
        assert attempt["status"] == "killed"
        assert attempt["duration_s"] > 0
    for run_dir in sweep.run_dirs:
        assert run_dir.name in sweep.output
        assert not (run_dir / "running.json").exists()


def trained(sweep: Submitted, numbers, steps: int) -> bool:
    return bool(list(sweep.cwd.rglob("slurm_jobs.json"))) and all(
        len(sweep.steps(number)) >= steps for number in numbers
    )


def test_a_job_that_takes_more_memory_than_it_asked_for_is_an_oom(site, clean, tmp_path):
    sweep = site.start("batch=05a", "+hydra.launcher.additional_parameters.mem=200M", cwd=tmp_path)
    assert sweep.finish() == 0, sweep.output
    (record,) = sweep.records()
    assert record["status"] == "oom", record["cause"]


def test_a_preempted_run_resumes_and_a_run_at_its_limit_times_out(site, clean, tmp_path):
    """Both at once, since each waits for minutes: one on each node.

    The preempted one does what it would have done undisturbed, to the last bit.
    """
    steps = "training.max_steps=40"
    asked = "+hydra.launcher.additional_parameters.nodelist=%s"
    (tmp_path / "limit").mkdir()
    limit = site.start(
        *("batch=05a", NEVER, asked % "n2", "run.stall_min=null"),
        *("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=5"),
        "hydra.launcher.max_num_timeout=1",
        cwd=tmp_path / "limit",
    )
    (tmp_path / "preempted").mkdir()
    preempted = site.start("batch=05a", steps, asked % "n1", cwd=tmp_path / "preempted")
    site.wait_for("some steps", lambda: trained(preempted, [0], 5), preempted)
    site.cluster.ask(
        *("sbatch", "--partition=high", "--nodelist=n1", f"--gpus-per-node={GPUS}", "--mem=100M"),
        *("--output=/dev/null", "--wrap=sleep 1"),
    )
    (tmp_path / "here").mkdir()
    here = site.train_here("batch=05a", steps, cwd=tmp_path / "here")
    assert here.finish() == 0, here.output
    assert preempted.finish() == 0, preempted.output
    (record,), (undisturbed,) = preempted.records(), here.records()
    assert record["status"] == "completed"
    first, *_, last = record["attempts"]
    assert first["status"] == "interrupted"
    assert "PREEMPTED" in first["cause"]
    assert 0 < first["step"] < last["step"] == 40
    assert losses(preempted) == losses(here)
    for name in ("train_loss", "eval_loss", "rouge_f1", "best_step", "gradient_noise_scale"):
        assert record["metrics"][name] == undisturbed["metrics"][name], name
    assert limit.finish(300) == 0, limit.output
    (record,) = limit.records()
    assert record["status"] == "timeout"
    assert "hydra.launcher.timeout_min" in record["cause"]
    assert len(record["attempts"]) == 2


def losses(sweep: Submitted) -> dict[int, float]:
    return {row["step"]: row["train_loss"] for row in sweep.steps(0)}


def test_submitting_without_waiting_returns_with_the_jobs_in_the_queue(site, clean, tmp_path):
    sweep = site.start(
        *("batch=05a,05b", NEVER, "hydra.launcher.wait=false"),
        "+hydra.launcher.additional_parameters.begin=now+1hour",
        cwd=tmp_path,
    )
    assert sweep.finish() == 0, sweep.output
    jobs = sweep.job_ids()
    assert [state.state for state in job_states(jobs).values()] == ["PENDING", "PENDING"]
    site.wait_for(
        "a reason", lambda: {job_states(jobs)[job].reason for job in jobs} == {"BeginTime"}, sweep
    )
    assert str(sweep.folder.relative_to(tmp_path)) in sweep.output
    assert write_missing_records(sweep.folder) == []
    site.cluster.ask("scancel", jobs[0])
    (settled,) = site.wait_for(
        "the cancelled job", lambda: write_missing_records(sweep.folder), sweep
    )
    assert settled == sweep.run_dirs[0]
    assert write_missing_records(sweep.folder) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["hydra.launcher.partition=gpu"], "must be one of those that sinfo -s lists"),
        (["hydra.launcher.mem_gb=64"], "lower hydra.launcher.mem_gb"),
        (
            ["hydra.launcher.cpus_per_task=64"],
            "asked: --partition=main --nodes=1 --gpus-per-node=1 --cpus-per-task=64 --mem=1G",
        ),
        (["hydra.launcher.timeout_min=1440"], "lets a job run 60 minutes"),
        (["hydra.launcher.constraint=h100"], "feature"),
        (["hydra.launcher.gpus_per_node=2"], "a job asks for 2 GPUs"),
        (["hydra.launcher.gpus_per_node=null"], "a job asks for 0 GPUs"),
        (["hydra.launcher.gpus_per_node=null", "hydra.launcher.gres=gpu:h100:1"], "refuse"),
    ],
)
def test_what_the_cluster_cannot_run_is_refused_before_anything(site, words, expected, tmp_path):
    sweep = site.start("batch=05a,05b", *words, cwd=tmp_path)
    assert sweep.finish() == 2
    (line,) = sweep.output.strip().splitlines()
    assert line.startswith("batchopt: ")
    assert expected in line
    assert not list(tmp_path.iterdir())


def test_gpus_may_be_counted_by_gres_and_python_started_through_a_wrapper(site, clean, tmp_path):
    wrapper = f"env THROUGH=wrapper {sys.executable}"
    sweep = site.start(
        *("batch=05a", "hydra.launcher.gpus_per_node=null", "hydra.launcher.gres=gpu:1"),
        *("training.max_steps=1", f"hydra.launcher.python='{wrapper}'"),
        cwd=tmp_path,
    )
    assert sweep.finish() == 0, sweep.output
    assert sweep.records()[0]["status"] == "completed"
    (script,) = sweep.folder.glob(".submitit/*/*_submission.sh")
    assert wrapper in script.read_text()
    assert "--gres=gpu:1" in script.read_text()
