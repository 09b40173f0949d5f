"""What a run ran on: versions, machine, commit. Read without importing any of it."""

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from batchopt.slurm.jobs import own_job_id

PACKAGES = (
    "batchopt",
    "torch",
    "transformers",
    "accelerate",
    "datasets",
    "evaluate",
    "rouge-score",
    "hydra-core",
    "kiwipiepy",
    "kiwipiepy_model",
    "numpy",
)


def describe_environment() -> dict[str, Any]:
    """Describes this machine and installation; None or absent where something is not there."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "platform": platform.platform(),
        "hostname": platform.node(),
        "cpu_model": _cpu_model(),
        "cpu_count": len(os.sched_getaffinity(0)),
        "git_commit": commit,
        "git_dirty": None if commit is None else bool(status),
        "slurm_job_id": own_job_id(os.environ),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or None


def _git(*words: str) -> str | None:
    """Asks git about the checkout that this code runs from; None where it runs from a wheel."""
    top = Path(__file__).resolve().parents[3]
    if not (top / ".git").exists():
        return None
    try:
        answer = subprocess.run(
            ["git", "-C", str(top), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()


def code_hash() -> str:
    """A name for the code of this package: runs of one code have one name."""
    digest = hashlib.sha256()
    package = Path(__file__).resolve().parents[1]
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]
