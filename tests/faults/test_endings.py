"""Every ending of a run has its name and its cause, and the other runs go on.

The faults are committed in real training processes, in a phase of their own choosing
(inject/sitecustomize.py), or done to them from outside.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from support.fake_nvml import card
from support.processes import kill, processes, processes_of, wait_for, wait_until_alone
from support.runs import SMALL

pytestmark = pytest.mark.faults

INJECT = str(Path(__file__).parent / "inject")


@dataclass(frozen=True)
class Fault:
    """One fault of inject/faults_to_commit.py, and what the record has to say of it.

    `at` is the phase and which time it begins: train:4 is after step 2, as are evaluate:2 and
    save:1. `kept` is what the record's traceback must hold. `noticed` is a later phase that the
    run may be in when it learns of the fault.
    """

    ending: str
    name: str
    status: str
    cause: str
    at: str = "train:4"
    kept: str = ""
    noticed: str = ""

    @property
    def planned(self):
        phase, _, count = self.at.partition(":")
        return [self.name, phase, int(count)]

    @property
    def phase(self):
        return self.at.partition(":")[0]


@pytest.fixture(autouse=True)
def nothing_left(tmp_path):
    """What a test that failed left running would hold the lease that the next ones wait for."""
    yield
    kill(list(processes(tmp_path)))


OOM = "out of memory"
IN_PROCESS = [
    Fault(
        "torch CUDA OOM", "torch.OutOfMemoryError", "oom", "out of memory: CUDA", kept="Traceback"
    ),
    Fault("torch CUDA OOM, loading", "torch.OutOfMemoryError", "oom", OOM, at="load:1"),
    Fault("torch CUDA OOM, evaluating", "torch.OutOfMemoryError", "oom", OOM, at="evaluate:2"),
    Fault("torch CUDA OOM, saving", "torch.OutOfMemoryError", "oom", OOM, at="save:1"),
    Fault("CUDA runtime OOM", "CUDA error: out of memory", "oom", OOM),
    Fault("cuBLAS allocation", "cuBLAS", "oom", "CUBLAS_STATUS_ALLOC_FAILED"),
    Fault("cuDNN allocation", "cuDNN", "oom", "CUDNN_STATUS_ALLOC_FAILED"),
    Fault("CPU allocator", "CPU allocator", "oom", "DefaultCPUAllocator"),
    Fault("MemoryError", "MemoryError", "oom", OOM, at="load:1"),
    Fault(
        "OOM inside another exception", "wrapped", "oom", "memory: CUDA out", kept="direct cause"
    ),
    Fault("bug", "bug", "failed", "KeyError: 'labels'", kept="Traceback"),
    Fault("bug, evaluating", "bug", "failed", "KeyError", at="evaluate:2", kept="Traceback"),
    Fault("bug, saving", "bug", "failed", "KeyError", at="save:1", kept="Traceback"),
    Fault("GPU lost, by CUDA's word", "ECC", "failed", "the GPU was lost: CUDA error: uncorr"),
    Fault("segfault", "segfault", "failed", r"crashed \(SIGSEGV\)", kept="Segmentation fault"),
    Fault("segfault, saving", "segfault", "failed", "SIGSEGV", at="save:1", kept="Segmentation"),
    Fault("abort", "abort", "failed", r"crashed \(SIGABRT\)", kept="Aborted"),
    Fault("exit without a word", "os._exit", "failed", "exit code 3 and no outcome"),
    Fault("sys.exit in a library", "sys.exit", "failed", "exit code 3 and no outcome"),
    Fault("killed, loading", "SIGKILL", "killed", "SIGKILL", at="load:1"),
    Fault("killed, training", "SIGKILL", "killed", "SIGKILL"),
    Fault("killed, evaluating", "SIGKILL", "killed", "SIGKILL", at="evaluate:2"),
    Fault("killed, saving", "SIGKILL", "killed", "SIGKILL", at="save:1"),
    Fault("ROUGE's process killed", "ROUGE", "killed", "scores ROUGE", at="evaluate:2"),
    Fault("worker told to end, loading", "SIGTERM", "interrupted", "got a SIGTERM", at="load:1"),
    Fault("worker told to end", "SIGTERM", "interrupted", "after step 3 of 4: .*SIGTERM"),
]
"""Committed one after the other in the runs of one sweep, whose last run has no fault."""


@dataclass
class Sweep:
    """A sweep of batch=05b over seeds, one for each fault, and one more without."""

    cwd: Path
    cache: Path
    faults: list[Fault]
    words: tuple[str, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)

    def start(self, module="train", *words, directory="sweep"):
        seeds = ",".join(str(number) for number in range(len(self.faults) + 1))
        if module == "train":
            words = (
                *("-m", *SMALL, "batch=05b", f"seed={seeds}", "training.eval_steps=2"),
                *("verify=false", f"cache_dir={self.cache}", f"hydra.sweep.dir={directory}"),
                *self.words,
            )
        planned = {str(number): fault.planned for number, fault in enumerate(self.faults)}
        path = os.pathsep.join([INJECT, *filter(None, [os.environ.get("PYTHONPATH")])])
        return subprocess.Popen(
            [sys.executable, "-m", f"batchopt.{module}", *words],
            cwd=self.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env=os.environ
            | {"FAULTS": json.dumps(planned), "PYTHONPATH": path, "PYTHONFAULTHANDLER": "0"}
            | self.environ,
        )

    def run(self):
        process = self.start()
        output, _ = process.communicate(timeout=1200)
        return process.returncode, output

    def record(self, number):
        (path,) = self.cwd.glob(f"*/{number}_*/record.json")
        return json.loads(path.read_text())

    def run_dir(self, number):
        (path,) = self.cwd.glob(f"*/{number}_*")
        return path


def check(sweep, number, endings):
    """The record of a fault says what happened, whole; nothing else is left of it."""
    fault, record = sweep.faults[number], sweep.record(number)
    assert record["status"] == fault.status, record["cause"]
    assert re.search(fault.cause, record["cause"]), record["cause"]
    assert record["phase"] in (fault.phase, fault.noticed)
    assert "micro-batches of 16)" in record["cause"]
    if fault.phase == "train":
        assert record["step"] >= 2
        assert f"after step {record['step']}" in record["cause"]
    assert record["plan"]["per_device_train_batch_size"] == 16
    assert re.search(fault.kept, record["traceback"] or ""), record["traceback"]
    check_left(sweep.run_dir(number))
    note(endings, fault.ending, f"`{fault.name}` in the process", record, sweep.run_dir(number))


def check_left(run_dir):
    hidden = [path.name for path in run_dir.iterdir() if path.name.startswith(".")]
    assert hidden == [".hydra"]
    assert not (run_dir / "running.json").exists()


def note(endings, ending, provoked, record, run_dir):
    kept = []
    traceback = record["traceback"]
    if traceback:
        kept.append("traceback" if traceback.startswith("Traceback") else "stacks of all threads")
    if list(run_dir.glob("checkpoints/*/batchopt.json")):
        kept.append("checkpoint")
    endings.append((ending, provoked, record["status"], record["cause"], ", ".join(kept)))


def check_others_went_on(sweep, output):
    last = sweep.record(len(sweep.faults))
    assert last["status"] == "completed", output
    wait_until_alone(sweep.cwd)


@pytest.fixture(scope="module")
def in_process(tmp_path_factory, cache):
    sweep = Sweep(tmp_path_factory.mktemp("faults"), cache, IN_PROCESS)
    code, output = sweep.run()
    return sweep, code, output


@pytest.mark.parametrize("number", range(len(IN_PROCESS)), ids=[f.ending for f in IN_PROCESS])
def test_a_fault_has_its_name_and_its_cause(number, in_process, endings):
    check(in_process[0], number, endings)


def test_the_other_runs_went_on_and_the_sweep_says_that_some_failed(in_process):
    sweep, code, output = in_process
    check_others_went_on(sweep, output)
    assert code == 1
    assert "batchopt itself failed" not in output


def group(tmp_path, cache, endings, faults, *words, environ=None):
    sweep = Sweep(tmp_path, cache, faults, words, environ or {})
    code, output = sweep.run()
    for number in range(len(faults)):
        check(sweep, number, endings)
    check_others_went_on(sweep, output)
    return sweep, code


def test_a_hang_ends_with_all_stacks(tmp_path, cache, endings):
    faults = [
        Fault("hang", "hang", "timeout", r"run.stall_min=0.5", kept="faults_to_commit"),
        Fault("hang in native code", "hang natively", "timeout", "stall_min", kept="in hang_nat"),
        Fault("stopped process (SIGSTOP)", "SIGSTOP", "timeout", "stall_min"),
    ]
    _, code = group(tmp_path, cache, endings, faults, "run.stall_min=0.5", "run.grace_s=2")
    assert code == 0


def test_a_run_that_takes_too_long_ends_with_a_checkpoint(tmp_path, cache, endings):
    faults = [
        Fault("timeout", "crawl", "timeout", r"run.timeout_min=1; checkpoint at step \d"),
        Fault("timeout of a run that hangs", "hang", "timeout", "timeout_min", kept="in hang"),
    ]
    words = ("run.timeout_min=1", "run.grace_s=20", "training.max_steps=200")
    sweep = Sweep(tmp_path, cache, faults, words)
    code, output = sweep.run()
    for number in range(len(faults)):
        check(sweep, number, endings)
    assert code == 0, output
    assert list(sweep.run_dir(0).glob("checkpoints/*/batchopt.json"))


def test_the_memory_limit_is_an_out_of_memory(tmp_path, cache, endings):
    faults = [
        Fault("memory limit", "eat", "oom", "out of memory"),
        Fault("memory limit, evaluating", "eat", "oom", "out of memory", at="evaluate:2"),
    ]
    _, code = group(tmp_path, cache, endings, faults, "device.memory_limit_gib=1.5")
    assert code == 0, "an out of memory is a result"


def test_a_killed_loader_process_is_a_kill(tmp_path, cache, endings):
    faults = [
        Fault(
            *("loader process killed", "loader", "killed", "process of the run was killed: DataL"),
            noticed="evaluate",
        )
    ]
    group(tmp_path, cache, endings, faults, "training.dataloader_num_workers=1")


def test_a_loss_that_is_no_number_ends_the_run(tmp_path, cache, endings):
    sweep = Sweep(tmp_path, cache, [], ("training.learning_rate=1e30", "training.max_steps=20"))
    code, output = sweep.run()
    record = sweep.record(0)
    assert (code, record["status"]) == (1, "failed"), output
    assert "lower training.learning_rate" in record["cause"]
    note(endings, "NaN loss", "`training.learning_rate=1e30`", record, sweep.run_dir(0))


@contextmanager
def small_disk(path, size="200m"):  # what the runs may need is checked before the sweep
    path.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no disk of its own can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.mark.parametrize("at", ["train:4", "evaluate:2", "save:1", "save:2"])
def test_a_full_disk_costs_no_record_and_no_step_that_was_saved(at, tmp_path, cache, endings):
    with small_disk(tmp_path / "disk"):
        fault = Fault("full disk", "fill", "failed", "the disk is full", at=at)
        sweep = Sweep(tmp_path, cache, [fault], ("training.max_steps=8",))
        process = sweep.start(directory="disk")
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 1, output
        record = sweep.record(0)
        assert record["status"] == "failed", record["cause"]
        assert "the disk is full" in record["cause"]
        assert "batchopt itself failed" not in output
        assert "Logging error" not in output
        assert not list(sweep.run_dir(0).glob(".*.json*"))
        for name in ("metrics", "predictions", "memory"):
            for line in (sweep.run_dir(0) / f"{name}.jsonl").read_text().splitlines():
                json.loads(line)
        ending = f"full disk, from the phase {fault.phase} on"
        note(endings, ending, "a file of its own that fills a tmpfs", record, sweep.run_dir(0))
        (tmp_path / "disk" / "filler").unlink()
        sweep.faults = []
        again = sweep.start("resume", "disk")
        output, _ = again.communicate(timeout=300)
        assert again.returncode == 0, output
        assert {sweep.record(0)["status"], sweep.record(1)["status"]} == {"completed"}
        wait_until_alone(tmp_path)


def test_a_file_that_may_not_grow_is_a_full_disk(tmp_path, cache, endings):
    fault = Fault(
        "file size limit", "RLIMIT_FSIZE", "failed", "File too large|the disk", at="save:1"
    )
    group(tmp_path, cache, endings, [fault])


def test_a_gpu_that_falls_off_the_bus_ends_the_run(tmp_path, cache, endings, library):
    library.reset()
    library.set(card(0))
    fault = Fault("GPU lost, by NVML's word", "crawl", "failed", "the GPU was lost")
    words = ("device.kind=auto", "training.max_steps=60")
    sweep = Sweep(tmp_path, cache, [fault], words, dict(library.environ))
    process = sweep.start()
    wait_for(lambda: '"step": 3' in metrics(sweep, 0), "the run to train")
    library.set({"gpu0.error": 15})
    wait_for(lambda: list(tmp_path.rglob("record.json")), "the record")
    library.set({"gpu0.error": None})
    output, _ = process.communicate(timeout=300)
    check(sweep, 0, endings)
    check_others_went_on(sweep, output)
    library.reset()


def metrics(sweep, number):
    paths = list(sweep.cwd.glob(f"*/{number}_*/metrics.jsonl"))
    return paths[0].read_text() if paths else ""


@contextmanager
def memory_cgroup(limit_bytes):
    """A cgroup with a limit that the kernel enforces by killing."""
    folder = Path("/sys/fs/cgroup/memory") / f"batchopt-faults-{os.getpid()}"
    try:
        folder.mkdir()
        (folder / "memory.limit_in_bytes").write_text(str(limit_bytes))
    except OSError:
        pytest.skip("no memory cgroup can be made here")
    try:
        yield folder
    finally:
        wait_for(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup to be left")
        folder.rmdir()


def test_the_kernels_oom_killer_is_told_from_a_kill(tmp_path, cache, endings):
    with memory_cgroup(2 * 2**30) as folder:
        faults = [
            Fault("kernel's OOM killer", "eat", "oom", "OOM killer"),
            Fault("killed in a cgroup with a limit", "SIGKILL", "killed", "SIGKILL"),
        ]
        sweep = Sweep(tmp_path, cache, faults)
        process = sweep.start()
        (folder / "cgroup.procs").write_text(str(process.pid))
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        for number in (0, 1):
            check(sweep, number, endings)
        check_others_went_on(sweep, output)


@dataclass(frozen=True)
class Outside:
    """Something done to the sweep's own process while its first run waits in a phase."""

    ending: str
    signals: tuple[int, ...]
    cause: str
    code: int
    at: str = "train:4"
    fault: str = "pause"


