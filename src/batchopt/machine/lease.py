"""One run per device on this machine: leases that end with the processes that hold them.

A lease is the kernel's lock (flock) on a small file per device, shared by all users. It belongs to
an open descriptor, and so to every process that the descriptor was handed to: the device is free
again when the last of them has ended, however it ended. Nothing has to be cleaned up, and what a
file says of its holder is for people only. Files of devices are never removed and never unlocked:
closing is all there is.

Who waits has a ticket, a file locked by its owner. A device goes to the first living ticket that
asks for it, so that waiting is in order, and nobody waits behind one who wants something else.
Every step is taken under the gate, a lock that is held for some file operations only.

`batchopt.machine.device` knows what a device is, and whether somebody outside batchopt uses it.

Sources: https://man7.org/linux/man-pages/man2/flock.2.html, and for files in a directory that
everybody may write to https://docs.kernel.org/admin-guide/sysctl/fs.html#protected-regular.
"""

import fcntl
import getpass
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError

DIRECTORY = Path("/tmp/batchopt-leases")
"""On the machine itself, writable by every user: another user's run must be seen too."""

DIRECTORY_KEY = "BATCHOPT_LEASE_DIR"
"""Names another directory; runs with different directories do not see each other."""

DEVICE_KEY, DESCRIPTOR_KEY = "BATCHOPT_LEASE_DEVICE", "BATCHOPT_LEASE_FD"
"""How a process that has taken a lease for its child tells it so."""

POLL_S = 0.25

PATIENCE_S = 30.0
"""A ticket whose owner has not looked for so long (stopped with Ctrl-Z, say) is passed over."""

_GATE = "gate"
_TICKET = re.compile(r"(\d{1,18})\.ticket")
_LONGEST_TEXT = 1 << 16


