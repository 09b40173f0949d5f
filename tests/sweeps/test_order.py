"""The order of runs belongs to the design: no setting has the early or the late places."""

import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import submitit
from hydra.core.hydra_config import HydraConfig

from batchopt.record.documents import Record
from batchopt.record.write import write_record
from batchopt.request.sweep import compose_sweep, seed_by_seed
from batchopt.sweeps import start
from batchopt.sweeps.plan import change_plan, keep_order, planned_place, write_plan

PRESETS = "batch=05a,05b,05c"


def blocks(settings, seeds):
    """For each seed in turn: the settings of its runs, by number, first to last."""
    numbers = seed_by_seed([*range(1, seeds + 1)] * settings)
    assert sorted(numbers) == [*range(settings * seeds)]
    runs = [(number % seeds, number // seeds) for number in numbers]
    assert [seed for seed, _ in runs] == [at // settings for at in range(len(runs))]
    return [
        [setting for _, setting in runs[at : at + settings]] for at in range(0, len(runs), settings)
    ]


@pytest.mark.parametrize(("settings", "seeds"), [(2, 4), (3, 3), (3, 6), (7, 7)])
def test_every_setting_has_every_place_equally_often(settings, seeds):
    places = Counter(
        (setting, place) for block in blocks(settings, seeds) for place, setting in enumerate(block)
    )
    assert set(places.values()) == {seeds // settings}
    assert len(places) == settings**2


@pytest.mark.parametrize(("settings", "seeds"), [(3, 2), (3, 5), (7, 3), (12, 3), (24, 5)])
def test_a_slower_machine_slows_no_setting_alone(settings, seeds):
    """The mean place in the blocks lies near the middle for each, as typed it would not."""
    found = blocks(settings, seeds)
    assert all(sorted(block) == [*range(settings)] for block in found)
    middle = (settings - 1) / 2
    for setting in range(settings):
        mean = sum(block.index(setting) for block in found) / seeds
        assert abs(mean - middle) <= settings / min(seeds, settings) / 2 + 0.5


def test_the_order_is_drawn_the_same_again_and_otherwise_for_other_seeds():
    drawn = {tuple(seed_by_seed([*range(first, first + 3)] * 7)) for first in range(5)}
    assert len(drawn) == 5
    assert seed_by_seed([1, 2] * 7) == seed_by_seed([1, 2] * 7)


def test_names_follow_what_was_typed_and_places_the_order(tmp_path):
    words = [PRESETS, "seed=1,2,3", f"hydra.sweep.dir={tmp_path}"]
    blocked = compose_sweep(words).jobs
    typed = compose_sweep([*words, "sweep.order=as_given"]).jobs
    assert [job.run_dir for job in blocked] == [job.run_dir for job in typed]
    assert blocked[4].run_dir == "4_batch=05b,seed=2"
    assert [job.sequence for job in typed] == [*range(9)]
    in_time = sorted(blocked, key=lambda job: job.sequence)
    assert [job.request.config.seed for job in in_time] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_one_seed_runs_as_typed():
    for words in ([PRESETS], [PRESETS, "training.learning_rate=1e-4,3e-4"], ["seed=3,1,2"]):
        assert [job.sequence for job in compose_sweep(words).jobs] == [
            *range(len(compose_sweep(words).jobs))
        ]


@pytest.fixture
def launched(monkeypatch):
    """The runs as Hydra launches them, each with its number of Hydra's; nothing is trained."""
    runs = []

    def note(_):
        hydra = HydraConfig.get()
        runs.append((Path(hydra.runtime.output_dir).name, hydra.job.num))

    monkeypatch.setattr(start, "run_job", note)
    monkeypatch.setattr("sys.argv", ["train"])
    return runs


def launch(words, sweep):
    assert start.run_hydra(["-m", *words, *sweep.hydra_overrides]) == 0


@pytest.mark.parametrize("at_once", [[], ["hydra.sweeper.max_batch_size=2"]])
def test_hydra_launches_the_runs_in_the_order_of_the_plan(launched, tmp_path, at_once):
    words = [PRESETS, "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep", *at_once]
    sweep = keep_order(compose_sweep(words))
    write_plan(sweep, "")
    launch(words, sweep)
    in_time = sorted(sweep.jobs, key=lambda job: job.sequence)
    assert launched == [(job.run_dir, place) for place, job in enumerate(in_time)]
    assert [name for name, _ in launched] != [job.run_dir for job in sweep.jobs]
    plan = json.loads((tmp_path / "sweep" / "sweep.json").read_text())
    assert plan["order"] == "blocked"
    assert [job["sequence"] for job in plan["jobs"]] == [job.sequence for job in sweep.jobs]
    assert planned_place(tmp_path / "sweep" / in_time[1].run_dir) == 1


def test_a_sweep_that_goes_on_keeps_the_order_in_which_it_began(launched, tmp_path):
    words = [PRESETS, "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep", "sweep.order=as_given"]
    write_plan(compose_sweep(words), "")
    again = keep_order(compose_sweep(words[:-1]))
    assert (again.order, [job.sequence for job in again.jobs]) == ("as_given", [*range(6)])
    assert write_plan(again, ""), "it goes on"
    launch(words[:-1], again)
    assert [name for name, _ in launched] == [job.run_dir for job in again.jobs]

    # A sweep from before there was an order ran as typed.
    path = tmp_path / "sweep" / "sweep.json"
    plan = json.loads(path.read_text())
    jobs = [{key: job[key] for key in job if key != "sequence"} for job in plan["jobs"]]
    change_plan(tmp_path / "sweep", jobs=jobs, order=None)
    assert [job.sequence for job in keep_order(compose_sweep(words[:-1])).jobs] == [*range(6)]


def test_slurm_gets_the_runs_in_their_order_and_after_a_resume_those_left(monkeypatch, tmp_path):
    """Tasks of an array start in the order in which they were submitted."""
    submitted = []

    class Executor:
        def __init__(self, **_):
            pass

        def update_parameters(self, **_):
            pass

        def map_array(self, _, runs, *others):
            submitted.append([dict(word.split("=", 1) for word in words) for words in runs])
            return [SimpleNamespace(job_id=f"17_{task}") for task in range(len(runs))]

    monkeypatch.setattr(submitit, "AutoExecutor", Executor)
    monkeypatch.setattr("sys.argv", ["train"])
    words = [PRESETS, "seed=1,2", f"hydra.sweep.dir={tmp_path}/sweep"]
    words += ["hydra/launcher=slurm", "hydra.launcher.wait=false"]
    sweep = compose_sweep(words)
    write_plan(sweep, "")
    launch(words, sweep)
    in_time = sorted(sweep.jobs, key=lambda job: job.sequence)
    assert [(task["batch"], task["seed"]) for task in submitted[0]] == [
        (job.request.preset, str(job.request.config.seed)) for job in in_time
    ]
    folder = tmp_path / "sweep"
    ids = json.loads((folder / "slurm_jobs.json").read_text())
    assert ids == {str(job.number): f"17_{task}" for task, job in enumerate(in_time)}

    write_record(folder / in_time[1].run_dir, Record(status="completed"))
    launch(words, keep_order(compose_sweep(words)))
    assert submitted[1] == [task for at, task in enumerate(submitted[0]) if at != 1]
    again = json.loads((folder / "slurm_jobs.json").read_text())
    assert again[str(in_time[2].number)] == "17_1"
