"""Runs batchopt's commands in processes that have already imported torch.

A command that trains spends most of its time on imports: its own, those of the training process,
those of the scoring process. Here one process imports what is large, once for a session of tests.
A command is a fork of it, and so is every process of batchopt that the command starts. Each has a
pid, a group, pipes, signals and memory of its own, and runs its module from the first line.

What is read when a process starts is that of the first one: /proc/PID/cmdline, and what a loader or
a library takes from the environment. So this is for commands that run to their end.
"""

import atexit
import fcntl
import gc
import importlib.abc
import importlib.util
import inspect
import json
import os
import runpy
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

STARTED = dict(os.environ)

CHILDLESS = ("batchopt.evaluation.rouge_process", "batchopt.training.prepare")
OF_MANY_RUNS = ("batchopt.resume", "batchopt.probe")

LARGEST = 1 << 17
"""Bytes of a request."""

_spares: list["Fork"] = []
_inherited: list[socket.socket] = []
"""What a fork has of its parent and must not keep open."""


def fits(words: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a fork does the same as a new process that runs these words."""
    if list(words[:2]) != [sys.executable, "-m"] or words[2].split(".")[0] != "batchopt":
        return False
    names = {name for name in {*environ, *STARTED} if name.startswith(READ_AT_START)}
    return all(environ.get(name) == STARTED.get(name) for name in names)


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
    """A command that runs: what `subprocess.Popen` offers to who waits for it."""

    def __init__(self, words: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self._printed = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        self._server = _server()
        with Path(os.devnull).open() as nothing:
            descriptors = [each.fileno() for each in (nothing, *self._printed)]
            _send(self._server, words, cwd, environ, dict(enumerate(descriptors)))
        self.pid = int(self._server.recv(64))

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for its end; returns what it printed.

        Raises:
            subprocess.TimeoutExpired: It still runs.
        """
        self._server.settimeout(timeout)
        try:
            self.returncode = int(self._server.recv(64))
        except TimeoutError:
            raise subprocess.TimeoutExpired("batchopt", timeout or 0.0) from None
        texts = []
        for file in self._printed:
            file.seek(0)
            texts.append(file.read().decode())
            file.close()
        return texts[0], texts[1]

    def kill(self) -> None:
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
            [sys.executable, "-m", "support.warm", str(theirs.fileno())],
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
) -> None:
    """Sends what to run, and the descriptors by the numbers that they shall have."""
    request = {"words": list(words), "cwd": str(cwd), "environ": dict(environ), "group": group}
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
        if not (request := theirs.recv(LARGEST)):
            os._exit(0)
        # Before it has any descriptor that they would keep open.
        _inherited.append(theirs)
        asked = json.loads(request)
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
    """Imports, then serves one command after the other until the tests end."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _inherited.append(control)
    for module in PRELOADED:
        importlib.import_module(module)
    from batchopt.training import flops

    sys.meta_path.insert(0, Aside(ADAPTERS))
    flops.PRODUCTS_ON_CPU = 6  # nobody looks at how well a peak was measured
    gc.freeze()  # the collector would copy every page that it looks at
    while request := control.recv(LARGEST):
        # Before this process has the descriptors: the command's spares would keep its pipes open.
        command = Fork()
        descriptors = socket.recv_fds(control, 1, 64)[1]
        command.socket.send(request)
        socket.send_fds(command.socket, [b"."], descriptors)
        command.socket.close()
        for each in descriptors:
            os.close(each)
        control.send(str(command.pid).encode())
        control.send(str(os.waitstatus_to_exitcode(os.waitpid(command.pid, 0)[1])).encode())


if __name__ == "__main__":
    main()
