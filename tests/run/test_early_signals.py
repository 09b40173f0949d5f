"""A signal at any moment before a run trains leaves a record, and no sign that it goes on."""

import json
import os
import signal

import pytest

from batchopt.machine.lease import Lease
from batchopt.request.compose import compose_run
from batchopt.run import supervisor

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}
MOMENTS = ["running.json is renamed", "the record of before goes", "it waits", "it has the device"]


@pytest.mark.parametrize("number", RAISED, ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_run_that_is_stopped_as_it_begins_says_so(moment, number, tmp_path, monkeypatch):
    def kill_then(result=None):
        os.kill(os.getpid(), number)
        return result

    def write(run_dir, document, write=supervisor.write_running):
        write(run_dir, document)
        kill_then()

    def unlink(path, unlink=supervisor.Path.unlink, **options):
        unlink(path, **options)
        if path.name == "record.json":
            kill_then()

    def wait(*_):
        kill_then()
        raise AssertionError("it goes on waiting")

    change = {
        MOMENTS[0]: (supervisor, "write_running", write),
        MOMENTS[1]: (supervisor.Path, "unlink", unlink),
        MOMENTS[2]: (supervisor, "lease_for_run", wait),
        MOMENTS[3]: (supervisor, "lease_for_run", lambda *_: kill_then((None, Lease("cpu", None)))),
    }[moment]
    monkeypatch.setattr(*change)
    before = {each: signal.getsignal(each) for each in RAISED}
    with pytest.raises(RAISED[number]):
        supervisor.supervise(compose_run(["device=cpu"]), tmp_path, choose=None)
    record = json.loads((tmp_path / "record.json").read_text())
    assert record["status"] == "interrupted"
    assert record["cause"] == "stopped before it had a device"
    assert not (tmp_path / "running.json").exists()
    assert {each: signal.getsignal(each) for each in RAISED} == before
