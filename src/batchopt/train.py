"""`python -m batchopt.train`: one run, or with -m a sweep.

The straight line: words -> checked requests -> shared preparation -> Hydra starts the jobs, each
trained and recorded in a process of its own -> a table of the results.
"""

import sys

from batchopt.cli import answer
from batchopt.sweeps.command import answer_question, read_command
from batchopt.sweeps.start import run_single, run_sweep


def main(words: list[str]) -> int:
    """Runs the command line; returns the exit code."""
    command = read_command(words)
    answered = answer_question(command)
    if answered is not None:
        return answered
    if command.is_sweep:
        return run_sweep(command.words, command.overrides, str(command))
    return run_single(command.words, command.overrides)


if __name__ == "__main__":
    sys.exit(answer(main))
