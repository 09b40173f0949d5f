"""What fits is measured and predicted; batch=auto chooses by it; a limit is one."""

import json
import sys
from dataclasses import replace

import pytest
from support.processes import run_to_end
from support.runs import SMALL, records, train

from batchopt.probe.choose import fastest, fit_line, fitting
from batchopt.probe.measure import Probe
from batchopt.request.batch_plan import BatchPlan

GIB = 2**30


def probe(size, gib, seconds=1.0, fits=True):
    return Probe(
        BatchPlan(size, 64),
        fits,
        "",
        train_peak_bytes=int(gib * GIB) if fits else None,
        eval_peak_bytes=0,
        seconds_per_step=seconds if fits else None,
        tokens=100 * size,
    )


def test_memory_that_is_a_line_is_found_exactly():
    line = fit_line([probe(8, 1.8), probe(16, 2.6), probe(64, 7.4)])
    assert line.fixed_bytes == pytest.approx(GIB, rel=1e-6)
    assert line.at(3200) == pytest.approx(4.2 * GIB, rel=1e-6)
    assert all(abs(error) < 1e-6 for error in line.held_out_errors.values())


def test_the_errors_are_those_of_sizes_that_were_not_fitted():
    line = fit_line([probe(8, 1.8), probe(16, 2.6), probe(64, 10.0)])
    assert line.held_out_errors["64 x 1"] == pytest.approx(7.4 / 10 - 1)


def test_no_line_is_drawn_through_one_point_or_through_what_failed():
    assert fit_line([probe(8, 1.8), probe(16, 0, fits=False)]) is None


def test_evaluation_needs_the_same_whatever_the_training():
    line = fit_line([replace(probe(size, size / 8), eval_peak_bytes=3 * GIB) for size in (8, 16)])
    assert line.at(800) == 3 * GIB
    assert line.at(6400) == pytest.approx(8 * GIB)


def test_thefastest_that_fits_is_chosen_and_of_equals_the_smaller():
    probes = [probe(8, 2, 1.0), probe(16, 3, 0.99), probe(64, 9, 0.5)]
    assert fastest(fitting(probes, 8 * GIB), 8 * GIB, 0.1)[0] == BatchPlan(8, 64)
    chosen, reason = fastest(fitting(probes, 10 * GIB), 10 * GIB, 0.1)
    assert chosen == BatchPlan(64, 64)
    assert "0.5 s per step" in reason
    assert "8 x 8: 1 s" in reason


def test_what_failed_or_is_too_large_does_not_fit():
    assert fitting([probe(8, 2), probe(16, 3), probe(64, 0, fits=False)], 2.5 * GIB) == [
        probe(8, 2)
    ]


LARGER = [
    *("model.vocab_size=3000", "model.d_model=64", "model.ffn_dim=128"),
    *("data.max_target_length=64", "data.max_source_length=512", "data.validation_examples=40"),
]
"""So large that the micro-batch shows in the memory of the process, and, as the defaults have it,
more validation examples than one evaluation takes at a time."""


@pytest.fixture(scope="module")
def probed(tmp_path_factory, cache):
    """The presets of the small run, probed by the command."""
    cwd = tmp_path_factory.mktemp("probe")
    done = run_to_end(
        [
            *(sys.executable, "-m", "batchopt.probe", *SMALL, *LARGER),
            *(f"cache_dir={cache}", "--json", "probe.json"),
        ],
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((cwd / "probe.json").read_text())


def test_the_probe_predicts_a_size_that_it_did_not_fit(probed):
    text, figures = probed
    assert abs(figures["memory"]["held_out_errors"]["16 x 4"]) < 0.05
    assert [row["batch"] for row in figures["probes"]] == ["8 x 8", "16 x 4", "64 x 1"]
    for preset in ("05a", "05b", "05c"):
        assert preset in text


def test_auto_takes_another_pair_under_another_limit_and_both_train(probed, tmp_path, cache):
    """The limit between the smallest and the largest probed size forbids the large ones."""
    peaks = {
        row["plan"]["per_device_train_batch_size"]: row["train_peak_bytes"] / GIB
        for row in probed[1]["probes"]
    }
    tight = (peaks[16] + peaks[64]) / 2
    chosen = {}
    for limit in (tight, 2 * peaks[64]):
        folder = tmp_path / f"{limit:.3f}"
        folder.mkdir()
        done = train(
            *("batch=auto", *LARGER, f"device.memory_limit_gib={limit}"),
            *("training.max_steps=2", "data.train_examples=160"),
            cwd=folder,
            cache=cache,
        )
        (record,) = records(folder).values()
        assert record["status"] == "completed", done.stderr
        assert record["metrics"]["peak_memory_bytes"] <= limit * GIB * 1.02
        chosen[limit] = record["plan"]
        assert "s per step" in record["plan"]["chosen"]["reason"]
    sizes = [row["per_device_train_batch_size"] for row in chosen.values()]
    tried = chosen[tight]["chosen"]["probes"]
    assert sizes[0] < 64
    assert any(row["fits"] is not True for row in tried), "the limit forbade something"
    assert all(row["fits"] for row in chosen[2 * peaks[64]]["chosen"]["probes"])


def test_a_preset_that_does_not_fit_is_oom_and_the_others_complete(probed, tmp_path, cache):
    rows = {row["batch"]: row["train_peak_bytes"] / GIB for row in probed[1]["probes"]}
    limit = (rows["16 x 4"] + rows["64 x 1"]) / 2
    done = train(
        *("-m", "batch=05a,05c", "verify=false", *LARGER, f"device.memory_limit_gib={limit}"),
        *("batch.packing=none", "training.max_steps=3"),
        cwd=tmp_path,
        cache=cache,
    )
    statuses = {name: record["status"] for name, record in records(tmp_path).items()}
    assert statuses == {"0_batch=05a": "completed", "1_batch=05c": "oom"}, done.stderr
    record = records(tmp_path)["1_batch=05c"]
    assert "memory" in record["cause"]
    assert done.returncode == 0, "out of memory is a result"


def test_halving_keeps_the_effective_batch_and_says_what_it_did(probed, tmp_path, cache):
    rows = {row["batch"]: row["train_peak_bytes"] / GIB for row in probed[1]["probes"]}
    limit = (rows["16 x 4"] + rows["64 x 1"]) / 2
    done = train(
        *("batch=05c", "on_oom=halve", *LARGER, f"device.memory_limit_gib={limit}"),
        *("batch.packing=none", "training.max_steps=3"),
        cwd=tmp_path,
        cache=cache,
    )
    (record,) = records(tmp_path).values()
    assert record["status"] == "completed", done.stderr
    statuses = [attempt["status"] for attempt in record["attempts"]]
    assert statuses == ["oom"] * (len(statuses) - 1) + ["completed"]
    assert len(statuses) > 1
    plan = record["plan"]
    assert plan["per_device_train_batch_size"] < 64
    assert plan["effective_batch_size"] == 64
    assert plan["requested"]["per_device_train_batch_size"] == 64
    total = sum(attempt["duration_s"] for attempt in record["attempts"])
    assert record["metrics"]["total_time_s"] == pytest.approx(total)
