"""`make setup` installs the build of torch that was asked for; a recording stands in for Python."""

import shutil
import subprocess

import pytest
from support import TOP

PYTHON = """#!/bin/sh
echo "$@" >> "{calls}"
if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi
"""


@pytest.fixture
def setup(tmp_path):
    """Runs `make setup`; returns what pip was told to install."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(PYTHON.format(calls=calls))
    python.chmod(0o755)

    def run(*words):
        calls.write_text("")
        command = ["make", "setup", f"PYTHON={python}", f"VENV={tmp_path}/venv", *words]
        subprocess.run(command, cwd=TOP, check=True, capture_output=True)
        return [line for line in calls.read_text().splitlines() if " pip " in line]

    return run


def test_another_index_installs_another_build_of_torch(setup):
    (everything,) = setup()
    assert "index-url" not in everything
    assert setup() == []
    torch, rest = setup("TORCH_INDEX=https://example.org/cu126")
    # From that index alone: pip takes 2.13.0 and 2.13.0+cu126 for one version.
    assert torch.endswith("--force-reinstall --no-deps --index-url https://example.org/cu126 torch")
    assert "--constraint constraints.txt" in torch
    assert "--extra-index-url https://example.org/cu126 --editable" in rest
    assert setup("TORCH_INDEX=https://example.org/cu126") == []
    assert setup() == [], "the build that was chosen stays"
    assert len(setup("TORCH_INDEX=https://example.org/cu130")) == 2
