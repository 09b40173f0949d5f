"""`make bench`: measures batchopt against what a person would otherwise run.

    python benchmarks/bench.py [--train FILE --validation FILE] [--repeats N] [--quick]
                               [--only sides,options,head,evaluation,limit,scaling] [--out DIR]

Writes the tables of docs/benchmarks.md between their markers and leaves the words around them.
Every figure is a line of results.jsonl under --out as soon as it is there: an interrupted bench,
called again, goes on where it was. Run it on a machine that does nothing else.
"""

import argparse
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import evaluation
import limit
import options
import scaling

TOP = Path(__file__).resolve().parents[1]
PAGE = TOP / "docs" / "benchmarks.md"
PRESETS = {"05a": (8, 8), "05b": (16, 4), "05c": (64, 1)}
VOCABULARIES = (1000, 8000, 32000, 50000)
GOALS = {  # issue 8: tokens/s at least, peak memory at most, evaluation time at most
    "05a": (1.5, 0.85, 0.5),
    "05b": (1.4, 0.8, 0.5),
    "05c": (1.2, 0.7, 0.5),
}
SWEEP_GOAL = 0.55


class Results:
    """Rows of results.jsonl; a key is measured once."""

    def __init__(self, path):
        self.path = path
        self.rows = []
        if path.exists():
            self.rows = [json.loads(line) for line in path.read_text().splitlines()]

    def of(self, section):
        return [row for row in self.rows if row["section"] == section]

    def has(self, section, **key):
        return any(key.items() <= row.items() for row in self.of(section))

    def add(self, section, **row):
        self.rows.append({"section": section, **row})
        with self.path.open("a") as file:
            file.write(json.dumps(self.rows[-1]) + "\n")
        print(json.dumps(self.rows[-1]), flush=True)


def make_model(folder, data, *, width, vocabulary, layers=2):
    """A BART with fresh weights and `vocabulary` rows, saved with a tokenizer of the data."""
    if (folder / "config.json").exists():
        return
    from batchopt.data import tokenized
    from batchopt.request.compose import compose_run
    from batchopt.training.model import build_model

    sizes = [f"model.d_model={width}", f"model.ffn_dim={4 * width}", f"model.layers={layers}"]
    sizes += [f"model.attention_heads={max(4, width // 64)}", f"model.vocab_size={vocabulary}"]
    words = [*data, *sizes, f"cache_dir={folder}/cache"]
    config = compose_run(words).config
    rows = tokenized.load(tokenized.prepare(config))
    model = build_model(config, rows.tokenizer)
    # A small corpus has no 32,000 words to learn; the head is as wide all the same. Tokens that the
    # run adds to a full vocabulary stay.
    rows_of_table = max(vocabulary, len(rows.tokenizer))
    model.resize_token_embeddings(rows_of_table, mean_resizing=False)
    model.save_pretrained(folder)
    rows.tokenizer.save_pretrained(folder)


