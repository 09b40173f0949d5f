"""Ctrl-C between two jobs of a sweep ends it like Ctrl-C within one: code 130, no traceback."""

import os
import signal

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from batchopt.cli import INTERRUPTED
from batchopt.request.sweep import compose_sweep
from batchopt.sweeps import start
from batchopt.sweeps.plan import write_plan


@pytest.mark.parametrize("at", [1, 4])
def test_no_interrupt_falls_into_the_middle_of_composing(at, monkeypatch, tmp_path, capfd):
    """omegaconf would fail there, and Hydra show that failure and exit with 1.

    Hydra composes both jobs to check them, and then each anew before it runs.
    """
    composed, ran = [], []
    exact = ConfigLoaderImpl.load_sweep_config

    def interrupted(*args, **options):
        composed.append("begins")
        if len(composed) == at:
            os.kill(os.getpid(), signal.SIGINT)
        config = exact(*args, **options)
        composed[-1] = "whole"
        return config

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", interrupted)
    monkeypatch.setattr(start, "run_job", ran.append)
    monkeypatch.setattr("sys.argv", ["train"])
    before = signal.getsignal(signal.SIGINT)
    words = ["batch=05a,05b", f"hydra.sweep.dir={tmp_path}/sweep"]
    sweep = compose_sweep(words)
    write_plan(sweep, "")
    code = start.run_hydra(["-m", *words, *sweep.hydra_overrides], jobs_here=True)
    assert code == INTERRUPTED
    assert set(composed) == {"whole"}
    assert len(ran) == (0 if at == 1 else 1)
    assert "Error" not in capfd.readouterr().err
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_after_the_last_job_counts(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.argv", ["train"])
    monkeypatch.setattr(start, "run_job", lambda _: None)
    exact = start.HeldInterrupt.let_through

    def interrupted(held, job):
        wrapped = exact(held, job)

        def late(config):
            wrapped(config)
            os.kill(os.getpid(), signal.SIGINT)

        return late

    monkeypatch.setattr(start.HeldInterrupt, "let_through", interrupted)
    code = start.run_hydra([f"hydra.run.dir={tmp_path}/run"], jobs_here=True)
    assert code == INTERRUPTED
