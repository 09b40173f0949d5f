"""The metrics of a record: name, unit, meaning, and which way is better.

The supervisor writes these names, an objective is one of them, and docs/reference/record.md is
generated from this table. A metric that was not measured is null.
"""

from dataclasses import dataclass
from enum import Enum


class Better(Enum):
    """Which way a metric is better; `neither` where it only describes."""

    higher = "maximize"
    lower = "minimize"
    neither = "neither"


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric; `unit` is empty for a count, a share from 0 to 1 or a word."""

    unit: str
    better: Better
    text: str


_HIGHER, _LOWER, _NEITHER = Better.higher, Better.lower, Better.neither

METRICS = {
    "peak_memory_bytes": Metric(
        "bytes", _LOWER, "Most memory of the run while it trained, without evaluation."
    ),
    "mean_memory_bytes": Metric("bytes", _LOWER, "Its mean over the samples of the training."),
    "baseline_memory_bytes": Metric(
        "bytes", _NEITHER, "What was in use before the first step: libraries, model, Kiwi."
    ),
    "imports_memory_bytes": Metric(
        "bytes", _NEITHER, "CPU: what was in use before the data and the model were loaded."
    ),
    "eval_peak_memory_bytes": Metric("bytes", _LOWER, "Most memory while it evaluated."),
    "memory_source": Metric(
        "", _NEITHER, "What the figures above are, such as nvml_process or process_anonymous."
    ),
    "peak_allocated_bytes": Metric("bytes", _LOWER, "Torch's allocator: most that tensors held."),
    "peak_reserved_bytes": Metric(
        "bytes", _LOWER, "Torch's allocator: most that it had taken from the device."
    ),
    "fragmentation_bytes": Metric("bytes", _LOWER, "Peak reserved less peak allocated."),
    "eval_peak_allocated_bytes": Metric("bytes", _LOWER, "As peak_allocated_bytes, in evaluation."),
    "outside_allocator_bytes": Metric(
        "bytes", _NEITHER, "Peak memory less peak reserved: context, libraries, graphs."
    ),
    "num_alloc_retries": Metric(
        "", _LOWER, "Times that the allocator had to free its cache and try again."
    ),
    "num_ooms": Metric("", _LOWER, "Times that the allocator found nothing at all."),
    "frozen_weights_bytes": Metric(
        "bytes", _LOWER, "Weights that are not trained, with their scales."
    ),
    "trained_weights_bytes": Metric(
        "bytes", _LOWER, "Weights that are trained: all, or an adapter's."
    ),
    "gradients_bytes": Metric("bytes", _LOWER, "Their gradients."),
    "optimizer_bytes": Metric("bytes", _LOWER, "What the optimizer keeps of each of them."),
    "steps_per_second": Metric("1/s", _HIGHER, "Optimizer steps in the steady state."),
    "samples_per_second": Metric("1/s", _HIGHER, "Examples in the steady state."),
    "tokens_per_second": Metric(
        "1/s", _HIGHER, "Source and target tokens in the steady state, padding left out."
    ),
    "padded_tokens_per_second": Metric("1/s", _HIGHER, "The same with padding."),
    "step_time_q1_s": Metric("s", _LOWER, "First quartile of the steady steps' times."),
    "step_time_median_s": Metric("s", _LOWER, "Their median."),
    "step_time_q3_s": Metric("s", _LOWER, "Their third quartile."),
    "data_wait_s": Metric("s", _LOWER, "Mean time of a step that waits for data."),
    "forward_s": Metric("s", _LOWER, "Mean time of a step in forward passes."),
    "backward_s": Metric("s", _LOWER, "Mean time of a step in backward passes."),
    "optimizer_s": Metric("s", _LOWER, "Mean time of a step in clipping and the optimizer."),
    "padding_fraction": Metric("", _LOWER, "Padded of all tokens that were trained on."),
    "source_padding_fraction": Metric("", _LOWER, "The same for sources."),
    "target_padding_fraction": Metric("", _LOWER, "The same for targets."),
    "micro_batches_per_step": Metric("", _LOWER, "Mean number of micro-batches of a step."),
    "largest_micro_batch_tokens": Metric(
        "tokens", _LOWER, "Padded source and target tokens of the largest micro-batch."
    ),
    "optimizer_steps_done": Metric("", _HIGHER, "Optimizer steps that were trained."),
    "warmup_steps_left_out": Metric(
        "", _NEITHER, "Steps that the steady state leaves out: 10, or a fifth of fewer than 50."
    ),
    "train_time_s": Metric("s", _LOWER, "Training, without evaluation, checkpoints and logging."),
    "eval_time_s": Metric("s", _LOWER, "All evaluations."),
    "total_time_s": Metric("s", _LOWER, "Start of the run to its end, all attempts."),
    "train_loss": Metric("nats", _LOWER, "Per target token, mean of the last steps."),
    "eval_loss": Metric("nats", _LOWER, "Per target token of the validation split, last."),
    "rouge1_f1": Metric("", _HIGHER, "ROUGE-1 F1 (0 to 1) of the last evaluation."),
    "rouge2_f1": Metric("", _HIGHER, "ROUGE-2 F1 of the last evaluation."),
    "rougeL_f1": Metric("", _HIGHER, "ROUGE-L F1 of the last evaluation."),
    "rouge_f1": Metric("", _HIGHER, "Mean of the three."),
    "initial_rouge_f1": Metric("", _NEITHER, "rouge_f1 before the first step."),
    "best_rouge_f1": Metric("", _HIGHER, "rouge_f1 of the best evaluation."),
    "best_step": Metric("", _LOWER, "The optimizer step of that evaluation."),
    "rouge_tokenizer": Metric("", _NEITHER, "What ROUGE counted as a word."),
    "energy_j": Metric("J", _LOWER, "Energy of the GPU while the run was on it."),
    "energy_source": Metric("", _NEITHER, "counter (the GPU's own) or integrated_power."),
    "mean_power_w": Metric("W", _LOWER, "Mean power of the GPU while it trained."),
    "mean_utilization": Metric("", _HIGHER, "Share of the time in which a kernel ran."),
    "peak_temperature_c": Metric("°C", _LOWER, "Highest temperature of the GPU."),
    "timing_untrusted": Metric(
        "", _NEITHER, "Reasons not to trust the times; an empty list: none."
    ),
    "passive_wait_s": Metric(
        "s", _LOWER, "CPU: time in which torch's threads slept, not spun, since others used cores."
    ),
    "mfu": Metric("", _HIGHER, "Achieved of peak FLOP/s; the peak is measured where unknown."),
    "peak_flops_per_second": Metric("1/s", _NEITHER, "The peak that mfu is of."),
    "flops_per_token": Metric("FLOP", _NEITHER, "Model FLOPs of one source or target token."),
    "gradient_noise_scale": Metric(
        "examples", _NEITHER, "Noise of a step's gradient; null with one micro-batch a step."
    ),
}

WORDS = frozenset({"memory_source", "rouge_tokenizer", "energy_source"})
"""Metrics that are text. `timing_untrusted` is a list of texts; all others are numbers."""

GIB = 2**30
"""Bytes of a GiB."""
