"""What one optimizer step starts, waits for, copies and fills: `make bench-launches [DATA='…']`.

    python benchmarks/launches.py [--steps N] OVERRIDES
    PYTHONPATH=OTHER/src python benchmarks/launches.py OVERRIDES    # of another checkout

torch's profiler follows the real training of a preset, from the beginning of a step to its end.
Counted are the innermost operators, which on a GPU start a kernel each (views and allocations do
not); the operators that give the host a value, for which a GPU would make it wait; and the bytes
that are copied and that are filled with one value. They are counts, not times: they are the same on
a busy machine. Printed is the median over the steps after the first two.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import own_process
import torch
from torch.profiler import ProfilerActivity, profile
from transformers import TrainerCallback

PRESETS = ("05a", "05c")
NO_KERNEL = {
    *("view", "_unsafe_view", "reshape", "as_strided", "t", "transpose", "permute", "expand"),
    *("slice", "select", "narrow", "unsqueeze", "squeeze", "detach", "detach_", "alias", "split"),
    *("unbind", "chunk", "flatten", "empty", "empty_like", "empty_strided", "new_empty"),
    *("resize_", "result_type", "resolve_conj", "resolve_neg", "lift_fresh", "set_", "item"),
    *("is_nonzero", "to", "numpy_T", "_reshape_alias", "view_as", "expand_as", "unflatten"),
}
WAITS = {"_local_scalar_dense", "nonzero", "equal", "masked_select", "_unique2", "bincount"}
BYTES = {"float": 4, "long int": 8, "bool": 1, "unsigned char": 1, "double": 8, "int": 4}
BYTES |= {"c10::BFloat16": 2, "c10::Half": 2}


def innermost(events):
    """The operators that call no other; those of a thread are nested in time."""
    threads = {}
    for event in events:
        threads.setdefault(event.start_thread_id(), []).append(event)
    for thread in threads.values():
        thread.sort(key=lambda event: (event.start_ns(), -event.duration_ns()))
        for event, following in zip(thread, [*thread[1:], None], strict=True):
            ends = event.start_ns() + event.duration_ns()
            if following is None or following.start_ns() >= ends:
                yield event


def size(event):
    """The bytes of the first argument: what `copy_` and `fill_` write."""
    count = 1
    for length in event.shapes()[0]:
        count *= length
    return count * BYTES.get(event.dtypes()[0], 4)


def counts(profiled):
    events = profiled.profiler.kineto_results.events()
    found = {"launches": 0, "waits": 0, "copied_bytes": 0, "filled_bytes": 0}
    for event in innermost([one for one in events if one.name().startswith("aten::")]):
        name = event.name().removeprefix("aten::")
        if name in NO_KERNEL:
            continue
        found["launches"] += 1
        found["waits"] += name in WAITS
        if name in {"copy_", "fill_", "zero_"}:
            found["copied_bytes" if name == "copy_" else "filled_bytes"] += size(event)
    return found


class EachStep(TrainerCallback):
    """Profiles the steps one by one, after two for what is lazy."""

    def __init__(self):
        self.steps = []

    def on_step_begin(self, args, state, control, **_):
        self.profile = profile(activities=[ProfilerActivity.CPU], record_shapes=True)
        self.profile.start()

    def on_step_end(self, args, state, control, **_):
        self.profile.stop()
        if state.global_step > 2:
            self.steps.append(counts(self.profile))


def build(words, steps):
    try:
        import limit

        return limit.build(words, steps)
    except ModuleNotFoundError:  # before the folders came
        from batchopt.compose import compose_run
        from batchopt.recorder import Events, Recorder
        from batchopt.worker import build_trainer

        more = [f"training.max_steps={steps}", f"training.logging_steps={steps}"]
        more += ["device.kind=cpu", "training.save_checkpoints=false"]
        request = compose_run([*words, *more])
        recorder = Recorder(Path(tempfile.mkdtemp()), Events(None), time.monotonic())
        trainer = build_trainer(request, request.plan, recorder, {"metrics": {}})
        trainer.evaluate = lambda *_, **__: {"eval_rouge_f1": 0.0}
        return trainer


def child(words, steps):
    torch.manual_seed(0)
    trainer = build(words, steps + 3)  # the last one logs
    each = EachStep()
    trainer.add_callback(each)
    trainer.train()
    kept = each.steps[:steps]
    print(json.dumps({name: statistics.median(one[name] for one in kept) for name in kept[0]}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", action="store_true")
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args()
    if given.child:
        child(given.words, given.steps)
        return
    print("| preset | launches | waits | copied | filled |\n|---|---|---|---|---|")
    for preset in PRESETS:
        asked = ["--child", f"--steps={given.steps}", f"batch={preset}", *given.words]
        found = own_process.measure(__file__, *asked)
        copied, filled = (found[f"{what}_bytes"] / 2**20 for what in ("copied", "filled"))
        print(
            f"| {preset} | {found['launches']:,.0f} | {found['waits']:,.0f} "
            f"| {copied:.1f} MiB | {filled:.1f} MiB |",
            flush=True,
        )


if __name__ == "__main__":
    main()
