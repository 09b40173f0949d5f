"""A real SLURM on this one host: `python tests/cluster/cluster.py` runs it until Ctrl-C.

Two nodes with two fake GPUs each, accounting in MariaDB, memory limits; partition `main`, whose
jobs give way to those of partition `high` and are requeued. Every daemon stays in the foreground
as a child of this process and dies with it; what jobs a SIGKILL leaves, the next cluster ends.

It runs as root and needs no systemd. Debian's packages are installed where they are missing.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PACKAGES = {
    "munged": "munge",
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server",
    "mariadb-install-db": "mariadb-server",
    "setpriv": "util-linux",
}
"""Programs of a cluster, and Debian's packages that have them."""

PREFIX = "batchopt-slurm-"
"""Of a cluster's folder in /tmp."""

NODES = ("n1", "n2")
GPUS = 2

SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# cred_expire is also how long a requeued job waits before it may start again
AuthInfo=socket={run}/munge.socket,cred_expire={cred_expire}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={top}/state
SlurmdSpoolDir={top}/spool/%n
SlurmctldPidFile={run}/slurmctld.pid
SlurmdPidFile={run}/%n.pid
SlurmctldLogFile={log}/slurmctld.log
SlurmdLogFile={log}/%n.log
# the nodes claim more processors than this host has
SlurmdParameters=config_overrides
# preemption too sends the signal that a job asked for (submitit's SIGUSR2)
SlurmctldParameters=preempt_send_user_signal
ProctrackType={proctrack}
TaskPlugin={task_plugin}
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
{over_memory_kill}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
GresTypes=gpu
ReturnToService=2
InactiveLimit=0
# from SIGTERM to SIGKILL; long enough for a worker to write its checkpoint
KillWait={kill_wait}
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd_port}
AccountingStoragePass={run}/munge.socket
AccountingStorageTRES=gres/gpu
{nodes}
PartitionName=main Nodes=n[1-2] Default=YES MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=n[1-2] MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={run}/munge.socket
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd_port}
CommunicationParameters=NoInAddrAny
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm
LogFile={log}/slurmdbd.log
PidFile={run}/slurmdbd.pid
"""

MARIADB_CONF = """\
[mariadbd]
user=root
datadir={top}/db
socket={run}/mariadb.sock
pid-file={run}/mariadb.pid
skip-networking
skip-name-resolve
innodb_buffer_pool_size=64M
innodb_log_file_size=8M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=0
innodb_use_native_aio=0
"""


class Unavailable(Exception):
    """A cluster cannot run here; says why."""


def install() -> None:
    """Installs what is missing.

    Raises:
        Unavailable: This host cannot have it.
    """
    if os.geteuid() != 0:
        raise Unavailable("a SLURM cluster of one's own needs root")
    missing = sorted({package for name, package in PACKAGES.items() if shutil.which(name) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{', '.join(missing)} are not installed and there is no apt-get")
    print(f"installing {', '.join(missing)}", flush=True)
    # A package that starts its service would start a second munged, and fail without systemd.
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    if ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        for command in (
            ["apt-get", "update", "-q"],
            ["apt-get", "install", "-y", "-q", "--no-install-recommends", *missing],
        ):
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            )
            if done.returncode:
                last = (done.stderr.strip().splitlines() or [""])[-1]
                raise Unavailable(f"{' '.join(command)} failed: {last}")
    finally:
        if ours:
            policy.unlink()


@dataclass
class Cluster:
    """A running cluster; `environ` is what its clients need beside their own environment."""

    top: Path
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.top / "etc" / "slurm.conf")}

    def ask(self, *words: str, check: bool = True) -> str:
        """Runs a client of SLURM and returns what it printed."""
        done = subprocess.run(
            words,
            env=os.environ | self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def start(self, name: str, *command: str, **environ: str) -> None:
        """Starts a daemon that dies with this process."""
        with (self.top / "log" / f"{name}.out").open("ab") as log:
            self.daemons[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command],
                env=os.environ | self.environ | environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )

    def start_node(self, node: str) -> None:
        """Starts a node's daemon, and returns when the controller may use the node."""
        self.start(node, shutil.which("slurmd") or "slurmd", "-D", "-N", node)
        self.wait_for(f"node {node}", lambda: self.node_state(node) in ("idle", "mixed"))

    def node_state(self, node: str) -> str:
        return self.ask("sinfo", "-h", "-n", node, "-p", "main", "-o", "%T", check=False).strip()

    def fail_node(self, node: str) -> None:
        """Takes a node away as a power failure would: its daemon and every process of its jobs."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        for pid, environ in step_daemons(self.top):
            if environ.get("SLURMD_NODENAME") == node or node in _words(pid):
                kill_tree(pid)
        self.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=power")

    def wait_for(self, what: str, condition: Callable[[], object], seconds: float = 60) -> None:
        """Waits until a condition holds; fails at once where a daemon has died."""
        deadline = time.monotonic() + seconds
        while not condition():
            for name, process in self.daemons.items():
                if process.poll() is not None:
                    raise RuntimeError(f"{name} ended; see {self.top}/log")
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {seconds} s for {what}; see {self.top}/log")
            time.sleep(0.1)

    def stop(self) -> None:
        """Cancels all jobs and ends every daemon, the last started first."""
        if "slurmctld" in self.daemons:
            self.ask("scancel", "--user=root", check=False)
            with contextlib.suppress(TimeoutError, RuntimeError):
                self.wait_for("jobs to end", lambda: not list(step_daemons(self.top)), 20)
        for pid, _ in step_daemons(self.top):
            kill_tree(pid)
        for process in reversed(self.daemons.values()):
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.daemons.clear()


@contextlib.contextmanager
def cluster(*, kill_wait: int = 15) -> Iterator[Cluster]:
    """Brings a cluster up, and down again; SIGTERM takes it down as Ctrl-C does.

    Raises:
        Unavailable: None can run here.
    """
    install()
    _clear_up()
    # Short, since the paths of Unix sockets below it may have 108 characters. Made anew each
    # time: a kept database would answer for the old job of the same number.
    top = Path(tempfile.mkdtemp(prefix=PREFIX, dir="/tmp"))
    top.chmod(0o755)  # munged wants its socket to be reachable
    (top / "owner").write_text(str(os.getpid()))
    running = Cluster(top)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _configure(top, kill_wait)
        _start(running)
        yield running
    except BaseException:
        print(f"the cluster's logs: {top}/log", file=sys.stderr)
        running.stop()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    running.stop()
    shutil.rmtree(top)


def _clear_up() -> None:
    """Ends the jobs of clusters that were killed: their daemons are gone, their steps are not."""
    for owner in Path("/tmp").glob(f"{PREFIX}*/owner"):
        if not Path(f"/proc/{owner.read_text()}").exists():
            for pid, _ in step_daemons(owner.parent):
                kill_tree(pid)
            shutil.rmtree(owner.parent)


def _configure(top: Path, kill_wait: int) -> None:
    host = socket.gethostname().split(".")[0]
    for name in ("etc", "run", "log", "state", "dev", *(f"spool/{node}" for node in NODES)):
        (top / name).mkdir(parents=True)
    (top / "run").chmod(0o755)
    devices = []
    for gpu in range(GPUS):
        device = top / "dev" / f"gpu{gpu}"
        os.mknod(device, 0o666 | 0o020000, os.makedev(240, gpu))
        devices.append(str(device))
    cgroups = _cgroups_work()
    port, dbd_port, *node_ports = _free_ports(2 + len(NODES))
    values = {
        "host": host,
        "top": top,
        "run": top / "run",
        "log": top / "log",
        "port": port,
        "dbd_port": dbd_port,
        "kill_wait": kill_wait,
        "cred_expire": kill_wait + 10,
        "proctrack": "proctrack/cgroup" if cgroups else "proctrack/linuxproc",
        "task_plugin": "task/cgroup" if cgroups else "task/none",
        "over_memory_kill": "" if cgroups else "JobAcctGatherParams=OverMemoryKill",
        "nodes": "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={node_port} "
            f"CPUs={2 * GPUS} RealMemory={3000 * GPUS} Gres=gpu:{GPUS} State=UNKNOWN"
            for node, node_port in zip(NODES, node_ports, strict=True)
        ),
    }
    etc = top / "etc"
    (etc / "slurm.conf").write_text(SLURM_CONF.format(**values))
    (etc / "gres.conf").write_text(
        f"AutoDetect=off\nNodeName=n[1-2] Name=gpu File={','.join(devices)}\n"
    )
    (etc / "cgroup.conf").write_text(
        "CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\n"
    )
    (etc / "slurmdbd.conf").write_text(SLURMDBD_CONF.format(**values))
    (etc / "slurmdbd.conf").chmod(0o600)
    (etc / "my.cnf").write_text(MARIADB_CONF.format(**values))
    (etc / "munge.key").write_bytes(os.urandom(1024))
    (etc / "munge.key").chmod(0o600)
    # slurmctld binds to what the host's own name resolves to, and ends where it does not.
    try:
        socket.gethostbyname(host)
    except OSError:
        with Path("/etc/hosts").open("a") as hosts:
            hosts.write(f"127.0.0.1 {host}\n")


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, so that two clusters may run side by side."""
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in found]


