"""The rules of the config that a type cannot say."""

import codecs
from collections.abc import Iterator

from batchopt.errors import RequestError
from batchopt.request.config import (
    SEPARATORS,
    Config,
    FilesDataConfig,
    Packing,
    PretrainedModelConfig,
    SampleDataConfig,
    TinyModelConfig,
)

SCHEDULES = (
    "linear",
    "cosine",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
)
"""Schedules of the installed transformers that need nothing but the number of steps."""


RETRY = ("missing", "interrupted", "failed", "stale", "oom", "killed", "timeout", "completed")
"""Why a run of a sweep may be run again."""


def check(config: Config) -> None:
    """Checks what a type cannot say.

    Raises:
        RequestError: The first value that breaks a rule, with its key.
    """
    for key, value, holds, rule in _rules(config):
        if value is not None and not holds:
            raise RequestError(f"{key} is {value}; it must be {rule}")


def _rules(config: Config) -> Iterator[tuple[str, object, bool, str]]:
    """Yields key, value, whether the rule holds, and the rule."""
    data, model, training, device = config.data, config.model, config.training, config.device

    def at_least(key: str, value: float | None, minimum: float) -> tuple[str, object, bool, str]:
        return key, value, value is None or value >= minimum, f"{minimum} or more"

    yield at_least("seed", config.seed, 0)
    yield at_least("batch.max_tokens_per_micro_batch", config.batch.max_tokens_per_micro_batch, 1)
    yield (
        "batch.max_tokens_per_micro_batch",
        config.batch.max_tokens_per_micro_batch,
        config.batch.packing is Packing.packed,
        "null unless batch.packing=packed, which alone uses it",
    )
    yield at_least("data.max_source_length", data.max_source_length, 8)
    yield at_least("data.max_target_length", data.max_target_length, 4)
    yield at_least("data.max_validation_examples", data.max_validation_examples, 1)
    if isinstance(data, SampleDataConfig):
        yield at_least("data.train_examples", data.train_examples, 1)
        yield at_least("data.validation_examples", data.validation_examples, 1)
    if isinstance(data, FilesDataConfig):
        yield from _file_rules(data)
    yield (
        "model.learning_rate",
        model.learning_rate,
        model.learning_rate > 0,
        "greater than 0",
    )
    if isinstance(model, PretrainedModelConfig):
        yield "model.name_or_path", model.name_or_path, model.name_or_path != "", "not empty"
    if isinstance(model, TinyModelConfig):
        yield at_least("model.vocab_size", model.vocab_size, 300)
        yield at_least("model.layers", model.layers, 1)
        yield at_least("model.attention_heads", model.attention_heads, 1)
        yield at_least("model.ffn_dim", model.ffn_dim, 1)
        yield (
            "model.d_model",
            model.d_model,
            model.d_model >= 2 and model.d_model % max(model.attention_heads, 1) == 0,
            f"a multiple of model.attention_heads ({model.attention_heads})",
        )
        yield (
            "model.dropout",
            model.dropout,
            0 <= model.dropout < 1,
            "from 0 up to, not including, 1",
        )
    yield (
        "training.learning_rate",
        training.learning_rate,
        training.learning_rate > 0,
        "greater than 0",
    )
    yield at_least("training.weight_decay", training.weight_decay, 0)
    yield at_least("training.warmup_steps", training.warmup_steps, 0)
    yield at_least("training.max_grad_norm", training.max_grad_norm, 0)
    yield at_least("training.num_train_epochs", training.num_train_epochs, 1)
    yield at_least("training.max_steps", training.max_steps, 1)
    yield (
        "training.label_smoothing",
        training.label_smoothing,
        0 <= training.label_smoothing < 1,
        "from 0 up to, not including, 1",
    )
    yield (
        "training.lr_scheduler_type",
        training.lr_scheduler_type,
        training.lr_scheduler_type in SCHEDULES,
        "one of " + ", ".join(SCHEDULES),
    )
    yield at_least("training.dataloader_num_workers", training.dataloader_num_workers, 0)
    yield at_least("training.logging_steps", training.logging_steps, 1)
    yield at_least("training.eval_steps", training.eval_steps, 1)
    yield at_least("training.per_device_eval_batch_size", training.per_device_eval_batch_size, 1)
    yield at_least("training.early_stopping_patience", training.early_stopping_patience, 1)
    yield at_least("metric.num_beams", config.metric.num_beams, 1)
    yield at_least("device.threads", device.threads, 1)
    yield at_least("device.sample_interval_s", device.sample_interval_s, 0.005)
    yield (
        "device.memory_limit_gib",
        device.memory_limit_gib,
        (device.memory_limit_gib or 0) > 0,
        "greater than 0",
    )
    yield at_least("training.keep_checkpoints", training.keep_checkpoints, 2)
    for key in ("timeout_min", "stall_min", "grace_s"):
        value = getattr(config.run, key)
        yield f"run.{key}", value, (value or 0) > 0, "greater than 0"
    margin = config.probe.memory_margin
    yield "probe.memory_margin", margin, 0 <= margin < 1, "from 0 up to, not including, 1"
    for value in config.sweep.retry:
        yield "sweep.retry", value, value in RETRY, "a list of " + ", ".join(RETRY)


def _file_rules(data: FilesDataConfig) -> Iterator[tuple[str, object, bool, str]]:
    for key in ("train_file", "validation_file"):
        value = getattr(data, key)
        paths = value if isinstance(value, list) else [value]
        sound = bool(paths) and all(isinstance(path, str | int | float) for path in paths)
        yield f"data.{key}", value, sound, "a path, or a list of paths, as in [a.csv,b.csv]"
    separator = data.separator or ""
    yield (
        "data.separator",
        data.separator,
        separator in SEPARATORS or separator == "\\t" or (len(separator) == 1 and separator != '"'),
        f"one of {', '.join(SEPARATORS)}, or one character",
    )
    yield (
        "data.encoding",
        data.encoding,
        data.encoding is not None and _is_encoding(data.encoding),
        "the name of an encoding, such as utf-8, utf-16 or cp949",
    )


def _is_encoding(name: str) -> bool:
    try:
        codecs.lookup(name)
        "".encode(name)  # of the codecs, some turn bytes into bytes
    except LookupError:
        return False
    return True
