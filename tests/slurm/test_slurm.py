"""What SLURM says is read right, also where it says nothing; recorded answers, no cluster."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from batchopt.errors import RequestError
from batchopt.slurm import jobs as slurm
from batchopt.slurm import missing_records, preflight
from batchopt.slurm.jobs import JobState, check_allocation, job_states

SQUEUE = """\
17_4|PENDING|Resources||0:00
17_3|PENDING|JobArrayTaskLimit||0:00
17_0|COMPLETING|None|n1|0:04
17_2|RUNNING|None|n2|1-02:03:04
17_1|COMPLETED|None|n2|0:15
"""

SACCT = """\
17_0|COMPLETED|None|n1|4
17_1|FAILED|None|n2|16
17_1.batch|FAILED||n2|16
17_1.0|OUT_OF_MEMORY||n2|15
17_2|RUNNING|JobArrayTaskLimit|n2|93784
17_5|CANCELLED by 1000|JobArrayTaskLimit|n1|7
17_[3-4,6%2]|PENDING|JobArrayTaskLimit|None assigned|0
"""

SINFO = """\
main*|1:00:00
big|2-00:00:00
cpu|infinite
"""

LAUNCHER = {
    **{"partition": None, "account": None, "qos": None, "constraint": None, "exclude": None},
    **{"gpus_per_node": 1, "gres": None, "cpus_per_task": 4, "mem_gb": 4, "timeout_min": 60},
    **{"nodes": 1, "additional_parameters": {}},
}


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """Puts commands on an otherwise empty PATH; each prints what it is told to."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(name, output="", code=0, error=""):
        (tmp_path / f"{name}.out").write_text(output)
        (tmp_path / f"{name}.err").write_text(error)
        script = tmp_path / name
        script.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, sys\n"
            f"here = pathlib.Path({str(tmp_path)!r})\n"
            f"(here / '{name}.asked').open('a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"sys.stdout.write((here / '{name}.out').read_text())\n"
            f"sys.stderr.write((here / '{name}.err').read_text())\n"
            f"sys.exit({code})\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)

    add.folder = tmp_path
    return add


def asked(commands, name):
    path = commands.folder / f"{name}.asked"
    return path.read_text().splitlines() if path.exists() else []


def test_without_slurm_nothing_is_known(commands):
    assert job_states(["17", "18_1"]) == {}


def test_no_job_asks_nobody(commands):
    commands("squeue")
    assert job_states([]) == {}
    assert asked(commands, "squeue") == []


def test_the_controller_knows_live_jobs_and_the_accounting_the_others(commands):
    commands("squeue", SQUEUE)
    commands("sacct", SACCT)
    states = job_states([f"17_{number}" for number in range(8)])
    assert states == {
        # The accounting already has its end; for the controller it still lives, and so it does.
        "17_0": JobState("COMPLETING", None, "n1", 4.0),
        "17_1": JobState("OUT_OF_MEMORY", None, "n2", 16.0),
        "17_2": JobState("RUNNING", None, "n2", 93784.0),
        "17_3": JobState("PENDING", "JobArrayTaskLimit"),
        "17_4": JobState("PENDING", "Resources"),
        "17_5": JobState("CANCELLED", "by 1000", "n1", 7.0),
        # Cancelled in the queue a moment ago: the accounting has not heard of it.
        "17_6": JobState("CANCELLED", inferred=True),
        # Cancelled before the array was taken apart: SLURM no longer knows that it was.
        "17_7": JobState("CANCELLED", inferred=True),
    }
    assert len(asked(commands, "squeue")) == len(asked(commands, "sacct")) == 1


def test_without_accounting_the_controller_tells_of_the_ends_it_remembers(commands):
    commands("squeue", SQUEUE)
    commands("sacct", code=1, error="Slurm accounting storage is disabled")
    assert job_states(["17_1", "17_5"]) == {"17_1": JobState("COMPLETED", None, "n2", 15.0)}