def make_sample(folder):
    """The generated sample, in English, as files that both sides can read."""
    from batchopt.data import sample

    corpus = sample.generate(language="en", train_examples=2000, validation_examples=200, seed=0)
    files = []
    for name, examples in (("train", corpus.train), ("validation", corpus.validation)):
        files.append(folder / f"{name}.jsonl")
        rows = (
            {"id": one.id, "dialogue": one.dialogue, "summaries": list(one.summaries)}
            for one in examples
        )
        files[-1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def run(words, folder, log):
    """Seconds that a command took; its output goes to a file."""
    started = time.perf_counter()
    with log.open("a") as file:
        subprocess.run(
            words,
            cwd=folder,
            env=os.environ | {"HF_DATASETS_CACHE": str(folder / "hf"), "HF_HUB_OFFLINE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=True,
        )
    return time.perf_counter() - started


def measure_sides(results, data, folder, given):
    """Baseline loop and batchopt sweep by turns, each to its end."""
    model, train, validation = folder / "model", *data
    against = f"{train.stem} against {given.strategy}"
    for repeat in range(given.repeats):
        if not results.has("sides", data=against, repeat=repeat, side="baseline"):
            shutil.rmtree(folder / "hf", ignore_errors=True)  # a fresh start for both
            rows, wall = {}, 0.0
            for preset, (size, accumulation) in PRESETS.items():
                out = folder / f"baseline-{repeat}-{preset}"
                words = [sys.executable, TOP / "benchmarks" / "baseline.py", "--model", model]
                words += ["--train", train, "--validation", validation, "--out", out]
                words += ["--per-device", size, "--accumulation", accumulation]
                words += ["--epochs", given.epochs, "--strategy", given.strategy]
                words += ["--eval-batch", given.eval_batch]
                wall += run([*map(str, words)], folder, folder / "baseline.log")
                rows[preset] = json.loads((out / "result.json").read_text())
            results.add("sides", data=against, repeat=repeat, side="baseline", wall_s=wall, **rows)
        if not results.has("sides", data=against, repeat=repeat, side="batchopt"):
            sweep = folder / f"sweep-{repeat}"
            for left in (sweep, folder / "outputs"):
                shutil.rmtree(left, ignore_errors=True)
            words = [sys.executable, "-m", "batchopt.train", "-m", "batch=05a,05b,05c"]
            words += file_words(train, validation)
            words += ["model=pretrained", f"model.name_or_path={model}", "training.warmup_steps=0"]
            words += ["training.learning_rate=1e-3", "training.save_checkpoints=false"]
            words += [f"training.num_train_epochs={given.epochs}", f"hydra.sweep.dir={sweep}"]
            wall = run(words, folder, folder / "batchopt.log")
            report = [sys.executable, "-m", "analysis", f"sweep={sweep}"]
            wall += run(report, folder, folder / "batchopt.log")
            rows = {preset: read_record(sweep, preset) for preset in PRESETS}
            results.add("sides", data=against, repeat=repeat, side="batchopt", wall_s=wall, **rows)


def file_words(train, validation):
    words = ["data=files", f"data.train_file={train}", f"data.validation_file={validation}"]
    return [*words, "data.summary_columns=[summaries]", "data.id_column=id"]


def read_record(sweep, preset):
    (folder,) = sweep.glob(f"*_batch={preset}")
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    last = [row for row in lines if row["kind"] == "evaluation"][-1]
    names = ("steps_per_second", "tokens_per_second", "peak_memory_bytes")
    return {
        **{name: metrics[name] for name in (*names, "baseline_memory_bytes", "eval_loss")},
        "eval_time_s": last["eval_time_s"],
        "rougeL_f1": metrics["rougeL_f1"],
    }


def measure_options(results, words, given):
    for number in range(given.repeats):
        for preset in ("05a", "05c"):
            if not results.has(
                "options", preset=preset, repeat=number, variant="malloc, one arena"
            ):
                for row in options.compare(words, rounds=1, steps=given.steps, presets=[preset]):
                    results.add("options", **row | {"repeat": number})


def measure_head(results, words, given):
    """Memory and CPU time of 64 x 1 with all logits at once and in slices."""
    words = [*words, f"model.d_model={given.width}", f"model.ffn_dim={4 * given.width}"]
    for vocabulary in VOCABULARIES:
        for loss in ("full", "sliced"):
            if not results.has("head", vocabulary=vocabulary, loss=loss):
                variant = options.AS_IT_IS | {"sliced": loss == "sliced", "vocabulary": vocabulary}
                found = options.measure(variant, ["batch=05c", *words], given.steps)
                results.add("head", vocabulary=vocabulary, loss=loss, **found)


def measure_evaluation(results, words, given):
    for repeat in range(given.repeats):
        for size in evaluation.SIZES:
            if not results.has("evaluation", repeat=repeat, size=size):
                found = evaluation.measure(words, size)
                results.add("evaluation", repeat=repeat, size=size, **found)


def measure_limit(results, words, given):
    for preset in PRESETS:
        for repeat in range(given.repeats):
            if not results.has("limit", preset=preset, repeat=repeat):
                found = limit.measure([f"batch={preset}", *words], given.limit_steps)
                results.add("limit", preset=preset, repeat=repeat, **found)


def measure_scaling(results, folder, given):
    for pairs in (1000, 10_000) if given.quick else (1000, 10_000, 100_000):
        if not results.has("scaling", pairs=pairs):
            results.add("scaling", **scaling.measure(pairs, folder))


def write_page(results, path):
    """Replaces what stands between the markers of each section that was measured."""
    page = PAGE.read_text()
    tables = {"machine": machine_table(), "sides": sides_table(results.of("sides"))}
    tables["options"] = options_table(results.of("options"))
    tables["head"] = head_table(results.of("head"))
    tables["evaluation"] = evaluation_table(results.of("evaluation"))
    tables["limit"] = limit_table(results.of("limit"))
    tables["scaling"] = scaling_table(results.of("scaling"))
    for name, table in tables.items():
        if table:
            page = replaced(page, name, table)
    path.write_text(page)
    print(path)


def replaced(page, name, table):
    """The page with another table between the markers of a section."""
    pattern = rf"(<!-- bench:{name} -->\n).*?(<!-- /bench:{name} -->)"
    page, count = re.subn(pattern, rf"\g<1>{table}\n\g<2>", page, flags=re.DOTALL)
    assert count == 1, f"docs/benchmarks.md has no place for {name}"
    return page


def machine_table():
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "datasets")
    )
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return (
        f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, commit {commit}; {os.cpu_count()} cores "
        f"of {model.group(1) if model else platform.processor()}, "
        f"{int(memory.group(1)) / 2**20:.0f} GiB; no GPU; Python {platform.python_version()}, "
        f"{versions}."
    )


