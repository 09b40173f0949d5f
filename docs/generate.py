"""Writes the pages of docs/reference and the preset tables of the READMEs from the code.

`make docs-reference` runs it; tests/test_docs.py fails if a page is not up to date.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from batchopt.commands import MODULES
from batchopt.record import metrics
from batchopt.request import help, optimizers, transformers_names
from batchopt.request.compose import (
    EXPERIMENT,
    GROUPS,
    compose_run,
    conf_dir,
)
from batchopt.request.sections import SECTIONS

TOP = Path(__file__).resolve().parents[1]
NOTE = "<!-- written by docs/generate.py: make docs-reference -->\n\n"


def pages() -> dict[Path, str]:
    """Returns every generated page with its content."""
    reference = TOP / "docs" / "reference"
    return {
        reference / "config.md": NOTE + "\n".join(config_page()) + "\n",
        reference / "arguments.md": NOTE + "\n".join(arguments_page()) + "\n",
        reference / "commands.md": NOTE + "\n".join(commands_page()) + "\n",
        reference / "record.md": NOTE + "\n".join(record_page()) + "\n",
        reference / "columns.md": NOTE + "\n".join(columns_page()) + "\n",
    }


def config_page() -> Iterator[str]:
    """Yields every group, choice and key, from conf/ and the schemas."""
    yield "# Configuration\n"
    yield "Every key can be set on the command line: `python -m batchopt.train KEY=VALUE …`."
    yield "`null` means: none, or derived.\n"
    yield "## Groups and their choices\n"
    yield "| group | choices |\n|---|---|"
    for group in (*GROUPS, EXPERIMENT, "hydra/launcher"):
        # best.yaml is the user's own, written by make adopt.
        own = [f"`{name}`" for name in shipped(group) if (group, name) != ("batch", "best")]
        yield f"| `{group}` | {', '.join(own)} |"
    for section in SECTIONS:
        yield f"\n## {help.heading_of(section) or 'Top level'}\n"
        yield f"{' '.join((section.schema.__doc__ or '').split())}\n"
        yield "| key | default | |\n|---|---|---|"
        for key in help.keys_of(section):
            yield f"| `{key.name}` | `{key.default}` | {cell(key.text)} |"


def arguments_page() -> Iterator[str]:
    """Yields what becomes of each name of transformers: arguments, optimizers, schedules."""
    yield "# The words of transformers\n"
    yield "What becomes of each argument of transformers' Trainer and of each generation setting,"
    yield "those of older recipes too. *allowed*: a key of batchopt has its name. *ours*: a word"
    yield "of batchopt says it. *refused*: with the reason."
    for heading, names in (
        ("Arguments of the Trainer", transformers_names.arguments()),
        ("Generation settings", transformers_names.generation_settings()),
    ):
        yield f"\n## {heading}\n"
        yield "| name | | |\n|---|---|---|"
        for one in sorted(names):
            text = f"`{one.text}`" if one.kind == "allowed" else cell(one.text)
            yield f"| `{one.name}` | {one.kind} | {text} |"
    yield "\n## Optimizers\n"
    yield "`training.optimizer=NAME`; `adamw` is `adamw_torch_fused`, `lion` is `lion_32bit`.\n"
    yield "| name | packages | keys of `training.arguments` | keys of its table `optim_args` |"
    yield "|---|---|---|---|"
    for name, optimizer in optimizers.OPTIMIZERS.items():
        packages = [optimizers.PACKAGES.get(module, module) for module in optimizer.modules]
        lists = (packages, optimizer.reads, optimizer.takes)
        yield f"| `{name}` | {' | '.join(', '.join(f'`{one}`' for one in own) for own in lists)} |"
    yield "\nRefused:\n"
    for name, reason in optimizers.REFUSED_OPTIMIZERS.items():
        yield f"- `{name}`: {reason}."
    yield "\n## Schedules\n"
    yield "`training.lr_scheduler_type=NAME`\n"
    yield "| name | keys of `training.arguments.lr_scheduler_kwargs` |\n|---|---|"
    for name, takes in optimizers.SCHEDULES.items():
        texts = (f"`{key}`: {rule.text}" for key, rule in takes.items())
        yield f"| `{name}` | {cell('; '.join(texts))} |"


def commands_page() -> Iterator[str]:
    """Yields the help text of each command."""
    yield "# Commands\n"
    yield "| command | |\n|---|---|"
    for module, text in MODULES.items():
        yield f"| [`python -m {module}`](#{anchor(f'python -m {module}')}) | {text} |"
    for module in MODULES:
        yield f"\n## `python -m {module}`\n"
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"COLUMNS": "100"},
        )
        text = done.stdout.rstrip()
        if module == "batchopt.train":  # the keys have a page of their own
            text = text.split("\n\nGroups (")[0]
        yield f"```text\n{text}\n```"
        if module == "batchopt.train":
            yield "\nEvery group and key: [configuration](config.md)."


def record_page() -> Iterator[str]:
    """Yields the files of a run, the keys of its record and every metric."""
    yield "# What a run leaves behind\n"
    yield "A run's folder, such as `multirun/DATE/TIME/0_batch=05a/`:\n"
    yield from named(
        "file",
        ("record.json", "how it ended, and every final number; written once, also for a kill"),
        ("metrics.jsonl", "a line for each logged step (`train`) and each `evaluation`"),
        ("memory.jsonl", "samples of the device over time, with the phase"),
        ("predictions.jsonl", "each validation example: references, prediction, its ROUGE"),
        ("train.log", "the log"),
        ("checkpoints/", "the best and the last; of a completed run only the weights"),
        (".hydra/", "the composed config and the overrides"),
        ("running.json, stacks.txt", "while it runs; the stacks of a crash or a hang"),
    )
    yield "\n## record.json\n"
    yield from named(
        "key",
        ("schema_version", "of this file; older ones can be read"),
        ("status, cause", "completed, oom, failed, killed, timeout or interrupted, and why"),
        ("phase, step", "where it was when it ended"),
        ("started_at, ended_at", "UTC"),
        ("preset, seed, overrides", "what was asked for"),
        ("sequence", "the place in the order of the sweep, from 0; null for a single run"),
        ("plan", "the pair, the packing, the steps; `requested` where the run changed it"),
        ("plan.optimizer, plan.arguments", "by the names of transformers; only what was changed"),
        ("plan.generation", "its `settings`; `taken_over` from the checkpoint, and `left_out`"),
        ("metrics", "the table below"),
        ("attempts", "one for each go: resumed, halved after an out-of-memory"),
        ("environment", "versions, device and driver, host, git commit, SLURM job"),
        ("data, model, data_fingerprint", "what was trained on, and what was trained"),
        ("config_hash, code_hash", "by which a resumed sweep knows a stale run"),
        ("traceback", "of a failure; the stacks of a crash or a hang"),
    )
    yield "\n## metrics\n"
    yield "Null is not measured. `objective=NAME` takes those that are better one way.\n"
    yield "| metric | unit | better | |\n|---|---|---|---|"
    for name, metric in metrics.METRICS.items():
        better = "" if metric.better is metrics.Better.neither else metric.better.name
        yield f"| `{name}` | {metric.unit} | {better} | {cell(metric.text)} |"


def columns_page() -> Iterator[str]:
    """Yields the columns of the CSV, from its schema."""
    schema = json.loads((TOP / "analysis/schemas/results.schema.json").read_text(encoding="utf-8"))
    yield "# Columns of batch_optimization_results.csv\n"
    yield f"{schema['description']}\n"
    yield "| column | type | |\n|---|---|---|"
    for name, column in schema["properties"].items():
        kind = column.get("type", "")
        kinds = [kind] if isinstance(kind, str) else [one for one in kind if one != "null"]
        text = column.get("description", "")
        if not text and name in metrics.METRICS:
            text = metrics.METRICS[name].text
        if "enum" in column:
            text = f"{text} One of {', '.join(str(value) for value in column['enum'])}.".strip()
        yield f"| `{name}` | {', '.join(kinds)} | {cell(text)} |"


def shipped(group: str) -> list[str]:
    """Lists the choices in conf/ alone; a person's own may be in BATCHOPT_CONF."""
    return sorted(file.stem for file in (conf_dir() / group).glob("*.yaml"))


