"""`python -m batchopt.resume [SWEEP|RUN] [OVERRIDES]`: finishes what was begun.

The command that began it is run again into its own directory, from the folder it was begun in.
"""

import os
import shlex
import sys
from pathlib import Path

from omegaconf import OmegaConf

from batchopt import train
from batchopt.cli import OK, answer
from batchopt.errors import RequestError
from batchopt.run_files import SWEEP, read_json

HELP = """\
Finishes a sweep or a single run: what is missing, was interrupted, failed, or is stale.

  python -m batchopt.resume                            the newest sweep under multirun/
  python -m batchopt.resume multirun/DATE/TIME
  python -m batchopt.resume outputs/runs/DATE/TIME_05b
  python -m batchopt.resume SWEEP 'sweep.retry=[oom]'  only the runs that ran out of memory"""


def main(words: list[str]) -> int:
    """Resumes; returns the exit code of the training."""
    if {"-h", "--help"} & set(words):
        print(HELP)
        return OK
    named = [word for word in words if "=" not in word or Path(word).exists()]
    if len(named) > 1:
        raise RequestError(f"{' '.join(named)}: name one sweep or run at a time")
    directory = (Path(named[0]) if named else _newest(Path("multirun"))).resolve()
    overrides = [word for word in words if word not in named]
    plan = read_json(directory / SWEEP)
    if plan is not None:
        began = shlex.split(plan["command"])[3:]
        os.chdir(plan.get("cwd") or ".")
        return train.main([*_without(began, overrides), *overrides, f"hydra.sweep.dir={directory}"])
    if (directory / ".hydra" / "overrides.yaml").is_file():
        began = [str(word) for word in OmegaConf.load(directory / ".hydra" / "overrides.yaml")]
        settings = OmegaConf.load(directory / ".hydra" / "hydra.yaml")
        os.chdir(str(settings.hydra.runtime.cwd))
        return train.main([*_without(began, overrides), *overrides, f"hydra.run.dir={directory}"])
    raise RequestError(
        f"{directory} is no sweep (it has no {SWEEP}) and no run (it has no .hydra/overrides.yaml)"
    )


def _without(began: list[str], overrides: list[str]) -> list[str]:
    """The first command without what is set anew and without its own directory."""
    keys = {word.split("=", 1)[0].lstrip("+") for word in overrides}
    keys |= {"hydra.sweep.dir", "hydra.run.dir"}
    return [word for word in began if word.split("=", 1)[0].lstrip("+") not in keys]


def _newest(root: Path) -> Path:
    plans = list(root.glob(f"*/*/{SWEEP}"))
    if not plans:
        raise RequestError(f"there is no sweep under {root.resolve()}; name one")
    return max(plans, key=lambda path: path.stat().st_mtime).parent


if __name__ == "__main__":
    sys.exit(answer(main))
