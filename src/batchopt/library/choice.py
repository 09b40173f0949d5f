"""What `find_batch` answers: the pair, and of every candidate what it needs and why it was left."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

from batchopt.request.batch_plan import BatchPlan

WIDTH = 80
"""Columns of the printed table."""


@dataclass(frozen=True, slots=True)
class BatchCandidate:
    """One per-device batch size that `find_batch` considered.

    `peak_memory_bytes` is the peak of the process with the data's worst micro-batch: measured, or
    predicted from the sizes that fit (`predicted` is True; no less than there is, where it failed),
    or None where nothing is known.
    `seconds_per_step` is the median of whole optimizer steps of typical examples; None if not
    timed. `why` says in words why it was chosen or left.
    """

    plan: BatchPlan
    fits: bool | None
    peak_memory_bytes: int | None
    predicted: bool
    seconds_per_step: float | None
    why: str


@dataclass(frozen=True, slots=True, repr=False)
class BatchChoice:
    """The batch size that `find_batch` chose; `print` shows the table of all candidates.

    `candidates` are in the order in which they were tried, the largest first. `budget_bytes` is the
    memory that the process may take, and `memory_source` says how memory was measured.
    """

    plan: BatchPlan
    reason: str
    candidates: Sequence[BatchCandidate]
    budget_bytes: int
    memory_source: str

    @property
    def per_device_train_batch_size(self) -> int:
        """Examples of one micro-batch."""
        return self.plan.per_device_train_batch_size

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches of one optimizer step."""
        return self.plan.gradient_accumulation_steps

    def training_arguments(self) -> dict[str, int]:
        """The pair by the Trainer's names, for `Seq2SeqTrainingArguments(**...)`."""
        return {
            "per_device_train_batch_size": self.per_device_train_batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    def __str__(self) -> str:
        from rich import box
        from rich.console import Console
        from rich.table import Table

        table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
        table.add_column("", no_wrap=True)
        table.add_column("batch", no_wrap=True)
        for heading in ("peak GiB", "s/step"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("why")
        for one in self.candidates:
            memory = "" if one.peak_memory_bytes is None else f"{one.peak_memory_bytes / 2**30:.2f}"
            table.add_row(
                "->" if one.plan == self.plan else "",
                str(one.plan),
                f"~{memory}" if one.predicted else memory,
                "" if one.seconds_per_step is None else f"{one.seconds_per_step:.3g}",
                one.why,
            )
        text = io.StringIO()
        # In a notebook rich would print into the cell, and leave the text empty.
        console = Console(
            file=text, width=WIDTH, highlight=False, color_system=None, force_jupyter=False
        )
        console.print(table)
        console.print(f"{self.plan}: {self.reason}")
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__
