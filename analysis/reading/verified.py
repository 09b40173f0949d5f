"""verify.json: the proof beside a sweep that its batches give the same gradient."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.record.files import VERIFY


@dataclass(frozen=True, slots=True)
class Verified:
    """What the checks of a sweep found."""

    passed: bool
    """Whether all checks that fitted into memory passed."""
    checks: int
    worst: float
    """Largest difference of an element of the gradient, relative to the largest element."""


def read_verified(directories: Sequence[Path]) -> Verified | None:
    """Reads the verify.json of some sweeps as one.

    Returns:
        None where a sweep has none, or it holds no check that could be made.
    """
    checks: list[dict[str, Any]] = []
    for directory in directories:
        try:
            found = json.loads((directory / VERIFY).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        found = found.get("checks", []) if isinstance(found, dict) else found
        made = [one for one in found if isinstance(one, dict) and one.get("passed") is not None]
        if not made:
            return None
        checks += made
    if not checks:
        return None
    return Verified(
        passed=all(one["passed"] for one in checks),
        checks=len(checks),
        worst=max(float(one.get("gradient_difference") or 0.0) for one in checks),
    )
