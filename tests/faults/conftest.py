"""Collects the endings as they were seen; --endings=FILE writes them as a table."""

from pathlib import Path

import pytest

HEAD = """\
# Every ending of a run, as it was provoked

`make endings` (tests/faults/test_endings.py) writes this page. Each row is a run of the real
command line on the CPU, with a model of some thousand parameters. The test provoked the fault in
the phase that the cause names, and the row shows the record. There was no GPU: the test raised
errors with the messages of CUDA's libraries. In every case the record was complete, the other runs
of the sweep went on, and no process and no temporary file was left.

A kill, a timeout and an out-of-memory are results; the sweep exits with 0. It exits with 1 if a run
failed, and with the code of the signal if somebody stops it (130 for Ctrl-C).

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