def test_a_list_of_elements_that_was_shortened_proves_nothing(commands):
    commands("squeue", code=1, error="Unable to contact slurm controller")
    commands("sacct", "17_1|COMPLETED|None|n2|15\n17_[2,4,...%2]|PENDING|None|None assigned|0\n")
    assert set(job_states(["17_1", "17_2", "17_6"])) == {"17_1"}


def test_a_controller_that_does_not_answer_leaves_no_job_cancelled(commands):
    """The accounting is late: of an array of four it knows so far the one that ended first."""
    commands("squeue", code=1, error="slurm_load_jobs error: Socket timed out")
    commands("sacct", "17_0|CANCELLED by 0|None|n1|4\n")
    assert job_states([f"17_{number}" for number in range(4)]) == {
        "17_0": JobState("CANCELLED", "by 0", "n1", 4.0)
    }


@pytest.mark.parametrize(
    "controller",
    [
        {"output": "17_1|PENDING|BeginTime||0:00\n"},
        {"code": 1, "error": "slurm_load_jobs error: Invalid job id specified"},
    ],
    ids=["knows another element", "forgot the array"],
)
def test_an_accounting_that_is_late_does_not_keep_a_cancelled_element_waiting(commands, controller):
    commands("squeue", **controller)
    commands("sacct", "17_[0-1]|PENDING|BeginTime|None assigned|0\n")
    assert job_states(["17_0"]) == {"17_0": JobState("CANCELLED", inferred=True)}


LATE = "17_[0-4]|CANCELLED by 0|None|None assigned|0\n"
"""What a real accounting says of an array whose last waiting element, 17_4, was cancelled."""


@pytest.mark.parametrize(
    ("accounting", "first"),
    [
        # Recorded on SLURM 22.05: the array's row stands below those of its elements.
        ("17_0|FAILED|None|n1|7\n17_1|RUNNING|None|n1|4\n" + LATE, "FAILED"),
        (LATE + "17_0|FAILED|None|n1|7\n17_1|RUNNING|None|n1|4\n", "FAILED"),
        (LATE, "COMPLETED"),  # it has not heard yet that any of them started
    ],
)
def test_the_row_of_a_cancelled_array_says_nothing_of_what_has_started(commands, accounting, first):
    commands(
        "squeue",
        "17_0|COMPLETED|None|n1|0:07\n17_1|RUNNING|None|n1|0:04\n17_4|CANCELLED|Resources||0:00\n",
    )
    commands("sacct", accounting)
    states = job_states(["17_0", "17_1", "17_4"])
    assert {job_id: state.state for job_id, state in states.items()} == {
        "17_0": first,
        "17_1": "RUNNING",
        "17_4": "CANCELLED",
    }
    assert states["17_4"].reason == "by 0"  # which only that row tells


def test_what_a_job_waited_for_is_not_why_it_was_cancelled(commands):
    commands("squeue", "17|CANCELLED|Resources||0:00\n")
    commands("sacct")
    assert job_states(["17"]) == {"17": JobState("CANCELLED")}


@pytest.mark.parametrize("started", [False, True])
def test_a_cancelled_array_that_the_controller_forgot(commands, tmp_path, started):
    """Its elements never started, unless a run of theirs left a file."""
    run_dir = tmp_path / "0"
    run_dir.mkdir()
    if started:
        (run_dir / "running.json").write_text("{}")
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": [{"number": 0, "run_dir": "0"}]}))
    slurm.write_job_ids(tmp_path, {0: "17_0"})
    commands("squeue", code=1, error="slurm_load_jobs error: Invalid job id specified")
    commands("sacct", LATE)
    (job,) = slurm.sweep_jobs(tmp_path)
    assert job.state == (None if started else JobState("CANCELLED", "by 0", inferred=True))


def test_a_controller_that_is_silent_and_the_row_of_a_cancelled_array_prove_nothing(commands):
    commands("squeue", code=1, error="slurm_load_jobs error: Socket timed out")
    commands("sacct", LATE)
    assert job_states(["17_0", "17_4"]) == {}


