"""`batchopt NAME` is `python -m batchopt.NAME`: arguments, messages, exit codes, and how light."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from support import TOP

from batchopt import __main__ as command
from batchopt import __version__
from batchopt.commands import COMMANDS

HEAVY = {"torch", "transformers", "hydra", "pandas", "rich"}


def run(*words, cwd):
    return subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--cfg", "job", "batch=05a"],
        ["train", "batch=05d"],
        ["status", "nowhere"],
        ["resume", "nowhere"],
        ["doctor", "--watch"],
        ["analyze", "sweep=nowhere"],
        ["init", "a", "b"],
        *([name, "--help"] for name in COMMANDS if name not in ("probe", "verify")),
    ],
    ids=" ".join,
)
def test_a_command_is_the_module(words, tmp_path):
    name, *rest = words
    ours = run("-m", "batchopt", *words, cwd=tmp_path)
    module = run("-m", COMMANDS[name].module, *rest, cwd=tmp_path)
    assert (ours.returncode, ours.stdout, ours.stderr) == (
        module.returncode,
        module.stdout,
        module.stderr,
    )
    assert ours.stdout + ours.stderr


def test_every_command_has_a_module_that_runs():
    for entry in COMMANDS.values():
        top = TOP if entry.module == "analysis" else TOP / "src"
        path = top / entry.module.replace(".", "/")
        assert (path / "__main__.py").exists() or path.with_suffix(".py").exists()


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["trian"], "trian: no such command; did you mean train? commands: train, verify,"),
        (["Status"], "Status: no such command; did you mean status? "),
        (["analyse"], "did you mean analyze? "),
        (["xyzzy"], "xyzzy: no such command; commands: train,"),
        (["batch=05b", "seed=2"], "to train: batchopt train batch=05b seed=2"),
        (["-m", "batch=05a,05b"], "to train: batchopt train -m batch=05a,05b"),
        (["--hlep"], "--hlep: no such command; commands:"),
    ],
)
def test_a_wrong_command_is_answered_in_one_line(words, line, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["batchopt", *words])
    assert command.main() == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("batchopt: ")
    assert line in said


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_in_80_columns(words, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["batchopt", *words])
    assert command.main() == 0
    text = capsys.readouterr().out
    assert all(f"batchopt {name} " in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80


def test_the_version(tmp_path):
    assert run("-m", "batchopt", "--version", cwd=tmp_path).stdout == f"batchopt {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["status", "--help"], ["trian"]])
def test_what_answers_at_once_is_light(words, tmp_path):
    done = run("-X", "importtime", "-m", "batchopt", *words, cwd=tmp_path)
    loaded = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "batchopt" in loaded
    assert HEAVY & loaded == set()


@pytest.mark.parametrize(
    ("words", "spelled"),
    [
        ([], ["adopt=fastest"]),
        (["least_memory"], ["adopt=least_memory"]),
        (["sweep=a", "least_memory"], ["adopt=least_memory", "sweep=a"]),
        (["adopt=best_quality", "sweep=a"], ["adopt=best_quality", "sweep=a"]),
        (["--help"], ["--help"]),
    ],
)
def test_adopt_takes_the_aim_as_its_word(words, spelled):
    assert command.with_aim(words) == spelled


def test_adopt_takes_a_folder_for_a_sweep_and_not_for_an_aim(tmp_path):
    assert command.with_aim([str(tmp_path)]) == ["adopt=fastest", str(tmp_path)]


def completed(line, cwd, program):
    """What bash offers for a line that is being typed, through the script that it installs."""
    script = run("-m", "batchopt.train", "-sc", "install=bash", cwd=cwd).stdout
    words = line.split(" ")
    lines = [
        script,
        "compopt() { :; }",  # works only while bash completes
        f"COMP_LINE={shlex.quote(line)} COMP_CWORD={len(words) - 1}",
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))})",
        "_batchopt_complete",
        'echo "${COMPREPLY[@]}"',
    ]
    env = os.environ | {"PATH": f"{program}:{os.environ['PATH']}", "COMP_POINT": str(len(line))}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=True,
        env=env,
    )
    return set(done.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("batchopt st", {"status"}),
        ("batchopt ", set(COMMANDS)),
        ("batchopt train batch=05", {"batch=05a", "batch=05b", "batch=05c"}),
        ("batchopt probe model=k", {"model=kobart"}),
        ("python -m batchopt.train model=k", {"model=kobart"}),
        ("python -m pytest model=k", set()),
        ("batchopt status x", set()),
    ],
)
def test_bash_completes_both_forms(line, offered, tmp_path):
    program = tmp_path / "bin"
    program.mkdir()
    for name, module in (("batchopt", "-m batchopt"), ("python", "")):
        path = program / name
        path.write_text(f'#!/bin/sh\nexec {sys.executable} {module} "$@"\n')
        path.chmod(0o755)
    assert completed(line, tmp_path, program) == offered
