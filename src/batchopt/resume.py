"""`python -m batchopt.resume [SWEEP|RUN] [OVERRIDES]`: finishes what was begun.

It runs the command that began the sweep or run once more, from the same folder and into the same
directory.
"""

import os
import shlex
import sys
from pathlib import Path

from batchopt import train
from batchopt.cli import OK, answer
from batchopt.errors import RequestError
from batchopt.record.files import SWEEP, is_there
from batchopt.record.keys import Word
from batchopt.record.read import read_plan
from batchopt.request.read_back import read_beginning
from batchopt.request.words import quoted
from batchopt.sweeps.progress import find_sweep

HELP = """\
Finishes a sweep or a single run: what is missing, was interrupted, failed, or
is stale. What is left of a sweep runs in the order in which it began.

  python -m batchopt.resume                   the newest sweep under multirun/
  python -m batchopt.resume multirun/DATE/TIME
  python -m batchopt.resume outputs/runs/DATE/TIME_05b
  python -m batchopt.resume SWEEP 'sweep.retry=[oom]'
                                              only what ran out of memory"""


def main(words: list[str]) -> int:
    """Resumes; returns the exit code of the training."""
    if {"-h", "--help"} & set(words):
        print(HELP)
        return OK
    named = [word for word in words if Word.parse(word).value is None or is_there(word)]
    if len(named) > 1:
        raise RequestError(f"{' '.join(named)}: name one sweep or run at a time")
    directory = (Path(named[0]) if named else find_sweep(Path("multirun"))).resolve()
    overrides = [word for word in words if word not in named]
    plan = read_plan(directory)
    if plan is not None:
        began = _words(plan.command, directory / SWEEP)
        _go_to(plan.cwd or ".", directory / SWEEP)
        own = quoted("hydra.sweep.dir", directory)
        return train.main([*_without(began, overrides), *overrides, own])
    if (directory / ".hydra" / "overrides.yaml").is_file():
        began, cwd = read_beginning(directory)
        _go_to(cwd, directory / ".hydra" / "hydra.yaml")
        own = quoted("hydra.run.dir", directory)
        return train.main([*_without(began, overrides), *overrides, own])
    raise RequestError(
        f"{directory} is no sweep (it has no {SWEEP}) and no run (it has no .hydra/overrides.yaml)"
    )


def _words(command: str, path: Path) -> list[str]:
    """Splits a recorded command into its words, without `python -m batchopt.train`."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise RequestError(f"{path}: command cannot be read ({error})") from error
    if words[:3] != ["python", "-m", "batchopt.train"]:
        raise RequestError(f"{path}: command is {command}; only batchopt.train can be resumed")
    return words[3:]


def _go_to(folder: str, path: Path) -> None:
    """Changes to the folder of the first command, to which its paths are relative."""
    try:
        os.chdir(folder)
    except (OSError, ValueError) as error:
        raise RequestError(f"{path}: cannot go to {folder}, where the runs began") from error


def _without(began: list[str], overrides: list[str]) -> list[str]:
    """Drops from the first command its own directory and the keys that are set anew."""
    keys = {Word.parse(word).key for word in overrides} | {"hydra.sweep.dir", "hydra.run.dir"}
    return [word for word in began if Word.parse(word).key not in keys]


if __name__ == "__main__":
    sys.exit(answer(main))
