"""A run that falls far under its own pace says so once, and names who uses the cores."""

import psutil
import pytest

from batchopt.machine import cores
from batchopt.machine.cores import Usage
from batchopt.run.pace import Pace


class Story:
    """A run whose steps take given times, looked at ten times a second."""

    def __init__(self, monkeypatch, others=1.0):
        monkeypatch.setattr(cores, "usable", lambda: 2)
        monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 2)
        monkeypatch.setattr(cores, "name_of", lambda pid: "compiler")
        self.now, self.others, self.said = 100.0, others, []
        self.pace = Pace(1, self.read)
        self.pace.take({"phase": "train"}, self.now)

    def read(self, pid):
        used = self.others * self.now
        return Usage(wall_s=self.now, busy_s=used, own_s=0.0, foreign_s={77: used})

    def wait(self, seconds):
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self.said += filter(None, [self.pace.look(self.now)])

    def steps(self, *seconds):
        for one in seconds:
            self.wait(one)
            self.pace.take({"step": 1}, self.now)


@pytest.fixture
def story(monkeypatch):
    return Story(monkeypatch)


def test_the_neighbour_of_a_step_that_does_not_end_is_named(story):
    story.steps(*[0.5] * 20)
    story.wait(30.0)
    (said,) = story.said
    assert "compiler (pid 77) 1.00" in said
    assert "1.0 of 2 CPU cores" in said
    assert "instead of 1.5 s" in said


def test_a_run_that_has_its_pace_again_may_lose_it_again(story):
    story.steps(*[0.5] * 20, *[4.0] * 5)
    assert len(story.said) == 1
    story.steps(*[0.5] * 20)
    assert len(story.said) == 1
    story.steps(4.0, 4.0)
    assert len(story.said) == 2


def test_nobody_is_blamed_where_the_cores_are_idle(monkeypatch):
    story = Story(monkeypatch, others=0.1)
    story.steps(*[0.5] * 20, 30.0)
    (said,) = story.said
    assert "no other process" in said


def test_steps_of_different_lengths_have_a_pace(story):
    story.steps(*[0.2, 0.5, 1.2] * 20, 2.5)
    assert story.said == []


def test_evaluations_and_the_first_steps_are_no_fall(story):
    story.steps(8.0, *[0.5] * 20)
    story.pace.take({"phase": "evaluate"}, story.now)
    story.wait(60.0)
    story.pace.take({"phase": "train"}, story.now)
    story.steps(*[0.5] * 3)
    assert story.said == []


def test_a_log_line_at_every_step_hides_nothing(story):
    """Each begins the phase of the training once more."""
    for seconds in [0.5] * 20 + [2.0] * 5:
        story.steps(seconds)
        story.pace.take({"phase": "train"}, story.now)
    assert len(story.said) == 1


def test_a_run_that_has_trained_has_no_pace(story):
    """The process may take a while to end."""
    story.steps(*[0.5] * 20)
    story.pace.take({"outcome": {"status": "completed"}}, story.now)
    story.wait(60.0)
    assert story.said == []
