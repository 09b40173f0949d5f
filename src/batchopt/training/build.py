"""Loads data and model and joins them to a trainer."""

import copy
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.machine import host_memory
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import (
    Config,
    DeviceKind,
    Packing,
    Precision,
    PretrainedModelConfig,
    TrainerArguments,
)
from batchopt.request.optimizers import optimizer_name
from batchopt.request.rules import refuse_joined, wants_flash_attention
from batchopt.training import adapters, trackers
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import logger

if TYPE_CHECKING:
    from transformers import GenerationConfig

    from batchopt.data.tokenized import Tokenized
    from batchopt.evaluation.evaluator import Evaluator
    from batchopt.evaluation.generation import Generation
    from batchopt.evaluation.rouge_process import RougeProcess
    from batchopt.training.trainer import ExactTrainer


@dataclass(frozen=True, slots=True)
class PlanFacts:
    """The section `plan` of the record, as far as the training process knows it."""

    per_device_train_batch_size: int
    gradient_accumulation_steps: int
    effective_batch_size: int
    packing: str
    gradient_checkpointing: bool
    optimizer_steps: int
    per_device_eval_batch_size: int
    train_examples: int
    validation_examples: int
    optimizer: str
    """Its name in transformers."""
    arguments: Mapping[str, Any]
    """The keys of training.arguments that differ from the Trainer's defaults."""
    generation: Mapping[str, Any]
    """See `evaluation.generation.Generation.facts`."""


@dataclass(frozen=True, slots=True)
class DataFacts:
    """The section `data` of the record."""

    source: str
    train_examples: int
    validation_examples: int
    skipped_rows: int
    truncated_sources: int
    truncated_targets: int
    max_source_length: int
    max_target_length: int


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """The section `model` of the record."""

    name: str
    parameters: int
    """All of them, frozen ones too."""
    trainable_parameters: int
    adapter: str
    quantization: str | None
    dropout: float


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """The device as torch sees it; goes into the section `environment` of the record."""

    device_kind: str
    precision: str
    threads: int
    torch_device_name: str | None


@dataclass(frozen=True, slots=True)
class Facts:
    """The part of the record that is known before the first step."""

    plan: PlanFacts
    data: DataFacts
    model: ModelFacts
    device: DeviceFacts
    data_fingerprint: str


def build_trainer(
    request: RunRequest,
    plan: BatchPlan,
    recorder: Recorder,
    *,
    gradient_checkpointing: bool = False,
    tracked: bool = False,
    first_evaluation: bool = True,
) -> tuple["ExactTrainer", Facts]:
    """Loads data and model and joins them to a trainer.

    The recorder tells the supervisor the facts at once, so that they are known even if the
    training fails.

    Args:
        request: The run.
        plan: How the steps are divided; differs from the plan of the request after an OOM.
        recorder: Follows the training.
        gradient_checkpointing: True also where the config does not ask for it, after an OOM.
        tracked: Whether the tracker of the config follows the training.
        first_evaluation: Whether to evaluate before the first step.
    """
    import torch
    from transformers import set_seed
    from transformers.utils.logging import disable_progress_bar

    from batchopt.data import tokenized
    from batchopt.step.loss import use_slices
    from batchopt.training.allocator import MemoryLimit, own_device_bytes
    from batchopt.training.memory_split import weight_bytes
    from batchopt.training.model import build_model, largest_dropout
    from batchopt.training.trainer import ExactTrainer

    config = request.config
    recorder.per_device = plan.per_device_train_batch_size
    device = set_up_device(config)
    if device.device_kind == "cpu":
        now = host_memory.read_process_memory(os.getpid())
        recorder.other_metrics["imports_memory_bytes"] = now and now.anonymous_bytes
    limit = None
    if device.device_kind != "cpu" and config.device.memory_limit_gib is not None:
        limit_bytes = int(config.device.memory_limit_gib * 2**30)
        limit = MemoryLimit(limit_bytes, torch.cuda, own_device_bytes())
    # The supervisor draws the only progress bar; transformers would draw one for a checkpoint.
    disable_progress_bar()  # type: ignore[no-untyped-call]
    data = tokenized.load(tokenized.prepare(config))
    rouge = start_rouge(config, data)
    recorder.other_metrics["rouge_tokenizer"] = rouge.name
    model = build_model(config, data.tokenizer, data.summary.extra_tokens)
    set_seed(config.seed)
    sliced = use_slices(config.training, model)
    generation = choose_generation(config, data, model)
    # `generate` fills gaps from the settings of the model, and checkpoints keep them.
    adapters.plain(model).generation_config = copy.deepcopy(generation.config)
    evaluator = build_evaluator(config, data, rouge, model, generation.config, sliced=sliced)
    trainer = ExactTrainer(
        config=config,
        plan=plan,
        model=model,
        tokenizer=data.tokenizer,
        train_rows=data.train,
        evaluator=evaluator,
        sliced=sliced,
        recorder=recorder,
        gradient_checkpointing=gradient_checkpointing,
        first_evaluation=first_evaluation,
        # The integrations read the environment when the Trainer is made.
        tracked_as=trackers.set_up(request, recorder.run_dir) if tracked else None,
    )
    if config.batch.packing is Packing.unpadded:
        check_joined(config, model)
    if limit is not None:
        trainer.add_callback(limit)
    every, trained = adapters.count_parameters(model)
    quantised = adapters.quantization(config.adapter)
    recorder.other_metrics |= weight_bytes(model)
    facts = Facts(
        plan=_plan_facts(trainer, data, generation),
        data=_data_facts(config, data),
        model=ModelFacts(
            name=getattr(config.model, "name_or_path", config.model.source),
            parameters=every,
            trainable_parameters=trained,
            adapter=config.adapter.kind.value,
            quantization=quantised.value if quantised else None,
            dropout=largest_dropout(model),
        ),
        device=device,
        data_fingerprint=data.summary.fingerprint,
    )
    _log_plan(plan, facts, [_sizes(trainer), *_notes(config, data, generation)])
    recorder.events.tell(facts={**asdict(facts), "metrics": dict(recorder.other_metrics)})
    return trainer, facts


