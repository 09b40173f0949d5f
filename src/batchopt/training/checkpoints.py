"""A run's checkpoints on disk: which are whole, and what stays of them at the end.

The Trainer writes them; a run that is killed meanwhile leaves half of one, which the Trainer's own
search would take. Our own state is written last, so its file says that the others are there.
"""

import shutil
from pathlib import Path
from typing import Any

from batchopt.record.files import CHECKPOINTS, read_json, write_json

STATE = "batchopt.json"
"""The recorder's state; the mark of a whole checkpoint."""

_FOR_RESUMING = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt", STATE)


def folder(run_dir: Path, step: int) -> Path:
    """Where the Trainer puts the checkpoint of a step."""
    return run_dir / CHECKPOINTS / f"checkpoint-{step}"


def complete(folder: Path, state: dict[str, Any]) -> None:
    """Marks a checkpoint as whole."""
    write_json(folder / STATE, state)


def recorded(folder: Path) -> dict[str, Any]:
    """The recorder's state in a whole checkpoint."""
    state: dict[str, Any] = read_json(folder / STATE)
    return state


def newest_whole(run_dir: Path) -> Path | None:
    """The newest checkpoint that a run can go on from; removes the torn ones."""
    found = _found(run_dir)
    whole = [path for path in found if (path / STATE).is_file()]
    for path in found:
        if path not in whole:
            shutil.rmtree(path)
    return whole[-1] if whole else None


def rotate(run_dir: Path, keep: int, best_step: int | None) -> None:
    """Leaves so many checkpoints: the newest ones, and the best one in place of the oldest.

    Called once the newest is whole. The Trainer rotates before that, and a kill in between would
    leave nothing but what is torn or old.
    """
    found = _found(run_dir)
    spare = [path for path in found[:-1] if step_of(path) != best_step]
    for path in spare[: max(0, len(found) - keep)]:
        (path / STATE).unlink(missing_ok=True)  # first, so that no half of it counts as whole
        shutil.rmtree(path)


def step_of(folder: Path) -> int:
    """The optimizer step of a checkpoint."""
    return int(folder.name.rpartition("-")[2])


def keep_weights_only(run_dir: Path) -> None:
    """Takes from a completed run's checkpoints what only resuming needs: two thirds of them."""
    for path in _found(run_dir):
        for name in _FOR_RESUMING:
            (path / name).unlink(missing_ok=True)


def _found(run_dir: Path) -> list[Path]:
    """The checkpoints by their step, oldest first."""
    folders = (run_dir / CHECKPOINTS).glob("checkpoint-*")
    return sorted((path for path in folders if path.name[11:].isdecimal()), key=step_of)
