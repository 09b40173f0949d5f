"""Writes the chosen pair as conf/batch/best.yaml, so that later experiments say batch=best."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.findings.facts import AIMS, Findings
from analysis.reading.runs import Run, Sweep
from analysis.words import en
from batchopt.errors import RequestError

NAME = "best.yaml"


def choose(
    findings: Findings, runs: Sequence[Run], labels: Sequence[str], aim: str, *, anyway: bool
) -> int:
    """Finds a run with the setting to adopt under an aim; returns its place.

    Raises:
        RequestError: There is no such aim, or the data cannot decide and `anyway` is not asked for.
    """
    keys = [one.key for one in AIMS]
    if aim not in keys:
        raise RequestError(f"adopt is {aim!r}; it must be one of {', '.join(keys)}")
    found = [one for part in findings.comparisons for one in part.aims if one.aim.key == aim]
    # An undecided comparison has its best observed setting, for adopt_anyway.
    names = [one.choice or (one.ranking[0].label if one.ranking else None) for one in found]
    chosen = [
        next(place for place, run in enumerate(runs) if labels[place] == name and run.completed)
        for name in names
        if name
    ]
    if not chosen:
        raise RequestError(f"adopt={aim}: {en.refusal(findings, aim)}")
    # What one run of each setting suggests is not decided either.
    decided = all(one.choice and one.certainty == "yes" for one in found)
    agreed = len({str(preset_of(runs[place])) for place in chosen}) == 1
    if not anyway and not (decided and agreed):
        raise RequestError(
            f"adopt={aim}: {en.refusal(findings, aim)}; adopt_anyway=true takes the best observed"
        )
    return chosen[0]


def preset_of(run: Run) -> dict[str, Any]:
    """The keys of the group batch that make a run's setting."""
    keys = (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "effective_batch_size",
        "packing",
    )
    preset = {key: run.plan[key] for key in keys if run.plan.get(key) is not None}
    limit = run.config.get("batch.max_tokens_per_micro_batch", "null")
    return preset | ({} if limit == "null" else {"max_tokens_per_micro_batch": int(limit)})


def write_preset(
    run: Run, label: str, findings: Findings, sweeps: Sequence[Sweep], aim: str
) -> str:
    """Makes the file: the pair, and in comments where it comes from."""
    comparison, finding = next(
        (part, one)
        for part in findings.comparisons
        for one in part.aims
        if one.aim.key == aim and label in [standing.label for standing in one.ranking]
    )
    completed = sum(findings.completed[place] for place in comparison.places)
    notes = [
        f"Adopted by: python -m analysis sweep={','.join(sweep.path for sweep in sweeps)} "
        f"adopt={aim}",
        f"Setting: {label}, of {completed} completed runs on {run.environment.get('device_name')}",
        f"Model: {run.model.get('name')}; data: {run.data.get('source')} ({run.data_fingerprint})",
        f"{en.aim_title(aim)}: {en.in_one_sentence(finding)}",
        f"Decided by the data: {en.certainty(finding.certainty)}",
    ]
    lines = [f"# {' '.join(note.split())}" for note in notes]
    return "\n".join([*lines, *(f"{key}: {value}" for key, value in preset_of(run).items())]) + "\n"


def preset_directory(named: str | None) -> Path:
    """Where presets are: the named directory, conf/batch of this checkout, or BATCHOPT_CONF/batch.

    Raises:
        RequestError: batchopt is installed, and its own files are not to be written.
    """
    if named is not None:
        return Path(named)
    checkout = Path(__file__).resolve().parents[2]
    directory = checkout / "conf" / "batch"
    if directory.is_dir() and (checkout / "pyproject.toml").is_file():
        return directory
    own = os.environ.get("BATCHOPT_CONF", "")
    if own.startswith("file://"):
        return Path(own.removeprefix("file://")) / "batch"
    raise RequestError(
        "adopt: batchopt is installed and not a checkout; name a directory to write "
        f"{NAME} into with adopt_dir=DIR"
    )