def _cgroups_work() -> bool:
    """Whether SLURM can have the control groups of this host: version 1, mounted and writable."""
    mounted = {line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()}
    return all(
        f"/sys/fs/cgroup/{name}" in mounted and os.access(f"/sys/fs/cgroup/{name}", os.W_OK)
        for name in ("memory", "freezer", "cpuset")
    )


def _start(running: Cluster) -> None:
    top = running.top
    etc, run = top / "etc", top / "run"
    running.start(
        "munged",
        *("munged", "--foreground", "--key-file", str(etc / "munge.key")),
        *("--socket", str(run / "munge.socket"), "--pid-file", str(run / "munged.pid")),
        *("--log-file", str(top / "log" / "munged.log"), "--seed-file", str(run / "munged.seed")),
    )
    subprocess.run(
        [
            *("mariadb-install-db", "--no-defaults", "--user=root", f"--datadir={top}/db"),
            *("--skip-test-db", "--auth-root-authentication-method=normal"),
            *("--innodb-buffer-pool-size=16M", "--innodb-log-file-size=8M"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.start("mariadbd", "mariadbd", f"--defaults-file={etc}/my.cnf")
    running.wait_for(
        "munged and mariadbd", lambda: _exist(run / "munge.socket", run / "mariadb.sock")
    )
    # libmariadb takes its socket from MYSQL_UNIX_PORT, so that the database needs no port.
    running.start("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(run / "mariadb.sock"))
    # slurmctld ends at its first start where the database does not answer.
    running.wait_for("slurmdbd", lambda: _succeeds(running, "sacctmgr", "-n", "list", "cluster"))
    running.start("slurmctld", "slurmctld", "-D")
    for node in NODES:
        running.start(node, shutil.which("slurmd") or "slurmd", "-D", "-N", node)
    running.wait_for("nodes", lambda: all(running.node_state(node) == "idle" for node in NODES))
    running.wait_for(
        "the cluster in the accounting",
        lambda: re.search(
            r"^test\|[1-9]",
            running.ask(
                "sacctmgr", "-nP", "list", "cluster", "format=cluster,controlport", check=False
            ),
        ),
    )


def _exist(*paths: Path) -> bool:
    return all(path.exists() for path in paths)


def _succeeds(running: Cluster, *words: str) -> bool:
    try:
        running.ask("timeout", "5", *words)
    except RuntimeError:
        return False
    return True


def step_daemons(top: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields the pid and environment of every slurmstepd of this cluster: one a job step."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if (folder / "comm").read_text().strip() != "slurmstepd":
                continue
            words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        environ = dict(word.split("=", 1) for word in words if "=" in word)
        if environ.get("SLURM_CONF", "").startswith(f"{top}/"):
            yield int(folder.name), environ


def _words(pid: int) -> list[str]:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split()
    return []


def kill_tree(pid: int) -> None:
    """Kills a process and all below it."""
    for child in children(pid):
        kill_tree(child)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> Sequence[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            found += map(int, (task / "children").read_text().split())
    return found


def main() -> int:
    try:
        with cluster() as running:
            for name, value in running.environ.items():
                print(f"export {name}={value}", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
