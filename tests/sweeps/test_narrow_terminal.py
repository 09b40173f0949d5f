"""In a terminal of 80 columns a run's name, its figures and its phase stay in one line."""

import pytest
from rich.console import Console

from batchopt.request.compose import compose_run
from batchopt.sweeps import tables
from batchopt.sweeps.screen import Place, Screen


@pytest.fixture
def console(monkeypatch):
    console = Console(width=80, force_terminal=True, no_color=True, record=True)
    monkeypatch.setattr(tables, "_console", lambda: console)
    return console


def test_the_plan_keeps_the_names_of_runs_whole(console, capsys):
    names = ["0_batch=05a,seed=1", "1_batch=05a,seed=2"]
    tables.print_plan([compose_run(["batch=05a", f"seed={seed}"]) for seed in (1, 2)], names)
    shown = console.export_text().splitlines()
    assert [
        name for name in names if not any(line.strip().startswith(name) for line in shown)
    ] == []
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize("phase", ["training", "evaluating"])
def test_the_bar_shrinks_before_a_figure_wraps(console, capsys, monkeypatch, phase):
    monkeypatch.setattr(Screen, "left_s", 43.0)
    screen = Screen("0_batch=05a", Place(1, 3, ()))
    screen.phase, screen.step, screen.steps = phase, 128, 160
    screen.figures = {"ROUGE": "0.452", "loss": "0.721"}
    console.print(screen)
    first, *_ = console.export_text().splitlines()
    assert "ROUGE 0.452" in first
    assert "loss 0.721" in first
    assert len(first) <= 80
