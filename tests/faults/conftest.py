"""Collects the endings as they were seen; --endings=FILE writes them as a table."""

from pathlib import Path

import pytest

HEAD = """\
# Every ending of a run, as it was provoked

Written by `make endings` (tests/faults/test_endings.py). Each row is a run of the real command line
with a model of some thousand parameters on the CPU: the fault came in its training process, in the
phase that the cause names, and the row shows what the record then said. The messages of CUDA's
libraries are theirs; they were raised, since there was no GPU. In every case the record was whole,
the other runs of the sweep went on, no process was left and no temporary file.

A kill, a timeout and an out of memory are results, and the sweep exits with 0. Where a run failed
it exits with 1, and whoever stops it gets the code of the signal (130 for Ctrl-C).

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
    # The text above the table says what held for every row: it is written only where it did.
    if file and rows and not request.session.testsfailed:
        lines = (
            "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |\n"
            for row in rows
        )
        Path(file).write_text(HEAD + "".join(lines), encoding="utf-8")