OUTSIDE = [
    Outside("Ctrl-C", (signal.SIGINT,), r"Ctrl-C; checkpoint at step \d", 130),
    Outside("Ctrl-C, loading", (signal.SIGINT,), "Ctrl-C; no checkpoint", 130, "load:1"),
    Outside("Ctrl-C, evaluating", (signal.SIGINT,), "Ctrl-C; checkpoint", 130, "evaluate:2"),
    Outside("Ctrl-C, saving", (signal.SIGINT,), "Ctrl-C; checkpoint", 130, "save:1"),
    Outside(
        "Ctrl-C twice", (signal.SIGINT,) * 2, "Ctrl-C; checkpoint at step 2", 130, "train:6", "hang"
    ),
    Outside("SIGTERM of the sweep", (signal.SIGTERM,), "SIGTERM; checkpoint", 143),
    Outside("terminal closed (SIGHUP)", (signal.SIGHUP,), "SIGHUP; checkpoint", 129),
]


@pytest.mark.parametrize("case", OUTSIDE, ids=[case.ending for case in OUTSIDE])
def test_a_stopped_sweep_saves_first_and_goes_on_later(case, tmp_path, cache, endings):
    fault = Fault(case.ending, case.fault, "interrupted", case.cause, at=case.at)
    sweep = Sweep(tmp_path, cache, [fault], ("training.max_steps=40",))
    process = sweep.start()
    wait_for(lambda: at_fault(sweep, fault), "the fault")
    for number in case.signals:
        process.send_signal(number)
        time.sleep(1.5)
    for mark in tmp_path.rglob("paused"):
        mark.unlink()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == case.code, output
    record = sweep.record(0)
    assert record["status"] == "interrupted", record["cause"]
    assert re.search(case.cause, record["cause"]), record["cause"]
    check_left(sweep.run_dir(0))
    wait_until_alone(tmp_path)
    names = " and ".join(signal.Signals(number).name for number in case.signals)
    note(endings, case.ending, f"{names} to the sweep", record, sweep.run_dir(0))
    sweep.faults = []
    again = sweep.start("resume", "sweep")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert sweep.record(0)["metrics"]["optimizer_steps_done"] == 40
    assert sweep.record(1)["status"] == "completed", "the run that had not begun"


