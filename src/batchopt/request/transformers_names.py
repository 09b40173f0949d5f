"""What becomes of each argument of transformers' Trainer, and of each of its generation settings.

A person brings a recipe in the words of transformers. Each word is one of these:

- allowed: a key of `config.TrainerArguments` (training.arguments) or `config.GenerationSettings`
  (generation);
- ours: batchopt has a key for it. `SAME_VALUE` takes the value as it stands, and a command line may
  use either name; `INSTEAD` names a word to write;
- refused, with the reason.

A test holds that every field of the installed Seq2SeqTrainingArguments and GenerationConfig is one
of them, so that a new version of transformers shows at once.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from batchopt.request.config import GenerationSettings, TrainerArguments

ARGUMENTS, GENERATION = "training.arguments", "generation"

SAME_VALUE: Mapping[str, str] = {
    "optim": "training.optimizer",
    "learning_rate": "training.learning_rate",
    "weight_decay": "training.weight_decay",
    "warmup_steps": "training.warmup_steps",
    "warmup_ratio": "training.warmup_steps",
    "lr_scheduler_type": "training.lr_scheduler_type",
    "max_grad_norm": "training.max_grad_norm",
    "num_train_epochs": "training.num_train_epochs",
    "max_steps": "training.max_steps",
    "label_smoothing_factor": "training.label_smoothing",
    "gradient_checkpointing": "training.gradient_checkpointing",
    "activation_checkpointing": "training.gradient_checkpointing",
    "torch_compile": "training.torch_compile",
    "dataloader_num_workers": "training.dataloader_num_workers",
    "logging_steps": "training.logging_steps",
    "eval_steps": "training.eval_steps",
    "per_device_eval_batch_size": "training.per_device_eval_batch_size",
    "save_total_limit": "training.keep_checkpoints",
    "per_device_train_batch_size": "batch.per_device_train_batch_size",
    "gradient_accumulation_steps": "batch.gradient_accumulation_steps",
    "generation_num_beams": "generation.num_beams",
    "project": "tracker.project",
    "seed": "seed",
}
"""Arguments of the Trainer, and the key of batchopt that means the same."""

_SORTING = (
    "batch.packing=sorted or balanced, which sort within a step; examples sorted across steps "
    "would be another training"
)
INSTEAD: Mapping[str, str] = {
    "output_dir": "hydra.run.dir=FOLDER, or hydra.sweep.dir=FOLDER for a sweep",
    "bf16": "training.precision=bf16",
    "fp16": "training.precision=fp16",
    "bf16_full_eval": "training.precision=bf16, which evaluations have too",
    "fp16_full_eval": "training.precision=fp16, which evaluations have too",
    "use_cpu": "device=cpu",
    "no_cuda": "device=cpu",
    "auto_find_batch_size": "batch=auto, or on_oom=halve",
    "eval_strategy": "training.eval_steps=STEPS; null is once an epoch",
    "evaluation_strategy": "training.eval_steps=STEPS; null is once an epoch",
    "save_strategy": "training.save_checkpoints=true or false; it saves at each evaluation",
    "save_steps": "training.eval_steps=STEPS; a checkpoint is saved at each evaluation",
    "data_seed": "seed=NUMBER, which the order of the examples follows",
    "report_to": "tracker=NAME",
    "resume_from_checkpoint": "the command python -m batchopt.resume FOLDER",
    "torch_compile_backend": "training.torch_compile=true, which compiles encoder and decoder",
    "torch_compile_mode": "training.torch_compile=true, which compiles encoder and decoder",
    "sortish_sampler": "batch.packing=sorted",
    "train_sampling_strategy": _SORTING,
    "group_by_length": _SORTING,
    "length_column_name": "batch.packing=sorted, which knows the lengths itself",
    "generation_max_length": "data.max_target_length=TOKENS",
    "generation_config": "generation=checkpoint, or a key of generation",
    "adafactor": "training.optimizer=adafactor",
    "load_best_model_at_end": "nothing instead: the best checkpoint is always kept",
}
"""Other arguments of the Trainer for which batchopt has a word."""

_SEVERAL_DEVICES = "a run trains on one device"
_OURS = "batchopt sets it"
_LOADER = "batchopt makes its own data loader, which does not use it"
_EVALUATOR = "batchopt evaluates itself, and does not use it"
_HUB = "a run sends nothing to the hub; push the checkpoint that it keeps"

REFUSED: Mapping[str, tuple[str, ...]] = {
    "a checkpoint without the optimizer cannot be resumed": ("save_only_model",),
    "a resumed run would train on other examples": ("ignore_data_skip",),
    "a resumed run keeps its history in batchopt's own files": (
        "restore_callback_states_from_checkpoint",
    ),
    "every run keeps its best checkpoint by rouge_f1": (
        "metric_for_best_model",
        "greater_is_better",
    ),
    "runs are compared by evaluations at the same steps, before the first one too": (
        "eval_delay",
        "eval_on_start",
    ),
    "its noise depends on how a step is divided, so that the presets would differ": (
        "neftune_noise_alpha",
    ),
    "the loss is batchopt's own, exact for every preset": (
        "use_liger_kernel",
        "liger_kernel_config",
        "average_tokens_across_devices",
    ),
    "checkpointing is always non-reentrant; the other kind loses gradients of frozen parts": (
        "activation_checkpointing_kwargs",
        "gradient_checkpointing_kwargs",
    ),
    "training needs no cache, and generation has its own": ("use_cache",),
    "GaLore and APOLLO alone use it, and they are refused": ("optim_target_modules",),
    "an optimizer step of batchopt does not use it": ("torch_empty_cache_steps",),
    "batchopt counts the tokens of every step itself": ("include_num_input_tokens_seen",),
    "batchopt measures the memory itself": ("skip_memory_metrics",),
    "it would slow down what is measured": ("debug",),
    _LOADER: (
        "dataloader_drop_last",
        "dataloader_persistent_workers",
        "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context",
        "dataloader_in_order",
    ),
    _EVALUATOR: (
        "prediction_loss_only",
        "eval_do_concat_batches",
        "eval_use_gather_object",
        "eval_accumulation_steps",
        "include_for_metrics",
        "batch_eval_metrics",
        "predict_with_generate",
    ),
    _OURS: (
        "accelerator_config",
        "dataloader_pin_memory",
        "remove_unused_columns",
        "label_names",
        "logging_strategy",
        "logging_first_step",
        "logging_nan_inf_filter",
        "logging_dir",
        "log_level",
        "log_level_replica",
        "log_on_each_node",
        "disable_tqdm",
        "run_name",
        "do_train",
        "do_eval",
        "do_predict",
        "enable_jit_checkpoint",
        "overwrite_output_dir",
        "save_safetensors",
    ),
    _SEVERAL_DEVICES: (
        "parallelism_config",
        "ddp_find_unused_parameters",
        "ddp_bucket_cap_mb",
        "ddp_broadcast_buffers",
        "ddp_static_graph",
        "ddp_backend",
        "ddp_timeout",
        "fsdp",
        "fsdp_config",
        "deepspeed",
        "local_rank",
        "save_on_each_node",
    ),
    _HUB: (
        "push_to_hub",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
    ),
}
"""Why the other arguments of the Trainer are refused."""

OLD = frozenset(
    {
        *("warmup_ratio", "no_cuda", "evaluation_strategy", "group_by_length", "adafactor"),
        *("logging_dir", "overwrite_output_dir", "save_safetensors"),
    }
)
"""Arguments that transformers 5 no longer has and that recipes still name."""

GENERATION_INSTEAD: Mapping[str, str] = {
    "max_length": "data.max_target_length=TOKENS, which cuts the references too",
    "max_new_tokens": "data.max_target_length=TOKENS, which cuts the references too",
}
"""Generation settings for which batchopt has a word."""

_SAMPLING = "summaries are not sampled, so that the same model gives the same summaries"
_SPEED = "it would change how fast an evaluation is, and no summary"
_ONE_TEXT = "an example has one summary, and nothing but its text is used"
_FROM_HUB = "transformers fetches the code of this search from the hub"

GENERATION_REFUSED: Mapping[str, tuple[str, ...]] = {
    _SAMPLING: (
        *("do_sample", "temperature", "top_k", "top_p", "min_p", "top_h", "typical_p"),
        *("epsilon_cutoff", "eta_cutoff"),
    ),
    _ONE_TEXT: (
        *("num_return_sequences", "return_dict_in_generate", "output_attentions"),
        *("output_hidden_states", "output_scores", "output_logits"),
    ),
    _FROM_HUB: (
        *("num_beam_groups", "diversity_penalty", "constraints", "force_words_ids"),
        *("penalty_alpha", "dola_layers", "low_memory"),
    ),
    _SPEED: (
        *("use_cache", "cache_implementation", "cache_config", "max_cache_len"),
        *("prefill_chunk_size", "compile_config", "disable_compile", "continuous_batching_config"),
        *("use_mtp", "is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule"),
        *("assistant_confidence_threshold", "prompt_lookup_num_tokens", "max_matching_ngram_size"),
        *("assistant_early_exit", "assistant_lookbehind", "target_lookbehind"),
        *("assistant_ensemble_weight", "speculation_type"),
    ),
    "a summary would depend on how fast the machine is": ("max_time",),
    "a summary ends where the references end": ("stop_strings",),
    "it is for prompts that are continued": ("guidance_scale", "token_healing"),
    "marks are no part of a summary": ("watermarking_config",),
    "its keys are lists of tokens; bad_words_ids says what must not be generated": (
        "sequence_bias",
    ),
    "the model and its tokenizer say which token it is": (
        *("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"),
    ),
}
"""Why the other generation settings are refused."""


class Name(NamedTuple):
    """A name of transformers: its kind (allowed, ours or refused) and what is said of it."""

    name: str
    kind: str
    text: str


def answer(key: str) -> str | None:
    """The message for a key that transformers has and batchopt does not take; None: neither has it.

    Args:
        key: A dotted key, such as training.arguments.bf16.
    """
    table, _, leaf = key.rpartition(".")
    names = {ARGUMENTS: arguments, GENERATION: generation_settings}.get(table)
    found = {one.name: one for one in names()}.get(leaf) if names else None
    if found is None or found.kind == "allowed":
        return None
    if found.kind == "ours":
        return f"{key}: use {found.text}"
    return f"{key} cannot be set: {found.text}"


def arguments() -> Iterator[Name]:
    """Yields every known argument of the Trainer."""
    yield from _allowed(TrainerArguments, ARGUMENTS)
    for name, ours in SAME_VALUE.items():
        yield Name(name, "ours", f"{ours}, which means the same")
    for name, word in INSTEAD.items():
        yield Name(name, "ours", word)
    yield from _refused(REFUSED)


def generation_settings() -> Iterator[Name]:
    """Yields every known generation setting."""
    yield from _allowed(GenerationSettings, GENERATION)
    for name, word in GENERATION_INSTEAD.items():
        yield Name(name, "ours", word)
    yield from _refused(GENERATION_REFUSED)


def _allowed(schema: type, table: str) -> Iterator[Name]:
    for item in dataclasses.fields(schema):
        yield Name(item.name, "allowed", f"{table}.{item.name}")


def _refused(table: Mapping[str, tuple[str, ...]]) -> Iterator[Name]:
    for reason, names in table.items():
        for name in names:
            yield Name(name, "refused", reason)
