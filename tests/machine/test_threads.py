"""The threads of a sweep: as many as there are free cores, and never over what the person set."""

import os
import subprocess
import sys

import psutil
import pytest

from batchopt.machine import cores, lease, threads
from batchopt.machine.cores import Neighbour, Others


class Watched:
    """A watch that has seen others use some cores."""

    def __init__(self, used):
        self.used = used

    def others(self):
        named = (Neighbour(7, "compiler", self.used),) if self.used else ()
        return Others(1.0, self.used, named)


class Unwatched:
    def others(self):
        raise AssertionError("nobody had to look")


@pytest.fixture(autouse=True)
def eight(monkeypatch):
    """A machine of four cores with two threads each."""
    monkeypatch.setattr(cores, "usable", lambda: 8)
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)


@pytest.mark.parametrize(("used", "count"), [(0.1, None), (4.0, None), (5.0, 3), (7.9, 1)])
def test_threads_are_fewer_only_where_torchs_own_have_no_cores(used, count):
    chosen = threads.choose(Watched(used), [None], {})
    assert chosen.count == count
    assert chosen.environ == ({} if count is None else {"OMP_NUM_THREADS": str(count)})
    assert ("compiler (pid 7)" in str(chosen)) == (count is not None)


def test_a_quota_is_no_neighbour(monkeypatch):
    monkeypatch.setattr(cores, "cpu_quota", lambda: 2.0)
    chosen = threads.choose(Watched(0.0), [None], {})
    assert chosen.count == 2
    assert "quota is 2 of 8" in str(chosen)


def test_what_the_person_set_stands():
    by_hand = {"OMP_NUM_THREADS": "6"}
    assert threads.choose(Unwatched(), [None], by_hand).environ == {}
    assert threads.choose(Unwatched(), [2, 4], {}).environ == {}
    assert threads.again(1, [None], by_hand).environ == {}
    assert str(threads.again(1, [2], {})) == "threads: 2, as device.threads says"
    assert threads.choose(Watched(7.0), [2, None], {}).count == 1  # for the run that says nothing


def test_a_sweep_that_goes_on_looks_at_nothing():
    assert threads.again(3, [None], {}).count == 3
    assert threads.again(None, [None], {}).environ == {}


HOLD = """
import sys
from batchopt.machine.lease import acquire
with acquire(["cpu"], "another run", tell=print):
    print("holds", flush=True)
    sys.stdin.read()
"""


def test_the_run_that_ours_waits_for_is_no_neighbour(tmp_path, monkeypatch):
    monkeypatch.setenv(lease.DIRECTORY_KEY, str(tmp_path))
    assert lease.holder("cpu") is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "holds\n"
        assert lease.holder("cpu") == other.pid
        assert {os.getpid(), other.pid} <= threads._family()
        other.stdin.close()
        other.wait()
    assert lease.holder("cpu") is None
