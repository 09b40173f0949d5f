"""Beside a neighbour torch's threads sleep while they wait, and compute the same bits."""

import json
import os
import subprocess
import sys

import pytest

from batchopt.training import waiting

MEASURE = """
import json, sys, threading, time
import torch
from batchopt.training.waiting import Waiting

torch.set_num_threads(2)
torch.manual_seed(1)
left, right = torch.randn(200, 300), torch.randn(300, 200)
numbers, wide = torch.randn(1 << 20), torch.ones(1 << 20)

def bits():
    return float((left @ right).softmax(-1).sin().sum()), float(numbers.sin().sum())

def cpu_s():
    began = time.process_time()
    for _ in range(100):
        wide.add_(1.0)
        time.sleep(0.004)  # a thread that spins does so for milliseconds
    return time.process_time() - began

waiting = Waiting(2)
found = []
for others in (0.0, 1.0, 1.0, 0.0):
    waiting.take(others)
    found.append([waiting.sleeps, cpu_s(), bits(), threading.active_count()])
print(json.dumps([found, waiting.slept_s]))
"""

FREE = {key: value for key, value in os.environ.items() if key not in waiting.CHOSEN_BY}


@pytest.mark.skipif(waiting.cores.usable() < 2, reason="two threads need two cores")
def test_threads_sleep_beside_others_spin_alone_and_compute_the_same():
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        env=FREE | {"OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    found, slept_s = json.loads(done.stdout)
    sleeps, cpu_s, bits, threads = zip(*found, strict=True)
    assert sleeps == (False, True, True, False)
    assert max(cpu_s[1:3]) < min(cpu_s[0], cpu_s[3]) / 2
    assert len({tuple(one) for one in bits}) == 1
    assert threads[0] == threads[3] == 1 < threads[1] == threads[2]
    assert slept_s > 0


@pytest.mark.parametrize("variable", waiting.CHOSEN_BY)
def test_who_set_how_threads_wait_has_it_so(monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    assert waiting.watch_the_cores(1000) is None


def test_one_thread_waits_for_nobody():
    assert waiting.watch_the_cores(1) is None


@pytest.mark.parametrize(
    ("threads", "cores", "others", "sleeps"),
    [
        (2, 2, 0.2, False),
        (2, 2, 1.0, True),
        (2, 4, 1.0, False),
        (2, 4, 2.5, True),
        (6, 4, 0.0, True),
    ],
)
def test_threads_sleep_if_they_have_no_core_each(monkeypatch, threads, cores, others, sleeps):
    monkeypatch.setattr(waiting.cores, "usable", lambda: cores)
    monkeypatch.setattr(waiting, "cpu_quota", lambda: None)
    monkeypatch.setattr(waiting.Waiting, "_idle", lambda self: self._leave.wait())
    watch = waiting.Waiting(threads)
    watch.take(others)
    assert watch.sleeps == sleeps
    # libgomp sleeps if there are more threads than cores: each team adds one less than it has.
    assert threads + len(watch._crowd) * (threads - 1) > cores or not sleeps
    watch.take(0.0)
    assert watch.sleeps == (threads > cores)
    watch._disperse()
