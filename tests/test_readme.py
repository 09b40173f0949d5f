"""Every command of the README is a request that batchopt takes, or a target of the Makefile."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from batchopt.compose import accept_plus, compose_run, compose_sweep

TOP = Path(__file__).resolve().parents[1]
README = (TOP / "README.md").read_text(encoding="utf-8")
TRAIN = sorted(set(re.findall(r"python -m batchopt\.train [^`\n]+", README)) - {""})


def words_of(command):
    return [accept_plus(word) for word in shlex.split(command)[3:]]


@pytest.mark.parametrize("command", TRAIN)
def test_a_train_command_composes(command):
    words = words_of(command)
    if "-m" in words:
        assert len(compose_sweep([word for word in words if word != "-m"]).jobs) >= 2
    else:
        compose_run(words)


@pytest.mark.parametrize(
    ("words", "pair"),
    [
        ("batch=05c batch.per_device_train_batch_size=32", "32 x 2"),
        ("batch=05b batch.gradient_accumulation_steps=2", "32 x 2"),
        ("batch=05c training.gradient_checkpointing=true", "64 x 1"),
        ("batch=05b training.dataloader_num_workers=8", "16 x 4"),
    ],
)
def test_the_troubleshooting_table_says_what_happens_to_the_other_number(words, pair):
    (row,) = (line for line in README.splitlines() if f"{words}`" in line)
    assert pair in row
    assert str(compose_run(words.split()).plan) == pair


@pytest.mark.parametrize("target", sorted(set(re.findall(r"^make ([a-z-]+)", README, re.M))))
def test_a_make_target_exists(target):
    done = subprocess.run(
        ["make", "-n", target], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_file_that_the_readme_names_exists():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (TOP / target).exists(), target
    for name in re.findall(r"\b([a-z_]+\.py)\b", README.split("src/batchopt/")[1]):
        assert list((TOP / "src" / "batchopt").rglob(name)), name