def test_a_running_job_takes_no_word_from_the_row_of_its_array(commands):
    """SIGTERM from elsewhere, while the accounting has only the array's row."""
    commands("sacct", LATE)
    job = {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "0"}
    assert slurm.why_stopped(job, signal.SIGTERM) is None


def test_a_job_that_the_controller_forgot_is_in_the_accounting(commands):
    commands("squeue", code=1, error="slurm_load_jobs error: Invalid job id specified")
    commands("sacct", "3|TIMEOUT|None|n1|60\n")
    assert job_states(["3"]) == {"3": JobState("TIMEOUT", None, "n1", 60.0)}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        ("OUT_OF_MEMORY", "oom"),
        ("TIMEOUT", "timeout"),
        ("DEADLINE", "timeout"),
        ("CANCELLED", "interrupted"),
        ("PREEMPTED", "interrupted"),
        ("NODE_FAIL", "killed"),
        ("BOOT_FAIL", "killed"),
        ("FAILED", "failed"),
        ("COMPLETED", "failed"),
        ("A_STATE_OF_A_LATER_SLURM", "failed"),
    ],
)
def test_every_end_of_a_job_has_a_status_and_a_cause(state, status):
    ending = slurm.ending(JobState(state, None, "n1", 4.0))
    assert ending[0] == status
    assert state in ending[1]
    assert "n1" in ending[1]


