"""Measures which batch sizes fit: `python -m batchopt.probe [OVERRIDES]`.

Each batch size is measured in a process of its own on the worst micro-batch of the data. A line
through the measured peaks predicts the peaks of other sizes, and so what fits on other cards.
`batch=auto` chooses by the same figures.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich import box
from rich.table import Table

from batchopt.cli import OK, SOME_FAILED, Parser, answer, screen
from batchopt.machine.device import lease_for_run
from batchopt.machine.threads import Watch, choose
from batchopt.machine.torch_build import trains_on_cpu
from batchopt.probe.choose import MemoryLine, fit_line
from batchopt.probe.measure import Probe, budget_bytes, probe_all
from batchopt.record.files import write_json
from batchopt.request.batch_plan import BatchPlan, divisor_pairs
from batchopt.request.config import ProbeSizes
from batchopt.request.presets import compose_presets
from batchopt.request.words import read_words
from batchopt.run.child_process import Stop
from batchopt.training.prepare import prepare_shared

CARDS_GIB = (8, 12, 16, 24, 40, 80)
"""Memory of common cards."""


def main(words: list[str]) -> int:
    """Probes the batch sizes and prints what they need."""
    parser = Parser(
        prog="python -m batchopt.probe",
        description="Measure what each batch size needs on this device for this data's worst "
        "micro-batch, and predict the rest. probe.sizes=all probes every divisor.",
        epilog="Overrides are those of batchopt.train: data=files data.train_file=… model=…",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE")
    arguments = parser.parse_intermixed_args(words)
    watch = Watch()
    presets = compose_presets(read_words(arguments.overrides))
    request, names = presets.request, presets.plans
    plans = list(names.values())
    if request.config.probe.sizes is ProbeSizes.all:
        plans = divisor_pairs(request.config.batch.effective_batch_size)
    elif presets.left_out:
        print(presets.left_out)
    prepare_shared([request])
    device, lease = lease_for_run(request.config.device, Path("a probe"))
    if trains_on_cpu(device):
        choose(watch, [request.config.device.threads], os.environ).announce()
    with lease, Stop() as stop:
        probes = probe_all(request, plans, device, stop)
    line = fit_line(probes)
    budget = budget_bytes(request.config, device)
    _print(probes, {plan: name for name, plan in names.items()}, line, budget)
    if arguments.json:
        write_json(
            arguments.json,
            {
                "device": device.name if device else "CPU",
                "budget_bytes": budget,
                "memory": line and asdict(line),
                "probes": [asdict(probe) | {"batch": str(probe.plan)} for probe in probes],
            },
        )
    return OK if any(probe.fits for probe in probes) else SOME_FAILED


def _print(
    probes: Sequence[Probe], names: dict[BatchPlan, str], line: MemoryLine | None, budget: int
) -> None:
    console = screen()
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("preset", "batch"):
        table.add_column(heading, no_wrap=True)
    for heading in ("peak GiB", "predicted", "s/step"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("fits here", "fits cards (GiB)"):
        table.add_column(heading, no_wrap=True)
    tokens_each = next(
        (probe.tokens / probe.plan.per_device_train_batch_size for probe in probes if probe.tokens),
        None,
    )
    for probe in probes:
        size = probe.plan.per_device_train_batch_size
        predicted = line.at(int(size * tokens_each)) if line and tokens_each else None
        need = probe.peak_bytes or predicted
        verdict = {True: "yes", False: "no", None: "no, implied"}[probe.fits]
        table.add_row(
            names.get(probe.plan, ""),
            str(probe.plan),
            _gib(probe.peak_bytes),
            _gib(predicted),
            "" if probe.seconds_per_step is None else f"{probe.seconds_per_step:.3f}",
            verdict,
            " ".join(str(card) for card in CARDS_GIB if need and need <= card * 2**30),
        )
    console.print(table)
    if line is not None:
        listed = ", ".join(
            f"{batch}: {error:+.1%}" for batch, error in line.held_out_errors.items()
        )
        error = (
            f"each size, predicted from the others, is off by {listed}"
            if listed
            else "too few sizes to say how well it predicts"
        )
        console.print(
            f"memory = {line.fixed_bytes / 2**30:.2f} GiB + {line.per_token_bytes / 2**10:.1f} KiB "
            f"per padded token of a micro-batch; {error}. Here: {budget / 2**30:.1f} GiB."
        )


def _gib(value: float | None) -> str:
    return "" if value is None else f"{value / 2**30:.2f}"


if __name__ == "__main__":
    sys.exit(answer(main))
