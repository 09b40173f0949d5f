"""The proof: loss, gradient and weights of every preset against those of the undivided step."""

import copy
import dataclasses
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from batchopt.data import tokenized
from batchopt.errors import RequestError
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import Adapter, Config, Packing, Precision
from batchopt.step.architecture import Row, architecture_of
from batchopt.step.attention import is_flash
from batchopt.step.batches import StepCollator, StepSampler
from batchopt.step.loss import micro_batch_loss, use_slices
from batchopt.step.tables import add_rows_in_place
from batchopt.training import adapters
from batchopt.training.build import set_up_torch
from batchopt.training.failures import is_out_of_memory
from batchopt.training.model import build_model
from batchopt.training.trainer import adds_in_place, resolve_precision, use_cuda

TOLERANCE = {Precision.fp32: 1e-4, Precision.bf16: 5e-2, Precision.fp16: 5e-2}
"""Largest relative difference that passes. In fp32 only the order of the additions differs. bf16
keeps 8 bits, fp16 11, and both round differently if a micro-batch has another shape."""

SHORT = 64
"""Tokens of a source or target in the short check, which runs where the sweep is submitted."""


@dataclass(frozen=True, slots=True)
class Check:
    """One way to divide the steps, compared with the undivided steps.

    `loss` and `gradient_norm` are those of the first step. The differences are the largest of all
    steps: `loss_difference` is relative to the loss; `gradient_difference` is the largest
    difference of an element relative to the largest element; `weight_difference` is the norm of the
    difference after the last step relative to the distance that training moved the weights. All are
    None if a step did not fit into memory.
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
class Trace:
    """The results of a few optimizer steps; tensors in fp32 on the CPU."""

    losses: list[float]
    gradients: list[Tensor]
    weights: Tensor
    micro_batches: int


@dataclass(frozen=True, slots=True)
class Setting:
    """The input of all checks.

    `steps` holds the rows of each optimizer step, `example` a source and its target as text.
    """

    config: Config
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    steps: list[list[Row]]
    device: torch.device
    example: tuple[str, str]


def prepare(request: RunRequest, *, steps: int, longest: int | None = None) -> Setting:
    """Loads model and data, dropout off.

    Args:
        request: What to verify.
        steps: The number of optimizer steps, from the start of the first epoch.
        longest: Cuts sources and targets to this number of tokens, for a quick check: whether the
            presets agree does not depend on the length.
    """
    config = request.config
    data = tokenized.load(tokenized.prepare(config))
    device = torch.device("cuda" if use_cuda(config) else "cpu")
    set_up_torch(config, cuda=device.type != "cpu")
    model = build_model(config, data.tokenizer, data.summary.extra_tokens)
    if not adapters.is_quantised(model):  # which is there already
        model.to(device)  # type: ignore[arg-type]  # transformers wraps it without a signature
    adapters.randomise(model, config.seed)
    # Evaluation mode switches off dropout and LayerDrop in every part of a model.
    model.eval()  # type: ignore[no-untyped-call]
    sampler = StepSampler(
        len(data.train),
        effective_batch_size=config.batch.effective_batch_size,
        seed=config.seed,
    )
    rows = [
        [
            Row(input_ids=row["input_ids"][:longest], labels=row["labels"][:longest])
            for row in [data.train[index] for index in indices]
        ]
        for indices, _ in zip(sampler, range(steps), strict=False)
    ]
    return Setting(config, model, data.tokenizer, rows, device, data.first_example())


def verify(
    setting: Setting, plans: dict[str, BatchPlan], packings: Sequence[Packing]
) -> list[Check]:
    """Checks every preset and packing in fp32 and in the precision of the training.

    Frozen weights may be kept in a coarser precision than the training's; in the pass in fp32 they
    are read in that.
    """
    given = setting
    sliced = use_slices(setting.config.training, setting.model)
    checks = []
    for precision in dict.fromkeys([Precision.fp32, _trained(setting)]):
        setting = given if precision is not Precision.fp32 else fp32_setting(given)
        reference = trace_reference(setting, plans, precision)
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


def fp32_setting(setting: Setting) -> Setting:
    """The same, with a model that computes in fp32; a copy where its own does not."""
    if setting.config.adapter.kind is Adapter.none and not is_flash(setting.model):
        return setting
    return dataclasses.replace(setting, model=adapters.in_fp32(copy.deepcopy(setting.model)))


def _training_precision(setting: Setting) -> Precision:
    """The arithmetic of the training, resolved."""
    cpu = setting.device.type == "cpu"
    return resolve_precision(setting.config.training.precision, cpu=cpu)


def _trained(setting: Setting) -> Precision:
    """The coarsest precision in which the training computes."""
    return adapters.coarsest(setting.config, _training_precision(setting))


def trace_reference(setting: Setting, plans: dict[str, BatchPlan], precision: Precision) -> Trace:
    """Runs the undivided steps or, if they do not fit, the largest preset that fits.

    Uses the logits of the model itself, so that the loss in slices is proved as well.
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
    """Compares one trace with the reference; None: it did not fit into memory."""
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
    moved = torch.linalg.norm(reference.weights - _flat(_trainable(setting.model)))
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
    """Trains the steps, divided in one way, from the weights of the setting."""
    training = setting.config.training
    frozen = [weight for weight in setting.model.parameters() if not weight.requires_grad]
    model = copy.deepcopy(setting.model, {id(weight): weight for weight in frozen})
    in_place = sliced and adds_in_place(setting.config)
    if in_place:
        add_rows_in_place(model)
    # Plain gradient descent: Adam would turn rounding errors of tiny gradients into whole steps.
    optimizer = torch.optim.SGD(_trainable(model), lr=training.learning_rate)
    losses, gradients, micro_batches = [], [], 0
    for rows in setting.steps:
        step = _collator(setting, plan, packing)(rows)
        micro_batches = max(micro_batches, len(step["micro_batches"]))
        total = 0.0
        for micro_batch in step["micro_batches"]:
            batch = {name: tensor.to(setting.device) for name, tensor in micro_batch.items()}
            with _autocast(setting, precision):
                loss = micro_batch_loss(
                    model,
                    batch,
                    step["target_tokens"],
                    training.label_smoothing,
                    sliced=sliced,
                    in_place=in_place,
                )
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        losses.append(total)
        gradients.append(flat_gradient(model))
        optimizer.step()
        optimizer.zero_grad()
    return Trace(losses, gradients, _flat(_trainable(model)), micro_batches)


def _collator(setting: Setting, plan: BatchPlan, packing: Packing) -> StepCollator:
    pad_token_id = setting.tokenizer.pad_token_id
    assert isinstance(pad_token_id, int)
    return StepCollator(
        plan,
        packing=packing,
        max_tokens_per_micro_batch=setting.config.batch.max_tokens_per_micro_batch,
        pad_token_id=pad_token_id,
        architecture=architecture_of(setting.model),
    )


def _autocast(setting: Setting, precision: Precision) -> AbstractContextManager[Any]:
    """As the training does it; where weights alone are coarser, the training has none."""
    training = _training_precision(setting)
    if Precision.fp32 in (precision, training):
        return nullcontext()
    return torch.autocast(setting.device.type, dtype=adapters.dtype_of(training))


def _trainable(model: torch.nn.Module) -> list[Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def _flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.detach().float().cpu().flatten() for tensor in tensors])


def flat_gradient(model: torch.nn.Module) -> Tensor:
    """The gradient of all parameters as one vector."""
    return _flat(weight.grad for weight in model.parameters() if weight.grad is not None)
