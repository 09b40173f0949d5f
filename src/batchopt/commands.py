"""The commands: the name of each after `batchopt`, the module that it runs, and what it does."""

from typing import NamedTuple


class Command(NamedTuple):
    """A command: `batchopt NAME` is `python -m MODULE`."""

    module: str
    text: str


COMMANDS = {
    "train": Command("batchopt.train", "one run or, with -m, a sweep"),
    "verify": Command("batchopt.verify", "proves that the presets are one training"),
    "probe": Command("batchopt.probe", "what each batch size needs, and what fits"),
    "status": Command("batchopt.status", "what each run of a sweep is doing now"),
    "resume": Command("batchopt.resume", "finishes a sweep or a run that was interrupted"),
    "doctor": Command("batchopt.doctor", "what this machine has, and what is missing"),
    "analyze": Command("analysis", "the report of the newest sweep"),
    "adopt": Command("analysis", "writes the best pair of a sweep, for batch=best"),
    "init": Command("batchopt.init", "a folder for an experiment of your own"),
}
"""Every command, in the order in which help lists them."""

MODULES = {command.module: command.text for name, command in COMMANDS.items() if name != "adopt"}
"""What each module does; `adopt` is a word of the analysis."""
