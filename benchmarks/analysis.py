"""How long the analysis takes over many runs, read for the first time and again.

    python benchmarks/analysis.py [RUNS] [LINES]

Writes sweeps of so many runs (10,000) with so many lines of metrics.jsonl each (200), one tenth as
many samples of memory and scored examples, and analyses them in a process of its own, twice.
Reports seconds of wall time and the peak of resident memory.
"""

import json
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

PRESETS = {"05a": (8, 8), "05b": (16, 4), "05c": (64, 1)}
RATES = ("1e-4", "3e-4", "1e-3", "3e-3", "1e-2")
SEEDS = 67
"""3 presets x 5 learning rates x 67 seeds: about 1,000 runs a sweep."""

CONFIG = """\
batch:
  per_device_train_batch_size: {batch}
  gradient_accumulation_steps: {accumulation}
  effective_batch_size: 64
  packing: sorted
model:
  source: tiny
  learning_rate: 0.002
training:
  learning_rate: {rate}
  num_train_epochs: 5
seed: {seed}
"""


def write_tree(root: Path, runs: int, lines: int) -> None:
    """Writes sweeps until there are enough runs."""
    combinations = [
        (preset, rate, seed) for seed in range(1, SEEDS + 1) for rate in RATES for preset in PRESETS
    ]
    for sweep in range(-(-runs // len(combinations))):
        chosen = combinations[: runs - sweep * len(combinations)]
        directory = root / "multirun" / "2026-11-24" / f"{sweep:02d}-00-00"
        directory.mkdir(parents=True)
        jobs = [
            write_run(directory, number, preset, rate=rate, seed=seed + SEEDS * sweep, lines=lines)
            for number, (preset, rate, seed) in enumerate(chosen)
        ]
        plan = {"schema_version": 1, "created_at": "", "command": "benchmark", "jobs": jobs}
        (directory / "sweep.json").write_text(json.dumps(plan))


def write_run(
    sweep: Path, number: int, preset: str, *, rate: str, seed: int, lines: int
) -> dict[str, object]:
    """Writes one run and returns its job in the plan."""
    chance = random.Random(f"{preset}/{rate}/{seed}")
    batch, accumulation = PRESETS[preset]
    run = sweep / f"{number}_batch={preset},seed={seed},training.learning_rate={rate}"
    speed = {8: 0.46, 16: 0.52, 64: 0.41}[batch] * chance.gauss(1, 0.01)
    peak = {8: 0.61, 16: 0.74, 64: 1.32}[batch] * 2**30 * chance.gauss(1, 0.01)
    best = 0.5 + chance.gauss(0, 0.01)
    overrides = [f"batch={preset}", f"training.learning_rate={rate}", f"seed={seed}"]
    planned = {
        "number": number,
        "overrides": overrides,
        "run_dir": run.name,
        "preset": preset,
        "seed": seed,
        "per_device_train_batch_size": batch,
        "gradient_accumulation_steps": accumulation,
        "effective_batch_size": 64,
    }
    (run / ".hydra").mkdir(parents=True)
    (run / ".hydra" / "config.yaml").write_text(
        CONFIG.format(batch=batch, accumulation=accumulation, rate=rate, seed=seed)
    )
    steps = [5 * (place + 1) for place in range(lines)]
    evaluations = steps[:: max(1, lines // 5)]
    rows = [
        {
            **{"kind": "train", "step": step, "epoch": step / 32, "time_s": step / speed + 9},
            **{"train_time_s": step / speed * chance.gauss(1, 0.0001), "learning_rate": 1e-3},
            **{"train_loss": 1 + 5 * 0.98**step + chance.random() / 50, "grad_norm": 1.0},
        }
        for step in steps[: lines - len(evaluations)]
    ] + [
        {
            **{"kind": "evaluation", "step": step, "epoch": step / 32, "time_s": step / speed + 9},
            **{"train_time_s": step / speed, "eval_time_s": 3.0, "eval_loss": 1.3},
            **dict.fromkeys(
                ("rouge1_f1", "rouge2_f1", "rougeL_f1", "rouge_f1"), best * step / evaluations[-1]
            ),
        }
        for step in evaluations
    ]
    _write_lines(run / "metrics.jsonl", rows)
    _write_lines(
        run / "memory.jsonl",
        [
            {"time_s": place, "phase": "train", "memory_bytes": int(peak * chance.uniform(0.9, 1))}
            for place in range(lines // 10)
        ],
    )
    _write_lines(
        run / "predictions.jsonl",
        [
            {"id": f"sample-{place}", "references": ["요약 " * 9], "prediction": "요약 " * 9}
            | dict.fromkeys(("rouge1_f1", "rouge2_f1", "rougeL_f1"), chance.random())
            for place in range(lines // 10)
        ],
    )
    seconds = steps[-1] / speed
    record = {
        "schema_version": 1,
        **{"status": "completed", "cause": None, "overrides": overrides},
        **{"preset": preset, "seed": seed, "data_fingerprint": "abc", "config_hash": "def"},
        "plan": {**planned, "packing": "sorted"},
        "metrics": {
            **{"peak_memory_bytes": peak, "mean_memory_bytes": peak * 0.9},
            **{"memory_source": "process_anonymous", "rouge_tokenizer": "kiwi"},
            **{"steps_per_second": speed, "samples_per_second": 64 * speed},
            **{"tokens_per_second": 6400 * speed, "padding_fraction": 0.12},
            **{"warmup_steps_left_out": 10, "train_time_s": seconds, "eval_time_s": 15.0},
            **{"total_time_s": seconds + 30, "train_loss": 1.0, "eval_loss": 1.3},
            **{"rouge_f1": best, "rouge1_f1": best, "rouge2_f1": best, "rougeL_f1": best},
            **{"initial_rouge_f1": 0.02, "best_rouge_f1": best, "best_step": evaluations[-1]},
        },
        "environment": {
            **{"device_name": "CPU", "device_kind": "cpu", "hostname": "node1", "cpu_count": 2},
            **{"python": "3.11.9", "precision": "fp32", "packages": {"torch": "2.13.0"}},
        },
        "data": {"source": "sample", "train_examples": 2000},
        "model": {"name": "tiny", "parameters": 345_600},
    }
    (run / "record.json").write_text(json.dumps(record))
    return planned


def _write_lines(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def measure(root: Path) -> tuple[float, float]:
    """Seconds and GiB of one analysis of the tree."""
    arguments = [sys.executable, "-m", "analysis", f"sweep={root / 'multirun'}"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    started = time.perf_counter()
    pid = os.posix_spawn(sys.executable, arguments, environment)
    _, status, usage = os.wait4(pid, 0)
    if status:
        sys.exit("the analysis failed")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def main() -> None:
    """Writes, measures and reports."""
    runs, lines = (int(word) for word in (*sys.argv[1:], "10000", "200")[:2])
    root = Path(tempfile.mkdtemp(prefix="bench-analysis-"))
    try:
        write_tree(root, runs, lines)
        os.chdir(root)
        for name in ("first", "again"):
            seconds, gib = measure(root)
            print(f"{name}: {runs:,} runs of {lines} lines in {seconds:.1f} s, {gib:.2f} GiB")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
