"""The straight line stays straight: who may import whom, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "datasets", "evaluate", "kiwipiepy", "pynvml", "pyarrow"}


def imported(path):
    """Top-level names of everything that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module.split(".")[0]


def test_the_analysis_depends_on_the_records_alone():
    files = list((TOP / "analysis").rglob("*.py"))
    assert files
    assert [file for file in files if {"batchopt", "torch"} & set(imported(file))] == []


def test_one_module_alone_knows_pynvml():
    files = (TOP / "src").rglob("*.py")
    assert [file.name for file in files if "pynvml" in imported(file)] == ["nvml.py"]


@pytest.mark.parametrize(
    "module",
    [
        "train",
        "supervisor",
        "sweep",
        "settle",
        "corpus.load",
        "corpus.sample",
        "micro_batches",
        "help",
        "doctor",
        "status",
        "trackers",
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
        "import os, batchopt.train, batchopt.worker; before = dict(os.environ); "
        "import batchopt.prepare; assert dict(os.environ) == before"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""
