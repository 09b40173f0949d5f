"""Checks a config: the constraint beside each field, and the rules that span several fields."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from batchopt.errors import RequestError
from batchopt.request.config import Adapter, Config, Packing, Quantization, TinyModelConfig
from batchopt.request.constraints import constraint_of


def check(config: Config) -> None:
    """Checks what a type cannot say; null fulfils every rule.

    Raises:
        RequestError: The first value that breaks a rule, with its key.
    """
    for key, value, rule in (*_broken_constraints(config), *_broken_across_fields(config)):
        raise RequestError(f"{key} is {value}; it must be {rule}")


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
    yield from _broken_across_the_adapter(config)


def _broken_across_the_adapter(config: Config) -> Iterator[tuple[str, object, str]]:
    adapter = config.adapter
    quantised = adapter.quantization is not Quantization.none
    if quantised and adapter.kind is not Adapter.qlora:
        yield "adapter.quantization", adapter.quantization.value, "none unless adapter=qlora"
    if adapter.kind is Adapter.qlora and not quantised:
        yield "adapter.quantization", "none", "nf4, fp4 or int8 with adapter=qlora"
    if adapter.kind is Adapter.qlora and isinstance(config.model, TinyModelConfig):
        yield (
            "adapter",
            "qlora",
            "none or lora with model=tiny: only the weights of a pretrained model are quantised",
        )