def at_fault(sweep, fault):
    """Whether the first run has come to its fault."""
    if fault.name == "pause":
        return list(sweep.cwd.rglob("paused"))
    return list(sweep.cwd.rglob("checkpoint-2/batchopt.json")) and not time.sleep(1)


def test_a_worker_that_hangs_natively_does_not_outlive_a_killed_supervisor(
    tmp_path, cache, endings
):
    fault = Fault("supervisor killed", "hang natively", "killed", "")
    sweep = Sweep(tmp_path, cache, [fault], ("training.max_steps=8",))
    process = sweep.start()
    wait_for(lambda: '"step": 2' in metrics(sweep, 0), "two steps")
    time.sleep(2)
    process.kill()
    process.communicate()
    wait_until_alone(tmp_path, 5)
    sweep.faults = []
    again = sweep.start("resume", "sweep")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    record = sweep.record(0)
    lost = record["attempts"][0]
    assert lost["status"] == "killed"
    assert lost["phase"] == "train"
    assert lost["duration_s"] > 0
    check_left(sweep.run_dir(0))
    as_record = {**lost, "traceback": None}
    note(endings, fault.ending, "SIGKILL to the sweep", as_record, sweep.run_dir(0))


def test_a_kill_while_old_checkpoints_are_removed_leaves_a_whole_one(tmp_path, cache):
    """The Trainer's own order removes the last whole one before the new one is whole."""
    fault = Fault("", "die while rotating", "killed", "SIGKILL", at="train:1")
    sweep = Sweep(tmp_path, cache, [fault], ("training.max_steps=12",))
    assert sweep.run()[0] == 0
    assert sweep.record(0)["status"] == "killed"
    saved = max(
        int(path.parent.name.rpartition("-")[2]) for path in sweep.run_dir(0).rglob("batchopt.json")
    )
    sweep.faults = []
    again = sweep.start("resume", "sweep", "sweep.retry=[killed]")
    output, _ = again.communicate(timeout=300)
    assert sweep.record(0)["status"] == "completed", output
    log = (sweep.run_dir(0) / "train.log").read_text()
    assert f"resuming from step {saved}" in log
    assert saved == 6, "the newest of three was whole before the first was touched"


def test_a_worker_killed_from_outside_while_the_sweep_goes_on(tmp_path, cache, endings):
    fault = Fault("killed from outside", "pause", "killed", "SIGKILL", at="evaluate:2")
    sweep = Sweep(tmp_path, cache, [fault])
    process = sweep.start()
    wait_for(lambda: list(tmp_path.rglob("paused")), "the fault")
    kill(processes_of(tmp_path, "batchopt.training.worker"))
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0, output
    check(sweep, 0, endings)
    check_others_went_on(sweep, output)
