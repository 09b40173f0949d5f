"""Runs every command of the READMEs and of docs/ with the words that a person types: `make smoke`.

Two lanes run side by side, the README and the pages of docs/. Each has a copy of the checkout and
runs its commands there in their order, one after the other, as a person would. Two things are cut:
a training to a few steps (CUT), and a sweep by Ctrl-C: one of the README in its second run, one of
another page in its first, when it is planned, verified and begun. WHOLE lists the sweeps that run
to their end. NOT_HERE lists the commands that need what a test machine lacks.
"""

import contextlib
import csv
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import TOP
from support.pages import DOCS, README, commands, files

from batchopt.data.sample import generate

LANES = {"readme": [README], "docs": DOCS}
"""The Korean README has the commands of the English one: tests/test_readme.py holds that."""

CUT = "training.max_steps=2"
"""What a training gets in addition, so that it ends soon."""

WHOLE = [
    "python -m batchopt.train -m batch=05a,05b,05c",
    "python -m batchopt.train -m batch=05a,05b,05c device.memory_limit_gib=16",
]
"""Sweeps that run to their end; the pages go on with what they found."""

TIMEOUT_S = 600
"""Longer than any command takes, also beside other work."""


GIVEN_UP = threading.Event()
"""Set by Ctrl-C: no other command starts, and those that run are killed."""


class Lack(NamedTuple):
    """Commands that cannot succeed here.

    `refusal` is a part of the line with which such a command ends (exit 2). None: it is not run.
    """

    command: str
    needs: str
    refusal: str | None = None


NOT_HERE = [
    Lack(r"hydra/launcher=slurm|^make submit", "SLURM", "sbatch"),
    Lack(r"^scancel", "SLURM"),
    Lack(r"hydra/launcher=ours", "a profile in /shared; composed with the page's file instead"),
    Lack(r"^export BATCHOPT_CONF=file:///shared/", "a folder in /shared"),
    Lack(r"data=hub", "the Hugging Face hub", "data.name"),
    Lack(r"model=(kobart|pegasus)|=facebook/", "the Hugging Face hub", "model.name_or_path"),
    Lack(r"attention=flash_attention_2", "the package flash-attn, and a GPU", "flash-attn"),
    Lack(r"=/path/to/model|=/models/mine", "a model of one's own", "model.name_or_path"),
    Lack(r"DATE/TIME", "the name of a sweep; the command without it takes the newest"),
    Lack(r"^make (setup|demo)\b", "a bare machine; the two commands of demo run one by one"),
    Lack(
        r"^make (test|test-quick|check|docs|docs-reference|smoke)$",
        "nothing: .ci/run and the tests run it",
    ),
    Lack(
        r"^make (test-gpu|gpu-day|test-slurm|test-faults|test-oldest|endings)$",
        "a GPU, root, or many minutes",
    ),
    Lack(r"^make bench", "a quiet machine for hours"),
    Lack(r"^make package TAG=v0\.2\.0$", "the version that the page sets first"),
]
if not importlib.util.find_spec("optuna"):
    NOT_HERE.append(Lack(r"hydra/sweeper=optuna", "the extra optuna", "optuna"))
if shutil.which("sbatch"):  # Refused or not is then the cluster's business: make test-slurm.
    NOT_HERE[0] = NOT_HERE[0]._replace(refusal=None)


class Failed(Exception):
    """A command did not do what the page says; with what it printed."""


class Checkout:
    """A copy of the checkout, with the files that the pages have people write or bring."""

    def __init__(self, top: Path, pages: list[Path]) -> None:
        self.top = top
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=TOP, capture_output=True, text=True, check=True).stdout
        for name in filter(None, names.split("\0")):
            if (TOP / name).is_file():
                (top / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(TOP / name, top / name)
        for page in pages:
            for name, text in files(page).items():
                file = top / name.lstrip("/")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
        # The environment that runs this, under the name that the Makefile knows.
        (top / ".venv").mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (top / ".venv" / name).symlink_to(Path(sys.prefix) / name)
        (top / ".venv" / ".installed").touch()
        self.write_data()
        self.environ = {name: text for name, text in os.environ.items() if name != "BATCHOPT_CONF"}
        self.environ |= {
            "PATH": f"{top}/.venv/bin:{os.environ['PATH']}",
            "PYTHONPATH": f"{top}/src:{top}",
            "BATCHOPT_LEASE_DIR": str(top / "leases"),
            "HF_HOME": str(top / "hub"),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",  # two lanes share the cores
        }

    def write_data(self) -> None:
        """Writes the files that the pages call one's own."""
        corpus = generate(language="mixed", train_examples=300, validation_examples=50, seed=3)
        columns = ["dialogue", "summary", "text", "abstract"]
        references = ["dialogue", "summary1", "summary2", "summary3"]
        for name, examples, header in (
            ("train.csv", corpus.train, columns),
            ("dev.csv", corpus.validation, columns),
            ("a.csv", corpus.train, columns),
            ("test.csv", corpus.validation, references),
        ):
            with (self.top / name).open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file)
                rows.writerow(header)
                rows.writerows(
                    [one.dialogue, *one.summaries * 3]
                    if header is references
                    else [one.dialogue, *one.summaries] * 2
                    for one in examples
                )
        objects = [
            {"dialogue": one.dialogue, "summary": one.summaries[0]} for one in corpus.validation
        ]
        for name in ("b.json", "data/one.json"):
            (self.top / name).parent.mkdir(exist_ok=True)
            (self.top / name).write_text(json.dumps(objects), encoding="utf-8")

    def run(self, command: str, stop_after: int | None = None) -> tuple[int, str, bool]:
        """Runs a command here.

        With `stop_after` it gets Ctrl-C when that many runs of its sweep have completed and the
        next one is going.

        Returns:
            The exit code, what it printed, and whether it was stopped.
        """
        enough, stopped = self.completed() + (stop_after or 0), False
        deadline = time.monotonic() + TIMEOUT_S
        with (
            tempfile.TemporaryFile("w+", encoding="utf-8") as output,
            subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.top,
                env=self.environ,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as process,
        ):
            while process.poll() is None:
                waits = stop_after is None or stopped or not self.going()
                if not waits and self.completed() >= enough:
                    stopped = True
                    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
                if GIVEN_UP.is_set() or time.monotonic() > deadline:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    raise Failed(f"it went on for {TIMEOUT_S} s, or until Ctrl-C")
                time.sleep(0.05)
            output.seek(0)
            return process.returncode, output.read(), stopped

    def going(self) -> bool:
        """Whether a run of a sweep is going on."""
        return any(self.top.glob("multirun/*/*/*/running.json"))

    def completed(self) -> int:
        """How many runs of sweeps have completed."""
        records = self.top.glob("multirun/*/*/*/record.json")
        return sum(json.loads(one.read_text("utf-8"))["status"] == "completed" for one in records)


