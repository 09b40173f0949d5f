"""`find_batch`: which per-device batch fits and is fastest, for a model that is in this process.

Each size runs the data's worst micro-batch through forward, backward and an optimizer step, from
the largest size downwards, and then whole steps of typical examples against the clock. The choice
is that of `batch=auto`; the measuring is in this process instead of a child of its own.
"""

import random
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from batchopt.errors import first_line
from batchopt.library.choice import BatchCandidate, BatchChoice
from batchopt.library.exact_loss import with_decoder_inputs
from batchopt.library.peak_memory import PeakMemory, peak_memory
from batchopt.library.rows import is_encoder_decoder, row_lengths, rows_for_model, worst_row
from batchopt.library.untouched import Untouched
from batchopt.probe.choose import CLOSE, fastest, fit_line, fitting
from batchopt.probe.measure import Probe
from batchopt.request.batch_plan import BatchPlan, divisor_pairs
from batchopt.request.config import Packing
from batchopt.step.loss import exact_loss
from batchopt.step.micro_batches import plan_micro_batches
from batchopt.training.failures import is_out_of_memory
from batchopt.training.waiting import watch_the_cores

WORST_STEPS = 2
"""The first step makes the optimizer's state, so the second has everything in memory."""

TYPICAL_STEPS = 3
"""Timed steps of a size, after one to warm up."""

SLOWER = 1.25
"""Two sizes in a row that are slower than the fastest by this factor end the search: what a smaller
size saves in padding, it has lost to its overhead by then."""

Collator = Callable[[list[dict[str, Any]]], Any]


def find_batch(
    model: nn.Module,
    train_dataset: Any,
    tokenizer: Any = None,
    *,
    data_collator: Collator | None = None,
    effective_batch_size: int = 64,
    candidates: Iterable[int] | None = None,
    memory_limit_gib: float | None = None,
    memory_margin: float = 0.1,
    optimizer: torch.optim.Optimizer | None = None,
    autocast_dtype: torch.dtype | None = None,
    packing: Packing | str = Packing.none,
    device: torch.device | str | None = None,
) -> BatchChoice:
    """Finds the per-device batch and the accumulation for a model and a data set in this process.

    Model (weights, gradients, buffers, mode), optimizer and random numbers are afterwards what they
    were, bit for bit, also after a failure or Ctrl-C. Enable gradient checkpointing before the
    call if the training will have it.

    Args:
        model: An encoder-decoder or a decoder-only model of transformers. One on the CPU is
            measured on the GPU if there is one, as the Trainer would move it.
        train_dataset: Tokenized rows with a length: `input_ids`, `labels`, as for the Trainer.
        tokenizer: Pads the rows; may be left out if `data_collator` is given.
        data_collator: Makes a batch of rows; None: what suits the model and the rows.
        effective_batch_size: Examples of one optimizer step.
        candidates: Per-device batch sizes to try; None: all that divide the effective batch.
        memory_limit_gib: The most that the process may take on the device; None: what is free.
        memory_margin: The share of it that must stay free with the worst micro-batch.
        optimizer: Yours, where it exists already; None: AdamW, as the Trainer makes it.
        autocast_dtype: torch.bfloat16 for a training with bf16=True; None: the model's precision.
        packing: How the micro-batches of a typical step are planned: "none" as the stock Trainer
            does; the value that ExactSeq2SeqTrainer will have.
        device: Where to measure; None: where the model is, and on the CPU see `model`.

    Returns:
        The choice: `print(choice)` shows all candidates; `choice.training_arguments()` is for
        Seq2SeqTrainingArguments.

    Raises:
        ValueError: A candidate does not divide the effective batch, the rows are not tokenized, or
            nobody can pad them.
        MemoryError: Not even the smallest candidate fits.
    """
    plans = _plans(effective_batch_size, candidates)
    lengths = row_lengths(model, train_dataset)
    collate = data_collator or _collator(model, train_dataset, tokenizer)
    at = _device(model, optimizer, device)
    if at.type == "cpu":
        watch_the_cores(torch.get_num_threads())
    limit = None if memory_limit_gib is None else int(memory_limit_gib * 2**30)
    packing = Packing(packing)
    if packing is Packing.unpadded:
        raise ValueError("packing is unpadded, and the collator pads; take another")
    drawn = random.Random(0).sample(range(len(lengths)), min(effective_batch_size, len(lengths)))
    worst = worst_row(model, train_dataset, lengths)
    longest = max(source for source, _ in lengths) + max(target for _, target in lengths)

    def worst_step(plan: BatchPlan) -> list[Any]:
        # The second micro-batch finds the gradient of the first in memory.
        count = min(2, plan.gradient_accumulation_steps)
        size = plan.per_device_train_batch_size
        return [collate([_copied(worst) for _ in range(size)]) for _ in range(count)]

    def typical_step(plan: BatchPlan) -> list[Any]:
        parts = plan_micro_batches(
            [lengths[index] for index in drawn],
            per_device_train_batch_size=plan.per_device_train_batch_size,
            packing=packing,
        )
        return [
            collate(rows_for_model(model, train_dataset, [drawn[index] for index in part]))
            for part in parts
        ]

    memory = peak_memory(at, limit)
    untouched = Untouched(model, optimizer, at)
    with untouched.lent():
        training = _Training(model, untouched.optimizer, at, autocast_dtype)
        probes: list[Probe] = []
        for plan in plans:
            probe = _probe(plan, training, memory, untouched, worst_step(plan))
            probe = replace(probe, tokens=plan.per_device_train_batch_size * longest)
            if fitting([probe], (1 - memory_margin) * memory.budget_bytes):
                seconds = training.seconds_per_step(typical_step(plan))
                probe = replace(probe, seconds_per_step=seconds)
            probes.append(probe)
            if _gets_slower(probes):
                break
        budget = memory.budget_bytes
    return _choose(
        plans, probes, longest, budget=budget, margin=memory_margin, source=memory.source
    )


