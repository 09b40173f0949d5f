"""Ends a process with the one that started it, however that one ended.

The one that starts holds the only writing end of a pipe, which the kernel closes with it, also
when it is killed. The child learns of the pipe by its environment.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

VARIABLE = "BATCHOPT_LIFELINE"
"""Holds the descriptor of the reading end, which the child is passed."""


@contextmanager
def lifeline() -> Iterator[int]:
    """Yields the reading end; closes the pipe when it is left."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def run(module: str, words: Sequence[str]) -> int:
    """Runs `python -m MODULE WORDS` to its end, or to that of this process; returns its code."""
    with lifeline() as reading:
        return subprocess.run(
            [sys.executable, "-m", module, *words],
            env=os.environ | {VARIABLE: str(reading)},
            pass_fds=(reading,),
            check=False,
        ).returncode


def end_with_starter() -> None:
    """Has this process, and the group that it leads, end with the one that started it.

    The kernel itself sends the signal, so that a process ends too that hangs in native code and
    lets no thread run. Source: https://man7.org/linux/man-pages/man2/F_GETSIG.2const.html
    """
    passed = os.environ.pop(VARIABLE, None)  # it is not for the children of this process
    if passed is None:
        return
    descriptor, leads = int(passed), os.getpgrp() == os.getpid()
    if hasattr(fcntl, "F_SETSIG"):  # Linux
        fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp() if leads else os.getpid())
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    # Elsewhere, and where the pipe was closed before the kernel knew, a thread sees to it.
    threading.Thread(target=_wait, args=(descriptor, leads), daemon=True).start()


def _wait(descriptor: int, leads: bool) -> None:
    os.read(descriptor, 1)
    (os.killpg if leads else os.kill)(os.getpid(), signal.SIGKILL)