def presets() -> str:
    """Returns the READMEs' table of fixed presets; its last column is in the preset's file."""
    rows = ["| preset | per device x accumulation | |", "|---|---|---|"]
    for name in shipped("batch"):
        first = (conf_dir() / "batch" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        found = re.match(r"# (\d+ x \d+): (.*)\.", first)
        if found:
            assert str(compose_run([f"batch={name}"]).plan) == found[1], name
            rows.append(f"| `{name}` | {found[1]} | {found[2]} |")
    return "\n".join(rows) + "\n"


def named(heading: str, *rows: tuple[str, str]) -> Iterator[str]:
    """Yields a table of names and their meanings."""
    yield f"| {heading} | |\n|---|---|"
    for name, text in rows:
        yield f"| `{name}` | {text} |"


def anchor(heading: str) -> str:
    """Makes the address of a heading as Markdown's toc extension does."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def cell(text: str) -> str:
    """Makes a text fit into a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def with_presets(readme: str) -> str:
    """Returns a README with its table of presets made anew."""
    return re.sub(
        r"(<!-- presets -->\n).*?(<!-- /presets -->)",
        lambda found: found[1] + presets() + found[2],
        readme,
        flags=re.S,
    )


def main() -> None:
    """Writes everything."""
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    readme = TOP / "README.md"
    readme.write_text(with_presets(readme.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