def spread(ratios, form=".2f"):
    """Median and range."""
    middle = format(statistics.median(ratios), form)
    if len(ratios) == 1:
        return middle
    return f"{middle} ({min(ratios):{form}} to {max(ratios):{form}})"


def sides_table(rows):
    lines = []
    for data in dict.fromkeys(row["data"] for row in rows):
        both = {
            side: {r["repeat"]: r for r in rows if (r["data"], r["side"]) == (data, side)}
            for side in ("baseline", "batchopt")
        }
        repeats = sorted(both["baseline"].keys() & both["batchopt"].keys())
        if not repeats:
            continue
        lines += [
            f"`{data}`, {len(repeats)} repeats; batchopt / baseline, then baseline -> batchopt:",
            "",
            "| preset | steps/s | tokens/s (goal) | peak memory (goal) | peak above the start | "
            "evaluation time (goal) |",
            "|---|---|---|---|---|---|",
        ]
        for preset, goals in GOALS.items():
            pairs = [tuple(both[side][n][preset] for side in both) for n in repeats]

            def cell(value, pairs=pairs, unit=1.0, form=".2f"):
                ratios = [value(ours) / value(theirs) for theirs, ours in pairs]
                before, after = (
                    statistics.median(value(pair[side]) / unit for pair in pairs) for side in (0, 1)
                )
                return f"{spread(ratios)}; {before:{form}} -> {after:{form}}"

            def above(row):
                return row["peak_memory_bytes"] - row["baseline_memory_bytes"]

            size, accumulation = PRESETS[preset]
            lines.append(
                f"| {size} x {accumulation} "
                f"| {cell(lambda row: row['steps_per_second'])} "
                f"| {cell(lambda row: row['tokens_per_second'], form='.0f')} (>= {goals[0]}) "
                f"| {cell(lambda row: row['peak_memory_bytes'], unit=2**30)} GiB (<= {goals[1]}) "
                f"| {cell(above, unit=2**30)} GiB "
                f"| {cell(lambda row: row['eval_time_s'], form='.1f')} s (<= {goals[2]}) |"
            )
        walls = [tuple(both[side][n]["wall_s"] for side in both) for n in repeats]
        ratio = spread([ours / theirs for theirs, ours in walls])
        before, after = (statistics.median(pair[side] for pair in walls) for side in (0, 1))
        lines += [
            "",
            f"The three presets from the command to the end, with verification and report here and "
            f"without there: {ratio}; {before:.0f} -> {after:.0f} s (goal: <= {SWEEP_GOAL}).",
            "",
        ]
    return "\n".join(lines).rstrip()


