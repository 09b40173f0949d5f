"""Collects the endings as they were seen; --endings=FILE writes them as a table."""

from pathlib import Path

import pytest

HEAD = """\
# Every ending of a run, as it was provoked

Written by `make endings` (tests/faults/test_endings.py): each row is a run of the real command line
whose training process met the fault, in the phase that the cause names, and the record that it
left. "Ends by" says who does it. Of a sweep all the other runs went on, no process was left, and no
temporary file. A kill, a timeout and an out of memory are results (the sweep exits with 0); what
has failed or was interrupted makes it exit with 1, Ctrl-C with 130.

| ending | provoked by | status | cause in the record | also kept |
|---|---|---|---|---|
"""


def pytest_addoption(parser):
    parser.addoption("--endings", metavar="FILE", help="write the table of endings")


@pytest.fixture(scope="session")
def endings(request):
    rows = []
    yield rows
    file = request.config.getoption("--endings", default=None)
    if file and rows:
        lines = (
            "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n"
            for row in rows
        )
        Path(file).write_text(HEAD + "".join(lines), encoding="utf-8")