def typed(pages: list[Path], elsewhere: set[str]) -> Iterator[tuple[Path, str]]:
    """Each command of some pages. A training runs once, whatever pages name it."""
    for page in pages:
        for command in commands(page):
            if "batchopt." not in command or "status" in command or command not in elsewhere:
                elsewhere.add(command)
                yield page, command


def check(page: Path, command: str, checkout: Checkout) -> str:
    """Runs a command; returns what became of it.

    Raises:
        Failed: It did not do what the page says.
    """
    lack = next((one for one in NOT_HERE if re.search(one.command, command)), None)
    if "hydra/launcher=ours" in command:
        single = command.replace("-m batch=05a,05b,05c", "batch=05a")
        conf = f"BATCHOPT_CONF=file://{checkout.top}/shared/batchopt-conf"
        code, output, _ = checkout.run(f"{conf} {single} --cfg hydra")
        demand(code == 0 and "constraint: a100" in output, code, output)
    if lack and not lack.refusal:
        return f"not run: needs {lack.needs}"
    trains = f"{command} ".startswith("python -m batchopt.train ") and "--help" not in command
    sweeps = command.startswith(("python -m batchopt.train -m ", "make resume"))
    cut = trains and not lack and "training.max_steps=" not in command
    code, output, stopped = checkout.run(
        f"{command} {CUT}" if cut else command,
        (1 if page == README else 0) if sweeps and not lack and command not in WHOLE else None,
    )
    demand("Traceback" not in output, code, output)
    if lack and lack.refusal:
        demand(code == 2 and lack.refusal in output, code, output)
        return f"refused: needs {lack.needs}"
    if stopped:
        # make ends itself by the signal.
        demand(code == 130 or (command.startswith("make") and code == -signal.SIGINT), code, output)
        return "ok, then stopped"
    if "adopt=fastest" in command and code == 2 and "was disturbed" in output:
        return "refused: something else used the cores while the runs trained"
    if command.startswith("make adopt") and code:
        # A few steps decide nothing. Then the refusal says so, and the best observed goes on.
        demand("analysis: adopt=" in output, code, output)
        if page != README:  # no run of its sweep has completed: the next commands get a preset
            batch = checkout.top / "conf" / "batch"
            shutil.copy(batch / "05b.yaml", batch / "best.yaml")
            return "refused: a few steps do not decide"
        best = "python -m analysis adopt=least_memory adopt_anyway=true"
        code, output, _ = checkout.run(best)
    demand(code == 0, code, output)
    return "ok"


def demand(held: bool, code: int, output: str) -> None:
    """Raises Failed unless something held."""
    if not held:
        raise Failed(f"exit {code}\n{output}")


def run_lane(name: str, top: Path, given: list[tuple[Path, str]]) -> list[str]:
    """Runs the commands of a lane; returns those that failed."""
    checkout = Checkout(top, LANES[name])
    failed = []
    for page, command in given:
        if GIVEN_UP.is_set():
            break
        began = time.monotonic()
        try:
            said = check(page, command, checkout)
        except Failed as error:
            said = f"FAILED: {error}"
            failed.append(f"{page.name}: {command}")
        line = f"{time.monotonic() - began:5.1f} s  {page.name}: {command}\n         {said}\n"
        print(line, end="", flush=True)
    return failed


def main() -> int:
    """Runs both lanes; returns the exit code."""
    # Behind a shell's `&` SIGINT is ignored, and would be in the commands that are stopped here.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    seen: set[str] = set()
    given = {name: list(typed(pages, seen)) for name, pages in LANES.items()}
    began = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="batchopt-smoke-") as top,
        ThreadPoolExecutor() as lanes,
    ):
        tasks = []
        for name, todo in given.items():
            (Path(top) / name).mkdir()
            tasks.append(lanes.submit(run_lane, name, Path(top) / name, todo))
        try:
            failed = [line for task in tasks for line in task.result()]
        except KeyboardInterrupt:
            GIVEN_UP.set()
            return 130
    count = sum(map(len, given.values()))
    used = os.times()
    print(
        f"{count} commands, {len(failed)} failed, in {time.monotonic() - began:.0f} s "
        f"({used.children_user + used.children_system:.0f} s of CPU)",
        *failed,
        sep="\n  ",
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
