"""Writes a sweep with the files of real runs, by the record's own constructor."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchopt.record.documents import BATCH, PlannedRun, Record, SweepPlan
from batchopt.record.files import write_json, write_jsonl
from batchopt.record.metrics import GIB
from batchopt.record.write import write_record

PLANS = {"05a": (8, 8), "05b": (16, 4), "05c": (64, 1)}


def make_sweep(root: Path, jobs: list[dict[str, Any]], name: str = "2026-11-23/10-30-00") -> Path:
    """Writes a sweep of jobs; each is a preset, a seed and what `write_run` takes.

    A job with status="missing" is planned and leaves nothing.
    """
    sweep = root / "multirun" / name
    planned = []
    for number, job in enumerate(jobs):
        preset, seed = job["preset"], job.get("seed", 1)
        batch, accumulation = job.get("pair") or PLANS.get(preset, (8, 8))
        overrides = tuple(job.get("overrides") or [f"batch={preset}", f"seed={seed}"])
        planned.append(
            PlannedRun(
                number=number,
                overrides=overrides,
                run_dir=f"{number}_{','.join(overrides)}",
                preset=preset,
                seed=seed,
                per_device_train_batch_size=batch,
                gradient_accumulation_steps=accumulation,
                effective_batch_size=batch * accumulation,
            )
        )
        if job.get("status") != "missing":
            write_run(sweep / planned[-1].run_dir, planned[-1], job)
    plan = SweepPlan(
        created_at="2026-11-23T10:30:00Z",
        command="python -m batchopt.train -m batch=05a,05b,05c",
        jobs=tuple(planned),
    )
    write_json(sweep / "sweep.json", asdict(plan))
    return sweep


def write_run(run: Path, planned: PlannedRun, job: dict[str, Any]) -> None:
    status = job.get("status", "completed")
    completed = status == "completed"
    speed, peak_gib = job.get("speed", 0.5), job.get("peak_gib", 0.7)
    # (step, rouge_f1) of the evaluations; the training clock follows from the speed.
    rouge = job.get("rouge", [(0, 0.02), (50, 0.3), (100, 0.45), (157, 0.5)]) if completed else []
    best_step, best = max(rouge, key=lambda row: row[1], default=(None, None))
    metrics = {
        "peak_memory_bytes": int(peak_gib * GIB),
        "mean_memory_bytes": int(peak_gib * 0.8 * GIB),
        "baseline_memory_bytes": GIB // 4,
        "memory_source": "process_anonymous",
        "steps_per_second": speed if completed else None,
        "samples_per_second": speed * 64 if completed else None,
        "tokens_per_second": speed * 6400 if completed else None,
        "padding_fraction": 0.12,
        "optimizer_steps_done": 157 if completed else 3,
        "warmup_steps_left_out": 10 if completed else 0,
        "train_time_s": 157 / speed if completed else 3 / speed,
        "eval_time_s": 12.0 if completed else None,
        "total_time_s": 157 / speed + 30,
        "train_loss": 1.2 if completed else None,
        "eval_loss": 1.3 if completed else None,
        "rouge1_f1": rouge[-1][1] if rouge else None,
        "rouge2_f1": rouge[-1][1] if rouge else None,
        "rougeL_f1": rouge[-1][1] if rouge else None,
        "rouge_f1": rouge[-1][1] if rouge else None,
        "initial_rouge_f1": rouge[0][1] if rouge else None,
        "best_rouge_f1": best,
        "best_step": best_step,
        "rouge_tokenizer": "kiwi",
        **job.get("metrics", {}),
    }
    plan = {key: getattr(planned, key) for key in BATCH}
    record = Record(
        status=status,
        cause=None if completed else job.get("cause", f"the run ended {status}"),
        started_at="2026-11-23T10:30:00Z",
        ended_at="2026-11-23T10:36:00Z",
        overrides=planned.overrides,
        preset=planned.preset,
        seed=planned.seed,
        plan={
            **plan,
            "packing": "sorted",
            "optimizer_steps": 157,
            "train_examples": 2000,
            "validation_examples": 200,
        },
        metrics=metrics,
        environment={
            "python": "3.11.9",
            "packages": {"torch": "2.13.0+cpu", "transformers": "5.23.0"},
            "platform": "Linux-6.1-x86_64",
            "hostname": "node1",
            "device_name": "AMD EPYC 7763",
            "device_uuid": None,
            "driver_version": None,
            "cpu_model": "AMD EPYC 7763",
            "cpu_count": 2,
            "device_kind": "cpu",
            "precision": "fp32",
            "git_commit": "0123456789abcdef",
            "git_dirty": False,
            "slurm_job_id": None,
            **job.get("environment", {}),
        },
        data={
            "source": "sample",
            "train_examples": 2000,
            "validation_examples": 200,
            "skipped_rows": 0,
            "truncated_sources": 0,
            "truncated_targets": 0,
            "max_source_length": 512,
            "max_target_length": 128,
        },
        model={"name": "tiny", "parameters": 345_600},
        data_fingerprint=job.get("data_fingerprint", "abc123"),
        config_hash="def456",
    )
    write_record(run, record)
    if job.get("config"):
        (run / ".hydra").mkdir()
        # JSON is YAML.
        config = {"batch": plan, "seed": planned.seed, **job["config"]}
        write_json(run / ".hydra" / "config.yaml", config)
    steps = range(5, 158, 5) if completed else range(1, 4)
    write_jsonl(
        run / "metrics.jsonl",
        [
            {
                "kind": "train",
                "step": step,
                "epoch": step / 31.4,
                "time_s": step / speed + 8,
                "train_time_s": step / speed,
                "train_loss": 1.2 + 5.7 * 0.97**step + 0.01 * (planned.seed or 0),
                "learning_rate": 0.001,
                "grad_norm": 1.2,
            }
            for step in steps
        ]
        + [
            {
                "kind": "evaluation",
                "step": step,
                "time_s": step / speed + 10,
                "train_time_s": step / speed,
                "eval_time_s": 3.0,
                "eval_loss": 1.3,
                "rouge1_f1": score,
                "rouge2_f1": score,
                "rougeL_f1": score,
                "rouge_f1": score,
            }
            for step, score in rouge
        ],
    )
    seconds = 157 / speed if completed else 12
    write_jsonl(
        run / "memory.jsonl",
        [
            {
                "time_s": seconds * part / 60,
                "phase": "load" if part < 5 else "train",
                "memory_bytes": int(
                    (0.25 if part < 5 else peak_gib * (0.8 + 0.2 * (part % 7) / 6)) * GIB
                ),
            }
            for part in range(0, 61, 1 if completed else 6)
        ],
    )
