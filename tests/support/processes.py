"""Finds the processes of a test by the folder they run in."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path


def processes(cwd: Path) -> dict[int, str]:
    """Pid and command line of every living process of batchopt that runs in a folder."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            if "batchopt" in command and (process / "cwd").resolve() == cwd.resolve():
                found[int(process.name)] = command
    return found


def processes_of(cwd: Path, module: str) -> list[int]:
    return [pid for pid, command in processes(cwd).items() if module in command]


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def wait_for(condition, what, seconds=60.0, process=None):
    """Waits until something is so; returns what it is. Fails if `process` ends before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process is None or process.poll() is None, process.stdout.read()
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        time.sleep(0.02)
    return found


def wait_until_alone(cwd: Path, seconds=30.0) -> None:
    """No process of batchopt is left in a folder, or it is an orphan."""
    wait_for(lambda: not processes(cwd), f"the end of {processes(cwd)}", seconds)