def check_joined(config: Config, model: Any) -> None:
    """Refuses packing unpadded where joined rows would train another loss.

    Raises:
        RequestError: They would.
    """
    from batchopt.step.attention import why_not_joined

    precision = adapters.dtype_of(adapters.coarsest(config, Precision.fp32))
    refuse_joined(why_not_joined(model, precision))


def set_up_device(config: Config) -> DeviceFacts:
    """Sets the threads and the attention of torch, and says what torch trains on.

    Raises:
        RequestError: A GPU is demanded, and torch cannot use the one that is there; or an attention
            that only a GPU has.
    """
    import torch

    from batchopt.training.trainer import resolve_precision, use_cuda

    cuda = use_cuda(config)
    if not cuda and os.environ.get("CUDA_VISIBLE_DEVICES"):
        _miss_the_gpu(config.device.kind)
    set_up_torch(config, cuda=cuda)
    precision = resolve_precision(config.training.precision, cpu=not cuda)
    if wants_flash_attention(config):
        refuse_flash_attention(cuda, precision)
    return DeviceFacts(
        device_kind="cuda" if cuda else "cpu",
        precision=precision.value,
        threads=torch.get_num_threads(),
        torch_device_name=torch.cuda.get_device_name() if cuda else None,
    )


def refuse_flash_attention(cuda: bool, precision: Precision) -> None:
    """Refuses flash attention where it cannot compute.

    Raises:
        RequestError: On a CPU, or in fp32.
    """
    if not cuda or precision is Precision.fp32:
        where = "in fp32" if cuda else "on the CPU"
        raise RequestError(
            f"model.attention is flash_attention_2, and the run trains {where}; it must be null, "
            "eager or sdpa there"
        )


def set_up_torch(config: Config, *, cuda: bool) -> None:
    """Sets the threads of torch, and what each kind of device wants of it.

    On the CPU the threads sleep beside busy neighbours; on a GPU attention leaves cuDNN out.
    """
    import torch

    from batchopt.step.attention import leave_cudnn
    from batchopt.training.waiting import watch_the_cores

    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    if cuda:
        leave_cudnn()
    else:
        watch_the_cores(torch.get_num_threads())


def start_rouge(config: Config, data: "Tokenized") -> "RougeProcess":
    """Starts the scoring process, with the tokenizer that suits the references."""
    from batchopt.evaluation.rouge import choose_tokenizer
    from batchopt.evaluation.rouge_process import RougeProcess

    references = (text for row in data.validation for text in row["references"])
    tokenizer = choose_tokenizer(config.metric.tokenizer.value, references)
    return RougeProcess(tokenizer, use_stemmer=config.metric.use_stemmer)


def choose_generation(config: Config, data: "Tokenized", model: Any) -> "Generation":
    """Chooses how summaries are generated, from our settings and those of the checkpoint."""
    from batchopt.data.pretrained import generation_settings
    from batchopt.evaluation.generation import plan_generation
    from batchopt.training.model_checks import settled

    settings = model.generation_config.to_dict()
    if isinstance(config.model, PretrainedModelConfig):
        settings = generation_settings(config.model) | settled(model, data.tokenizer)
    return plan_generation(
        model,
        settings,
        max_new_tokens=config.data.max_target_length,
        asked=config.generation,
        end_token_id=data.summary.end_token_id,
    )