LAUNCHED = {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_ID": "17"}


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        (LAUNCHED | {"CUDA_VISIBLE_DEVICES": "1"}, "auto"),
        (LAUNCHED | {"CUDA_VISIBLE_DEVICES": "GPU-aa"}, "cuda"),
        (LAUNCHED | {"SLURM_STEP_GPUS": "3"}, "cuda"),  # a site without the first variable
        (LAUNCHED, "cpu"),
        ({"SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "0,1"}, "auto"),  # a person's own salloc
        ({}, "auto"),
    ],
)
def test_one_gpu_is_right(environ, kind):
    check_allocation(environ, kind)


@pytest.mark.parametrize(
    ("environ", "kind", "given"),
    [
        (LAUNCHED, "auto", "no GPU"),
        (LAUNCHED | {"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, "cuda", "no GPU"),
        (LAUNCHED | {"CUDA_VISIBLE_DEVICES": "0,1"}, "auto", "2 GPUs (0, 1)"),
        (LAUNCHED | {"SLURM_JOB_GPUS": "2,3"}, "cuda", "2 GPUs (2, 3)"),
    ],
)
def test_no_gpu_and_several_are_refused(environ, kind, given):
    with pytest.raises(RequestError, match="gpus_per_node=1") as refusal:
        check_allocation(environ, kind)
    assert given in str(refusal.value)


def test_a_job_with_two_gpus_leaves_a_record_that_says_so(tmp_path):
    small = ("data.train_examples=64", "data.validation_examples=2", "model.d_model=16")
    done = subprocess.run(
        [sys.executable, "-m", "batchopt.train", "batch=05a", *small, f"cache_dir={tmp_path}/c"],
        cwd=tmp_path,
        env=os.environ | LAUNCHED | {"CUDA_VISIBLE_DEVICES": "0,1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    assert record["status"] == "failed"
    assert record["cause"].startswith("SLURM gave this job 2 GPUs (0, 1)")


def test_why_a_signal_came_is_asked_of_slurm(commands):
    array = LAUNCHED | {"SLURM_ARRAY_JOB_ID": "17", "SLURM_ARRAY_TASK_ID": "5"}
    commands("sacct", SACCT)
    assert slurm.why_stopped({}, 15) is None
    assert slurm.why_stopped(array, 15) == (
        "interrupted",
        "SLURM: CANCELLED by 1000 on n1: the job was cancelled",
    )
    running = array | {"SLURM_ARRAY_TASK_ID": "2"}
    assert slurm.why_stopped(running, 15) is None  # somebody else's signal
    status, cause = slurm.why_stopped(running, 12)
    assert status == "timeout"
    assert "hydra.launcher.timeout_min" in cause


@pytest.fixture
def sweep(tmp_path):
    """A sweep of four runs on SLURM: one done, one dead while it ran, one dead before, one live."""
    folder = tmp_path / "sweep"
    names = ["0_batch=05a", "1_batch=05b", "2_batch=05c", "3_batch=05a"]
    folder.mkdir()
    jobs = [
        {
            **{"number": number, "run_dir": name, "preset": name[-3:], "seed": 1},
            **{"overrides": [name[2:]], "per_device_train_batch_size": 8},
            **{"gradient_accumulation_steps": 8, "effective_batch_size": 64},
        }
        for number, name in enumerate(names)
    ]
    plan = {"schema_version": 1, "command": "", "jobs": jobs}
    (folder / "sweep.json").write_text(json.dumps(plan))
    slurm.write_job_ids(folder, {number: f"17_{number}" for number in range(4)})
    (folder / names[0]).mkdir()
    (folder / names[0] / "record.json").write_text("{}")
    (folder / names[1]).mkdir()
    (folder / names[1] / "running.json").write_text(
        json.dumps({"hostname": "n2", "started_at": "2026-11-24T10:00:00Z", "attempts": []})
    )
    return folder


def test_the_dead_are_settled_once_and_the_living_left_alone(sweep, commands):
    commands("squeue", "17_3|RUNNING|None|n1|0:04\n")
    commands("sacct", "17_1|NODE_FAIL|None|n2|60\n17_2|CANCELLED by 7|None|None assigned|0\n")
    assert [path.name for path in missing_records.write_missing_records(sweep)] == [
        "1_batch=05b",
        "2_batch=05c",
    ]
    records = {
        path.parent.name: json.loads(path.read_text()) for path in sweep.rglob("record.json")
    }
    assert records["0_batch=05a"] == {}  # never written over
    assert records["1_batch=05b"]["status"] == "killed"
    assert records["1_batch=05b"]["started_at"] == "2026-11-24T10:00:00Z"
    assert records["1_batch=05b"]["environment"]["slurm_job_id"] == "17_1"
    assert records["2_batch=05c"]["status"] == "interrupted"
    assert "by 7, before it started" in records["2_batch=05c"]["cause"]
    assert "3_batch=05a" not in records
    assert not (sweep / "1_batch=05b" / "running.json").exists()
    assert missing_records.write_missing_records(sweep) == []


def test_a_run_that_wrote_a_file_was_not_cancelled_in_the_queue(sweep, commands):
    """Run 1 has a running.json; SLURM knows neither it nor run 2, which has no file."""
    commands("squeue", "17_3|RUNNING|None|n1|0:04\n")
    commands("sacct", "17_3|RUNNING|None|n1|4\n")
    (written,) = missing_records.write_missing_records(sweep)
    assert written.name == "2_batch=05c"
    assert (sweep / "1_batch=05b" / "running.json").exists()


def test_a_slurm_that_does_not_answer_settles_nothing(sweep, commands):
    commands("squeue", code=1, error="Unable to contact slurm controller")
    assert missing_records.write_missing_records(sweep) == []
    assert len(list(sweep.rglob("record.json"))) == 1


def test_a_directory_that_is_no_sweep_is_left_alone(tmp_path, commands):
    assert missing_records.write_missing_records(tmp_path) == []


@pytest.fixture
def cluster(commands):
    commands("sinfo", SINFO)
    commands("srun")
    commands("sbatch")
    return commands


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"timeout_min": 61}, "timeout_min is 61; partition main lets a job run 60 minutes"),
        ({"partition": "big", "timeout_min": 2881}, "partition big lets a job run 2880 minutes"),
        ({"partition": "main,big", "timeout_min": 2881}, "big, main lets a job run 2880 minutes"),
        ({"gpus_per_node": None}, "asks for 0 GPUs"),
        ({"gpus_per_node": None, "gres": "gpu:a100:2"}, "asks for 2 GPUs"),
    ],
)
def test_what_does_not_fit_is_said_with_the_key(cluster, changes, expected):
    (line,) = preflight.problems(LAUNCHER | changes, {"auto"})
    assert expected in line
    assert asked(cluster, "sbatch") == []


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"partition": "main,big", "mem_gb": 400, "timeout_min": 2880},
        {"partition": "cpu", "timeout_min": 100_000},
        {"partition": "nowhere", "account": "lab"},
        {"gpus_per_node": None, "gres": "gpu:a100:1", "partition": "big", "timeout_min": 2880},
        {"gpus_per_node": None, "additional_parameters": {"gpus": 1}},
        {"gpus_per_node": "a100:1", "partition": "big"},
    ],
)
def test_what_fits_is_left_to_sbatch(cluster, changes):
    assert preflight.problems(LAUNCHER | changes, {"cuda"}) == []
    (words,) = asked(cluster, "sbatch")
    assert words.startswith("--test-only ")


