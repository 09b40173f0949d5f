"""Where the time of a step goes: `python benchmarks/limit.py [--steps N] batch=05a OVERRIDES`.

The real training of one preset, three times over the same steps: once for what is lazy, once under
torch's profiler, and once with its floating-point operations counted. Everything is a share of the
profiled step and adds up to it. `mfu` is what the operations of the examples, without padding,
would take at the measured peak of a matrix product. `padding` are the further operations, at the
same peak. The rest is what products and attention take beyond that, and what is neither.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import own_process

PRODUCTS = {
    *("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"),
    *("aten::baddbmm_", "aten::addmv", "aten::mv"),
}
ATTENTION = "aten::_scaled_dot_product_"
OPTIMIZER = ("aten::_fused_adamw_", "aten::_foreach_", "aten::linalg_vector_norm")


def measure(words, steps):
    """Shares of one preset, from a process of its own."""
    return own_process.measure(__file__, f"--steps={steps}", *words)


def shares(words, steps):
    from torch.profiler import ProfilerActivity, profile
    from torch.utils.flop_counter import FlopCounterMode

    from batchopt.training.flops import UNCOUNTED, count_flops, measure_peak
    from batchopt.training.trainer import resolve_precision

    trainer = build(words, steps)
    trainer.train()
    # One by one they have no padding.
    rows = [trainer.train_rows[index] for index in next(iter(trainer.step_sampler()))]
    alone = [trainer.data_collator([row])["micro_batches"][0] for row in rows]
    per_token = sum(count_flops(trainer.model, batch) for batch in alone) / sum(
        batch["input_ids"].numel() + batch["labels"].numel() for batch in alone
    )
    precision = resolve_precision(trainer.config.training.precision, cpu=True)
    peak = measure_peak(trainer.args.device, precision)
    again = build(words, steps)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        again.train()
    timed = again.recorder.steps
    again = build(words, steps)
    with FlopCounterMode(display=False, custom_mapping=UNCOUNTED) as counter:
        again.train()

    others = {}
    spent = {"products": 0.0, "attention": 0.0, "optimizer": 0.0, "other": 0.0}
    for row in profiled.key_averages():
        if row.key.startswith("aten::"):
            kind, seconds = group(row.key), row.self_cpu_time_total / 1e6
            spent[kind] += seconds
            if kind == "other":
                others[row.key] = seconds
    operations = counter.get_flop_counts()["Global"]
    attention = sum(count for name, count in operations.items() if "attention" in str(name))
    executed = sum(operations.values())
    useful = sum(step.real_tokens for step in timed) * per_token
    wall = sum(step.duration_s for step in timed)
    parts = {
        "mfu": useful / peak,
        "padding": (executed - useful) / peak,
        "products_below_peak": spent["products"] - (executed - attention) / peak,
        "attention_below_peak": spent["attention"] - attention / peak,
        "optimizer": spent["optimizer"],
        "other_operations": spent["other"],
        "python_and_data": wall - sum(spent.values()),
    }
    return {
        "step_s": wall / len(timed),
        "peak_gflops": peak / 1e9,
        "data_wait": sum(step.data_wait_s for step in timed) / wall,
        **{name: seconds / wall for name, seconds in parts.items()},
        "largest_others": {
            name: others[name] / wall for name in sorted(others, key=others.get)[:-6:-1]
        },
    }


def group(name):
    if name in PRODUCTS:
        return "products"
    if name.startswith(ATTENTION):
        return "attention"
    return "optimizer" if name.startswith(OPTIMIZER) else "other"


def build(words, steps):
    """The trainer of a run that does not evaluate."""
    from batchopt.request.compose import compose_run
    from batchopt.training.build import build_trainer
    from batchopt.training.recorder import Recorder
    from batchopt.training.supervised import Events

    limits = [f"training.max_steps={steps}", f"training.logging_steps={steps}"]
    request = compose_run([*words, *limits, "device.kind=cpu", "training.save_checkpoints=false"])
    recorder = Recorder(Path(tempfile.mkdtemp()), Events(None), time.monotonic())
    trainer, _ = build_trainer(request, request.plan, recorder)
    trainer.evaluate = lambda *_, **__: {"eval_rouge_f1": 0.0}
    return trainer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("words", nargs="+")
    given = parser.parse_intermixed_args()
    print(json.dumps(shares(given.words, given.steps)))


if __name__ == "__main__":
    main()
