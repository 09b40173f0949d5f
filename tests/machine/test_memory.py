"""Memory is read as the kernel counts it."""

import json
import os
import subprocess
import sys
import time

import pytest

from batchopt.machine.host_memory import read_process_memory, reset_peak
from batchopt.run.measurement import Measurement

MIB = 2**20

HOLD = """
import sys, numpy
def touch(mib):
    return numpy.ones(mib * 2**20, dtype=numpy.uint8)
for line in sys.stdin:
    command, mib = line.split()
    if command == "hold":
        kept = touch(int(mib))
    else:
        touch(int(mib))
    print("done", flush=True)
"""


def test_peaks_between_two_readings_are_seen_and_can_be_reset():
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:

        def tell(command):
            child.stdin.write(command + "\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
            return read_process_memory(child.pid)

        before = tell("hold 1")
        held = tell("hold 200")
        assert abs(held.anonymous_bytes - before.anonymous_bytes - 199 * MIB) < 4 * MIB
        spike = tell("spike 300")
        assert abs(spike.anonymous_bytes - held.anonymous_bytes) < 4 * MIB
        high_water = spike.peak_resident_bytes - spike.file_bytes
        assert abs(high_water - held.anonymous_bytes - 300 * MIB) < 0.02 * high_water
        reset_peak(child.pid)
        after = tell("spike 1")
        assert after.peak_resident_bytes - after.file_bytes < held.anonymous_bytes + 8 * MIB
        child.stdin.close()
    assert read_process_memory(child.pid) is None


def test_the_process_itself_can_be_read():
    memory = read_process_memory(os.getpid())
    assert memory.peak_resident_bytes >= memory.anonymous_bytes > MIB


BURST = """
import os, sys, time
from pathlib import Path
from batchopt.training.recorder import Events
events = Events(int(sys.argv[1]))
events.phase("load")
events.phase("train")
burst = bytearray(os.urandom(1) * (300 * 2**20))
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
kernel = int(status["VmHWM"].split()[0]) - int(status["RssFile"].split()[0])
del burst
events.phase("evaluate")
print(kernel * 1024)
"""


def test_the_peak_is_the_kernels_own_figure_though_no_sample_met_it(tmp_path):
    """Memory that is taken and freed between two samples counts, within two per cent."""
    read, write = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-c", BURST, str(write)], pass_fds=(write,), stdout=subprocess.PIPE
    )
    os.close(write)
    measured = Measurement(tmp_path, child.pid, None, interval_s=1e6, started=time.monotonic())
    with os.fdopen(read) as lines:
        for line in lines:
            message = json.loads(line)
            measured.enter(message["phase"], message["peak_bytes"])
    kernel = int(child.communicate()[0])
    assert measured.phases["train"].host.peak == pytest.approx(kernel, rel=0.02)
    assert kernel > 300 * 2**20


def test_a_limit_is_one_of_resident_memory_and_can_be_lifted():
    script = """
import os
from batchopt.machine import host_memory as memory
base = memory.read_process_memory(os.getpid()).anonymous_bytes
memory.limit_anonymous(base + 100 * 2**20)
blocks = []
try:
    while True:
        blocks.append(bytearray(b"x") * (8 * 2**20))
except MemoryError:
    memory.lift_limit()
    more = bytearray(b"x") * (200 * 2**20)
    print(len(blocks))
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 10 <= int(done.stdout) <= 12
