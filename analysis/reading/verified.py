"""verify.json: the proof beside a sweep that its batches give the same gradient."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchopt.record.files import SWEEP, VERIFY

DEPTH = 8
"""Folders above a run in which its sweep is looked for."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What the checks of a sweep found."""

    passed: bool
    """Whether all checks that fitted into memory passed."""
    checks: int
    worst: float
    """Largest difference of an element of the gradient, relative to the largest element."""


def read_verified(directories: Sequence[Path]) -> Verified | None:
    """Reads the verify.json of the sweeps of some runs as one.

    Args:
        directories: Of runs, at any depth below their sweep.

    Returns:
        None where a sweep has none, or it holds no check that could be made.
    """
    checks: list[dict[str, Any]] = []
    sweeps = dict.fromkeys(
        next((above for above in one.parents[:DEPTH] if (above / SWEEP).exists()), None)
        for one in directories
    )
    for sweep in sweeps:
        try:
            found = json.loads((sweep / VERIFY).read_text(encoding="utf-8")) if sweep else None
        except (OSError, ValueError):
            found = None
        if found is None:
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
