"""Proves that the presets are one training: `python -m batchopt.verify [OVERRIDES]`.

On the configured model and data, with dropout off, every preset and packing trains the same few
optimizer steps from the same weights. Loss, gradient and resulting weights are compared with
those of a step in one piece. The stock Trainer of the installed transformers, given the same
examples, stands beside them: it shows what would have happened without us.
"""

import copy
import dataclasses
import logging
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import (
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers import __version__ as transformers_version
from transformers.trainer_callback import PrinterCallback

from batchopt import tokenized
from batchopt.batch_plan import BatchPlan
from batchopt.cli import OK, SOME_FAILED, Parser, answer
from batchopt.compose import RunRequest, accept_plus, compose_run, preset_plans
from batchopt.config import Config, Packing, Precision
from batchopt.corpus.load import load_corpus
from batchopt.errors import RequestError
from batchopt.failures import is_out_of_memory
from batchopt.loss import IGNORED, micro_batch_loss, use_slices
from batchopt.modeling import build_model
from batchopt.run_files import SWEEP, VERIFY, read_json, write_json
from batchopt.steps import Row, StepCollator, StepSampler
from batchopt.trainer import resolve_precision, use_cuda

TOLERANCE = {Precision.fp32: 1e-4, Precision.bf16: 5e-2, Precision.fp16: 5e-2}
"""Largest relative difference that passes. What is left in fp32 is the order of the additions;
bf16 keeps 8 bits, fp16 11, and both round differently where a micro-batch has another shape."""

SHORT = 64
"""Tokens of a source or target in the short form: it runs on whatever submits the sweep."""


@dataclass(frozen=True, slots=True)
class Check:
    """One way to cut the steps, against the whole steps in one piece.

    `loss` and `gradient_norm` are those of the first step. The differences are the largest of all
    steps: of the loss relative to the loss, of the gradient as its largest element's difference
    relative to the largest element, of the weights after the last step as a norm relative to the
    distance that training moved them. All are None where it did not fit into memory.
    """

    preset: str
    batch: str
    packing: str
    precision: str
    micro_batches: int | None = None
    loss: float | None = None
    gradient_norm: float | None = None
    loss_difference: float | None = None
    gradient_difference: float | None = None
    weight_difference: float | None = None
    passed: bool | None = None


@dataclass(frozen=True, slots=True)
class Stock:
    """What the installed Trainer makes of the same first step, cut the same way.

    `loss` is the one it shows; `gradient_ratio` the norm of its gradient over the exact one;
    `gradient_difference` how far it points elsewhere: relative distance once the norms are equal.
    """

    preset: str
    batch: str
    loss: float
    gradient_ratio: float
    gradient_difference: float


@dataclass(frozen=True, slots=True)
class Trace:
    """What a few optimizer steps left behind; tensors in fp32 on the CPU."""

    losses: list[float]
    gradients: list[Tensor]
    weights: Tensor
    micro_batches: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What all checks have in common. `steps` holds the rows of each optimizer step."""

    config: Config
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    steps: list[list[Row]]
    device: torch.device


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
    request = compose_run([accept_plus(word) for word in arguments.overrides])
    plans = preset_plans(arguments.overrides)
    setting = prepare(request, steps=arguments.steps)
    checks = verify(setting, plans, list(Packing))
    exact = exact_gradient(setting, plans)
    stock = [stock_trainer(setting, name, plan, exact) for name, plan in plans.items()]
    print_tables(checks, stock)
    if arguments.json:
        write_json(
            arguments.json,
            {
                "transformers": transformers_version,
                "torch": torch.__version__,
                "checks": [asdict(check) for check in checks],
                "stock": [asdict(row) for row in stock],
            },
        )
    return SOME_FAILED if any(check.passed is False for check in checks) else OK


def prepare(request: RunRequest, *, steps: int, longest: int | None = None) -> Setting:
    """Loads model and data, dropout off.

    Args:
        request: What to verify.
        steps: How many optimizer steps; the first of the first epoch.
        longest: Cuts sources and targets to so many tokens, for a quick check: that the presets
            agree does not depend on the length.
    """
    config = request.config
    corpus = load_corpus(config.data)
    data = tokenized.load(tokenized.prepare(config, corpus))
    device = torch.device("cuda" if use_cuda(config) else "cpu")
    model = build_model(config, data.tokenizer)
    model.to(device)  # type: ignore[arg-type]  # transformers wraps it without a signature
    # Evaluation mode is how dropout and LayerDrop are off, wherever a model keeps them.
    model.eval()  # type: ignore[no-untyped-call]
    sampler = StepSampler(
        len(data.train),
        effective_batch_size=config.batch.effective_batch_size,
        seed=config.seed,
    )
    rows = [
        [
            {name: tokens[:longest] for name, tokens in data.train[index].items()}
            for index in indices
        ]
        for indices, _ in zip(sampler, range(steps), strict=False)
    ]
    return Setting(config, model, data.tokenizer, rows, device)


def verify(
    setting: Setting, plans: dict[str, BatchPlan], packings: Sequence[Packing]
) -> list[Check]:
    """Checks every preset and packing in fp32, and in the configured precision too."""
    cpu = setting.device.type == "cpu"
    configured = resolve_precision(setting.config.training.precision, cpu=cpu)
    sliced = use_slices(setting.config.training, setting.model)
    checks = []
    for precision in dict.fromkeys([Precision.fp32, configured]):
        reference = _reference(setting, plans, precision)
        for name, plan in plans.items():
            for packing in packings:
                facts = {"preset": name, "batch": str(plan), "packing": packing.value}
                try:
                    trace = _trace(setting, plan, packing, precision, sliced=sliced)
                except Exception as error:
                    if not is_out_of_memory(error):
                        raise
                    trace = None
                checks.append(_compare(setting, trace, reference, precision, facts))
    return checks


def _reference(setting: Setting, plans: dict[str, BatchPlan], precision: Precision) -> Trace:
    """The steps in one piece or, where that does not fit, in the largest preset that does.

    With the model's own logits, so that the loss in slices is proved as well.
    """
    effective = next(iter(plans.values())).effective_batch_size
    sizes = sorted({plan.per_device_train_batch_size for plan in plans.values()}, reverse=True)
    for size in dict.fromkeys([effective, *sizes]):
        try:
            plan = BatchPlan(size, effective)
            return _trace(setting, plan, Packing.none, precision, sliced=False)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
    raise RequestError(
        "no preset fits into the memory of this device; try training.precision=bf16, a smaller "
        "data.max_source_length or device.kind=cpu"
    )


def _compare(
    setting: Setting,
    trace: Trace | None,
    reference: Trace,
    precision: Precision,
    facts: dict[str, Any],
) -> Check:
    """Compares one trace, None where it did not fit into memory, with the reference."""
    if trace is None:
        return Check(**facts, precision=precision.value)
    loss = max(
        abs(ours - theirs) / abs(theirs)
        for ours, theirs in zip(trace.losses, reference.losses, strict=True)
    )
    gradient = max(
        float((ours - theirs).abs().max() / theirs.abs().max())
        for ours, theirs in zip(trace.gradients, reference.gradients, strict=True)
    )
    moved = torch.linalg.norm(reference.weights - _flat(setting.model.parameters()))
    return Check(
        **facts,
        precision=precision.value,
        micro_batches=trace.micro_batches,
        loss=trace.losses[0],
        gradient_norm=float(torch.linalg.norm(trace.gradients[0])),
        loss_difference=loss,
        gradient_difference=gradient,
        weight_difference=float(torch.linalg.norm(trace.weights - reference.weights) / moved),
        passed=max(loss, gradient) <= TOLERANCE[precision],
    )


def _trace(
    setting: Setting, plan: BatchPlan, packing: Packing, precision: Precision, *, sliced: bool
) -> Trace:
    """Trains the steps from the setting's weights, cut in one way."""
    training = setting.config.training
    model = copy.deepcopy(setting.model)
    # Plain gradient descent: Adam would blow rounding of tiny gradients up to whole steps.
    optimizer = torch.optim.SGD(model.parameters(), lr=training.learning_rate)
    losses, gradients, micro_batches = [], [], 0
    for rows in setting.steps:
        step = _collator(setting, plan, packing)(rows)
        micro_batches = max(micro_batches, len(step["micro_batches"]))
        total = 0.0
        for micro_batch in step["micro_batches"]:
            batch = {name: tensor.to(setting.device) for name, tensor in micro_batch.items()}
            with _autocast(setting.device, precision):
                loss = micro_batch_loss(
                    model, batch, step["target_tokens"], training.label_smoothing, sliced=sliced
                )
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        losses.append(total)
        gradients.append(_gradient(model))
        optimizer.step()
        optimizer.zero_grad()
    return Trace(losses, gradients, _flat(model.parameters()), micro_batches)


def _collator(setting: Setting, plan: BatchPlan, packing: Packing) -> StepCollator:
    pad_token_id = setting.tokenizer.pad_token_id
    assert isinstance(pad_token_id, int)
    return StepCollator(
        plan,
        packing=packing,
        max_tokens_per_micro_batch=setting.config.batch.max_tokens_per_micro_batch,
        pad_token_id=pad_token_id,
    )


def _autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    if precision is Precision.fp32:
        return nullcontext()
    dtype = torch.bfloat16 if precision is Precision.bf16 else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def _flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().float().cpu().flatten() for tensor in tensors])


