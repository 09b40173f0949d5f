"""Runs batchopt's commands in processes that have already imported torch.

A command that trains spends most of its time on imports: its own, those of the training process,
those of the scoring process. Here one process imports what is large, once for a session of tests.
A command is a fork of it, and so is every process of batchopt that the command starts. Each has a
pid, a command line, a group, pipes, signals and memory of its own, and runs its module from the
first line. What a library takes from the environment as it is loaded is that of the first process.
"""

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib.abc
import importlib.util
import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

PRELOADED = (
    *("batchopt.train", "batchopt.resume", "batchopt.verify", "batchopt.probe.worker"),
    *("batchopt.training.trainer", "batchopt.training.build", "batchopt.training.flops"),
    *("batchopt.evaluation.rouge_process", "batchopt.evaluation.rouge_metric"),
    *("hydra_plugins.batchopt_sweeper", "hydra_plugins.batchopt_local_gpus"),
    *("hydra_plugins.batchopt_slurm", "rouge_score.rouge_scorer"),
    *("transformers.models.bart.modeling_bart", "transformers.models.llama.modeling_llama"),
)
"""Modules that commands import; with them come the libraries below."""

ADAPTERS = ("peft", "bitsandbytes")
"""What only runs with an adapter import, for seconds. The others must not find it imported."""

READ_AT_START = ("HF_", "TRANSFORMERS_", "OMP_", "LD_", "MALLOC_", "PYTHON")
"""Beginnings of the variables that a loader or a library reads once."""

CAUGHT_UP = {"LD_LIBRARY_PATH", "PYTHONPATH"}
"""Those whose effect a fork can catch up with: see `_find_first`."""

READ_LATER = {"HF_TOKEN"}
"""Those that are read whenever they are needed."""

STARTED = dict(os.environ)

CHILDLESS = ("batchopt.evaluation.rouge_process", "batchopt.training.prepare")
OF_MANY_RUNS = ("batchopt.resume", "batchopt.probe")

LARGEST = 1 << 17
"""Bytes of a request."""

ROOM = 1 << 14
"""Bytes for a command line."""

_spares: list["Fork"] = []
_inherited: list[socket.socket] = []
"""What a fork has of its parent and must not keep open."""


def fits(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a fork does the same as a new process that runs these words."""
    if list(words[:2]) != [sys.executable, "-m"] or words[2].split(".")[0] != "batchopt":
        return False
    names = {name for name in {*environ, *STARTED} if name.startswith(READ_AT_START)}
    names -= CAUGHT_UP | READ_LATER
    return all(environ.get(name) == STARTED.get(name) for name in names) and all(
        {file.name for file in Path(folder).iterdir()} <= {"sitecustomize.py", "__pycache__"}
        for folder in _added("PYTHONPATH", environ)  # another module may be imported already
    )


def spares(words: Sequence[str]) -> int:
    """How many processes a command can start as forks; further ones start as always.

    Each costs the command 10 ms, also where it is not used.
    """
    module, asked = words[2], words[3:]
    if module in CHILDLESS:
        return 0
    again = any(word.startswith(("batch=auto", "on_oom=")) for word in asked)
    return 14 if module in OF_MANY_RUNS or "-m" in asked or again else 4


class Command:
    """A command that runs: what `subprocess.Popen` offers to who waits for it.

    Args:
        words: The command.
        cwd: Where it runs.
        environ: Its environment.
        session: Whether it leads a session, and prints its errors where it prints the rest.
    """

    def __init__(
        self, words: Sequence[str], cwd: Path, environ: Mapping[str, str], *, session: bool = False
    ) -> None:
        self.returncode: int | None = None
        self._printed: tuple[str, str] | None = None
        self._end, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A file holds whatever it prints, also while nobody reads.
        with (
            Path(os.devnull).open() as nothing,
            tempfile.NamedTemporaryFile() as output,
            tempfile.NamedTemporaryFile() as errors,
        ):
            descriptors = nothing, output, output if session else errors
            numbers = {number: each.fileno() for number, each in enumerate(descriptors)}
            _send(_server(), words, cwd, environ, numbers, session=session)
            socket.send_fds(_server(), [b"."], [theirs.fileno()])
            self.stdout, self.stderr = (
                Path(each.name).open(encoding="utf-8")  # noqa: SIM115
                for each in (output, errors)
            )
        theirs.close()
        self.pid = int(self._end.recv(64))

    def wait(self, timeout: float | None = None) -> int:
        """Waits for its end; returns its exit code, or less than 0 if a signal ended it.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        if self.returncode is None:
            self._end.settimeout(timeout)
            try:
                self.returncode = int(self._end.recv(64))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("batchopt", timeout or 0.0) from None
            self._end.close()
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; returns what it has printed since somebody read it."""
        self.wait(timeout)
        if self._printed is None:
            with self.stdout, self.stderr:
                self._printed = self.stdout.read(), self.stderr.read()
        return self._printed

    def kill(self) -> None:
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


class Aside(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Modules that have been imported, and are taken out until somebody imports them."""

    def __init__(self, packages: Sequence[str]) -> None:
        for package in filter(importlib.util.find_spec, packages):
            importlib.import_module(package)
        names = [name for name in sys.modules if name.split(".")[0] in packages]
        self._modules = {name: sys.modules.pop(name) for name in names}

    def find_spec(self, fullname, path, target=None):
        if fullname not in self._modules:
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec):
        return self._modules[spec.name]

    def exec_module(self, module) -> None:
        """It has been executed already."""


