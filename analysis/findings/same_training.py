"""Whether the settings of a comparison are one training, as far as the files say.

The settings of one comparison see the same examples in each step. Without dropout they then take
the same gradient, up to rounding. With dropout each micro-batch draws its own masks: the gradient
is the same in expectation only, and two settings differ as two seeds do.
"""

from collections.abc import Sequence

from analysis.findings.facts import SameTraining
from analysis.reading.runs import Run
from analysis.reading.verified import read_verified


def same_training(runs: Sequence[Run]) -> SameTraining:
    """Reads the dropout of the runs' model, and verify.json of their sweeps."""
    rates = [rate for run in runs if (rate := _dropout(run)) is not None]
    found = read_verified([run.directory for run in runs if run.directory is not None])
    return SameTraining(
        dropout=max(rates) if rates else None,
        verified=found.passed if found else None,
        difference=found.worst if found else None,
    )


def _dropout(run: Run) -> float | None:
    recorded = run.model.get("dropout")
    if isinstance(recorded, int | float) and not isinstance(recorded, bool):
        return float(recorded)
    # The tiny model's is a key of the config; a pretrained model's is in its own files.
    if run.config.get("model.source") in (None, "tiny"):
        try:
            return float(run.config["model.dropout"])
        except (KeyError, ValueError):
            return None
    return None
