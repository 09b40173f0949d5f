"""Checks a config: the constraint beside each field, and the rules that span several fields."""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from batchopt.errors import RequestError
from batchopt.request import messages, optimizers
from batchopt.request.config import (
    Adapter,
    Attention,
    Config,
    DeviceKind,
    GenerationSettings,
    Packing,
    PretrainedModelConfig,
    TinyCausalModelConfig,
    TinyModelConfig,
    TrainerArguments,
    TrainingConfig,
)
from batchopt.request.constraints import constraint_of

ADAPTER_PACKAGES = {
    Adapter.none: (),
    Adapter.lora: ("peft",),
    Adapter.qlora: ("peft", "bitsandbytes"),
}
"""The packages that each adapter needs; the extra in pyproject.toml has the name of the adapter."""


def check(config: Config) -> None:
    """Checks what a type cannot say; null fulfils every rule.

    Raises:
        RequestError: The first value that breaks a rule, with its key; or an optimizer or an
            adapter that cannot be used.
    """
    refused = optimizers.REFUSED_OPTIMIZERS.get(config.training.optimizer)
    if refused is not None:
        raise RequestError(f"training.optimizer={config.training.optimizer} is refused: {refused}")
    for key, value, rule in _broken_constraints(config):
        raise RequestError(f"{key} is {_typed(value)}; it must be {rule}")
    _check_tables(config.training)
    broken = (
        *_broken_across_fields(config),
        *_broken_by_optimizer(config.training),
        *_broken_by_schedule(config.training),
        *_broken_by_beams(config),
        *_broken_lengths(config),
    )
    for key, value, rule in broken:
        raise RequestError(f"{key} is {_typed(value)}; it must be {rule}")
    name, kind = config.training.optimizer, config.adapter.kind
    modules = optimizers.OPTIMIZERS[optimizers.optimizer_name(name)].modules
    check_installed(f"training.optimizer={name}", modules)
    check_installed(f"adapter={kind.value}", ADAPTER_PACKAGES[kind], kind.value)
    if wants_flash_attention(config):
        check_installed("model.attention=flash_attention_2", ["flash_attn"])


def wants_flash_attention(config: Config) -> bool:
    """Whether flash attention is asked for, which needs a package, a GPU and half precision."""
    model = config.model
    asked = model.attention if isinstance(model, PretrainedModelConfig) else None
    return asked is Attention.flash_attention_2


def check_for_decoder_only(settings: GenerationSettings) -> None:
    """Refuses generation settings that count the prompt of a decoder-only model as its summary.

    Raises:
        RequestError: One of them is set.
    """
    for name, instead in LOOKS_AT_PROMPT.items():
        value = getattr(settings, name)
        if value is not None:
            raise RequestError(
                f"generation.{name} is {_typed(value)}; with a decoder-only model it must be null: "
                f"it would count the dialogue, which the summary continues, as well{instead}"
            )


def refuse_joined(reason: str) -> None:
    """Refuses batch.packing=unpadded for a reason; none: does nothing.

    Raises:
        RequestError: There is one.
    """
    if reason:
        raise RequestError(
            f"batch.packing is unpadded: {reason}; it must be none, sorted, balanced or packed "
            "with this model"
        )


LOOKS_AT_PROMPT: Mapping[str, str] = {
    "no_repeat_ngram_size": "",
    "repetition_penalty": "",
    "encoder_no_repeat_ngram_size": "",
    "encoder_repetition_penalty": "",
    "forced_bos_token_id": "",
    "min_length": "; set generation.min_new_tokens",
}
"""Settings that look at all tokens before the next one, and what to set instead."""


def _broken_constraints(section: Any, prefix: str = "") -> Iterator[tuple[str, object, str]]:
    """Yields key, value and rule of every field that is not what its constraint demands."""
    for item in dataclasses.fields(section):
        key, value = f"{prefix}{item.name}", getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            yield from _broken_constraints(value, f"{key}.")
        constraint = constraint_of(item)
        if constraint is None or value is None:
            continue
        for one in value if constraint.each else [value]:
            if not constraint.holds(one):
                yield key, one, constraint.text


