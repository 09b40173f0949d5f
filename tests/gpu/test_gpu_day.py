"""What the first day on a GPU adds to `make test-gpu`: figures in pairs, in `make gpu-day`.

Minutes of runs one after the other; nothing else may use the GPU meanwhile.
"""

import json
from statistics import median

import pytest
from support.on_gpu import WIDE, one, run, skip_without_gpu
from support.runs import records

from batchopt.step.attention import CUDNN_SETTINGS

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
    ratio = against_the_defaults(preset, [option], {}, tmp_path, cache)
    value = f"{ratio['steps_per_second']:.2f} x the speed"
    value += f", {ratio['peak_memory_bytes']:.2f} x the memory"
    seen(f"{preset}, {option}", value, OPTIONS[option])
    assert ratio["steps_per_second"] > 0.2


def against_the_defaults(preset, words, environ, tmp_path, cache):
    """Figures of a run with more words or variables, as shares of a run's with the defaults.

    The medians of pairs in turn, so that a clock that falls is neither side's.
    """
    whole = [f"batch={preset}", *WIDE, "training.max_steps=40", "training.eval_steps=40"]
    pairs = []
    for turn in range(PAIRS):
        plain = one(*whole, cwd=tmp_path / f"plain{turn}", cache=cache)["metrics"]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environ.items():
                patch.setenv(name, value)
            other = one(*whole, *words, cwd=tmp_path / f"other{turn}", cache=cache)["metrics"]
        pairs.append((plain, other))
    figures = ("steps_per_second", "peak_memory_bytes", "eval_time_s")
    return {name: median(other[name] / plain[name] for plain, other in pairs) for name in figures}


@pytest.mark.parametrize("preset", ["05a", "05c"])
def test_attention_with_cudnn_would_not_be_faster(preset, tmp_path, cache, seen):
    """On Hopper and Blackwell torch prefers cuDNN, which builds a plan for each new shape."""
    ratio = against_the_defaults(preset, [], {CUDNN_SETTINGS[0]: "0"}, tmp_path, cache)
    for figure, value in ratio.items():
        expected = "below 1" if figure == "steps_per_second" else "above 1, or about 1"
        seen(f"{preset}, with cuDNN: {figure}", f"{value:.2f} x the default's", expected)
    assert ratio["steps_per_second"] < 1.2


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