def build_evaluator(
    config: Config,
    data: "Tokenized",
    rouge: "RougeProcess",
    model: Any,
    generation: "GenerationConfig",
    *,
    sliced: bool,
) -> "Evaluator":
    """Makes the evaluator of the validation split, with batches that fit the device."""
    from batchopt.evaluation.evaluator import (
        MOST_EXAMPLES,
        Evaluator,
        fitting_batch_size,
        generation_budget,
    )
    from batchopt.training.trainer import use_cuda

    rows = list(data.validation)
    cuda = use_cuda(config)
    batch_size = config.training.per_device_eval_batch_size or fitting_batch_size(
        model,
        generation,
        longest_source=max(len(row["input_ids"]) for row in rows),
        budget_bytes=generation_budget(config.device.memory_limit_gib, cuda=cuda),
        most=MOST_EXAMPLES["cuda" if cuda else "cpu"],
    )
    return Evaluator(rows, data.tokenizer, rouge, generation, batch_size=batch_size, sliced=sliced)


def _plan_facts(trainer: "ExactTrainer", data: "Tokenized", generation: "Generation") -> PlanFacts:
    from batchopt.training.trainer import CHECKPOINTING

    config, plan = trainer.config, trainer.plan
    default = asdict(TrainerArguments())
    steps_per_epoch = len(trainer.step_sampler())
    return PlanFacts(
        per_device_train_batch_size=plan.per_device_train_batch_size,
        gradient_accumulation_steps=plan.gradient_accumulation_steps,
        effective_batch_size=plan.effective_batch_size,
        packing=config.batch.packing.value,
        gradient_checkpointing=bool(getattr(trainer.args, CHECKPOINTING)),
        optimizer_steps=config.training.max_steps
        or steps_per_epoch * config.training.num_train_epochs,
        per_device_eval_batch_size=trainer.evaluator.batch_size,
        train_examples=data.summary.train_examples,
        validation_examples=data.summary.validation_examples,
        optimizer=optimizer_name(config.training.optimizer),
        arguments={
            name: value
            for name, value in asdict(config.training.arguments).items()
            if value != default[name]
        },
        generation=generation.facts(),
    )


def _data_facts(config: Config, data: "Tokenized") -> DataFacts:
    summary = data.summary
    return DataFacts(
        source=config.data.source,
        train_examples=summary.train_examples,
        validation_examples=summary.validation_examples,
        skipped_rows=summary.skipped_rows,
        truncated_sources=summary.truncated_sources,
        truncated_targets=summary.truncated_targets,
        max_source_length=config.data.max_source_length,
        max_target_length=config.data.max_target_length,
    )


def _log_plan(plan: BatchPlan, facts: Facts, notes: Sequence[str]) -> None:
    data = facts.data
    logger.info(
        "plan: %s = %d examples per optimizer step; %d training examples, %d steps per epoch, "
        "%d steps; %d of %d dialogues and summaries are cut at %d and %d tokens; evaluation in "
        "batches of %d%s",
        plan,
        plan.effective_batch_size,
        data.train_examples,
        -(-data.train_examples // plan.effective_batch_size),
        facts.plan.optimizer_steps,
        data.truncated_sources + data.truncated_targets,
        2 * (data.train_examples + data.validation_examples),
        data.max_source_length,
        data.max_target_length,
        facts.plan.per_device_eval_batch_size,
        "".join(f"; {note}" for note in notes),
    )


def _sizes(trainer: "ExactTrainer") -> str:
    """What the plan line says of the sizes of micro-batches: those of the first step."""
    rows = [trainer.train_rows[index] for index in next(iter(trainer.step_sampler()))]
    sizes = trainer.collator(rows)["sizes"]
    least, most = min(sizes), max(sizes)
    return (
        f"{trainer.config.batch.packing.value}: the first step has {len(sizes)} micro-batches of "
        + (f"{least} to {most} examples" if least < most else f"{most} examples")
    )


def _notes(config: Config, data: "Tokenized", generation: "Generation") -> list[str]:
    """What the plan line adds about the model: tokens that were added, settings that count."""
    settings = str(generation) if isinstance(config.model, PretrainedModelConfig) else ""
    return [*data.summary.additions(), *([settings] if settings else [])]


def _miss_the_gpu(kind: DeviceKind) -> None:
    """Says that torch cannot use the GPU that this run was given.

    Raises:
        RequestError: A GPU is demanded.
    """
    import torch

    said = f"a GPU is there, and torch {torch.__version__} cannot use it"
    remedy = "install a build of torch for its driver (https://pytorch.org/get-started/locally)"
    if kind is DeviceKind.cuda:
        raise RequestError(f"device.kind is cuda: {said}; {remedy}")
    logger.warning("%s: the run trains on the CPU; %s, or set device.kind=cpu", said, remedy)