def _broken_across_fields(config: Config) -> Iterator[tuple[str, object, str]]:
    """Yields the same for rules between fields."""
    batch, model = config.batch, config.model
    if batch.max_tokens_per_micro_batch is not None and batch.packing is not Packing.packed:
        yield (
            "batch.max_tokens_per_micro_batch",
            batch.max_tokens_per_micro_batch,
            "null unless batch.packing=packed, which alone uses it",
        )
    if isinstance(model, TinyModelConfig) and model.d_model % model.attention_heads:
        yield (
            "model.d_model",
            model.d_model,
            f"a multiple of model.attention_heads ({model.attention_heads})",
        )
    if isinstance(model, TinyCausalModelConfig):
        if model.d_model // model.attention_heads % 2:
            yield (
                "model.d_model",
                model.d_model,
                f"an even multiple of model.attention_heads ({model.attention_heads}), since "
                "rotary positions turn pairs of numbers",
            )
        if model.attention_heads % model.key_value_heads:
            yield (
                "model.key_value_heads",
                model.key_value_heads,
                f"a divisor of model.attention_heads ({model.attention_heads})",
            )
    if config.data.prompt_template is not None:
        for key in ("system_prompt", "instruction"):
            value = getattr(config.data, key)
            if value is not None:
                yield f"data.{key}", value, "null with data.prompt_template, the whole prompt"
    yield from _broken_by_unpadded(config)
    yield from _broken_across_the_adapter(config)
    if wants_flash_attention(config) and config.device.kind is DeviceKind.cpu:
        yield "model.attention", "flash_attention_2", "null, eager or sdpa on a CPU"
    if config.training.arguments.tf32 and config.device.kind is DeviceKind.cpu:
        yield "training.arguments.tf32", True, "null or false on a CPU, which has no TF32"
    if config.training.warmup_steps > 1 and not config.training.warmup_steps.is_integer():
        yield (
            "training.warmup_steps",
            config.training.warmup_steps,
            "a whole number of steps, or below 1 as a share of all steps",
        )


def _broken_by_unpadded(config: Config) -> Iterator[tuple[str, object, str]]:
    if config.batch.packing is not Packing.unpadded:
        return
    if config.training.torch_compile:
        yield (
            "training.torch_compile",
            True,
            "false with batch.packing=unpadded, since each micro-batch has another length",
        )
    if config.training.pad_to_multiple_of is not None:
        yield (
            "training.pad_to_multiple_of",
            config.training.pad_to_multiple_of,
            "null with batch.packing=unpadded, which pads nothing",
        )


def _broken_across_the_adapter(config: Config) -> Iterator[tuple[str, object, str]]:
    adapter = config.adapter
    if adapter.quantization is not None and adapter.kind is not Adapter.qlora:
        yield "adapter.quantization", adapter.quantization.value, "null unless adapter=qlora"
    if adapter.kind is Adapter.qlora and isinstance(config.model, TinyModelConfig):
        yield (
            "adapter",
            "qlora",
            f"none or lora with model={config.model.source}: only the weights of a pretrained "
            "model are quantised",
        )


def _check_tables(training: TrainingConfig) -> None:
    """Checks the tables of an optimizer and a schedule, whose keys depend on another key.

    Raises:
        RequestError: A name that the optimizer or schedule does not take, or a wrong value.
    """
    arguments, schedule = training.arguments, training.lr_scheduler_type
    optimizer = optimizers.OPTIMIZERS[optimizers.optimizer_name(training.optimizer)]
    for table, values, takes, owner in (
        ("optim_args", arguments.optim_args, optimizer.takes, training.optimizer),
        (
            "lr_scheduler_kwargs",
            arguments.lr_scheduler_kwargs,
            optimizers.SCHEDULES[schedule],
            schedule,
        ),
    ):
        for name, value in values.items():
            key = f"training.arguments.{table}.{name}"
            if name not in takes:
                meant = messages.close_to(str(name), takes)
                hint = f"did you mean {key.removesuffix(str(name))}{meant}? " if meant else ""
                taken = ", ".join(takes) or "nothing"
                raise RequestError(f"{key}: no such key; {hint}{owner} takes: {taken}")
            if value is not None and not takes[name].holds(value):
                raise RequestError(f"{key} is {_typed(value)}; it must be {takes[name].text}")