def test_a_cpu_partition_takes_runs_on_the_cpu(cluster):
    asks = LAUNCHER | {"partition": "cpu", "gpus_per_node": None}
    assert preflight.problems(asks, {"cpu"}) == []


def test_the_last_word_is_sbatchs_in_its_own_words(cluster):
    cluster("sbatch", code=1, error="sbatch: error: invalid qos\nallocation failure: Invalid qos\n")
    (line,) = preflight.problems(LAUNCHER | {"qos": "night"}, {"auto"})
    assert line == (
        "sbatch would refuse the jobs: allocation failure: Invalid qos; asked: --qos=night "
        "--nodes=1 --gpus-per-node=1 --cpus-per-task=4 --mem=4G --time=60"
    )


@pytest.mark.parametrize(
    ("changes", "refusal", "remedy"),
    [  # the words of SLURM 22.05.8
        ({"partition": "gpu"}, "Invalid partition name specified", "those that sinfo -s lists"),
        ({"mem_gb": 640}, "Requested node configuration is not available", "hydra.launcher.mem_gb"),
        (
            {"account": "nobody"},
            "Invalid account or account/partition combination specified",
            "hydra.launcher.account must be yours",
        ),
    ],
)
def test_a_refusal_of_sbatch_comes_with_its_remedy(cluster, changes, refusal, remedy):
    cluster("sbatch", code=1, error=f"allocation failure: {refusal}\n")
    (line,) = preflight.problems(LAUNCHER | changes, {"auto"})
    assert refusal in line
    assert remedy in line


def test_more_runs_than_one_array_may_have_are_said_with_the_remedy(cluster):
    refusal = "allocation failure: Invalid job array specification\n"
    cluster("sbatch", code=1, error=refusal)
    (line,) = preflight.problems(LAUNCHER, {"auto"}, batch_size=1002)
    assert "hydra.sweeper.max_batch_size=1000" in line
    (words,) = asked(cluster, "sbatch")
    assert "--array=0-1001" in words


def test_no_slurm_and_no_controller_each_have_their_remedy(commands):
    (line,) = preflight.problems(LAUNCHER, {"auto"})
    assert "module load slurm" in line
    commands("sbatch")
    commands("srun")
    commands("sinfo", code=1, error="sinfo: error: Unable to contact slurm controller\n")
    (line,) = preflight.problems(LAUNCHER, {"auto"})
    assert "Unable to contact slurm controller" in line


def test_what_only_this_machine_sees_is_refused_where_other_machines_run_the_jobs(commands):
    commands("sinfo", "node1\nnode2\n")
    never, perhaps = preflight.unshared([Path("/proc/self")])
    assert (never, perhaps) == ([], [])  # a file system that says nothing
    never, _ = preflight.unshared([Path("/dev/shm/data.csv")])
    assert "/dev/shm" in never[0]
    commands("sinfo", os.uname().nodename + "\n")
    assert preflight.unshared([Path("/dev/shm/data.csv")]) == ([], [])


def test_a_launcher_without_a_sweep_is_not_ignored(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "batchopt.train", "batch=05a", "hydra/launcher=slurm"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "add -m" in done.stderr
    assert not list(tmp_path.iterdir())
