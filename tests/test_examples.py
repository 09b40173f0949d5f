"""The public names, and that each can be used alone as examples/ shows."""

import copy
import importlib
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from support import TOP
from support.fake_nvml import GIB, card

import batchopt
from batchopt.record.documents import PlannedRun, Record, SweepPlan
from batchopt.record.files import SWEEP, write_json
from batchopt.record.write import write_record

EXAMPLES = TOP / "examples"


@pytest.fixture
def example(monkeypatch):
    """Imports an example by name, as if it were run in its folder."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def public_lines(path):
    """The lines of an example that name something of batchopt's."""
    text = path.read_text(encoding="utf-8")
    names = [name for name in batchopt.__all__ if name in text.split("from batchopt", 1)[-1]]
    code = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in code if any(name in line for name in names)]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_takes_fewer_than_ten_lines_of_batchopt(path):
    text = path.read_text(encoding="utf-8")
    if path.stem != "tiny":
        assert f"`{path.name}`" in (EXAMPLES / "README.md").read_text(encoding="utf-8")
        assert 2 <= len(public_lines(path)) < 10
        assert "from batchopt." not in text, "examples use public names only"


def test_the_stock_trainer_with_the_exact_loss_has_the_gradient_of_the_whole_step(
    example, monkeypatch
):
    """64 examples are one step, in whatever order: 8 x 8 against all at once."""
    import torch
    from transformers import DataCollatorForSeq2Seq

    tiny, script = example("tiny"), example("exact_loss")
    torch.manual_seed(0)
    model, rows = tiny.model(), tiny.rows(64)
    whole = copy.deepcopy(model)
    monkeypatch.setattr(tiny, "model", lambda: model)
    monkeypatch.setattr(tiny, "rows", lambda: rows)
    first = script.main().state.log_history[0]

    batch = DataCollatorForSeq2Seq(tiny.tokenizer(), model=whole)(rows)
    loss = whole(**batch).loss  # of one batch, the stock loss is exact
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in whole.parameters() if p.grad is not None]).norm()
    assert first["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert first["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)


def test_the_exact_loss_refuses_outputs_that_are_not_of_the_labels(example):
    import torch

    model = example("tiny").model()
    batch = {"input_ids": torch.ones(2, 9, dtype=torch.long)}
    with pytest.raises(ValueError, match="DataCollatorForSeq2Seq"):
        batchopt.exact_loss(model(**batch), torch.ones(2, 4, dtype=torch.long))


def test_steps_may_be_planned_in_ones_own_trainer(example):
    trainer = example("planned_steps").main()
    assert trainer.state.global_step == 2
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert all(3 < loss < 5 for loss in losses), "nats per token, not eight times as many"


def test_ones_own_trainer_takes_what_find_batch_found(example):
    choice, trainer = example("own_trainer").main()
    assert trainer.state.global_step == 2
    size = trainer.args.per_device_train_batch_size
    assert size == choice.per_device_train_batch_size
    assert size * trainer.args.gradient_accumulation_steps == 64
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert all(3 < loss < 5 for loss in losses), "nats per token"


def test_the_metric_alone_scores_in_the_stock_trainer(example):
    metrics = example("korean_rouge").main()
    assert metrics["eval_rouge1_f1"] == 1, "the model repeats the reference"
    assert set(metrics) >= {"eval_rouge2_f1", "eval_rougeL_f1", "eval_rouge_f1"}


def test_the_planner_alone_saves_padding(example, capsys):
    totals = example("plan_by_hand").main()
    assert totals["balanced"] <= totals["sorted"] < totals["none"]
    assert "balanced" in capsys.readouterr().out


def test_the_monitor_alone_reads_the_card(example, fake, capsys):
    fake.set(card(0, used=5 * GIB))
    logs = example("gpu_memory").main()
    assert logs["gpu_used_bytes"] == 5 * GIB
    assert logs["power_w"] == 50


def test_without_a_gpu_the_example_says_so(example, capsys, monkeypatch):
    def no_driver(_):
        raise batchopt.NvmlError("no driver")

    script = example("gpu_memory")
    monkeypatch.setattr(script, "visible_devices", no_driver)
    assert script.main() is None
    assert "no driver" in capsys.readouterr().out


def test_the_record_reader_alone_reads_a_sweep(example, tmp_path, capsys):
    run = tmp_path / "0_batch=05a"
    run.mkdir()
    jobs = (
        PlannedRun(overrides=("batch=05a",), run_dir=run.name, preset="05a", seed=1),
        PlannedRun(overrides=("batch=05b",), run_dir="1_batch=05b", preset="05b", seed=1),
    )
    write_json(tmp_path / SWEEP, asdict(SweepPlan(command="", jobs=jobs)))
    plan = {"per_device_train_batch_size": 8}
    write_record(run, Record(status="oom", cause="no memory", preset="05a", seed=1, plan=plan))
    rows = example("read_records").main(tmp_path)
    assert [row[:2] for row in rows] == [("0_batch=05a", "oom"), ("1_batch=05b", "missing")]


def test_public_names_are_there_documented_and_typed():
    assert set(batchopt.__all__) | {"__version__"} == set(dir(batchopt))
    for name in batchopt.__all__:
        value = getattr(batchopt, name)
        assert value.__doc__, name
        assert value.__module__.startswith("batchopt."), name
    assert (Path(batchopt.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", ["ExactTrainer", "supervise", "compose_run", "RequestErr"])
def test_what_is_not_public_is_not_importable_from_the_top(name):
    with pytest.raises(ImportError):
        exec(f"from batchopt import {name}", {})


def test_import_batchopt_is_light():
    code = "import sys, batchopt; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"torch", "hydra", "numpy", "psutil", "rich"} & set(loaded) == set()
    assert [name for name in loaded if name.startswith("batchopt.")] == []
