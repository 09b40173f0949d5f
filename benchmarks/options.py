"""One option at a time: `python benchmarks/options.py [--rounds N] [--steps N] OVERRIDES`.

Every variant differs from `as it is` in one thing and trains the same optimizer steps from the
same weights in a process of its own. The variants take turns, round by round. What comes out are
ratios to `as it is` of the same round: CPU seconds, wall seconds, and peak memory above what the
process held before the first step. Below 1 the variant is the better one.
"""

import argparse
import json
import os
import resource
import sys
import time

import own_process

AS_IT_IS = {
    "sliced": True,
    "in_place": True,
    "attention": "sdpa",
    "optimizer": "fused",
    "bf16": False,
    "compile": False,
    "zero": False,
    "norms": 0,
    "threads": None,
    "vocabulary": None,
    "env": {},
}
NEVER_GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": str(2**33), "MALLOC_TRIM_THRESHOLD_": str(2**33)}
VARIANTS = {
    "as it is": {},
    "the same again (noise)": {},
    "loss=full": {"sliced": False},
    "gradients of the tables by autograd": {"in_place": False},
    "eager attention, not SDPA": {"attention": "eager"},
    "AdamW foreach, not fused": {"optimizer": "foreach"},
    "AdamW as a loop, not fused": {"optimizer": "loop"},
    "gradients zeroed, not dropped": {"zero": True},
    "gradient norm twice a step (noise scale)": {"norms": 2},
    "bf16": {"bf16": True},
    "torch.compile, any shape": {"compile": True},
    "1 thread": {"threads": 1},
    "2 threads": {"threads": 2},
    "malloc keeps up to 32 MiB": {
        "env": {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**27)}
    },
    "malloc keeps everything": {"env": NEVER_GIVE_BACK},
    "malloc, one arena": {"env": {"MALLOC_ARENA_MAX": "1"}},
}


def compare(words, *, rounds, steps, presets, variants=VARIANTS):
    """Yields one row for each preset, round and variant: its figures and ratios."""
    for preset in presets:
        for number in range(rounds):
            reference = {}
            for name, change in variants.items():
                found = measure(AS_IT_IS | change, [f"batch={preset}", *words], steps)
                reference = reference or found
                ratios = {f"{key}_ratio": found[key] / reference[key] for key in found}
                yield {"preset": preset, "round": number, "variant": name, **found, **ratios}


def measure(variant, words, steps):
    """Figures of one variant from a process of its own; none where it fails."""
    asked = ["--child", json.dumps(variant), f"--steps={steps}", *words]
    try:
        return own_process.measure(__file__, *asked, env=variant["env"])
    except own_process.Failed as error:
        print(error, file=sys.stderr)
        return {}


def child(variant, words, steps):
    import torch
    from packing import collate

    from batchopt.machine.host_memory import read_process_memory, take_peak
    from batchopt.request.compose import compose_run
    from batchopt.step.loss import micro_batch_loss
    from batchopt.step.noise_scale import gradient_norm
    from batchopt.step.tables import add_rows_in_place
    from batchopt.verify.proof import prepare

    if variant["threads"]:
        torch.set_num_threads(variant["threads"])
    request = compose_run(words)
    setting = prepare(request, steps=steps + 1)
    model = setting.model.train()
    if variant["vocabulary"]:
        model.resize_token_embeddings(variant["vocabulary"], mean_resizing=False)
    model.set_attn_implementation(variant["attention"])
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=1e-4,
        fused=variant["optimizer"] == "fused",
        foreach=variant["optimizer"] == "foreach",
    )
    in_place = variant["in_place"] and not variant["compile"]
    if in_place:
        add_rows_in_place(model)
    run = torch.compile(model, dynamic=True) if variant["compile"] else model
    sliced = variant["sliced"] and not variant["compile"]
    made = [
        collate(setting, request.plan, request.config.batch.packing, rows) for rows in setting.steps
    ]
    before = read_process_memory(os.getpid()).anonymous_bytes
    take_peak()
    for number, step in enumerate(made):
        if number == 1:  # the first pays for what is lazy
            wall, cpu = time.perf_counter(), cpu_seconds()
        for batch in step["micro_batches"]:
            with torch.autocast("cpu", torch.bfloat16, enabled=variant["bf16"]):
                loss = micro_batch_loss(
                    run, batch, step["target_tokens"], 0.0, sliced=sliced, in_place=in_place
                )
            loss.backward()
        for _ in range(variant["norms"]):
            gradient_norm(model)
        optimizer.step()
        optimizer.zero_grad(set_to_none=not variant["zero"])
    wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
    peak = take_peak() - before
    print(json.dumps({"wall_s": wall, "cpu_s": cpu, "peak_bytes": peak}))


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", type=json.loads)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--presets", default="05a,05c")
    parser.add_argument("--only", help="part of a variant's name")
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args()
    if given.child:
        child(given.child, given.words, given.steps)
        return
    wanted = {n: c for n, c in VARIANTS.items() if n == "as it is" or (given.only or "") in n}
    rows = compare(
        given.words,
        rounds=given.rounds,
        steps=given.steps,
        presets=given.presets.split(","),
        variants=wanted,
    )
    for row in rows:
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