def _broken_by_optimizer(training: TrainingConfig) -> Iterator[tuple[str, object, str]]:
    """Yields what the optimizer would ignore, and what it cannot do without."""
    name, arguments = training.optimizer, training.arguments
    optimizer = optimizers.OPTIMIZERS[optimizers.optimizer_name(name)]
    default = TrainerArguments()
    for key in optimizers.ADAM:
        value, plain = getattr(arguments, key), getattr(default, key)
        if key not in optimizer.reads and value != plain:
            rule = f"{_typed(plain)} with training.optimizer={name}, which does not read it"
            yield f"training.arguments.{key}", value, rule
    given = arguments.optim_args
    if given.get("nesterov") and (not given.get("momentum") or given.get("dampening")):
        rule = "false without optim_args.momentum, and with optim_args.dampening"
        yield "training.arguments.optim_args.nesterov", True, rule
    if optimizer.schedule_free and training.lr_scheduler_type != "constant":
        yield (
            "training.lr_scheduler_type",
            training.lr_scheduler_type,
            f"constant with training.optimizer={name}, which needs no schedule",
        )
    if optimizer.schedule_free and not training.warmup_steps.is_integer():
        rule = f"a whole number of steps with training.optimizer={name}"
        yield "training.warmup_steps", training.warmup_steps, rule


def _broken_by_schedule(training: TrainingConfig) -> Iterator[tuple[str, object, str]]:
    """Yields what the schedule cannot do without, or what goes beyond the learning rate."""
    schedule, given = training.lr_scheduler_type, training.arguments.lr_scheduler_kwargs
    table = "training.arguments.lr_scheduler_kwargs"
    for group in optimizers.NEEDS_ONE_OF.get(schedule, ()):
        named = [name for name in group if given.get(name) is not None]
        if len(named) != 1:
            choice = " or ".join(group)
            rule = f"a table with {choice}{'' if len(group) == 1 else ' (one of them)'} for "
            yield table, given, f"{rule}training.lr_scheduler_type={schedule}"
    for name in ("lr_end", "min_lr"):
        value = given.get(name)
        if value is not None and value >= training.learning_rate:
            rule = f"less than training.learning_rate ({training.learning_rate})"
            yield f"{table}.{name}", value, rule


def _broken_by_beams(config: Config) -> Iterator[tuple[str, object, str]]:
    """Yields settings of a beam search without beams, and two different numbers of beams."""
    generation, older = config.generation, config.metric.num_beams
    if older not in (1, generation.num_beams):
        named = generation.num_beams or "the checkpoint's"
        yield "metric.num_beams", older, f"left out where generation.num_beams ({named}) is chosen"
    for name in ("length_penalty", "early_stopping"):
        value = getattr(generation, name)
        if generation.num_beams == 1 and value is not None:
            rule = "null with one beam, as in generation=beam, which has several"
            yield f"generation.{name}", value, rule


def _broken_lengths(config: Config) -> Iterator[tuple[str, object, str]]:
    """Yields lengths of a summary that contradict one another."""
    generation, longest = config.generation, config.data.max_target_length
    for name in ("min_length", "min_new_tokens"):
        value = getattr(generation, name)
        if value is not None and value > longest:
            yield f"generation.{name}", value, f"at most data.max_target_length ({longest})"
    if generation.min_length and generation.min_new_tokens:
        rule = "null with generation.min_length, which says nearly the same"
        yield "generation.min_new_tokens", generation.min_new_tokens, rule


def check_installed(choice: str, modules: Iterable[str], extra: str | None = None) -> None:
    """Checks that the packages of a choice are there.

    Args:
        choice: What needs them, as one types it.
        modules: Their modules.
        extra: The extra of batchopt that brings them; None: pip installs each by its name.

    Raises:
        RequestError: One is not.
    """
    for module in modules:
        if optimizers.installed(module):
            continue
        package = optimizers.PACKAGES.get(module, module)
        remedy = f"pip install {package}"
        if extra is not None:
            remedy = f"pip install 'batchopt[{extra}]' (in a checkout: pip install -e '.[{extra}]')"
        raise RequestError(f"{choice}: the package {package} is not installed; {remedy}")


def _typed(value: object) -> object:
    """A value as one types it."""
    if isinstance(value, bool) or value is None:
        return "null" if value is None else str(value).lower()
    return value
