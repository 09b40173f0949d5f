"""Finds the processes of a test by the folder they run in, and waits for them as long as it takes.

A limit of so many seconds is meant for a machine that does nothing else. Where it has passed, the
pace of the machine is measured, and the limit grows with it.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from support import warm


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


QUIET_S = 0.4
"""Seconds of `import batchopt.train` on the quiet machine for which the limits were set."""


def slowness() -> float:
    """How many times slower than a quiet machine this one is now; at least 1."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", "import batchopt.train"], check=True)
    return max(1.0, (time.monotonic() - began) / QUIET_S)


def wait_for(condition, what, seconds=60.0, process=None):
    """Waits until something is so; returns what it is. Fails if `process` ends before."""
    began, limit = time.monotonic(), None
    while not (found := condition()):
        assert process is None or process.poll() is None, process.stdout.read()
        waited = time.monotonic() - began
        if limit is None and waited > seconds:
            limit = 2 * seconds * slowness()
        assert limit is None or waited < limit, f"waited {waited:.0f} s for {what}"
        time.sleep(0.02)
    return found


def finish(process: subprocess.Popen, seconds=60.0):
    """Waits for the end of a process; returns what it printed. Kills it if it goes on for ever."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        limit = 2 * seconds * slowness()
    try:
        return process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        raise AssertionError(f"it did not end within {limit:.0f} s:\n{output}{errors}") from None


def run_to_end(words, *, seconds=300.0, **options) -> subprocess.CompletedProcess:
    """Runs a command to its end; returns its exit code and what it printed.

    One of batchopt is a fork of a process that has imported torch (`support.warm`), where that
    makes no difference.
    """
    environ = options.get("env", os.environ)
    if options.keys() <= {"cwd", "env"} and warm.fits(words, environ):
        command = warm.Command(words, options.get("cwd", Path.cwd()), environ)
        output, errors = finish(command, seconds)
        return subprocess.CompletedProcess(words, command.returncode, output, errors)
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, text=True, **options) as process:
        output, errors = finish(process, seconds)
    return subprocess.CompletedProcess(words, process.returncode, output, errors)


def begin(words, *, cwd: Path, env: Mapping[str, str]) -> subprocess.Popen | warm.Command:
    """Starts a command that leads a session, as a terminal's; `stdout` has its errors too.

    It is a fork where `run_to_end` makes one.
    """
    if warm.fits(words, env):
        return warm.Command(words, cwd, env, session=True)
    both = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(words, cwd=cwd, env=env, start_new_session=True, **both)


def wait_until_alone(cwd: Path, seconds=30.0) -> None:
    """No process of batchopt is left in a folder, or it is an orphan."""
    wait_for(lambda: not processes(cwd), f"the end of {processes(cwd)}", seconds)
