"""Memory is read as the kernel counts it."""

import os
import subprocess
import sys

from batchopt.memory import read_process_memory, reset_peak

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