class _Training:
    """Optimizer steps on the model itself; the learning rate is 0, so that nothing diverges."""

    def __init__(
        self, model: nn.Module, optimizer: Any, device: torch.device, dtype: torch.dtype | None
    ) -> None:
        self.model = model
        self.device = device
        self.dtype = dtype
        self.trained = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = optimizer or torch.optim.AdamW(self.trained, lr=0.0, fused=True)
        for group in self.optimizer.param_groups:
            if group.get("lr") is not None:
                group["lr"] = 0 * group["lr"]
        model.train()
        config = getattr(model, "config", None)
        if config is not None:
            config.use_cache = False  # as the Trainer sets it

    def step(self, batches: Sequence[Any]) -> None:
        """One optimizer step of these micro-batches, as the Trainer runs it."""
        tokens = sum(int((batch["labels"] != -100).sum()) for batch in batches)
        for batch in batches:
            with self._autocast():
                loss = self._loss(batch, tokens)
            loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimizer.step()
        self.model.zero_grad()

    def seconds_per_step(self, batches: Sequence[Any]) -> float:
        """The median time of an optimizer step."""
        times = []
        for _ in range(1 + TYPICAL_STEPS):
            self._wait()
            began = time.perf_counter()
            self.step(batches)
            self._wait()
            times.append(time.perf_counter() - began)
        return median(times[1:])

    def _loss(self, batch: Any, tokens: int) -> Tensor:
        inputs = {
            name: value.to(self.device) if isinstance(value, Tensor) else value
            for name, value in batch.items()
        }
        if is_encoder_decoder(self.model):
            inputs = with_decoder_inputs(self.model, inputs)
        labels = inputs.pop("labels")
        return exact_loss(self.model(**inputs), labels, tokens)

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.dtype is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _probe(
    plan: BatchPlan,
    training: _Training,
    memory: PeakMemory,
    untouched: Untouched,
    batches: Sequence[Any],
) -> Probe:
    """Runs the worst case of one size and measures its peak."""
    failed = None
    try:
        with memory.limited(untouched.held_bytes):
            for _ in range(WORST_STEPS):
                training.step(batches)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        failed = first_line(error)
    if failed is not None:
        training.model.zero_grad()
        return Probe(plan, fits=False, cause=failed)
    return Probe(
        plan, fits=True, cause="", train_peak_bytes=memory.peak_bytes(untouched.held_bytes)
    )


def _gets_slower(probes: Sequence[Probe]) -> bool:
    """Whether the last two sizes were slower than the fastest so far."""
    times = [probe.seconds_per_step for probe in probes if probe.seconds_per_step]
    return len(times) > 2 and min(times[-2:]) > SLOWER * min(times)


