"""No device is ever in two hands, nobody waits out of turn, and nothing dead is in the way."""

import json
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import pytest
from support.fake_nvml import GIB, card, card_uuid
from support.processes import finish

from batchopt.errors import RequestError
from batchopt.machine import device, lease, nvml
from batchopt.request.config import DeviceConfig, DeviceKind

A, B = card_uuid(0), card_uuid(1)


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "leases"
    monkeypatch.setenv(lease.DIRECTORY_KEY, str(path))
    return path


class Process:
    """A Python process that can be told what to do next, line by line."""

    def __init__(self, code: str, *words: str, **options: object) -> None:
        self.child = subprocess.Popen(
            [sys.executable, "-c", code, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    def hears(self) -> str:
        return self.child.stdout.readline().strip()

    def go_on(self) -> None:
        self.child.stdin.write("\n")
        self.child.stdin.flush()

    def end(self) -> None:
        self.child.kill()
        self.child.communicate()


TAKE = """
import os, sys
from batchopt.machine import lease
if len(sys.argv) > 3:
    os.setgroups([]), os.setgid(int(sys.argv[3])), os.setuid(int(sys.argv[3]))
say = lambda text: print(text, flush=True)
with lease.acquire(sys.argv[2].split(","), sys.argv[1], tell=say, poll_s=0.02) as taken:
    say(taken.device)
    sys.stdin.readline()
"""


@pytest.fixture
def take(directory):
    """Starts a process that takes one of some devices and keeps it until it is told to go on."""
    started = []

    def start(name: str, *devices: str, user: int | None = None) -> Process:
        words = [] if user is None else [str(user)]
        started.append(Process(TAKE, name, ",".join(devices), *words))
        return started[-1]

    yield start
    for process in started:
        process.end()


def free(*devices: str) -> bool:
    with lease.Ticket(devices, "a look") as ticket:
        taken = ticket.take()
        if taken is not None:
            taken.close()
        return taken is not None


def until(condition, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"waited a minute for {what}"
        time.sleep(0.01)


def waiting(directory: Path) -> int:
    return len(list(directory.glob("*.ticket")))


# One device, one holder

STRESS = """
import json, os, random, sys, time
from batchopt.machine import lease
seed, rounds, log, *devices = sys.argv[1:]
chance = random.Random(seed)
out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for turn in range(int(rounds)):
    wanted = chance.sample(devices, chance.randint(1, len(devices)))
    with lease.acquire(wanted, seed, tell=lambda _: None, poll_s=0.002) as taken:
        assert taken.device in wanted
        begin = time.monotonic_ns()
        time.sleep(chance.random() / 200)
        row = {"device": taken.device, "begin": begin, "end": time.monotonic_ns(), "seed": seed}
        os.write(out, (json.dumps(row) + "\\n").encode())
"""


def intervals(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def assert_never_two(rows: list[dict]) -> None:
    rows = sorted(rows, key=lambda row: row["begin"])
    for name in {row["device"] for row in rows}:
        of_one = [row for row in rows if row["device"] == name]
        for first, second in pairwise(of_one):
            assert first["end"] < second["begin"], (first, second)


def test_no_device_is_ever_in_two_hands(directory, tmp_path):
    """Many processes with random wishes; some are killed wherever they happen to be."""
    log = tmp_path / "log.jsonl"
    chance = random.Random(5)

    def start(seed: int) -> subprocess.Popen:
        words = [str(seed), "8", str(log), "a", "b", "c"]
        return subprocess.Popen([sys.executable, "-c", STRESS, *words])

    running = [start(seed) for seed in range(10)]
    until(log.exists, "the first lease")
    for seed in range(10, 20):
        victim = chance.choice(running)
        time.sleep(chance.random() / 10)
        victim.kill()
        victim.wait()
        running.remove(victim)
        running.append(start(seed))
    assert [process.wait(timeout=120) for process in running] == [0] * 10
    rows = intervals(log)
    assert len(rows) >= 80
    assert {row["device"] for row in rows} == {"a", "b", "c"}
    assert_never_two(rows)
    assert free("a")
    assert free("b")
    assert free("c")
    assert waiting(directory) == 0, "the tickets of the killed are cleared away"


def test_one_process_cannot_take_a_device_twice(directory):
    with lease.Ticket(["a", "b"], "first") as ticket:
        one, two = ticket.take(), ticket.take()
        assert (one.device, two.device) == ("a", "b")
        assert ticket.take() is None
        one.close()
        assert ticket.take().device == "a"


# It lives as long as any process of the run


def test_a_killed_holder_frees_the_device(take):
    holder = take("first", "a")
    assert holder.hears() == "a"
    assert not free("a")
    holder.child.send_signal(signal.SIGKILL)
    holder.child.wait()
    assert free("a")


PARENT = """
import subprocess, sys
from batchopt.machine import lease
taken = lease.acquire(["a"], "parent", tell=print)
child = subprocess.Popen(
    [sys.executable, "-c", "import sys; sys.stdin.readline()"],
    stdin=int(sys.argv[1]), pass_fds=taken.pass_fds,
)
print(child.pid, flush=True)
sys.stdin.readline()
"""


def test_the_device_stays_leased_while_a_process_of_the_run_lives(directory):
    read, write = os.pipe()
    parent = Process(PARENT, str(read), pass_fds=(read,))
    try:
        child = int(parent.hears())
        parent.child.kill()
        parent.child.wait()
        assert alive(child)
        assert not free("a")
    finally:
        os.close(write)  # the child ends
        os.close(read)
        parent.end()
    until(lambda: not alive(child), "the child to end")
    assert free("a")


def alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_child_that_was_given_the_lease_keeps_it_after_the_parent_closed_it(directory):
    taken = lease.acquire(["a"], "parent", tell=print)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.readline()"],
        stdin=subprocess.PIPE,
        pass_fds=taken.pass_fds,
    )
    taken.close()
    try:
        assert not free("a")
    finally:
        child.communicate(b"\n")
    assert free("a")


CHILD = """
import os, sys
from batchopt.machine import lease
taken = lease.inherited(sys.argv[1].split(","), "the child")
print(taken and taken.device, flush=True)
sys.stdin.readline()
"""


def test_a_child_takes_the_lease_of_its_parent_for_its_own(directory):
    with lease.acquire(["a"], "the parent", tell=print) as taken:
        options = {"env": os.environ | taken.environ, "pass_fds": taken.pass_fds}
        child = Process(CHILD, "b,a", **options)
    assert child.hears() == "a"
    with lease.Ticket(["a"], "another") as ticket:
        assert ticket.take() is None
        assert f"the child (pid {child.child.pid} of " in ticket.obstacles["a"]
        child.end()
        assert ticket.take().device == "a"


def test_variables_without_the_descriptor_are_no_lease(directory):
    """A process far below a run has its environment, and another file under the number."""
    with lease.acquire(["a"], "the parent", tell=print) as taken:
        for changes in ({}, {lease.DESCRIPTOR_KEY: "0"}, {lease.DESCRIPTOR_KEY: "x"}):
            child = Process(CHILD, "a", env=os.environ | taken.environ | changes)
            assert child.hears() == "None"
            child.end()
        # Nor is it one on a device that the run did not ask for.
        options = {"env": os.environ | taken.environ, "pass_fds": taken.pass_fds}
        child = Process(CHILD, "b", **options)
        assert child.hears() == "None"
        child.end()


# In line


def test_whoever_waits_longest_is_next_and_hears_for_whom(take, directory):
    holder = take("run-0", "a")
    assert holder.hears() == "a"
    waiters = []
    for number in range(1, 5):
        waiters.append(take(f"run-{number}", "a"))
        message = waiters[-1].hears()
        assert message.startswith(f"a has run-0 (pid {holder.child.pid} of "), message
        assert ", since 20" in message
    for waiter in waiters:
        holder.go_on()
        while (word := waiter.hears()) != "a":
            assert word.startswith(("a has run-", "a goes to run-")), word
        holder = waiter
    assert waiting(directory) == 0


def test_nobody_waits_behind_one_who_wants_something_else(take):
    assert take("x", "a").hears() == "a"
    assert take("y", "a").hears().startswith("a has x")
    assert take("z", "a", "b").hears() == "b"


def test_a_killed_or_stopped_waiter_holds_nobody_up(take, monkeypatch):
    holder = take("holder", "a")
    assert holder.hears() == "a"
    killed, stopped = take("killed", "a"), take("stopped", "a")
    for waiter in (killed, stopped):
        assert waiter.hears()
    killed.child.kill()
    killed.child.wait()
    stopped.child.send_signal(signal.SIGSTOP)
    with lease.Ticket(["a"], "the last") as ticket:
        holder.go_on()
        holder.child.wait()
        assert ticket.take() is None
        assert ticket.obstacles["a"].startswith("goes to stopped (pid ")
        monkeypatch.setattr(lease, "PATIENCE_S", 0.0)
        assert ticket.take().device == "a"


def test_ctrl_c_ends_the_waiting_and_leaves_the_line(take, directory):
    assert take("holder", "a").hears() == "a"
    waiter = take("waiter", "a")
    assert waiter.hears()
    waiter.child.send_signal(signal.SIGINT)
    _, errors = finish(waiter.child, 60)
    assert "KeyboardInterrupt" in errors
    assert waiting(directory) == 0


# What lies in the directory


@pytest.mark.parametrize("text", [b"", b"{", b"[1]", b'"x"', b"\xff\x00", b"[" * 60000])
def test_what_a_file_says_never_matters(text, directory, take):
    take("somebody", "b").hears()
    (directory / "a.lease").write_bytes(text)
    (directory / "000000000000.ticket").write_bytes(text)
    assert free("a")
    holder = take("holder", "a")
    assert holder.hears() == "a"
    (directory / "a.lease").write_bytes(text)
    assert not free("a")


def test_the_text_of_another_user_cannot_steer_the_terminal(directory, take):
    assert take("\x1b[2J\x07evil\nline", "a").hears() == "a"
    with lease.Ticket(["a"], "waiter") as ticket:
        assert ticket.take() is None
        assert "[2Jevilline (pid" in ticket.obstacles["a"]
        assert ticket.obstacles["a"].isprintable()


@pytest.mark.parametrize("name", ["gate", "a.lease"])
@pytest.mark.parametrize("trap", ["symbolic link", "dangling link", "hard link", "fifo", "folder"])
def test_a_trap_in_the_directory_is_refused_and_touches_nothing(name, trap, directory, tmp_path):
    assert free("b")
    (directory / name).unlink(missing_ok=True)
    victim = tmp_path / "victim"
    victim.write_text("precious")
    lay = {
        "symbolic link": lambda path: path.symlink_to(victim),
        "dangling link": lambda path: path.symlink_to(tmp_path / "new"),
        "hard link": lambda path: path.hardlink_to(victim),
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
    }
    lay[trap](directory / name)
    with pytest.raises(RequestError, match=f"{name}.*{lease.DIRECTORY_KEY}") as refusal:
        free("a")
    assert "\n" not in str(refusal.value)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_a_link_among_the_tickets_is_nobodys_turn(directory, tmp_path):
    assert free("b")
    (directory / "000000000000.ticket").symlink_to(tmp_path / "new")
    assert free("a")
    assert not (tmp_path / "new").exists()


def test_a_link_in_the_place_of_the_directory_is_refused(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to("elsewhere")
    monkeypatch.setenv(lease.DIRECTORY_KEY, str(tmp_path / "link"))
    with pytest.raises(RequestError, match=r"link, which keeps"):
        free("a")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_in_which_others_may_remove_files_is_refused(directory):
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(RequestError, match=r"chmod \+t"):
        free("a")


def test_everything_is_open_to_other_users_whatever_the_umask(directory):
    umask = os.umask(0o077)
    try:
        assert free("a")
    finally:
        assert os.umask(umask) == 0o077
    assert stat.S_IMODE(directory.stat().st_mode) == 0o1777
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}
    assert modes == {"gate": 0o666, "a.lease": 0o666}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_run_is_seen_and_waited_for(take, monkeypatch):
    # pytest's own folders are private.
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv(lease.DIRECTORY_KEY, f"{folder}/leases")
        assert free("b")
        theirs = take("theirs", "a", user=65534)
        assert theirs.hears() == "a", theirs.child.stderr.read()
        mine = take("mine", "a")
        assert mine.hears().startswith(f"a has theirs (pid {theirs.child.pid} of nobody")
        again = take("again", "a", user=65534)
        assert again.hears()
        for before, after in ((theirs, mine), (mine, again)):
            before.go_on()
            while (word := after.hears()) != "a":
                assert word


def test_a_file_that_was_cleaned_away_is_made_anew(directory):
    """What cleans /tmp may take a file between its opening and its lock."""
    assert free("a")
    (directory / "a.lease").unlink()
    (directory / "gate").unlink()
    assert free("a")


# Devices


def config(**keys: object) -> DeviceConfig:
    return DeviceConfig(**keys)


def test_a_gpu_that_somebody_else_uses_is_passed_over(fake, directory, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    fake.set(card(0, processes=f"4242:{GIB}") | card(1))
    found, taken = device.lease_for_run(config(), tmp_path)
    assert (found.uuid, taken.device) == (B, B)
    taken.close()
    found, taken = device.lease_for_run(config(wait_for_free=False), tmp_path)
    assert taken.device == A
    taken.close()


def test_where_all_gpus_are_in_use_a_run_waits_and_says_why(fake, directory, tmp_path):
    fake.set(card(0, processes=f"4242:{GIB}") | card(1, used=20 * GIB))
    devices = {info.uuid: info for info in device.visible_devices("cuda")}

    def busy(uuid: str) -> str | None:
        return device.why_busy(devices[uuid], config())

    with lease.Ticket([A, B], "run") as ticket:
        assert ticket.take(busy) is None
        assert "is used outside batchopt by pid 4242" in ticket.obstacles[A]
        assert "is used by somebody whom NVML does not list" in ticket.obstacles[B]
        assert "device.wait_for_free=false" in ticket.obstacles[A]
        fake.set({"gpu0.error": 15})  # lost
        assert ticket.take(busy) is None
        assert ticket.obstacles[A].startswith("cannot be read: ")
        fake.set({"gpu1.used": GIB // 2})
        assert ticket.take(busy).device == B


def busy(card_of: dict[str, object], fake) -> str | None:
    fake.set(card_of)
    (info,) = device.visible_devices("cuda")
    return device.why_busy(info, config())


def test_a_desktop_does_not_take_its_card(fake):
    """An 8 GiB laptop: 1.5 GiB for what draws, one of which computes too."""
    desktop = card(0, total=8 * GIB, used=1700 * 2**20, graphics=f"900:{GIB},901:{GIB // 2}")
    assert busy(desktop, fake) is None
    assert busy({"gpu0.processes": f"901:{GIB // 2}"}, fake) is None
    assert "pid 4242" in busy({"gpu0.processes": f"901:1,4242:{GIB}"}, fake)
    hidden = busy({"gpu0.processes": "", "gpu0.used": 4 * GIB}, fake)
    assert "somebody whom NVML does not list" in hidden
    assert busy({"gpu0.graphics": "900:na"}, fake) is None, "WDDM tells no memory of a process"


def test_a_card_of_a_driver_that_hangs_is_passed_over(fake, monkeypatch):
    fake.set(card(0))
    (info,) = device.visible_devices("cuda")
    fake.set({"hang": 1})
    monkeypatch.setattr(nvml, "ANSWER_S", 0.2)
    assert "the driver has not answered" in device.why_busy(info, config())
    fake.answer_again()


def test_a_gpu_is_not_kept_where_asking_for_its_use_fails(directory):
    with lease.Ticket(["a"], "run") as ticket:
        with pytest.raises(ZeroDivisionError):
            ticket.take(lambda _: 1 / 0)
        assert ticket.take().device == "a"


def test_the_cpu_is_one_device(directory, tmp_path, monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    found, taken = device.lease_for_run(config(kind=DeviceKind.cpu), tmp_path)
    assert (found, taken.device) == (None, "cpu")
    assert not free("cpu")
    taken.close()
    assert free("cpu")


def test_inside_slurm_no_other_jobs_lease_counts(fake, directory, tmp_path, monkeypatch):
    fake.set(card(0, processes=f"4242:{GIB}"))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with lease.Ticket([A], "another job") as ticket, ticket.take():
        found, taken = device.lease_for_run(config(), tmp_path)
        assert (found.uuid, taken.pass_fds, taken.environ) == (A, (), {})
