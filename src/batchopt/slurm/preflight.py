"""Checks, before anything is submitted, that this cluster can run the jobs of a sweep.

SLURM itself lets some jobs wait for ever, and others fail on the first node. Each finding is one
line that names the key and a remedy.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import psutil

from batchopt.request.config import Config, FilesDataConfig
from batchopt.slurm.jobs import TIMEOUT_S

PRIVATE_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "overlay", "squashfs"})
"""File systems that no other machine sees."""

DISK_FILE_SYSTEMS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs"})
"""File systems on a disk of this machine; others see them only if it exports them."""


def problems(launcher: Mapping[str, Any], device_kinds: Set[str], batch_size: int = 1) -> list[str]:
    """Says why SLURM would not run a sweep's jobs, one line a reason; none where it would.

    `sbatch --test-only` says most of it: partition, account, memory, CPUs, GPUs, features. It does
    not know that a run needs exactly one GPU. Unless the cluster sets EnforcePartLimits, it also
    takes a time beyond the partition's limit, and the job would wait for ever.

    Args:
        launcher: The keys of hydra.launcher.
        device_kinds: The `device.kind` of every run.
        batch_size: How many runs are submitted as one array.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        return [
            "sbatch is not on the PATH: start the sweep on a login node of the cluster, or load "
            "SLURM there first (often: module load slurm)"
        ]
    limits = _ask("sinfo", "-h", "-o", "%P|%l")
    if limits.returncode:
        return [f"SLURM's controller does not answer ({_refusal(limits)}): ask `sinfo`"]
    found = [*_one_gpu(launcher, device_kinds), *_too_long(launcher, limits.stdout.splitlines())]
    return found or list(_dry_run(launcher, batch_size))