def _choose(
    plans: Sequence[BatchPlan],
    probes: Sequence[Probe],
    longest: int,
    *,
    budget: int,
    margin: float,
    source: str,
) -> BatchChoice:
    """Chooses as `batch=auto` does, and says of every size why; an example has `longest` tokens."""
    fits = fitting(probes, (1 - margin) * budget)
    if not fits:
        raise MemoryError(
            f"not even {plans[-1]} fits into {budget / 2**30:.2f} GiB with {margin:.0%} to stay "
            f"free ({probes[-1].cause or 'its worst micro-batch takes more'}); shorten the rows, "
            "enable gradient checkpointing, or name smaller candidates"
        )
    chosen, reason = fastest(fits, budget, margin)
    best = min(probe.seconds_per_step for probe in fits if probe.seconds_per_step)
    line = fit_line(probes)
    tried = {probe.plan: probe for probe in probes}
    rows = []
    for plan in plans:
        probe = tried.get(plan)
        peak, predicted = probe.train_peak_bytes if probe else None, False
        if peak is None and line is not None:
            peak, predicted = int(line.at(plan.per_device_train_batch_size * longest)), True
            if probe is not None:  # it failed, so it needs more than there is
                peak = max(peak, budget)
        if probe is None:
            why = "not tried: the sizes above were getting slower"
        elif not probe.fits:
            why = "does not fit: out of memory"
        elif probe not in fits:
            why = f"leaves less than {margin:.0%} of {budget / 2**30:.2f} GiB free"
        elif plan == chosen:
            why = "the fastest that fits"
        elif (probe.seconds_per_step or 0.0) <= CLOSE * best:
            why = f"as fast as {chosen}, and needs more memory"
        else:
            why = f"{(probe.seconds_per_step or 0.0) / best - 1:.0%} slower"
        seconds = probe.seconds_per_step if probe else None
        rows.append(
            BatchCandidate(plan, probe.fits if probe else None, peak, predicted, seconds, why)
        )
    return BatchChoice(chosen, reason, tuple(rows), budget, source)


def _plans(effective_batch_size: int, candidates: Iterable[int] | None) -> list[BatchPlan]:
    """The plans to try, the largest size first."""
    if effective_batch_size < 1:
        raise ValueError(f"effective_batch_size is {effective_batch_size}, not 1 or more")
    every = [plan.per_device_train_batch_size for plan in divisor_pairs(effective_batch_size)]
    sizes = set(every if candidates is None else candidates)
    wrong = sorted(sizes - set(every))
    if wrong or not sizes:
        raise ValueError(
            f"candidates: {wrong[0] if wrong else 'none'} does not divide effective_batch_size "
            f"({effective_batch_size}); sizes that do: {', '.join(map(str, every))}"
        )
    return [BatchPlan(size, effective_batch_size) for size in sorted(sizes, reverse=True)]


def _device(model: nn.Module, optimizer: Any, asked: torch.device | str | None) -> torch.device:
    """Where to measure: as asked, else where the Trainer would train."""
    devices = {weight.device for weight in model.parameters()}
    if len(devices) != 1:
        raise ValueError(
            f"the model is on {len(devices)} devices; find_batch measures on one, such as with "
            "device_map={'': 0}"
        )
    (own,) = devices
    if asked is not None:
        wanted = torch.device(asked)
        if optimizer is not None and wanted.type != own.type:
            raise ValueError(
                f"device is {wanted} and the optimizer holds the weights on {own}; leave one out"
            )
        return wanted
    if own.type == "cpu" and optimizer is None and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return own


def _collator(model: nn.Module, dataset: Any, tokenizer: Any) -> Collator:
    """What suits the model and the rows."""
    from transformers import DataCollatorForLanguageModeling, DataCollatorForSeq2Seq

    if tokenizer is None:
        raise ValueError("find_batch needs tokenizer or data_collator, to pad the rows")
    if is_encoder_decoder(model):
        return DataCollatorForSeq2Seq(tokenizer, model=model)
    if "labels" in dataset[0]:
        return DataCollatorForSeq2Seq(tokenizer)
    return DataCollatorForLanguageModeling(tokenizer, mlm=False)


def _copied(row: dict[str, Any]) -> dict[str, Any]:
    """A row of its own: some collators write into what they get."""
    return {name: list(value) if isinstance(value, list) else value for name, value in row.items()}