class Lease:
    """A device that is this process' to use, until this and all processes it handed it to end.

    Args:
        device: The device's name.
        descriptor: What holds the lock; None where the device needs none.
    """

    def __init__(self, device: str, descriptor: int | None) -> None:
        self.device = device
        self._descriptor = descriptor

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pass_fds(self) -> tuple[int, ...]:
        """What a child has to get so that the device stays leased while it lives."""
        return () if self._descriptor is None else (self._descriptor,)

    @property
    def environ(self) -> dict[str, str]:
        """What a child has to get besides, so that it takes the lease for its own."""
        if self._descriptor is None:
            return {}
        return {DEVICE_KEY: self.device, DESCRIPTOR_KEY: str(self._descriptor)}

    def close(self) -> None:
        """Lets go of it here; children that hold it keep it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def acquire(
    devices: Sequence[str],
    run: str,
    *,
    tell: Callable[[str], None],
    why_busy: Callable[[str], str | None] = lambda _: None,
    poll_s: float = POLL_S,
) -> Lease:
    """Takes the first device that is free, and waits in line for one where none is.

    Args:
        devices: Names of devices, the preferred first.
        run: What it is for, to be shown to those who wait.
        tell: Called with one line that says for whom it waits, whenever that changes.
        why_busy: Says of a device that no run has leased why it cannot be used all the same.
        poll_s: Seconds between two looks.

    Raises:
        RequestError: The directory of the leases is not fit for use.
    """
    told: dict[str, str] = {}
    with Ticket(devices, run) as ticket:
        while (lease := ticket.take(why_busy)) is None:
            if ticket.obstacles != told:
                told = ticket.obstacles
                tell("; ".join(f"{device} {why}" for device, why in told.items()))
            time.sleep(poll_s)
    return lease


def check() -> None:
    """Checks that leases can be kept here.

    Raises:
        RequestError: The directory of the leases is not fit for use.
    """
    Ticket((), "a check").close()


def inherited(devices: Sequence[str], run: str) -> Lease | None:
    """The lease on one of these devices that the parent took for this process, if it did."""
    device, word = os.environ.get(DEVICE_KEY, ""), os.environ.get(DESCRIPTOR_KEY, "")
    if device not in devices or not word.isdecimal():
        return None
    descriptor = int(word)
    # The variables may have come further than the descriptor, whose number is another file then.
    try:
        ours = (_directory_path() / _file_of(device)).lstat()
        if not os.path.samestat(os.fstat(descriptor), ours):
            return None
    except OSError:
        return None
    os.set_inheritable(descriptor, False)
    _write(descriptor, _holder(run))
    return Lease(device, descriptor)


def holder(device: str) -> int | None:
    """The process that has leased a device, by what it wrote there; None: nobody has."""
    if not _directory_path().is_dir():
        return None
    directory = _Directory()
    try:
        with directory.gate():
            descriptor, locked = directory.lock(_file_of(device))
            pid = None if locked else _read(descriptor).get("pid")
            os.close(descriptor)
    finally:
        directory.close()
    return pid if isinstance(pid, int) else None


class Ticket:
    """A place in the line for one of several devices; a context manager.

    `obstacles` says of each device why the last look did not take it.

    Args:
        devices: Names of devices, the preferred first.
        run: What they are for, to be shown to those who wait.

    Raises:
        RequestError: The directory of the leases is not fit for use.
    """

    obstacles: dict[str, str]

    def __init__(self, devices: Sequence[str], run: str) -> None:
        self.devices = tuple(devices)
        self.run = run
        self.obstacles = {}
        self._directory = _Directory()
        with self._directory.gate():
            number = 1 + max((number for number, _ in self._directory.tickets()), default=0)
            self._number = number
            self._name = f"{number:012d}.ticket"
            self._descriptor, _ = self._directory.lock(self._name)
            _write(self._descriptor, _holder(run) | {"devices": self.devices})

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the line."""
        with self._directory.gate():
            self._directory.remove(self._name)
            os.close(self._descriptor)
        self._directory.close()

    def take(self, why_busy: Callable[[str], str | None] = lambda _: None) -> Lease | None:
        """Takes the first device that is free and that nobody before us waits for.

        Args:
            why_busy: As in `acquire`.
        """
        self.obstacles = {}
        os.utime(self._descriptor)
        for device in self.devices:
            descriptor, obstacle = self._lock(device)
            if descriptor is None:
                self.obstacles[device] = obstacle
                continue
            try:
                # A driver may take its time: the gate is open again.
                busy = why_busy(device)
            except BaseException:
                os.close(descriptor)
                raise
            if busy is None:
                return Lease(device, descriptor)
            os.close(descriptor)
            self.obstacles[device] = busy
        return None

    def _lock(self, device: str) -> tuple[int | None, str]:
        with self._directory.gate():
            descriptor, locked = self._directory.lock(_file_of(device))
            if not locked:
                obstacle = f"has {_described(_read(descriptor))}"
            elif (before := self._first_before_us(device)) is not None:
                obstacle = f"goes to {_described(before)} first"
            else:
                _write(descriptor, _holder(self.run))
                return descriptor, ""
            os.close(descriptor)
            return None, obstacle

    def _first_before_us(self, device: str) -> Mapping[str, Any] | None:
        """Who waits for a device longer than we do."""
        for number, name in self._directory.tickets():
            if number >= self._number:
                break
            try:
                descriptor, locked = self._directory.lock(name)
            except RequestError:  # no ticket of ours: a link, or a file that others may not open
                continue
            try:
                if locked:  # whoever waited has ended
                    self._directory.remove(name)
                elif time.time() - os.fstat(descriptor).st_mtime < PATIENCE_S:
                    ticket = _read(descriptor)
                    if device in (ticket.get("devices") or ()):
                        return ticket
            finally:
                os.close(descriptor)
        return None


