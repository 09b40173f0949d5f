"""What is remembered of large sweeps: right before quick."""

import json
import os
import time
from pathlib import Path

import pytest
from analysis_sweep import make_sweep

from analysis import cache as caching
from analysis.cache import Cache
from analysis.read import Run, read_sweeps

THREE = [
    {"preset": "05a", "config": {"training": {"learning_rate": 0.002}}},
    {"preset": "05b", "status": "oom"},
    {"preset": "05c", "status": "missing"},
]


@pytest.fixture(autouse=True)
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "WORTH_IT", 1)


def settle(sweep: Path) -> None:
    """Makes the files old enough to be remembered."""
    then = time.time() - 60
    for path in sweep.rglob("*"):
        if path.is_file():
            os.utime(path, (then, then))


def read(sweep: Path, folder: Path) -> tuple[list[Run], Cache]:
    cache = Cache.open(folder, [sweep])
    runs = [run for one in read_sweeps([sweep], cache) for run in one.runs]
    cache.save()
    return runs, cache


def test_what_is_remembered_is_what_was_read(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, THREE)
    settle(sweep)
    first, before = read(sweep, tmp_path / "cache")
    again, after = read(sweep, tmp_path / "cache")
    assert before.changed
    assert not after.changed  # nothing was read
    assert again == first == [run for one in read_sweeps([sweep]) for run in one.runs]
    assert [run.status for run in again] == ["completed", "oom", "missing"]
    assert len(again[0].training) == 31
    assert again[0].config["training.learning_rate"] == "0.002"


@pytest.mark.parametrize("name", ["record.json", "metrics.jsonl", "memory.jsonl"])
def test_a_changed_file_is_read_again(tmp_path: Path, name: str) -> None:
    sweep = make_sweep(tmp_path, THREE)
    settle(sweep)
    read(sweep, tmp_path / "cache")
    path = next(sweep.glob("0_*")) / name
    text = path.read_text()
    if name == "record.json":
        path.write_text(text.replace('"steps_per_second": 0.5', '"steps_per_second": 0.7'))
    else:
        path.write_text("".join(text.splitlines(keepends=True)[:-3]))
    os.utime(path, (time.time() - 30,) * 2)
    again, _ = read(sweep, tmp_path / "cache")
    assert again == [run for one in read_sweeps([sweep]) for run in one.runs]


def test_a_file_that_has_just_changed_is_not_trusted(tmp_path: Path) -> None:
    """A second change within the clock's tick, of the same size, would not show."""
    sweep = make_sweep(tmp_path, THREE)
    _, cache = read(sweep, tmp_path / "cache")
    assert not cache.now


def test_a_run_that_goes_on_is_not_remembered(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, THREE)
    run = next(sweep.glob("0_*"))
    (run / "record.json").unlink()
    running = {"pid": 1, "hostname": "elsewhere", "started_at": "2026-11-23T10:30:00Z"}
    (run / "running.json").write_text(json.dumps(running))
    settle(sweep)
    _, cache = read(sweep, tmp_path / "cache")
    assert not any("0_" in directory for directory in cache.now)


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing"])
def test_a_damaged_cache_is_ignored_and_mended(tmp_path: Path, content: bytes) -> None:
    sweep = make_sweep(tmp_path, THREE)
    settle(sweep)
    first, cache = read(sweep, tmp_path / "cache")
    cache.path.write_bytes(content)
    assert read(sweep, tmp_path / "cache")[0] == first
    assert not read(sweep, tmp_path / "cache")[1].changed


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, THREE)
    settle(sweep)
    (tmp_path / "cache").write_text("a file where a folder should be")
    assert len(read(sweep, tmp_path / "cache")[0]) == 3


def test_few_runs_are_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "WORTH_IT", 3)
    sweep = make_sweep(tmp_path, THREE)
    settle(sweep)
    read(sweep, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
