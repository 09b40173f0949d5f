"""The checkpoints of a run on disk: which are whole, and what stays of them at the end.

The Trainer writes them. A run that is killed meanwhile leaves half a checkpoint, and the search of
the Trainer would find it. The state of the recorder is written last, so its file proves that the
others are there.
"""

import shutil
from pathlib import Path
from typing import Any

from batchopt.record.files import CHECKPOINTS, read_json, write_json

STATE = "batchopt.json"
"""The state of the recorder; marks a whole checkpoint."""

_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", STATE)


def folder(run_dir: Path, step: int) -> Path:
    """The folder in which the Trainer puts the checkpoint of a step."""
    return run_dir / CHECKPOINTS / f"checkpoint-{step}"


def complete(folder: Path, state: dict[str, Any]) -> None:
    """Marks a checkpoint as whole."""
    write_json(folder / STATE, state)


def recorded(folder: Path) -> dict[str, Any]:
    """The state of the recorder in a whole checkpoint."""
    state: dict[str, Any] = read_json(folder / STATE)
    return state


def newest_whole(run_dir: Path) -> Path | None:
    """The newest whole checkpoint, from which a run can resume; removes the torn ones."""
    found = _found(run_dir)
    whole = [path for path in found if (path / STATE).is_file()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def rotate(run_dir: Path, keep: int, best_step: int | None) -> None:
    """Removes checkpoints until `keep` are left: the newest ones and the best one.

    Called once the newest is whole. The Trainer rotates before that, and a kill in between could
    leave torn or old checkpoints only.
    """
    found = _found(run_dir)
    spare = [path for path in found[:-1] if step_of(path) != best_step]
    for path in spare[: max(0, len(found) - keep)]:
        (path / STATE).unlink(missing_ok=True)  # first, so that a rest does not count as whole
        shutil.rmtree(path)


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint."""
    return int(folder.name.rpartition("-")[2])


def keep_weights_only(run_dir: Path) -> None:
    """Removes the files that only resuming needs: two thirds of the bytes of a checkpoint."""
    for path in _found(run_dir):
        for name in _FOR_RESUMING:
            (path / name).unlink(missing_ok=True)


def _found(run_dir: Path) -> list[Path]:
    """The checkpoints by their step, oldest first."""
    folders = (run_dir / CHECKPOINTS).glob("checkpoint-*")
    return sorted((path for path in folders if path.name[11:].isdecimal()), key=step_of)