def options_table(rows):
    if not rows:
        return ""
    lines = [
        "| variant | 8 x 8: CPU time | wall time | peak memory | 64 x 1: CPU time | wall time | "
        "peak memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for variant in list(options.VARIANTS)[1:]:
        cells = []
        for preset in ("05a", "05c"):
            for key in ("cpu_s", "wall_s", "peak_bytes"):
                ratios = [
                    row[f"{key}_ratio"]
                    for row in rows
                    if (row["variant"], row["preset"]) == (variant, preset)
                    and row.get(f"{key}_ratio") is not None
                ]
                cells.append(spread(ratios) if ratios else "failed")
        lines.append(f"| {variant} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def head_table(rows):
    if not rows:
        return ""
    found = {(row["vocabulary"], row["loss"]): row for row in rows}
    lines = [
        "| vocabulary | peak above the start, full | sliced | CPU time, sliced / full |",
        "|---|---|---|---|",
    ]
    for vocabulary in VOCABULARIES:
        full, sliced = found.get((vocabulary, "full")), found.get((vocabulary, "sliced"))
        if full and sliced and "peak_bytes" in full and "peak_bytes" in sliced:
            lines.append(
                f"| {vocabulary} | {full['peak_bytes'] / 2**20:.0f} MiB "
                f"| {sliced['peak_bytes'] / 2**20:.0f} MiB "
                f"| {sliced['cpu_s'] / full['cpu_s']:.2f} |"
            )
    return "\n".join(lines)


def evaluation_table(rows):
    """Ratios to batches of 32 of the same repeat."""
    if not rows:
        return ""
    found = {(row["repeat"], row["size"]): row for row in rows}
    lines = ["| examples of a batch | time | peak memory above the start |", "|---|---|---|"]
    for size in evaluation.SIZES:
        pairs = [
            (found[repeat, 32], row)
            for (repeat, other), row in found.items()
            if other == size and (repeat, 32) in found
        ]
        cells = [
            spread([row[key] / base[key] for base, row in pairs])
            for key in ("eval_s", "peak_bytes")
        ]
        lines.append(f"| {size} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def limit_table(rows):
    if not rows:
        return ""
    parts = {
        "mfu": "real tokens at the peak (MFU)",
        "padding": "padding at the peak",
        "products_below_peak": "products slower than the peak",
        "attention_below_peak": "attention slower than the peak",
        "other_operations": "other tensor operations",
        "optimizer": "optimizer and norms",
        "python_and_data": "Python, autograd, data",
        "data_wait": "of which waiting for data",
    }
    found = {
        preset: [row for row in rows if row["preset"] == preset]
        for preset in PRESETS
        if any(row["preset"] == preset for row in rows)
    }

    def line(title, name, unit, form):
        cells = [spread([row[name] / unit for row in of], form) for of in found.values()]
        return f"| {title} | " + " | ".join(cells) + " |"

    titles = ["{} x {}".format(*PRESETS[preset]) for preset in found]
    return "\n".join(
        [
            "| | " + " | ".join(titles) + " |",
            "|---|" + "---|" * len(found),
            line("seconds of a step", "step_s", 1, ".3f"),
            line("measured peak, GFLOP/s", "peak_gflops", 1, ".0f"),
            *(line(f"{title}, %", name, 0.01, ".1f") for name, title in parts.items()),
            "",
            *(
                f"Largest of the other operations at {title}: "
                + ", ".join(
                    f"`{name}` {share:.1%}" for name, share in of[0]["largest_others"].items()
                )
                + "."
                for title, of in zip(titles, found.values(), strict=True)
            ),
        ]
    )


def scaling_table(rows):
    if not rows:
        return ""
    lines = [
        "| pairs | tokenise, s | peak memory above the corpus | open, s | one epoch of steps "
        "planned, s | on disk |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["pairs"]):
        lines.append(
            f"| {row['pairs']:,} | {row['tokenise_s']:.1f} | {row['peak_bytes'] / 2**20:.0f} MiB "
            f"| {row['open_s']:.2f} | {row['plan_s']:.1f} | {row['disk_bytes'] / 2**20:.0f} MiB |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, help="JSONL; default: the generated sample")
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--strategy", default="batch_rebalance", help="of the baseline's sampler")
    parser.add_argument("--eval-batch", type=int, default=32, help="of the baseline")
    parser.add_argument("--steps", type=int, default=6, help="of one variant of an option")
    parser.add_argument("--limit-steps", type=int, default=20, help="profiled, of each preset")
    parser.add_argument("--vocabulary", type=int, default=32000)
    parser.add_argument("--width", type=int, default=256, help="d_model")
    parser.add_argument("--only", default="sides,options,head,evaluation,limit,scaling")
    parser.add_argument("--out", type=Path, default=TOP / "outputs" / "bench")
    parser.add_argument("--quick", action="store_true", help="once each, to see that it runs")
    given = parser.parse_args()
    if given.quick:
        given.repeats, given.epochs, given.steps, given.limit_steps = 1, 1, 2, 2
        given.out = given.out.with_name(given.out.name + "-quick")
    given.out = given.out.resolve()
    given.out.mkdir(parents=True, exist_ok=True)
    data = [given.train, given.validation] if given.train else make_sample(given.out)
    data = [path.resolve() for path in data]
    results = Results(given.out / "results.jsonl")
    folder = given.out / data[0].stem
    folder.mkdir(exist_ok=True)
    words = file_words(*data)
    sections = given.only.split(",")
    if {"sides", "options", "evaluation", "limit"} & set(sections):
        make_model(folder / "model", words, width=given.width, vocabulary=given.vocabulary)
    if "sides" in sections:
        measure_sides(results, data, folder, given)
    words = [*words, f"cache_dir={folder}/cache"]
    pretrained = [*words, "model=pretrained", f"model.name_or_path={folder / 'model'}"]
    if "options" in sections:
        measure_options(results, pretrained, given)
    if "head" in sections:
        measure_head(results, words, given)
    if "evaluation" in sections:
        measure_evaluation(results, pretrained, given)
    if "limit" in sections:
        measure_limit(results, pretrained, given)
    if "scaling" in sections:
        measure_scaling(results, given.out, given)
    # A quick look proves nothing and does not belong on the page.
    write_page(results, given.out / PAGE.name if given.quick else PAGE)


if __name__ == "__main__":
    main()
