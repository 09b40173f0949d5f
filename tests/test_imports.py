"""The straight line stays straight: who may import whom, and what stays light."""

import ast
import re
import subprocess
import sys

import pytest
from support import TOP

HEAVY = {"torch", "transformers", "datasets", "evaluate", "kiwipiepy", "pynvml", "pyarrow"}


def imported(path):
    """Top-level names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


FLOORS = [
    {"errors", "commands"},
    {"record"},
    {"request"},
    {"slurm", "data", "step"},
    {"machine"},
    {"evaluation", "cli"},
    {"run"},
    {"training"},
    {"probe", "verify", "doctor", "init"},
    {"sweeps", "library"},
    {"train", "status"},
    {"resume"},  # which runs the command of train again
]
"""The folders (and modules) of batchopt: each imports from the floors below it alone."""

FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
SEPARATE = {("run", "training"), ("training", "run")}
"""They meet through files and messages alone: one is light, the other imports torch."""

ANALYSIS = ["reading", "findings", "words", "report", "__main__"]
"""The rooms of the analysis, likewise."""


def rooms(top, package):
    """Every import of a package's own rooms: file, room of the file, imported room."""
    for file in top.rglob("*.py"):
        room = file.relative_to(top).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            names = [node.module]
            if node.module == package:
                names = [f"{package}.{alias.name}" for alias in node.names]
            for name in names:
                first, _, rest = name.partition(".")
                if first == package and rest and not rest.startswith("__"):
                    yield str(file.relative_to(top)), room, rest.split(".")[0]


def test_a_folder_imports_from_the_floors_below_it_alone():
    top = TOP / "src" / "batchopt"
    doors = {"__init__", "__main__"}
    found = [arrow for arrow in rooms(top, "batchopt") if arrow[1] not in doors]
    assert len(found) > 100
    assert {room for _, room, _ in found} <= FLOOR.keys()
    wrong = [
        (file, to)
        for file, room, to in found
        if room != to and to in FLOOR and (FLOOR[to] >= FLOOR[room] or (room, to) in SEPARATE)
    ]
    assert wrong == []


def test_the_readme_lists_the_folders_from_the_top_floor_down():
    tree = (TOP / "README.md").read_text(encoding="utf-8")
    part = tree.split("    src/batchopt/ ")[1].split("    src/hydra_plugins/")[0]
    named = [
        FLOOR[room]
        for line in part.splitlines()[1:]
        for room in re.findall(r"([a-z_]+)(?:/|\.py)", line[:26])
    ]
    assert named == sorted(named, reverse=True)
    assert len(named) == len(FLOOR)


def test_the_architecture_draws_the_floors():
    page = (TOP / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = re.search(r"^```text\n(errors .*?)^```", page, re.M | re.S)
    assert [set(line.split()) for line in drawn[1].splitlines()] == FLOORS


def test_the_analysis_reads_then_finds_then_says():
    found = [arrow for arrow in rooms(TOP / "analysis", "analysis") if arrow[1] != "__init__"]
    wrong = [
        (file, to)
        for file, room, to in found
        if room != to and ANALYSIS.index(to) >= ANALYSIS.index(room)
    ]
    assert found
    assert wrong == []


def test_the_analysis_knows_of_batchopt_the_record_and_the_errors_alone():
    files = list((TOP / "analysis").rglob("*.py"))
    assert [file for file in files if "torch" in set(imported(file))] == []
    assert {to for _, _, to in rooms(TOP / "analysis", "batchopt")} <= {"record", "errors"}


def test_one_module_alone_knows_pynvml():
    files = (TOP / "src").rglob("*.py")
    assert [file.name for file in files if "pynvml" in imported(file)] == ["nvml.py"]


@pytest.mark.parametrize(
    "module",
    [
        "train",
        "run.supervisor",
        "sweeps.start",
        "sweeps.left",
        "slurm.missing_records",
        "data.load",
        "data.sample",
        "step.micro_batches",
        "request.help",
        "doctor.__main__",
        "status",
        "training.trackers",
    ],
)
def test_what_answers_at_once_imports_nothing_heavy(module):
    code = f"import sys, batchopt.{module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert HEAVY & set(loaded) == set()


def test_imports_print_nothing_and_leave_the_environment_alone():
    code = (
        "import os, batchopt.train, batchopt.training.worker; before = dict(os.environ); "
        "import batchopt.training.prepare; assert dict(os.environ) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
