"""The training process' side of its supervision: what it tells, and how it can be stopped."""

import argparse
import faulthandler
import json
import logging
import os
import signal
from pathlib import Path
from typing import Any

from batchopt.machine import host_memory
from batchopt.machine.lifeline import end_with_starter
from batchopt.record.files import STACKS


class Events:
    """Tells the supervisor what the run does; silent where there is no supervisor."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor

    def phase(self, name: str) -> None:
        """Says that a phase begins: see `Phase`."""
        if self.descriptor is not None:
            # Read here and now: the supervisor hears of the boundary only later.
            self.tell(phase=name, peak_bytes=host_memory.take_peak())

    def tell(self, **message: Any) -> None:
        """Sends values by name; the newest of each name counts."""
        if self.descriptor is not None:
            line = memoryview((json.dumps(message, allow_nan=False) + "\n").encode())
            while line:
                line = line[os.write(self.descriptor, line) :]


logger = logging.getLogger("batchopt")


def add_supervision(parser: argparse.ArgumentParser) -> None:
    """Adds the descriptor that `attempt.run_child` passes."""
    parser.add_argument("--events", type=int, help="descriptor to report to")


def be_supervised(arguments: argparse.Namespace) -> Events:
    """Makes this process one that a supervisor can follow, end, and look into."""
    stacks = (arguments.run_dir / STACKS).open("a")
    faulthandler.enable(stacks, all_threads=True)
    faulthandler.register(signal.SIGQUIT, stacks, all_threads=True)
    # The supervisor ends the run with SIGTERM; Ctrl-C in the terminal is the supervisor's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()
    return Events(arguments.events)


class _Warnings(logging.Handler):
    """Tells the supervisor, whose the terminal is; an error is told as the run's outcome."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            self.events.tell(warning=record.getMessage())


def log_to(path: Path, events: Events) -> None:
    """Logs to a file, and tells the supervisor of warnings."""
    logging.raiseExceptions = False  # on a full disk: what matters is told through `events`
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
    )
    logger.addHandler(_Warnings(events))