def _gradient(model: torch.nn.Module) -> Tensor:
    return _flat(weight.grad for weight in model.parameters() if weight.grad is not None)


def exact_gradient(setting: Setting, plans: dict[str, BatchPlan]) -> Tensor:
    """The gradient of the first step in fp32, flat."""
    first = dataclasses.replace(setting, steps=setting.steps[:1])
    return _reference(first, plans, Precision.fp32).gradients[0]


def stock_trainer(setting: Setting, name: str, plan: BatchPlan, exact: Tensor) -> Stock:
    """Runs one optimizer step of the installed Trainer as a person would set it up."""
    model = copy.deepcopy(setting.model)
    # The Trainer switches dropout on at every step; here it must stay off.
    model.train = lambda mode=True: model  # type: ignore[method-assign]
    caught = _Catcher()
    with tempfile.TemporaryDirectory() as folder:
        arguments = Seq2SeqTrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=plan.per_device_train_batch_size,
            gradient_accumulation_steps=plan.gradient_accumulation_steps,
            max_steps=1,
            max_grad_norm=0.0,
            train_sampling_strategy="sequential",
            label_smoothing_factor=setting.config.training.label_smoothing,
            use_cpu=setting.device.type == "cpu",
            dataloader_pin_memory=False,
            remove_unused_columns=False,
            logging_first_step=True,
            disable_tqdm=True,
            save_strategy="no",
            report_to="none",
        )
        trainer = Seq2SeqTrainer(
            model=model,
            args=arguments,
            train_dataset=setting.steps[0],
            data_collator=DataCollatorForSeq2Seq(
                setting.tokenizer, model=model, label_pad_token_id=IGNORED
            ),
            callbacks=[caught],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    assert caught.gradient is not None
    ratio = float(torch.linalg.norm(caught.gradient) / torch.linalg.norm(exact))
    apart = torch.linalg.norm(caught.gradient / ratio - exact) / torch.linalg.norm(exact)
    loss = next(float(row["loss"]) for row in trainer.state.log_history if "loss" in row)
    return Stock(name, str(plan), loss, ratio, float(apart))


class _Catcher(TrainerCallback):
    """Keeps the gradient with which the Trainer is about to step."""

    def __init__(self) -> None:
        self.gradient: Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called once all micro-batches are in the gradient."""
        self.gradient = _gradient(kwargs["model"])


def verify_sweep(directory: Path) -> int:
    """The short form before a sweep: one step of short examples, each batch and packing once.

    Writes verify.json beside sweep.json.
    """
    plan = read_json(directory / SWEEP)
    requests = [compose_run(job["overrides"]) for job in plan.get("search") or plan["jobs"]]
    checks = []
    for group in _same_but_for_batch_and_seed(requests):
        # By the pair, since one preset may be swept with several pairs.
        plans = {str(request.plan): request.plan for request in group if request.plan}
        packings = dict.fromkeys(request.config.batch.packing for request in group)
        if len(plans) * len(packings) > 1:
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


def _same_but_for_batch_and_seed(requests: Sequence[RunRequest]) -> list[list[RunRequest]]:
    groups: dict[str, list[RunRequest]] = {}
    for request in requests:
        config = request.config
        groups.setdefault(repr((config.data, config.model, config.training)), []).append(request)
    return list(groups.values())


def print_tables(checks: Sequence[Check], stock: Sequence[Stock]) -> None:
    """Prints both tables."""
    console = Console(highlight=False)
    table = Table(title="batchopt against a step in one piece", box=box.SIMPLE_HEAD)
    for heading in ("preset", "batch", "packing", "precision"):
        table.add_column(heading, no_wrap=True)
    for heading in ("micro-batches", "loss", "gradient norm"):
        table.add_column(heading, justify="right")
    for heading in ("Δ loss", "Δ gradient", "Δ weights"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("")
    for check in checks:
        verdict = {True: "[green]same[/]", False: "[red]differs[/]", None: "[yellow]no memory[/]"}
        table.add_row(
            check.preset,
            check.batch,
            check.packing,
            check.precision,
            _number(check.micro_batches, "d"),
            _number(check.loss, ".6f"),
            _number(check.gradient_norm, ".6f"),
            _number(check.loss_difference, ".0e"),
            _number(check.gradient_difference, ".0e"),
            _number(check.weight_difference, ".0e"),
            verdict[check.passed],
        )
    console.print(table)
    if not stock:
        return
    table = Table(title=f"the stock Trainer of transformers {transformers_version}")
    table.box = box.SIMPLE_HEAD
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


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    sys.exit(answer(main))
