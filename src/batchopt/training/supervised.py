"""Supervision, seen from the training process: its reports, and how it can be stopped."""

import argparse
import faulthandler
import json
import logging
import os
import signal
import time
from pathlib import Path
from typing import Any

from batchopt.machine import host_memory
from batchopt.machine.lifeline import end_with_starter
from batchopt.record.files import STACKS


class Events:
    """Reports to the supervisor; does nothing without one."""

    def __init__(self, descriptor: int | None) -> None:
        self.descriptor = descriptor

    def phase(self, name: str) -> None:
        """Says that a phase begins: see `Phase`."""
        if self.descriptor is not None:
            # Read now: the supervisor learns of the new phase later.
            self.tell(phase=name, peak_bytes=host_memory.take_peak(), began_at=time.monotonic())

    def tell(self, **message: Any) -> None:
        """Sends values by name; the last value of a name counts."""
        if self.descriptor is not None:
            line = memoryview((json.dumps(message, allow_nan=False) + "\n").encode())
            while line:
                line = line[os.write(self.descriptor, line) :]


logger = logging.getLogger("batchopt")


def add_supervision(parser: argparse.ArgumentParser) -> None:
    """Adds the option for the descriptor that `run_child` passes."""
    parser.add_argument("--events", type=int, help="descriptor to report to")


def be_supervised(arguments: argparse.Namespace) -> Events:
    """Lets a supervisor follow this process, stop it, and have it print its stacks."""
    stacks = (arguments.run_dir / STACKS).open("a")
    faulthandler.enable(stacks, all_threads=True)
    faulthandler.register(signal.SIGQUIT, stacks, all_threads=True)
    # The supervisor handles Ctrl-C, and stops this process with SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()
    return Events(arguments.events)


class _Warnings(logging.Handler):
    """Forwards warnings to the supervisor, which owns the terminal; errors are in the outcome."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            self.events.tell(warning=record.getMessage())


def log_to(path: Path, events: Events) -> None:
    """Logs to a file, and forwards warnings to the supervisor."""
    logging.raiseExceptions = False  # for a full disk: what matters goes through `events`
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
    )
    logger.addHandler(_Warnings(events))
