"""Proves that the presets are one training: `python -m batchopt.verify [OVERRIDES]`.

On the configured model and data, with dropout off, every preset and packing trains the same few
optimizer steps from the same weights. Loss, gradient and the resulting weights are compared with
those of whole steps, which are not divided. A second table shows what the stock Trainer of the
installed transformers makes of the same examples.
"""

import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from batchopt.cli import OK, SOME_FAILED, Parser, answer, screen
from batchopt.data import tokenized
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError
from batchopt.machine.device import lease_for_run
from batchopt.machine.imports import without_collector
from batchopt.machine.nvml import NvmlError
from batchopt.record.files import SWEEP, VERIFY, read_json, write_json
from batchopt.request.compose import RunRequest, compose_run
from batchopt.request.config import PADDED, Adapter, DeviceConfig, Packing
from batchopt.request.paths import check_writable
from batchopt.request.presets import compose_presets
from batchopt.request.words import read_words
from batchopt.training import adapters

if TYPE_CHECKING:
    from batchopt.verify.proof import Check
    from batchopt.verify.stock_trainer import Stock


def main(words: list[str]) -> int:
    """Verifies all presets and packings, and the stock Trainer."""
    parser = Parser(
        prog="python -m batchopt.verify",
        description="Prove that the presets give the same gradient on this model and data.",
        epilog="Overrides are those of batchopt.train: data=files data.train_file=… model=…",
    )
    parser.add_argument("--steps", type=int, default=3, help="optimizer steps (default: 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("--sweep", type=Path, metavar="DIR", help="check a planned sweep, shortly")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")

    arguments = parser.parse_intermixed_args(words)
    if arguments.sweep:
        return verify_sweep(arguments.sweep)
    if arguments.steps < 1:
        raise RequestError(f"--steps is {arguments.steps}; it must be 1 or more")
    presets = compose_presets(read_words(arguments.overrides))
    request, plans = presets.request, presets.plans
    if presets.left_out:
        print(presets.left_out)
    check_writable("cache_dir", Path(request.config.cache_dir))

    corpus = load_corpus(request.config.data)  # as the data are now
    adapters.settle_imports(request.config.adapter)
    tokenized.prepare(request.config, corpus)
    with leased_device(request.config.device):
        with without_collector():  # not before: peft asks CUDA as it is imported
            from batchopt.step.attention import why_not_joined
            from batchopt.verify.proof import prepare, verify
            from batchopt.verify.stock_trainer import exact_gradient, stock_trainer

        setting = prepare(request, steps=arguments.steps)
        print_example(setting.example)
        packings = list(PADDED if why_not_joined(setting.model) else Packing)
        checks = verify(setting, plans, packings)
        exact = exact_gradient(setting, plans)
        stock = [stock_trainer(setting, name, plan, exact) for name, plan in plans.items()]
    print_tables(checks, stock)
    screen().print(f"\n{verdict(checks)}")
    if arguments.json:
        write_json(
            arguments.json,
            {
                "transformers": version("transformers"),
                "torch": version("torch"),
                "checks": [asdict(check) for check in checks],
                "stock": [asdict(row) for row in stock],
            },
        )
    return SOME_FAILED if any(check.passed is False for check in checks) else OK


def verify_sweep(directory: Path) -> int:
    """The short check before a sweep: one step of short examples, each batch and packing once.

    Writes verify.json beside sweep.json.
    """
    plan = read_json(directory / SWEEP)
    requests = [compose_run(job["overrides"]) for job in plan.get("search") or plan["jobs"]]
    asked = [request.config.adapter for request in requests]
    adapters.settle_imports(next((one for one in asked if one.kind is not Adapter.none), asked[0]))

    checks = []
    for group in _same_but_for_batch_and_seed(requests):
        # By the pair, since one preset may be swept with several pairs.
        plans = {str(request.plan): request.plan for request in group if request.plan}
        packings = dict.fromkeys(request.config.batch.packing for request in group)
        if len(plans) * len(packings) > 1:
            with leased_device(group[0].config.device):
                with without_collector():
                    from batchopt.verify.proof import SHORT, prepare, verify

                setting = prepare(group[0], steps=1, longest=SHORT)
                checks += verify(setting, plans, list(packings))
    write_json(directory / VERIFY, [asdict(check) for check in checks])
    failed = [check for check in checks if check.passed is False]
    if failed:
        print_tables(failed, [])
        print(
            "batchopt: the runs of this sweep would be different trainings, see the table; "
            "verify=false runs them all the same",
            file=sys.stderr,
        )
        return SOME_FAILED
    if checks:
        worst = max(check.gradient_difference or 0.0 for check in checks)
        print(f"verified: the batches give the same gradient, to {worst:.0e}")
    return OK


