"""Full training, LoRA and QLoRA in one sweep through the real command line, and in one report."""

import importlib.util
import sys

import pytest
from support.causal_models import make_causal
from support.models import data_file, make_model, plain_tokenizer, save
from support.processes import run_to_end
from support.runs import records

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("peft", "bitsandbytes"))),
    reason="the extra qlora is not installed",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    tokenizer = plain_tokenizer()
    save(folder / "kobart", make_model("Bart", len(tokenizer), positions=1026), tokenizer)
    save(folder / "llama", make_causal("Llama", len(tokenizer)), tokenizer)
    # Wide enough that 4 bits and a rank of 2 are less.
    save(folder / "model", make_model("Bart", len(tokenizer), d_model=64), tokenizer)
    data_file(folder)
    return folder


def call(folder, *words):
    return run_to_end([sys.executable, "-m", *words], cwd=folder)


def command(*words):
    return [
        *("batchopt.train", "data=files", "data.train_file=data.csv", "cache_dir=cache"),
        *("model=pretrained", "model.name_or_path=model", "device.kind=cpu", "adapter.rank=2"),
        *("data.max_source_length=60", "data.max_target_length=20", "training.max_steps=2"),
        *("data.validation_fraction=0.2", "metric.tokenizer=whitespace", *words),
    ]


def test_a_sweep_records_what_each_trains_and_keeps(folder):
    words = ["-m", "adapter=none,lora,qlora", "batch=custom", "hydra.sweep.dir=sweep"]
    words += ["batch.per_device_train_batch_size=2,8", "batch.effective_batch_size=8"]
    done = call(folder, *command(*words, "model.extra_tokens=auto"))
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(folder / "sweep").values()
    assert len(found) == 6
    by_kind = {record["model"]["adapter"]: record for record in found}
    full, lora, qlora = (by_kind[kind] for kind in ("none", "lora", "qlora"))
    assert full["model"]["trainable_parameters"] == full["model"]["parameters"]
    assert 0 < lora["model"]["trainable_parameters"] < full["model"]["parameters"] / 3
    assert qlora["model"]["trainable_parameters"] == lora["model"]["trainable_parameters"]
    assert (lora["model"]["quantization"], qlora["model"]["quantization"]) == (None, "nf4")
    small, large = (one["metrics"]["frozen_weights_bytes"] for one in (qlora, lora))
    assert 0 < small < large
    for record in (lora, qlora):
        trained = record["model"]["trainable_parameters"]
        assert record["metrics"]["trained_weights_bytes"] == 4 * trained
        assert 2 * 4 * trained < record["metrics"]["optimizer_bytes"]
    assert qlora["metrics"]["mfu"] is None
    assert lora["metrics"]["mfu"] > 0
    log = next((folder / "sweep").glob("*qlora*/train.log")).read_text()
    assert "model.extra_tokens=auto found #Person1# (in " in log
    assert "verified: the batches give the same gradient" in done.stdout

    done = call(folder, "analysis", "sweep=sweep", "output=report")
    assert done.returncode == 0, done.stdout + done.stderr
    report = next((folder / "report").rglob("*.md")).read_text()
    assert "adapter = qlora" in report
    assert "What the peak memory is made of (GiB)" in report
    assert f"{lora['model']['trainable_parameters']:,}" in report


def test_a_layer_that_is_not_there_is_one_line_before_anything_runs(folder):
    words = ["adapter=lora", "adapter.target_modules=[q_prj]", "hydra.run.dir=wrong"]
    done = call(folder, *command(*words))
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("batchopt: ")]
    assert "adapter.target_modules names q_prj, and model has no such layer; its linear " in line
    assert "q_proj" in line
    assert not (folder / "wrong").exists()


ON_A_CPU = ["device.kind=cpu", "training.precision=auto", "data.train_file=data.csv"]
ON_A_CPU += ["cache_dir=cache", "data.validation_fraction=0.2", "training.max_steps=1"]


def test_a_sweep_of_the_recipe_for_korean(folder):
    words = ["-m", "+experiment=dialogsum_ko", *ON_A_CPU, "model.name_or_path=kobart"]
    words += ["training.arguments.tf32=null", "batch=05a,05b,05c", "hydra.sweep.dir=recipe"]
    done = call(folder, "batchopt.train", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    found = records(folder / "recipe").values()
    assert {record["status"] for record in found} == {"completed"}
    batches = [record["plan"]["per_device_train_batch_size"] for record in found]
    assert sorted(batches) == [8, 16, 64]
    assert all(record["plan"]["arguments"]["adam_beta2"] == 0.95 for record in found)
    assert "verified: the batches give the same gradient" in done.stdout
    assert "model.extra_tokens=auto found #Person1#" in done.stdout


def test_a_run_of_the_recipe_for_large_models(folder):
    words = ["+experiment=llm_qlora", *ON_A_CPU, "model.name_or_path=llama", "hydra.run.dir=llm"]
    words += ["adapter.base_dtype=fp32", "data.max_source_length=90", "data.max_target_length=20"]
    done = call(folder, "batchopt.train", *words, "data.prompt_template={dialogue}=")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(folder / "llm").values()
    assert record["status"] == "completed"
    assert record["preset"] == "1x64"
    assert record["plan"]["optimizer"] == "paged_adamw_8bit"
    assert record["plan"]["gradient_checkpointing"]
    saved = {file.name for file in (folder / "llm" / "checkpoints" / "checkpoint-1").iterdir()}
    assert "adapter_model.safetensors" in saved
    assert "model.safetensors" not in saved


def test_a_batch_is_probed_with_the_adapter(folder):
    words = ["adapter=lora", "batch=auto", "batch.effective_batch_size=8", "hydra.run.dir=auto"]
    done = call(folder, *command(*words))
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(folder / "auto").values()
    assert record["status"] == "completed"
    assert record["model"]["adapter"] == "lora"
    assert record["plan"]["per_device_train_batch_size"] <= 8