def unshared(paths: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Says which paths the nodes cannot read, and which they perhaps cannot.

    Nobody here knows what another machine sees; the type of the file system tells most of it.

    Returns:
        Two lists of findings, one line each: the certain ones and the possible ones.
    """
    nodes = set(_ask("sinfo", "-h", "-N", "-o", "%n").stdout.split())
    if nodes <= {socket.gethostname(), socket.gethostname().split(".")[0]}:
        return [], []  # the nodes are this machine
    mounts = {mount.mountpoint: mount.fstype for mount in psutil.disk_partitions(all=True)}
    never: list[str] = []
    perhaps: list[str] = []
    for path in paths:
        where = next(str(top) for top in (path, *path.parents) if str(top) in mounts)
        kind = mounts[where]
        if kind in PRIVATE_FILE_SYSTEMS:
            never.append(
                f"{path} is on {where} ({kind}), which only this machine sees: move it to a file "
                "system that the nodes share"
            )
        elif kind in DISK_FILE_SYSTEMS:
            perhaps.append(
                f"{path} is on a disk of this machine ({where}, {kind}); the nodes must see it "
                "under the same path"
            )
    return never, perhaps


def paths_of(sweep_dir: Path, configs: Iterable[Config]) -> list[Path]:
    """Lists what the jobs of a sweep read and write: this Python, this code, their own files."""
    named = [Path(sys.prefix), Path(__file__).parents[1], sweep_dir]
    for config in configs:
        named.append(Path(config.cache_dir))
        if isinstance(config.data, FilesDataConfig):
            keys = ("train_file", "validation_file")
            named += [Path(file) for key in keys for file in config.data.files(key)]
        name = getattr(config.model, "name_or_path", None)
        if name is not None:
            named.append(Path(name) if Path(name).exists() else Path(_hub_cache()))
    return list(dict.fromkeys(path.absolute() for path in named))


def _hub_cache() -> str:
    """Returns the folder in which huggingface_hub keeps models, without importing it.

    Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    home = os.environ.get("HF_HOME") or (
        os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")) + "/huggingface"
    )
    return os.environ.get("HF_HUB_CACHE", f"{home}/hub")


def asked_gpus(launcher: Mapping[str, Any]) -> int:
    """Counts the GPUs that a job asks for, by whichever key."""
    more = {key.replace("-", "_"): value for key, value in _additional(launcher).items()}
    for key in ("gpus_per_node", "gpus_per_task", "gpus", "gres"):
        value = more.get(key, launcher.get(key))
        if value is not None:
            return _count_gpus(str(value) if key == "gres" else f"gpu:{value}")
    return 0


def _one_gpu(launcher: Mapping[str, Any], device_kinds: Set[str]) -> Iterator[str]:
    asked = asked_gpus(launcher)
    if device_kinds == {"cpu"} or asked == 1:
        return
    yield (
        f"a job asks for {asked} GPUs and a run needs one: set "
        "hydra.launcher.gpus_per_node=1 (or hydra.launcher.gres=gpu:1), or train on the CPU with "
        "device.kind=cpu"
    )


def _too_long(launcher: Mapping[str, Any], limits: Sequence[str]) -> Iterator[str]:
    """Compares the asked time with the limits of the partitions, lines such as `main*|1:00:00`."""
    named = launcher.get("partition")
    minutes = {
        partition.rstrip("*"): _minutes(limit)
        for partition, limit in (line.split("|") for line in limits)
        if (partition.rstrip("*") in named.split(",") if named else partition.endswith("*"))
    }
    longest = max(minutes.values(), default=math.inf)
    if launcher["timeout_min"] > longest:
        yield (
            f"hydra.launcher.timeout_min is {launcher['timeout_min']}; partition "
            f"{', '.join(sorted(minutes))} lets a job run {longest:g} minutes: set {longest:g} or "
            "less, and hydra.launcher.max_num_timeout so that a run goes on"
        )


def _dry_run(launcher: Mapping[str, Any], batch_size: int) -> Iterator[str]:
    """Yields what `sbatch --test-only` says against the jobs; nothing if it would take them."""
    names = {"timeout_min": "time", "mem_gb": "mem"}
    keys = (
        *("partition", "account", "qos", "constraint", "exclude", "nodes", "gres"),
        *("gpus_per_node", "gpus_per_task", "cpus_per_task", "cpus_per_gpu"),
        *("mem_gb", "mem_per_gpu", "mem_per_cpu", "timeout_min"),
    )
    asked = {names.get(key, key): launcher.get(key) for key in keys}
    if asked["mem"] is not None:
        asked["mem"] = f"{asked['mem']}G"
    asked |= _additional(launcher)
    if batch_size > 1:
        asked["array"] = f"0-{batch_size - 1}"
    words = [
        f"--{key.replace('_', '-')}" + ("" if value is True else f"={value}")
        for key, value in asked.items()
        if value is not None
    ]
    answer = _ask("sbatch", "--test-only", *words, "--wrap=true")
    if answer.returncode == 0:
        return
    refusal = _refusal(answer)
    remedy = next((remedy for word, remedy in _REMEDIES if word in refusal), "")
    yield "; ".join(
        part
        for part in (
            f"sbatch would refuse the jobs: {refusal}",
            remedy,
            f"asked: {' '.join(words)}",
        )
        if part
    )


_REMEDIES = (
    ("array", "hydra.sweeper.max_batch_size=1000 submits the runs as several arrays"),
    ("account", "hydra.launcher.account must be yours: sacctmgr show assoc user=$USER"),
    ("partition", "hydra.launcher.partition must be one of those that sinfo -s lists"),
    (
        "node configuration",
        "lower hydra.launcher.mem_gb, cpus_per_task or gpus_per_node, or name another "
        "partition: sinfo -o '%P %c %m %G' shows the CPUs, MiB and GPUs of their nodes",
    ),
)
"""A word of sbatch's refusal, and what helps; the first that fits."""


def _additional(launcher: Mapping[str, Any]) -> Mapping[str, Any]:
    more: Mapping[str, Any] = launcher.get("additional_parameters") or {}
    return more


def _count_gpus(gres: str) -> int:
    """Counts the GPUs of `gpu:2`, `gpu:a100:4`, `gpu` or `gres/gpu:a100=2`."""
    entries = [entry.removeprefix("gres/") for entry in gres.split(",")]
    counts = [re.split(r"[:=]", entry)[-1] for entry in entries if entry.startswith("gpu")]
    return sum(int(count) if count.isdigit() else 1 for count in counts)


def _minutes(limit: str) -> float:
    """Reads a time limit of SLURM, such as `1-00:00:00`, `1:00:00` or `infinite`."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", limit)
    if match is None:
        return math.inf
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return (days * 24 + hours) * 60 + minutes + seconds / 60


def _refusal(answer: "subprocess.CompletedProcess[str]") -> str:
    """The line of a command's errors that says why."""
    lines = [line for line in answer.stderr.splitlines() if line.strip()]
    said = [line for line in lines if "error" in line or "failure" in line] or lines or ["no word"]
    return re.sub(r"^(\w+: )?(error: |fatal: )?", "", said[-1])


def _ask(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except OSError as error:
        return subprocess.CompletedProcess(words, 127, "", str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no answer in {TIMEOUT_S:g} s")