@contextmanager
def leased_device(config: DeviceConfig) -> Iterator[None]:
    """Takes a device, waiting where none is free, and shows CUDA that one alone.

    Of several GPUs the stock Trainer would make a DataParallel, with another loss and gradient.
    CUDA reads the variable when it is first used, which the imports before this must not do.

    Raises:
        RequestError: A GPU is demanded, and there is none.
    """
    try:
        device, lease = lease_for_run(config, Path("a verification"))
    except NvmlError as error:
        raise RequestError(f"device.kind is {config.kind.value}: {error}") from error
    with lease:
        os.environ["CUDA_VISIBLE_DEVICES"] = device.uuid if device else ""
        yield


def _same_but_for_batch_and_seed(requests: Sequence[RunRequest]) -> list[list[RunRequest]]:
    groups: dict[str, list[RunRequest]] = {}
    for request in requests:
        config = request.config
        groups.setdefault(
            repr((config.data, config.model, config.adapter, config.training)), []
        ).append(request)
    return list(groups.values())


def print_example(example: tuple[str, str]) -> None:
    """Prints a source and its target as the model sees them, special tokens included."""
    source, target = example
    print(f"the first source as the model reads it:\n{source}\n")
    print(f"and the target that it is to write:\n{target}\n")


def print_tables(checks: Sequence["Check"], stock: Sequence["Stock"]) -> None:
    """Prints both tables."""
    console = screen()
    for precision in dict.fromkeys(check.precision for check in checks):
        table = Table(title=f"batchopt against a step in one piece, in {precision}")
        table.box, table.show_edge = box.SIMPLE_HEAD, False
        table.pad_edge, table.padding = False, (0, 1, 0, 0)
        for heading in ("preset", "batch", "packing"):
            table.add_column(heading, no_wrap=True)
        for heading in ("micro-\nbatches", "loss", "Δ\nloss", "Δ\ngradient", "Δ\nweights"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("")
        for check in (check for check in checks if check.precision == precision):
            table.add_row(
                check.preset,
                check.batch,
                check.packing,
                _number(check.micro_batches, "d"),
                _number(check.loss, ".4f"),
                _number(check.loss_difference, ".0e"),
                _number(check.gradient_difference, ".0e"),
                _number(check.weight_difference, ".0e"),
                _WORDS[check.passed],
            )
        console.print(table)
    if not stock:
        return
    console.print()
    table = Table(title=f"the stock Trainer of transformers {version('transformers')}")
    table.box, table.show_edge = box.SIMPLE_HEAD, False
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    table.add_column("preset", no_wrap=True)
    table.add_column("batch", no_wrap=True)
    table.add_column("loss shown", justify="right")
    table.add_column("gradient", justify="right")
    table.add_column("and points elsewhere by", justify="right")
    for row in stock:
        table.add_row(
            row.preset,
            row.batch,
            f"{row.loss:.4f}",
            f"{row.gradient_ratio:.2f} x the exact one",
            f"{row.gradient_difference:.2%}",
        )
    console.print(table)


_WORDS = {True: "[green]same[/]", False: "[red]differs[/]", None: "[yellow]no memory[/]"}


def verdict(checks: Sequence["Check"]) -> str:
    """The answer in a sentence: whether all are one training, and how large a difference is."""
    differing = [check for check in checks if check.passed is False]
    unknown = sum(check.passed is None for check in checks)
    left_out = f"; {unknown} did not fit into memory and were not compared" if unknown else ""
    if differing:
        which = ", ".join(dict.fromkeys(f"{one.preset} {one.packing}" for one in differing))
        return (
            f"verdict: {len(differing)} of {len(checks)} differ from a step in one piece, so they "
            f"would be other trainings: {which}{left_out}"
        )
    worst: dict[str, float] = {}
    for check in checks:
        difference = check.gradient_difference or 0.0
        worst[check.precision] = max(difference, worst.get(check.precision, 0.0))
    largest = ", ".join(f"{difference:.0e} in {name}" for name, difference in worst.items())
    return (
        "verdict: all presets and packings are one training up to rounding; the gradient differs "
        f"by at most {largest}{left_out}"
    )


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("batchopt.machine.device").setLevel(logging.INFO)  # for whom it waits
    sys.exit(answer(main))
