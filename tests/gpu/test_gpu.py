"""What only a machine with an NVIDIA GPU can show: `make test-gpu`.

Everything here runs the real command line on one GPU: a free one if there is one.
docs/gpu-checklist.md says what each test stands for. The table printed at the end belongs there.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from support.causal_models import make_causal
from support.models import plain_tokenizer, save
from support.on_gpu import GPUS, MIB, ON_GPU, WIDE, Seen, losses, one, run, skip_without_gpu
from support.processes import run_to_end, wait_for
from support.runs import records, resume, start, worker_of

from batchopt.machine import nvml

pytestmark = [pytest.mark.gpu, skip_without_gpu]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, cache) -> dict[str, dict]:
    cwd = tmp_path_factory.mktemp("sweep")
    words = ["batch=05a,05b,05c", "training.max_steps=40", "device.wait_for_free=false"]
    run("batchopt.train", "-m", *words, cwd=cwd, cache=cache)
    return records(cwd)


def test_every_figure_of_a_gpu_is_measured(sweep, gpu, seen: Seen):
    """Fields that some cards or containers lack are printed, not demanded."""
    for name, record in sweep.items():
        assert record["status"] == "completed", record["cause"]
        metrics = record["metrics"]
        assert record["environment"]["device_uuid"] == gpu.uuid
        for figure in (
            *("peak_memory_bytes", "mean_memory_bytes", "peak_allocated_bytes"),
            *("peak_reserved_bytes", "fragmentation_bytes", "eval_peak_allocated_bytes", "mfu"),
            *("steps_per_second", "step_time_median_s", "forward_s", "backward_s"),
        ):
            assert metrics[figure] is not None, (name, figure)
        absent = [figure for figure, value in metrics.items() if value is None]
        seen(f"{name}: not measured", ", ".join(absent) or "nothing", "what the card lacks")
        seen(f"{name}: memory source", metrics["memory_source"], "nvml_process")
        seen(f"{name}: steps/s", f"{metrics['steps_per_second']:.2f}", "most at 64 x 1")
        seen(f"{name}: MFU", f"{metrics['mfu']:.3f}", "0 to 1; small for a small model")


def test_the_driver_counts_what_the_allocator_holds_and_the_context(sweep, seen):
    for name, record in sweep.items():
        metrics = record["metrics"]
        assert metrics["peak_allocated_bytes"] <= metrics["peak_reserved_bytes"]
        assert metrics["peak_reserved_bytes"] <= metrics["peak_memory_bytes"] + 64 * MIB
        outside = metrics["outside_allocator_bytes"]
        assert outside < 4 * 2**30
        seen(f"{name}: outside the allocator", f"{outside / MIB:.0f} MiB", "300 to 1000 MiB")


def test_the_parts_of_a_step_make_up_the_step(sweep):
    for record in sweep.values():
        metrics = record["metrics"]
        parts = sum(
            metrics[f"{part}_s"] for part in ("data_wait", "forward", "backward", "optimizer")
        )
        assert 0.5 < parts * metrics["steps_per_second"] < 1.05


def test_the_peak_of_the_training_has_no_evaluation_in_it(tmp_path, cache, seen):
    """What an evaluation leaves in the allocator is given back before the training goes on."""
    peaks = [
        one("batch=05a", *WIDE, f"training.eval_steps={every}", cwd=tmp_path / every, cache=cache)[
            "metrics"
        ]["peak_memory_bytes"]
        for every in ("3", "12")
    ]
    listed = " and ".join(f"{each / MIB:.0f} MiB" for each in peaks)
    seen("peak with 4 evaluations and with 1", listed, "the same to 5 %")
    assert abs(peaks[0] - peaks[1]) < max(64 * MIB, 0.05 * peaks[1])


@pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32"])
def test_the_presets_are_the_same_training_in_each_precision(precision, tmp_path, cache, seen):
    text = run("batchopt.verify", f"training.precision={precision}", cwd=tmp_path, cache=cache)
    seen(f"verify in {precision}", text.strip().splitlines()[-1], "the same training")
    assert precision in text


@pytest.mark.parametrize(
    "word",
    [
        "training.precision=fp16",
        "training.gradient_checkpointing=true",
        "training.dataloader_num_workers=4",
        "training.torch_compile=true",
    ],
)
def test_each_way_to_train_learns_the_same(word, tmp_path, cache, seen):
    words = ["batch=05a", "training.max_steps=12", "model.d_model=64"]
    plain = one(*words, cwd=tmp_path / "plain", cache=cache)
    other = one(*words, word, cwd=tmp_path / "other", cache=cache)
    expected = losses(tmp_path / "plain")
    assert losses(tmp_path / "other") == pytest.approx(expected, rel=0.05)
    speeds = [record["metrics"]["steps_per_second"] for record in (plain, other)]
    listed = " and ".join(f"{each:.2f}" for each in speeds)
    seen(f"{word}: steps/s, before and after", listed, "the same losses to 5 %")


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_joined_rows_train_the_same(attention, tmp_path, cache, seen):
    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn")
    tokenizer = plain_tokenizer()
    llama = make_causal("Llama", len(tokenizer), hidden_size=64, max_position_embeddings=2048)
    words = [
        *(word for word in ON_GPU if not word.startswith(("model.", "data."))),
        *("model=causal", f"model.name_or_path={save(tmp_path / 'llama', llama, tokenizer)}"),
        *("data.train_examples=640", "data.validation_examples=8", f"cache_dir={cache}"),
        *("data.max_source_length=1000", "batch=05a", "training.max_steps=12"),
        *("training.precision=bf16", f"model.attention={attention}"),
        *("training.logging_steps=1", "device.wait_for_free=false"),
    ]
    speeds = {}
    for packing in ("balanced", "unpadded"):
        cwd = tmp_path / packing
        cwd.mkdir()
        command = [sys.executable, "-m", "batchopt.train", *words, f"batch.packing={packing}"]
        done = run_to_end(command, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        [record] = records(cwd).values()
        assert record["status"] == "completed", record["cause"]
        speeds[packing] = record["metrics"]["steps_per_second"]
    padded, joined = (losses(tmp_path / packing) for packing in speeds)
    assert joined == pytest.approx(padded, rel=0.05)
    listed = " and ".join(f"{each:.2f}" for each in speeds.values())
    seen(f"unpadded, {attention}: steps/s, before and after", listed, "more with flash attention")


def test_a_run_that_was_stopped_between_two_log_lines_goes_on(tmp_path, cache, seen):
    """It goes on to the losses of a run that was not stopped."""
    words = ["batch=05a", "training.logging_steps=5", "training.max_steps=200"]
    (tmp_path / "stopped").mkdir()
    stopped = start(
        *(*words, "device.kind=cuda", "device.wait_for_free=false", "hydra.run.dir=run"),
        cwd=tmp_path / "stopped",
        cache=cache,
    )
    wait_for(lambda: worker_of(tmp_path / "stopped"), "the run to train", process=stopped)
    os.kill(stopped.pid, signal.SIGINT)
    output, _ = stopped.communicate(timeout=120)
    (record,) = records(tmp_path / "stopped").values()
    assert record["status"] == "interrupted", output
    seen("Ctrl-C", record["cause"], "a checkpoint at the step it was in")
    done = resume(tmp_path / "stopped" / "run", cwd=tmp_path / "stopped")
    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = records(tmp_path / "stopped").values()
    assert record["status"] == "completed", record["cause"]
    one(*words, cwd=tmp_path / "whole", cache=cache)
    whole, both = losses(tmp_path / "whole"), losses(tmp_path / "stopped")
    assert both == pytest.approx(whole, rel=0.02)
    seen("resume is bit-identical", both == whole, "True; if not, docs/how-to/slurm.md says so")


def test_a_memory_limit_on_the_gpu_makes_a_recorded_oom(tmp_path, cache, seen):
    large = ["model.vocab_size=3000", "model.d_model=1024", "model.ffn_dim=4096", "model.layers=6"]
    run(
        *("batchopt.train", "-m", "batch=05c", *large, "device.memory_limit_gib=1.5"),
        *("training.max_steps=3", "verify=false", "device.wait_for_free=false"),
        cwd=tmp_path,
        cache=cache,
    )
    (record,) = records(tmp_path).values()
    seen("a limit of 1.5 GiB", f"{record['status']}: {record['cause']}", "oom")
    assert record["status"] == "oom", record["cause"]


def test_a_model_from_a_folder_trains(tmp_path, cache):
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    one("batch=05a", "training.max_steps=2", cwd=tmp_path / "first", cache=cache)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(
        next(path.parent for path in cache.rglob("tokenizer.json"))
    )
    folder = tmp_path / "bart"
    sizes = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 2}
    tokens = {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.eos_token_id,
    }
    heads = {"encoder_attention_heads": 4, "decoder_attention_heads": 4}
    BartForConditionalGeneration(BartConfig(**sizes, **heads, **tokens)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    words = [
        word
        for word in ON_GPU
        if not word.startswith("model.")  # the folder's own
    ]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "batchopt.train", *words, f"cache_dir={cache}", "batch=05b"),
            *("model=pretrained", f"model.name_or_path={folder}", "device.wait_for_free=false"),
        ],
        cwd=tmp_path / "first",
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert {record["status"] for record in records(tmp_path).values()} == {"completed"}


def test_the_probe_predicts_on_a_gpu(tmp_path, cache, seen):
    words = ["--json", str(tmp_path / "probe.json"), "device.wait_for_free=false"]
    run("batchopt.probe", *words, cwd=tmp_path, cache=cache)
    figures = json.loads((tmp_path / "probe.json").read_text())
    assert all(row["fits"] for row in figures["probes"])
    errors = figures["memory"]["held_out_errors"]
    seen("probe: a size predicted from the others", errors, "off by 5 % at most")
    assert abs(errors["16 x 4"]) < 0.05


def test_batch_auto_chooses_on_a_gpu(tmp_path, cache, seen):
    record = one("batch=auto", cwd=tmp_path / "auto", cache=cache)
    assert record["plan"]["chosen"]["reason"]
    seen("batch=auto", record["plan"]["chosen"]["reason"], "a pair and why")


def test_a_killed_run_gives_the_gpu_back(tmp_path, cache, gpu, seen):
    before = _used(gpu)
    killed = start(
        *("batch=05a", *WIDE, "training.max_steps=100000"),
        *("device.kind=cuda", "device.wait_for_free=false"),
        cwd=tmp_path,
        cache=cache,
    )
    worker = wait_for(lambda: worker_of(tmp_path), "the run to train", process=killed)
    during = wait_for(lambda: max(0, _used(gpu) - before), "the run to take memory")
    os.kill(worker, signal.SIGKILL)
    output, _ = killed.communicate(timeout=120)
    (record,) = records(tmp_path).values()
    assert record["status"] == "killed", output
    wait_for(lambda: _used(gpu) - before < 64 * MIB, "the memory to come back")
    seen("kill -9 of the worker gave back", f"{during / MIB:.0f} MiB", "all it had")


def _used(gpu) -> int:
    with nvml.DeviceMonitor(gpu.uuid) as monitor:
        return monitor.sample(()).device_used_bytes or 0


def test_local_gpus_runs_a_sweep(tmp_path, cache, gpu):
    words = ["-m", "hydra/launcher=local_gpus", "batch=05a,05b", "device.wait_for_free=false"]
    run("batchopt.train", *words, cwd=tmp_path, cache=cache)
    done = records(tmp_path).values()
    assert [record["status"] for record in done] == ["completed", "completed"]
    assert {record["environment"]["device_uuid"] for record in done} == {gpu.uuid}


@pytest.mark.skipif(len(GPUS) < 2, reason="there is one GPU here")
def test_two_gpus_train_side_by_side_and_verify_sees_one(tmp_path, cache, monkeypatch):
    pair = [gpu.uuid for gpu in GPUS[:2]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(pair))
    words = ["-m", "hydra/launcher=local_gpus", "batch=05a,05b", "device.wait_for_free=false"]
    run("batchopt.train", *words, "training.max_steps=200", cwd=tmp_path, cache=cache)
    done = records(tmp_path).values()
    assert {record["environment"]["device_uuid"] for record in done} == set(pair)
    words = ["--json", "verify.json", "device.wait_for_free=false"]
    run("batchopt.verify", *words, cwd=tmp_path, cache=cache)
    stock = {
        row["preset"]: row for row in json.loads((tmp_path / "verify.json").read_text())["stock"]
    }
    assert stock["05a"]["gradient_ratio"] == pytest.approx(8, rel=0.1), "no DataParallel"


def test_the_doctor_sees_the_gpu(tmp_path, gpu):
    done = subprocess.run(
        [sys.executable, "-m", "batchopt.doctor", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert gpu.uuid in done.stdout