class _Directory:
    """The directory of the leases, in which other users are not trusted.

    Everything is opened by its descriptor, never through a symbolic link, and only plain files
    without a second name are written to: a trap laid in the directory changes nothing elsewhere.
    """

    def __init__(self) -> None:
        self.path = _directory_path()
        with self._complaints(self.path):
            with suppress(FileExistsError), _for_everybody():
                self.path.mkdir(0o1777)
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        mode = os.fstat(self._descriptor).st_mode
        if mode & (stat.S_IWGRP | stat.S_IWOTH) and not mode & stat.S_ISVTX:
            self.close()
            raise RequestError(
                f"{self.path} lets others remove its files; chmod +t it, or name another directory "
                f"in {DIRECTORY_KEY}"
            )

    def close(self) -> None:
        os.close(self._descriptor)

    @contextmanager
    def gate(self) -> Iterator[None]:
        """One process at a time; whoever comes first goes first."""
        descriptor, _ = self.lock(_GATE, wait=True)
        try:
            yield
        finally:
            os.close(descriptor)

    def lock(self, name: str, *, wait: bool = False) -> tuple[int, bool]:
        """Opens a file and locks it; returns its descriptor, and whether the lock is ours."""
        while True:
            descriptor = self._open(name)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                return descriptor, False
            except BaseException:
                os.close(descriptor)
                raise
            # Something that cleans /tmp may have removed the file before it was locked.
            if os.fstat(descriptor).st_nlink:
                return descriptor, True
            os.close(descriptor)

    def tickets(self) -> list[tuple[int, str]]:
        """Number and file of every ticket, the first first."""
        matches = map(_TICKET.fullmatch, os.listdir(self._descriptor))  # noqa: PTH208
        return sorted((int(match[1]), match[0]) for match in matches if match)

    def remove(self, name: str) -> None:
        """Removes a ticket, under the gate; another user's stays, dead."""
        with suppress(OSError):
            os.unlink(name, dir_fd=self._descriptor)

    def _open(self, name: str) -> int:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            with self._complaints(self.path / name):
                try:
                    # O_CREAT on another user's file is refused here (protected_regular).
                    descriptor = os.open(name, flags, dir_fd=self._descriptor)
                except FileNotFoundError:
                    with suppress(FileExistsError), _for_everybody():
                        new = flags | os.O_CREAT | os.O_EXCL
                        os.close(os.open(name, new, 0o666, dir_fd=self._descriptor))
                    continue
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1:
                return descriptor
            os.close(descriptor)
            raise RequestError(
                f"{self.path / name} is not a plain file with one name; remove it, or name another "
                f"directory in {DIRECTORY_KEY}"
            )

    @contextmanager
    def _complaints(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise RequestError(
                f"{path}, which keeps two runs off one device: {error.strerror}; mend that, or "
                f"name another directory in {DIRECTORY_KEY}"
            ) from error


def _directory_path() -> Path:
    return Path(os.environ.get(DIRECTORY_KEY) or DIRECTORY)


@contextmanager
def _for_everybody() -> Iterator[None]:
    """What is created has the mode that was asked for, whatever the umask."""
    umask = os.umask(0)
    try:
        yield
    finally:
        os.umask(umask)


def _file_of(device: str) -> str:
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', device)}.lease"


def _holder(run: str) -> dict[str, Any]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = str(os.getuid())
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"pid": os.getpid(), "user": user, "run": run, "since": since}


def _write(descriptor: int, value: Mapping[str, Any]) -> None:
    # On a full disk the text is lost, not the lock.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(value).encode(), 0)


def _read(descriptor: int) -> dict[str, Any]:
    try:
        value = json.loads(os.pread(descriptor, _LONGEST_TEXT, 0))
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _described(holder: Mapping[str, Any]) -> str:
    """Who that is, in words; another user's text cannot steer the terminal."""
    run, pid, user, since = (
        "".join(letter for letter in str(holder.get(key, "?"))[:200] if letter.isprintable())
        for key in ("run", "pid", "user", "since")
    )
    return f"{run} (pid {pid} of {user}, since {since})"
