"""What others do with the cores is found, and no work of our own is taken for theirs."""

import os
import subprocess
import sys
import time

import psutil
import pytest

from batchopt.machine import cores
from batchopt.machine.cores import Neighbour, Others, Usage


@pytest.fixture
def four(monkeypatch):
    """A machine of four cores, all ours."""
    monkeypatch.setattr(cores, "usable", lambda: 4)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 4)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    monkeypatch.setattr(cores, "name_of", str)


def usage(wall_s, busy_s, own_s, **foreign_s):
    return Usage(wall_s, busy_s, own_s, {int(pid[1:]): used for pid, used in foreign_s.items()})


def test_what_is_not_ours_is_the_others_also_where_they_cannot_be_seen(four):
    before = usage(0.0, 100.0, 50.0, p1=10.0)
    others = cores.between(before, usage(10.0, 130.0, 60.0, p1=11.0))
    assert others.cores == pytest.approx(2.0)  # 30 s, less 10 of ours
    assert others.busiest == (Neighbour(1, "1", pytest.approx(0.1)),)


def test_where_the_kernel_does_not_count_the_visible_processes_do(four):
    before = usage(0.0, 0.0, 50.0, p1=10.0, p2=0.0)
    others = cores.between(before, usage(10.0, 0.0, 60.0, p1=15.0, p2=10.0, p3=99.0))
    assert others.cores == pytest.approx(1.5)  # nobody knows when process 3 used its time
    assert [one.pid for one in others.busiest] == [2, 1]
    assert str(others) == "other processes use 1.5 of 4 CPU cores: 2 (pid 2) 1.00, 1 (pid 1) 0.50"


def test_pinned_to_some_cores_only_their_use_counts(four, monkeypatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 64)
    before = usage(0.0, 100.0, 50.0, p1=0.0)
    others = cores.between(before, usage(10.0, 110.0, 60.0, p1=600.0))
    assert others.cores == 0.0


@pytest.mark.parametrize(
    ("used", "quota", "left"),
    [
        (0.0, None, 4),
        (0.2, None, 4),
        (0.5, None, 3),
        (1.0, None, 3),
        (2.1, None, 2),
        (9.0, None, 1),
        (0.0, 2.5, 2),
        (0.0, 0.5, 1),
        (3.0, 2.0, 1),
    ],
)
def test_the_cores_that_others_and_the_quota_leave(four, monkeypatch, used, quota, left):
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.free(Others(10.0, used, ())) == left


def test_a_busy_process_of_another_session_is_named_and_our_own_is_not():
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
        for _ in range(2)
    ]
    neighbour, ours = busy
    try:
        before = cores.read_usage({os.getpid(), ours.pid})
        time.sleep(1.0)
        others = cores.between(before, cores.read_usage({os.getpid(), ours.pid}))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert others.cores > cores.NOTICED_CORES
    pids = [one.pid for one in others.busiest]
    assert neighbour.pid in pids or len(pids) == cores.NAMED  # beside three that are busier
    assert ours.pid not in pids
