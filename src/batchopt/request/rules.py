"""Checks a config: the constraint beside each field, and the rules that span several fields."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from batchopt.errors import RequestError
from batchopt.request.config import Config, Packing, TinyCausalModelConfig, TinyModelConfig
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