_servers: list[tuple["subprocess.Popen[bytes]", socket.socket]] = []


def _server() -> socket.socket:
    """Starts the process that imports, at its first use."""
    if not _servers:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        process = subprocess.Popen(
            [sys.executable, "-m", "support.warm", str(theirs.fileno()), "-" * ROOM],
            cwd=Path(__file__).parents[1],
            env=STARTED,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        _servers.append((process, ours))
        atexit.register(_end_servers)
    return _servers[0][1]


def _end_servers() -> None:
    while _servers:
        process, control = _servers.pop()
        control.close()
        process.wait()


def _send(
    to: socket.socket,
    words: Sequence[str],
    cwd: Path | str,
    environ: Mapping[str, str],
    descriptors: Mapping[int, int],
    *,
    group: bool = False,
    session: bool = False,
) -> None:
    """Sends what to run, and the descriptors by the numbers that they shall have."""
    request = {"words": list(words), "cwd": str(cwd), "environ": dict(environ)}
    request |= {"group": group, "session": session}
    to.send(json.dumps(request | {"numbers": list(descriptors)}).encode())
    socket.send_fds(to, [b"."], list(descriptors.values()))


class Fork:
    """A fork of this process that waits for what it shall run; it ends with this process."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Out of the way of the numbers of the descriptors that this process is given later.
        self.socket = socket.socket(fileno=fcntl.fcntl(ours, fcntl.F_DUPFD_CLOEXEC, 256))
        ours.close()
        self.pid = os.fork()
        if self.pid:
            theirs.close()
            return
        for other in (self.socket, *_inherited, *(spare.socket for spare in _spares)):
            other.close()
        _inherited.clear()
        _spares.clear()
        # A Ctrl-C for the command's group is not for what the command has not started yet.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        if not (request := theirs.recv(LARGEST)):
            os._exit(0)
        signal.signal(signal.SIGINT, handler)
        # Before it has any descriptor that they would keep open.
        _inherited.append(theirs)
        asked = json.loads(request)
        if asked.pop("session"):
            os.setsid()
        for _ in range(spares(asked["words"])):
            _spares.append(Fork())
        _inherited.clear()
        descriptors = socket.recv_fds(theirs, 1, 64)[1]
        theirs.close()
        _become(descriptors, **asked)

    def end(self) -> None:
        self.socket.close()
        os.waitpid(self.pid, 0)


def _become(
    descriptors: Sequence[int],
    *,
    words: list[str],
    cwd: str,
    environ: dict[str, str],
    group: bool,
    numbers: Sequence[int],
) -> None:
    """Runs a module as `python -m` does, and ends this process."""
    atexit.register(lambda: [spare.end() for spare in _spares])
    if group:
        os.setpgid(0, 0)
    # Out of the way of the numbers that they shall have.
    aside = [fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 512) for each in descriptors]
    for each in descriptors:
        os.close(each)
    for each, number in zip(aside, numbers, strict=True):
        os.dup2(each, number)
        os.close(each)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environ)
    module = words[2]
    sys.argv, sys.orig_argv, sys.path[0] = [module, *words[3:]], words, cwd
    _show(words)
    _find_first(environ)
    subprocess.Popen = _Popen  # type: ignore[misc]
    sys.modules.pop(module, None)
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    # What the interpreter does at its end, without taking apart what was imported: a second.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _show(words: Sequence[str]) -> None:
    """Writes the command line where /proc/PID/cmdline reads it.

    Source: https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html (arg_start, arg_end)
    """
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    text = b"".join(os.fsencode(word) + b"\0" for word in words)
    ctypes.memset(start, 0, end - start)
    ctypes.memmove(start, text, min(len(text), end - start - 1))


def _find_first(environ: Mapping[str, str]) -> None:
    """Finds modules and libraries where the variables say that a new process finds them first."""
    for folder in _added("LD_LIBRARY_PATH", environ):
        for library in Path(folder).glob("*.so*"):
            ctypes.CDLL(str(library))  # the loader takes it for every library of its name
    folders = _added("PYTHONPATH", environ)
    sys.path[1:1] = folders
    for folder in folders:
        if (custom := Path(folder) / "sitecustomize.py").exists():
            runpy.run_path(str(custom))


def _added(name: str, environ: Mapping[str, str]) -> list[str]:
    """The folders of a variable that the first process did not have."""
    theirs, ours = (where.get(name, "").split(os.pathsep) for where in (environ, STARTED))
    return [folder for folder in theirs if folder and folder not in ours]


class _Popen(subprocess.Popen):  # type: ignore[type-arg]
    """Starts a process of batchopt as a fork, and every other as always."""

    def _execute_child(self, *args, **kwargs) -> None:
        given = _signature.bind(self, *args, **kwargs).arguments
        environ = os.environ if given["env"] is None else given["env"]
        if (
            not (_spares and isinstance(given["args"], list) and fits(given["args"], environ))
            or given["start_new_session"]
        ):
            super()._execute_child(*args, **kwargs)
            return
        ends = given["p2cread"], given["c2pwrite"], given["errwrite"]
        descriptors = {number: number if end == -1 else end for number, end in enumerate(ends)}
        descriptors |= {each: each for each in given["pass_fds"]}
        spare = _spares.pop()
        group = given["process_group"] == 0
        if group:
            os.setpgid(spare.pid, 0)
        _send(
            *(spare.socket, given["args"], given["cwd"] or Path.cwd(), environ, descriptors),
            group=group,
        )
        spare.socket.close()
        self.pid = spare.pid
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in pipes))


_signature = inspect.signature(subprocess.Popen._execute_child)


def main() -> None:
    """Imports, then starts commands and tells how each ends, until the tests end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _inherited.append(control)
    for module in PRELOADED:
        importlib.import_module(module)
    from batchopt.training import flops

    sys.meta_path.insert(0, Aside(ADAPTERS))
    flops.PRODUCTS_ON_CPU = 6  # nobody looks at how well a peak was measured
    gc.freeze()  # the collector would copy every page that it looks at
    running: dict[int, tuple[int, socket.socket]] = {}  # pid and socket, by pidfd
    while True:
        ready, _, _ = select.select([control, *running], [], [])
        for ended in running.keys() & set(ready):
            pid, tells = running.pop(ended)
            _inherited.remove(tells)
            with contextlib.suppress(BrokenPipeError):  # nobody waits for it
                tells.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
            tells.close()
            os.close(ended)
        if control not in ready:
            continue
        if not (request := control.recv(LARGEST)):
            return
        # Before this process has the descriptors: the command's spares would keep its pipes open.
        command = Fork()
        descriptors = socket.recv_fds(control, 1, 64)[1]
        (told,) = socket.recv_fds(control, 1, 1)[1]
        command.socket.send(request)
        socket.send_fds(command.socket, [b"."], descriptors)
        command.socket.close()
        for each in descriptors:
            os.close(each)
        tells = socket.socket(fileno=told)
        tells.send(str(command.pid).encode())
        running[os.pidfd_open(command.pid)] = command.pid, tells
        _inherited.append(tells)


if __name__ == "__main__":
    main()
