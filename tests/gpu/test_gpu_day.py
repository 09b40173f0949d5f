"""What the first day on a GPU adds to `make test-gpu`: figures in pairs, in `make gpu-day`.

Minutes of runs one after the other; nothing else may use the GPU meanwhile.
"""

import json
from statistics import median

import pytest
from support.on_gpu import WIDE, one, run, skip_without_gpu
from support.runs import records

pytestmark = [pytest.mark.gpu_day, skip_without_gpu]

PAIRS = 3
"""Runs of each side of a pair, in turn."""


def test_the_mfu_of_equal_runs_spreads_little(tmp_path, cache, seen):
    figures = [
        one("batch=05c", *WIDE, f"seed={seed}", cwd=tmp_path / str(seed), cache=cache)["metrics"][
            "mfu"
        ]
        for seed in range(PAIRS)
    ]
    spread = (max(figures) - min(figures)) / median(figures)
    seen("MFU of three equal runs", f"{median(figures):.3f}, spread {spread:.1%}", "at most 10 %")
    assert all(0 < figure < 1 for figure in figures)
    assert spread < 0.1


OPTIONS = {
    "training.torch_compile=true": "above 1 for 05a: it joins many small kernels",
    "training.dataloader_num_workers=0": "below 1: the default is 4",
    "training.dataloader_num_workers=8": "about 1",
    "training.pad_to_multiple_of=1": "about 1, or below",
    "batch.packing=none": "below 1",
}
"""Options beside the default, and their speed as a share of the default's, as expected."""


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("preset", ["05a", "05c"])
def test_what_an_option_changes_in_speed_and_memory(option, preset, tmp_path, cache, seen):
    """Interleaved, so that a clock that falls is no option's."""
    plain, other = [], []
    for turn in range(PAIRS):
        for side, chosen, folder in ((plain, [], "plain"), (other, [option], "other")):
            cwd = tmp_path / f"{folder}{turn}"
            whole = [f"batch={preset}", *WIDE, "training.max_steps=40", "training.eval_steps=40"]
            side.append(one(*whole, *chosen, cwd=cwd, cache=cache)["metrics"])
    speed, memory = (
        median(b[key] / a[key] for a, b in zip(plain, other, strict=True))
        for key in ("steps_per_second", "peak_memory_bytes")
    )
    value = f"{speed:.2f} x the speed, {memory:.2f} x the memory"
    seen(f"{preset}, {option}", value, OPTIONS[option])
    assert speed > 0.2


@pytest.mark.parametrize("preset", ["05a", "05c"])
def test_what_attention_without_cudnn_gains(preset, tmp_path, cache, seen, monkeypatch):
    """On Hopper and Blackwell torch prefers cuDNN, which builds a plan for each new shape."""
    plain, cudnn = [], []
    for turn in range(PAIRS):
        for side, setting in ((plain, None), (cudnn, "0")):
            if setting is not None:
                monkeypatch.setenv("TORCH_CUDNN_SDPA_DEPRIORITIZED", setting)
            cwd = tmp_path / f"{turn}{setting}"
            whole = [f"batch={preset}", *WIDE, "training.max_steps=40", "training.eval_steps=40"]
            side.append(one(*whole, cwd=cwd, cache=cache)["metrics"])
            monkeypatch.delenv("TORCH_CUDNN_SDPA_DEPRIORITIZED", raising=False)
    for figure in ("steps_per_second", "eval_time_s", "peak_memory_bytes"):
        ratio = median(a[figure] / b[figure] for a, b in zip(plain, cudnn, strict=True))
        seen(f"{preset}, without cuDNN: {figure}", f"{ratio:.2f} x that with cuDNN", "not slower")


def test_the_probe_foretells_the_peaks_of_the_runs(tmp_path, cache, seen):
    words = [*WIDE, "device.wait_for_free=false"]
    run("batchopt.probe", "--json", str(tmp_path / "p.json"), *words, cwd=tmp_path, cache=cache)
    probed = {
        row["batch"]: row["train_peak_bytes"]
        for row in json.loads((tmp_path / "p.json").read_text())["probes"]
    }
    (tmp_path / "sweep").mkdir()
    run(
        *("batchopt.train", "-m", "batch=05a,05b,05c", *words),
        cwd=tmp_path / "sweep",
        cache=cache,
    )
    off = {}
    for record in records(tmp_path / "sweep").values():
        plan, peak = record["plan"], record["metrics"]["peak_memory_bytes"]
        pair = (plan["per_device_train_batch_size"], plan["gradient_accumulation_steps"])
        off["{} x {}".format(*pair)] = probed["{} x {}".format(*pair)] / peak - 1
    listed = ", ".join(f"{batch}: {error:+.1%}" for batch, error in off.items())
    seen("the probe's peaks against the runs'", listed, "10 % at most")
    assert all(abs(error) < 0.1 for error in off.values())


def test_a_run_without_enough_memory_goes_on_with_half_the_batch(tmp_path, cache, seen):
    large = ["model.vocab_size=3000", "model.d_model=1024", "model.ffn_dim=4096", "model.layers=6"]
    record = one(
        *("batch=05c", *large, "device.memory_limit_gib=4", "training.max_steps=3"),
        *("on_oom=halve", "verify=false"),
        cwd=tmp_path / "halved",
        cache=cache,
    )
    plan = record["plan"]
    pair = (plan["per_device_train_batch_size"], plan["gradient_accumulation_steps"])
    seen("64 x 1 in 4 GiB, on_oom=halve", "{} x {}".format(*pair), "a smaller pair of 64")
    assert pair[0] * pair[1] == 64
    assert pair[0] < 64
