"""batchopt against every way of the stock Trainer: `make bench-arms BENCH='--arms … --presets …'`.

    python benchmarks/arms.py [--train FILE --validation FILE] [--vocabularies 1000,8000,32000]
        [--presets 05a,05b,05c] [--arms batch_rebalance,default] [--steps 10] [--turns 3]

An arm is the stock Seq2SeqTrainer with the exact loss and one of its sampling strategies
(`random`, `group_by_length`, `batch_rebalance`; benchmarks/baseline.py), or batchopt with one of
its packings, or with its defaults (`default`). Each trains the same number of optimizer steps from
the same weights, in processes of its own, with the same number of threads that wait in the same
way; the arms take turns, in another order each time. `--evaluations 8,32,64` times an evaluation
with each of these batches instead.

Every figure is a line of results.jsonl under --out as soon as it is there, and is measured once:
so a part can be run in minutes, and another later. arms.md and arms.json have the ratios to
`--against`, each of two figures of one turn: the median and the range. `--page` writes the tables
into docs/benchmarks.md.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bench

from batchopt.request.config import PADDED

STOCK = ("random", "group_by_length", "batch_rebalance")
OURS = ("default", *(packing.value for packing in PADDED))


def environment(threads):
    """Both sides compute with the same threads, which sleep while they wait."""
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "HF_HUB_OFFLINE": "1"}


def execute(words, folder, given):
    with (folder / "arms.log").open("a") as log:
        subprocess.run(
            [sys.executable, *map(str, words)],
            cwd=folder,
            env=os.environ | environment(given.threads) | {"HF_DATASETS_CACHE": str(folder / "hf")},
            stdout=log,
            stderr=subprocess.STDOUT,
            check=True,
        )


def stock_words(folder, data, size, accumulation, *more):
    words = [bench.TOP / "benchmarks" / "baseline.py", "--model", folder / "model"]
    words += ["--train", data[0], "--validation", data[1], "--out", folder / "stock"]
    return [*words, "--per-device", size, "--accumulation", accumulation, *more]


def our_words(folder, data, *more):
    words = bench.file_words(*data)
    words += ["model=pretrained", f"model.name_or_path={folder / 'model'}"]
    words += [f"cache_dir={folder / 'cache'}", "training.learning_rate=1e-3", *more]
    return [*words, "training.warmup_steps=0", "training.save_checkpoints=false"]


def train(arm, preset, turn, where, given):
    """Speed and memory of one training, from a process of its own."""
    folder, data = where
    started = time.perf_counter()
    if arm in STOCK:
        more = ["--only", "train", "--strategy", arm, "--max-steps", given.steps]
        execute(
            stock_words(folder, data, *bench.PRESETS[preset], *more, "--seed", turn + 1),
            folder,
            given,
        )
        found = json.loads((folder / "stock" / "result.json").read_text())
    else:
        run = folder / f"{preset}-{arm}-{turn}"
        few = folder / "few.jsonl"  # it evaluates at the start and the end; that is not timed here
        few.write_text("".join(data[1].open().readlines()[:4]))
        words = [*our_words(folder, (data[0], few)), f"batch={preset}", f"hydra.run.dir={run}"]
        words += [f"training.max_steps={given.steps}", f"device.threads={given.threads}"]
        words += [f"seed={turn + 1}"] + ([] if arm == "default" else [f"batch.packing={arm}"])
        execute(["-m", "batchopt.train", *words], folder, given)
        record = json.loads((run / "record.json").read_text())["metrics"]
        found = {name: record[name] for name in MEASURED}
        if record["peak_reserved_bytes"] is not None:  # on a GPU both sides ask torch's allocator
            found["peak_memory_bytes"] = record["peak_reserved_bytes"]
    return found | {"wall_s": time.perf_counter() - started}


MEASURED = (
    *("steps_per_second", "tokens_per_second", "baseline_memory_bytes", "peak_memory_bytes"),
    *("padding_fraction", "largest_micro_batch_tokens", "micro_batches_per_step"),
)


def evaluate(side, size, folder, data, given):
    """Seconds and memory of one evaluation, from a process of its own."""
    if side == "stock":
        more = ["--only", "evaluate", "--eval-batch", size]
        execute(stock_words(folder, data, 8, 8, *more), folder, given)
        found = json.loads((folder / "stock" / "result.json").read_text())
        above = found["peak_memory_bytes"] - found["baseline_memory_bytes"]
        return {"eval_s": found["eval_time_s"], "peak_bytes": above}
    import evaluation
    import own_process

    words = [f"--size={size}", *our_words(folder, data)]
    return own_process.measure(evaluation.__file__, *words, env=environment(given.threads))


def measure(results, data, given):
    for vocabulary in given.vocabularies:
        folder = given.out / f"{data[0].stem}-{vocabulary}"
        folder.mkdir(exist_ok=True)
        sizes = {"width": given.width, "layers": given.layers, "vocabulary": vocabulary}
        bench.make_model(folder / "model", bench.file_words(*data), **sizes)
        where = {"data": data[0].stem, "vocabulary": vocabulary}
        for turn in range(given.turns):
            for size in given.evaluations:
                for side in ("stock", "batchopt")[:: -1 if turn % 2 else 1]:
                    key = where | {"turn": turn, "side": side, "size": size}
                    if not results.has("evaluations", **key):
                        results.add(
                            "evaluations", **key, **evaluate(side, size, folder, data, given)
                        )
            for preset in given.presets if not given.evaluations else ():
                at = turn % len(given.arms)
                for arm in given.arms[at:] + given.arms[:at]:
                    key = where | {"preset": preset, "turn": turn, "arm": arm}
                    if not results.has("arms", **key):
                        found = train(arm, preset, turn, (folder, data), given)
                        results.add(
                            "arms", **key, steps=given.steps, threads=given.threads, **found
                        )


def summary(rows, against):
    """One entry for each data, vocabulary, preset and arm: its medians, and ratios by turn."""
    cells = {}
    for row in rows:
        cells.setdefault((row["data"], row["vocabulary"], row["preset"], row["arm"]), {})[
            row["turn"]
        ] = row
    entries = []
    for (data, vocabulary, preset, arm), turns in sorted(cells.items()):
        base = cells.get((data, vocabulary, preset, against), {})
        entry = {"data": data, "vocabulary": vocabulary, "preset": preset, "arm": arm}
        entry |= {"against": against, "turns": sorted(turns)}
        for name in ("tokens_per_second", "peak_memory_bytes"):
            entry[name] = statistics.median(row[name] for row in turns.values())
            entry[f"{name}_ratios"] = [
                turns[turn][name] / base[turn][name] for turn in sorted(turns.keys() & base.keys())
            ]
        entries.append(entry)
    return entries


def table(entries):
    if not entries:
        return ""
    against = entries[0]["against"]
    lines = [
        f"| data | vocabulary | preset | arm | tokens/s | / {against} | peak | / {against} "
        "| turns |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        speed, memory = (
            bench.spread(entry[f"{name}_ratios"]) if entry[f"{name}_ratios"] else ""
            for name in ("tokens_per_second", "peak_memory_bytes")
        )
        arm = entry["arm"] if entry["arm"] in STOCK else f"batchopt, {entry['arm']}"
        pair = "{} x {}".format(*bench.PRESETS[entry["preset"]])
        lines.append(
            f"| {entry['data']} | {entry['vocabulary']:,} | {pair} | {arm} "
            f"| {entry['tokens_per_second']:.0f} | {speed} "
            f"| {entry['peak_memory_bytes'] / 2**30:.2f} GiB | {memory} | {len(entry['turns'])} |"
        )
    return "\n".join(lines)


def evaluations_table(rows):
    """Each side at each batch, as a ratio to the best batch of the stock Trainer in that turn."""
    if not rows:
        return ""
    lines = [
        "| data | vocabulary | side | batch | seconds | / stock at its best "
        "| peak above the start |",
        "|---|---|---|---|---|---|---|",
    ]
    for data, vocabulary in dict.fromkeys((row["data"], row["vocabulary"]) for row in rows):
        these = [row for row in rows if (row["data"], row["vocabulary"]) == (data, vocabulary)]
        best = {}
        for row in these:
            if row["side"] == "stock":
                best[row["turn"]] = min(best.get(row["turn"], row["eval_s"]), row["eval_s"])
        for side, size in dict.fromkeys((row["side"], row["size"]) for row in these):
            own = [row for row in these if (row["side"], row["size"]) == (side, size)]
            ratios = [row["eval_s"] / best[row["turn"]] for row in own if row["turn"] in best]
            peak = statistics.median(row["peak_bytes"] for row in own)
            lines.append(
                f"| {data} | {vocabulary:,} | {side} | {size} "
                f"| {statistics.median(row['eval_s'] for row in own):.1f} "
                f"| {bench.spread(ratios) if ratios else ''} | {peak / 2**20:.0f} MiB |"
            )
    return "\n".join(lines)


def numbers(text):
    return [int(one) for one in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", type=Path, help="JSONL; default: the generated sample")
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--arms", type=lambda text: text.split(","))
    parser.add_argument("--presets", type=lambda text: text.split(","), default=[*bench.PRESETS])
    parser.add_argument("--vocabularies", type=numbers, default=[1000, 8000, 32000])
    parser.add_argument("--evaluations", type=numbers, default=[], help="batches, in place of arms")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--width", type=int, default=256, help="d_model")
    parser.add_argument("--layers", type=int, default=2, help="of the encoder, and of the decoder")
    parser.add_argument("--against", default="batch_rebalance")
    parser.add_argument("--page", action="store_true", help="write docs/benchmarks.md as well")
    parser.add_argument("--out", type=Path, default=bench.TOP / "outputs" / "bench")
    given = parser.parse_args()
    given.arms = given.arms or [*STOCK, "default"]
    if unknown := set(given.arms) - {*STOCK, *OURS}:
        parser.error(f"--arms: {', '.join(sorted(unknown))}; there are {', '.join(STOCK + OURS)}")
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    data = [given.train, given.validation] if given.train else bench.make_sample(given.out)
    data = [path.resolve() for path in data]
    results = bench.Results(given.out / "results.jsonl")
    measure(results, data, given)
    entries = summary(results.of("arms"), given.against)
    (given.out / "arms.json").write_text(json.dumps(entries, indent=1) + "\n")
    tables = [table(entries), evaluations_table(results.of("evaluations"))]
    (given.out / "arms.md").write_text("\n\n".join(filter(None, tables)) + "\n")
    print((given.out / "arms.md").read_text())
    if given.page:
        page = bench.PAGE.read_text()
        for name, text in zip(("arms", "evaluations"), tables, strict=True):
            if text:
                page = bench.replaced(page, name, text)
        bench.PAGE.write_text(page)


if __name__ == "__main__":
    main()
