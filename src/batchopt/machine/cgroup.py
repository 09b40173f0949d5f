"""What the kernel's control groups allow this process, and whom they killed."""

import re
from collections.abc import Iterator
from pathlib import Path


class KernelKills:
    """Tells whether the kernel killed a process for want of memory since this was made.

    The count is that of this process' own cgroup, which has every kill of the kernel in it, for
    whatever limit; without one that of the machine, where others are killed too. Source:
    https://docs.kernel.org/admin-guide/cgroup-v2.html (memory.events),
    https://docs.kernel.org/admin-guide/cgroup-v1/memory.html (memory.oom_control).
    """

    def __init__(self) -> None:
        self._files = _counters()
        self._before = self._read()

    def happened(self) -> bool:
        """Whether any of the counts has grown."""
        return any(now > before for now, before in zip(self._read(), self._before, strict=True))

    def _read(self) -> list[int]:
        return [_count(file) or 0 for file in self._files]


def _counters() -> list[Path]:
    files = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        name = group.lstrip("/")
        if not controllers:
            files += [Path("/sys/fs/cgroup", name, "memory.events")]
        elif controllers == "memory":
            files += [Path("/sys/fs/cgroup/memory", name, "memory.oom_control")]
    own = [file for file in files if _count(file) is not None]
    return own or [Path("/proc/vmstat")]


def _count(file: Path) -> int | None:
    """None where the file is not there or does not count."""
    try:
        found = re.search(r"^oom_kill (\d+)$", file.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process' cgroup and of those above it, v2 and v1, innermost first.

    Source: https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    for line in read_text("/proc/self/cgroup").splitlines():
        _, controllers, group = line.split(":", 2)
        top = Path("/sys/fs/cgroup")
        if controllers and controller not in controllers.split(","):
            continue
        root = top / controllers if controllers else top
        # In a container the path may be the host's, and only the root is there.
        own = root / group.lstrip("/")
        yield from (folder for folder in (own, *own.parents) if folder.is_relative_to(root))


def memory_limit() -> int | None:
    """Bytes of the tightest limit above this process; None where there is none."""
    limits = []
    for folder in _folders("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):
            text = read_text(folder / name).strip()
            # Version 1 says "no limit" with a number near 2**63.
            if text.isdigit() and int(text) < 2**60:
                limits.append(int(text))
    return min(limits, default=None)


def cpu_quota() -> float | None:
    """How many CPUs' time the cgroups above this process leave it; None: no limit."""
    quotas = []
    for folder in _folders("cpu"):
        words = read_text(folder / "cpu.max").split() or [
            read_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")
        ]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            quotas.append(int(words[0]) / int(words[1]))
    return min(quotas, default=None)


def read_text(path: Path | str) -> str:
    """The content of a file of the kernel; empty where it cannot be read."""
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
