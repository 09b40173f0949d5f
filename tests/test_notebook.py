"""The notebook runs from its first cell to its last, and carries no output in git."""

import json
import re
import subprocess
import sys

import pytest
from support import TOP

NOTEBOOK = TOP / "examples" / "quickstart.ipynb"

EXECUTE = """
import sys
import nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(
    notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": sys.argv[2]}}
).execute()
nbformat.write(notebook, sys.argv[3])
"""


def test_no_output_is_committed():
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "strip the outputs before the commit"
        assert cell.get("execution_count") is None


def test_it_names_public_names_alone():
    assert "from batchopt." not in NOTEBOOK.read_text(encoding="utf-8")


@pytest.mark.slow
def test_it_runs_and_shows_the_choice_and_the_report(tmp_path):
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    executed = tmp_path / "executed.ipynb"
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE, NOTEBOOK, NOTEBOOK.parent, executed],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = json.loads(executed.read_text(encoding="utf-8"))["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    text = "\n".join("".join(out.get("text") or _plain(out["data"])) for out in outputs)
    assert "->" in text
    assert "the fastest that fits" in text
    printed = "\n".join("".join(out["text"]) for out in outputs if "text" in out)
    done = re.findall(r"^\d_batch=(\w+): completed", printed, re.M)
    assert done == ["05a", "05b", "05c"], printed
    assert "<iframe" in text
    assert "srcdoc=" in text
    for preset in ("05a", "05b", "05c"):
        assert preset in text


def _plain(data):
    return data.get("text/html") or data["text/plain"]
