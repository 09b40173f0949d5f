"""Looks whether the jobs of a sweep can run on this cluster, before they are submitted.

SLURM lets some jobs wait for ever, and others fail on the first node. Each finding is one line
that names the key and a remedy.
"""

import math
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from batchopt.request.config import Config, FilesDataConfig
from batchopt.slurm.jobs import TIMEOUT_S

PRIVATE_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "overlay", "squashfs"})
"""Never seen by another machine."""

DISK_FILE_SYSTEMS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs"})
"""On a disk of this machine; others see it only where it is exported to them."""


@dataclass(frozen=True, slots=True)
class NodeKind:
    """Nodes of one kind in one partition; memory in MiB, `minutes` the partition's time limit."""

    partition: str
    is_default: bool
    cpus: int
    memory_mib: int
    gpus: int
    minutes: float


def problems(launcher: Mapping[str, Any], device_kinds: Set[str], batch_size: int = 1) -> list[str]:
    """What keeps jobs of a launcher's config, on those `device.kind`s, from running here.

    `batch_size` of them are submitted as one array.

    Asks SLURM, which has the last word, and says it in the words of our keys where it can.
    """
    if shutil.which("sbatch") is None or shutil.which("srun") is None:
        return [
            "sbatch is not on the PATH: start the sweep on a login node of the cluster, or load "
            "SLURM there first (often: module load slurm)"
        ]
    found = list(_one_gpu(launcher, device_kinds))
    answer = _ask("sinfo", "-h", "-e", "-o", "%P|%c|%m|%G|%l")
    if answer.returncode:
        return [f"SLURM's controller does not answer ({_first_line(answer)}): ask `sinfo`"]
    kinds = [_node_kind(line) for line in answer.stdout.splitlines()]
    found += _misfits(launcher, kinds)
    found += _account(launcher)
    if not found:
        found += _dry_run(launcher, batch_size)
    return found


def unshared(paths: Iterable[Path]) -> tuple[list[str], list[str]]:
    """Which paths the nodes cannot read, and which they may not, as two lists of findings.

    What is on another machine's disk cannot be known here; the type of the file system tells.
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
    """What the jobs of a sweep read and write: this Python, this code, and their own files."""
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
    """Where huggingface_hub keeps models; its own order, without importing it.

    Source: https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables
    """
    home = os.environ.get("HF_HOME") or (
        os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")) + "/huggingface"
    )
    return os.environ.get("HF_HUB_CACHE", f"{home}/hub")


def asked_gpus(launcher: Mapping[str, Any]) -> int:
    """How many GPUs a job asks for, in whichever way."""
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


def _misfits(launcher: Mapping[str, Any], kinds: Sequence[NodeKind]) -> Iterator[str]:
    """Compares what is asked for with the nodes of the partition."""
    named = launcher.get("partition")
    names = set(named.split(",")) if named else {k.partition for k in kinds if k.is_default}
    everywhere = sorted({kind.partition for kind in kinds})
    unknown = sorted(names - set(everywhere))
    if unknown or not names:
        yield (
            f"hydra.launcher.partition is {named}; the cluster's partitions are: "
            f"{', '.join(everywhere)}"
        )
        return
    here = [kind for kind in kinds if kind.partition in names]
    where = f"partition {', '.join(sorted(names))}"
    gpus = asked_gpus(launcher)
    fitting = [kind for kind in here if kind.gpus >= gpus]
    if not fitting:
        with_gpus = sorted({kind.partition for kind in kinds if kind.gpus >= gpus})
        yield (
            f"no node of {where} has {gpus} GPUs; "
            + (f"hydra.launcher.partition={with_gpus[0]} has; " if with_gpus else "")
            + "device.kind=cpu hydra.launcher.gpus_per_node=null trains on the CPU"
        )
        return
    for key, unit, value, most in (
        ("mem_gb", "GB", launcher.get("mem_gb"), max(k.memory_mib for k in fitting) / 1024),
        ("cpus_per_task", "CPUs", launcher.get("cpus_per_task"), max(k.cpus for k in fitting)),
    ):
        if value is not None and value > most:
            yield (
                f"hydra.launcher.{key} is {value}; the largest fitting node of {where} has "
                f"{most:.3g} {unit}: set {math.floor(most)} or less"
            )
    minutes, limit = launcher["timeout_min"], max(kind.minutes for kind in fitting)
    if minutes > limit:
        yield (
            f"hydra.launcher.timeout_min is {minutes}; {where} lets a job run {limit:g} minutes: "
            f"set {limit:g} or less, and hydra.launcher.max_num_timeout so that a run goes on"
        )


def _account(launcher: Mapping[str, Any]) -> Iterator[str]:
    """Compares the account with those that the accounting has for this person."""
    account = launcher.get("account")
    if account is None:
        return
    answer = _ask("sacctmgr", "-nP", "show", "assoc", f"user={_user()}", "format=account")
    accounts = sorted(set(answer.stdout.split()))
    if answer.returncode == 0 and accounts and account not in accounts:
        yield f"hydra.launcher.account is {account}; yours are: {', '.join(accounts)}"


def _dry_run(launcher: Mapping[str, Any], batch_size: int) -> Iterator[str]:
    """What `sbatch --test-only` says against the jobs; nothing where it would take them."""
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
    refusal = _first_line(answer)
    yield f"sbatch would refuse the jobs: {refusal}" + (
        f": {batch_size} runs are more than the cluster takes as one array (scontrol show config: "
        "MaxArraySize); hydra.sweeper.max_batch_size=1000 submits them as several"
        if "array" in refusal
        else ""
    )


def _additional(launcher: Mapping[str, Any]) -> Mapping[str, Any]:
    more: Mapping[str, Any] = launcher.get("additional_parameters") or {}
    return more


def _node_kind(line: str) -> NodeKind:
    partition, cpus, memory, gres, limit = line.split("|")
    return NodeKind(
        partition=partition.rstrip("*"),
        is_default=partition.endswith("*"),
        cpus=int(cpus.rstrip("+")),
        memory_mib=int(memory.rstrip("+")),
        gpus=_count_gpus(gres),
        minutes=_minutes(limit),
    )


def _count_gpus(gres: str) -> int:
    """Counts the GPUs of `gpu:2`, `gpu:a100:4(S:0-1)`, `gpu`, `gpu:a100=2` or `a100:2`'s like."""
    gres = re.sub(r"\([^)]*\)", "", gres)
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


def _user() -> str:
    return psutil.Process(os.getpid()).username()


def _first_line(answer: "subprocess.CompletedProcess[str]") -> str:
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
