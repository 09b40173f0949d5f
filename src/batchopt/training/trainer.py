"""The Trainer of transformers, with whole optimizer steps as its batches.

The installed Trainer believes that encoder-decoder models normalise their loss by
`num_items_in_batch`. They do not, so its gradient is as many times too large as there are
micro-batches (docs/decisions.md). Here the Trainer sees no accumulation at all: its batch is one
optimizer step, and `training_step` runs the micro-batches of that step. The names of the Trainer's
arguments stand in this module alone.
"""

import os
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from batchopt.errors import RequestError
from batchopt.evaluation.evaluator import Evaluator
from batchopt.record.files import CHECKPOINTS
from batchopt.record.statuses import Phase
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import Config, DeviceKind, Packing, Precision, TrainingConfig
from batchopt.request.optimizers import BY_SCORE, optimizer_name
from batchopt.step.architecture import architecture_of
from batchopt.step.batches import StepCollator, StepSampler
from batchopt.step.loss import compile_parts, micro_batch_loss
from batchopt.step.noise_scale import gradient_norm, measured_part
from batchopt.step.tables import add_rows_in_place
from batchopt.training.recorder import Recorder

CHECKPOINTING = (
    "activation_checkpointing"
    if "activation_checkpointing" in Seq2SeqTrainingArguments.__dataclass_fields__
    else "gradient_checkpointing"
)
"""The argument of gradient checkpointing; transformers before 5.23 has the older name."""


class ExactTrainer(Seq2SeqTrainer):
    """Trains on the exact gradient of each optimizer step, in whatever micro-batches."""

    _loader: Any = None

    def __init__(
        self,
        *,
        config: Config,
        plan: BatchPlan,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        train_rows: Any,
        evaluator: Evaluator,
        sliced: bool,
        recorder: Recorder,
        gradient_checkpointing: bool = False,
        first_evaluation: bool = True,
        tracked_as: str | None = None,
    ) -> None:
        self.config = config
        self.plan = plan
        self.train_rows = train_rows
        self.evaluator = evaluator
        self.sliced = sliced
        self.recorder = recorder
        assert isinstance(tokenizer.pad_token_id, int)
        self.collator = StepCollator(
            plan,
            packing=config.batch.packing,
            max_tokens_per_micro_batch=config.batch.max_tokens_per_micro_batch,
            pad_token_id=tokenizer.pad_token_id,
            multiple=pad_multiple(config),
            longest=(config.data.max_source_length, config.data.max_target_length),
            architecture=architecture_of(model),
        )
        super().__init__(
            model=model,
            args=training_arguments(
                config,
                plan,
                recorder.run_dir,
                gradient_checkpointing=gradient_checkpointing,
                first_evaluation=first_evaluation,
                tracked_as=tracked_as,
            ),
            train_dataset=train_rows,
            # The Trainer demands one; `evaluator` does the evaluation.
            eval_dataset=train_rows,
            processing_class=tokenizer,
            data_collator=self.collator,
            callbacks=[recorder],
        )
        self.in_place = adds_in_place(config)
        if self.in_place:
            add_rows_in_place(model)
        if config.training.torch_compile:
            compile_parts(model)
        self.remove_callback(PrinterCallback)
        if config.training.early_stopping_patience is not None:
            self.add_callback(EarlyStoppingCallback(config.training.early_stopping_patience))

    def get_train_dataloader(self) -> DataLoader[Any]:
        """One item is one optimizer step."""
        sampler = self.step_sampler()
        self.add_callback(EpochOrder(sampler))
        loader = DataLoader(
            self.train_rows,
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_num_workers > 0,
            pin_memory=self.args.dataloader_pin_memory,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        self._loader = prepared
        return prepared

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """Trains as the Trainer does, and ends the loader's workers with the training.

        They live on with the loader otherwise. As the process exits, torch waits 5 s for each of
        them, one after the other, where memory is pinned.
        """
        try:
            return super().train(*args, **kwargs)
        finally:
            iterator = getattr(self._loader, "_iterator", None)
            if iterator is not None:  # torch has no public name for this
                iterator._shutdown_workers()

    def step_sampler(self) -> StepSampler:
        """Draws the examples of each optimizer step."""
        return StepSampler(
            len(self.train_rows),
            effective_batch_size=self.plan.effective_batch_size,
            seed=self.config.seed,
        )

    def training_step(
        self, model: nn.Module, inputs: dict[str, Any], num_items_in_batch: Any = None
    ) -> Tensor:
        """Adds up the gradient of one optimizer step, micro-batch by micro-batch.

        Returns:
            The loss of the step: nats per target token.
        """
        self.recorder.step_begins(inputs)
        clock = self.recorder.clock
        model.train()
        # Optimizers without a schedule train on other weights than they evaluate on.
        optimizer: Any = self.optimizer  # accelerate's, which asks its own
        optimizer.train()
        step_loss = torch.zeros((), device=self.args.device)
        micro_batches, target_tokens = inputs["micro_batches"], inputs["target_tokens"]
        part = measured_part(self.state.global_step, len(micro_batches))
        examples, tokens = 0, 0
        for number, (micro_batch, size) in enumerate(
            zip(micro_batches, inputs["sizes"], strict=True), 1
        ):
            batch = self._prepare_inputs(micro_batch)
            # Accelerate wraps model.forward in autocast; the loss in slices does not call that.
            with self.accelerator.autocast():
                loss = micro_batch_loss(
                    model,
                    batch,
                    target_tokens,
                    self.config.training.label_smoothing,
                    sliced=self.sliced,
                    in_place=self.in_place,
                )
            clock.lap("forward_s")
            self.accelerator.backward(loss)
            clock.lap("backward_s")
            step_loss += loss.detach()
            examples += size
            tokens += len(batch["target_positions"])
            if number == part:
                norm = self._unscaled(gradient_norm(model))
                self.recorder.part_computed(examples, tokens / target_tokens, norm)
        self.recorder.step_computed(step_loss)
        return step_loss

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """Shows the recorder the norm of the step's gradient, which the Trainer computes anyway."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[no-untyped-call]
        self.recorder.gradient_computed(norm)
        return norm

    def _unscaled(self, norm: Tensor) -> Tensor:
        """Undoes the loss scale of fp16; the clipping has undone it where it takes its norm."""
        scaler = self.accelerator.scaler
        return norm if scaler is None else norm / scaler.scale(torch.ones_like(norm))

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Evaluates on the validation split and reports as the Trainer does."""
        if not self._evaluation_is_due():
            # The Trainer also evaluates when a resumed run starts, and when a run is stopped.
            return {"eval_rouge_f1": self.recorder.evaluations[-1]["rouge_f1"]}
        self.recorder.phase(Phase.evaluate)
        optimizer: Any = self.optimizer
        optimizer.eval()
        started = time.perf_counter()

        def batch_context() -> AbstractContextManager[Any]:
            self.recorder.events.tell(alive=True)
            context: AbstractContextManager[Any] = self.accelerator.autocast()
            return context

        # Generation calls the decoder with another shape for every token.
        with torch.compiler.set_stance("force_eager"):
            result = self.evaluator.evaluate(self.model, batch_context)
        took = time.perf_counter() - started
        step, epoch = self.state.global_step, self.state.epoch or 0.0
        self.recorder.record_evaluation(step, epoch, result, took)
        metrics = {"eval_loss": result.eval_loss} | {
            f"eval_{name}": value for name, value in result.scores.items()
        }
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: list[str] | None, skip_scheduler: bool = False
    ) -> dict[str, float]:
        """Evaluates; a schedule that follows the score sees every evaluation once."""
        skip_scheduler = skip_scheduler or not self._evaluation_is_due()
        metrics: dict[str, float] = super()._evaluate(
            trial, ignore_keys_for_eval, skip_scheduler=skip_scheduler
        )
        return metrics

    def _evaluation_is_due(self) -> bool:
        step = self.state.global_step
        if any(row["step"] == step for row in self.recorder.evaluations):
            return False
        every = self.config.training.eval_steps or len(self.step_sampler())
        return step % every == 0 or step >= self.state.max_steps

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        self.recorder.phase(Phase.save)
        super()._save_checkpoint(model, trial)
        self.recorder.complete_checkpoint(
            self.state.global_step, keep=self.config.training.keep_checkpoints
        )

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """None: flops.py counts once, and the Trainer's own estimate takes time at every step."""
        return 0


class EpochOrder(TrainerCallback):
    """Tells the sampler which epoch begins.

    The Trainer of transformers 5.16 and older does not, in the epoch in which a run is resumed.
    """

    def __init__(self, sampler: StepSampler) -> None:
        self.sampler = sampler

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Sets the epoch of the next step."""
        self.sampler.set_epoch(state.global_step // len(self.sampler))


def training_arguments(
    config: Config,
    plan: BatchPlan,
    run_dir: Path,
    *,
    gradient_checkpointing: bool = False,
    first_evaluation: bool = True,
    tracked_as: str | None = None,
) -> Seq2SeqTrainingArguments:
    """Maps our names to those of the Trainer.

    Args:
        config: The run.
        plan: How the steps are divided.
        run_dir: Where the checkpoints go.
        gradient_checkpointing: True also where the config does not ask for it, after an OOM.
        first_evaluation: Whether to evaluate before the first step.
        tracked_as: The name of the run in its tracker; None: no tracker.

    Raises:
        RequestError: TF32 is asked for, and there is no GPU.
    """
    training, arguments = config.training, config.training.arguments
    if arguments.tf32 and not use_cuda(config):
        raise RequestError(
            "training.arguments.tf32 is true, and the run trains on the CPU, which has no TF32; "
            "leave it out"
        )
    strategy = "epoch" if training.eval_steps is None else "steps"
    precision = resolve_precision(training.precision, cpu=not use_cuda(config))
    checkpointing: dict[str, Any] = {
        CHECKPOINTING: training.gradient_checkpointing or gradient_checkpointing
    }
    return Seq2SeqTrainingArguments(
        output_dir=str(run_dir / CHECKPOINTS),
        # For the Trainer one batch is one optimizer step.
        per_device_train_batch_size=plan.effective_batch_size,
        gradient_accumulation_steps=1,
        learning_rate=training.learning_rate,
        weight_decay=training.weight_decay,
        optim=optimizer_name(training.optimizer),
        optim_args=",".join(f"{name}={value}" for name, value in _set(arguments.optim_args)),
        adam_beta1=arguments.adam_beta1,
        adam_beta2=arguments.adam_beta2,
        adam_epsilon=arguments.adam_epsilon,
        warmup_steps=training.warmup_steps,
        lr_scheduler_type=training.lr_scheduler_type,
        lr_scheduler_kwargs=schedule_arguments(training),
        tf32=arguments.tf32,
        full_determinism=arguments.full_determinism,
        max_grad_norm=training.max_grad_norm,
        num_train_epochs=training.num_train_epochs,
        max_steps=training.max_steps or -1,
        bf16=precision is Precision.bf16,
        fp16=precision is Precision.fp16,
        **checkpointing,
        use_cpu=not use_cuda(config),
        dataloader_num_workers=loader_workers(config),
        # Batches travel while the GPU computes.
        dataloader_pin_memory=use_cuda(config),
        accelerator_config={"non_blocking": use_cuda(config)},
        logging_strategy="steps",
        logging_steps=training.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        eval_strategy=strategy,
        eval_steps=training.eval_steps,
        eval_on_start=first_evaluation,
        save_strategy=strategy if training.save_checkpoints else "no",
        save_steps=training.eval_steps or 500,
        metric_for_best_model="rouge_f1",
        greater_is_better=True,
        remove_unused_columns=False,
        disable_tqdm=True,  # the supervisor draws the bar
        report_to=config.tracker.name.value if tracked_as else "none",
        run_name=tracked_as,
        project=config.tracker.project,
        seed=config.seed,
    )


def schedule_arguments(training: TrainingConfig) -> dict[str, Any]:
    """What the schedule is called with beside the number of steps."""
    given = dict(_set(training.arguments.lr_scheduler_kwargs))
    # The score is ROUGE; transformers would wait for a smaller one.
    return {"mode": "max", **given} if training.lr_scheduler_type in BY_SCORE else given


def _set(table: dict[str, Any]) -> list[tuple[str, Any]]:
    """The keys of an open table that are not null."""
    return [(name, value) for name, value in table.items() if value is not None]


def use_cuda(config: Config) -> bool:
    """Whether the run trains on a GPU."""
    return config.device.kind is not DeviceKind.cpu and torch.cuda.is_available()


def adds_in_place(config: Config) -> bool:
    """Whether gradients of the vocabulary's tables go straight into `.grad`; see `step.tables`."""
    return not use_cuda(config) and not config.training.torch_compile


def loader_workers(config: Config) -> int:
    """Resolves training.dataloader_num_workers."""
    asked = config.training.dataloader_num_workers
    if asked is not None:
        return asked
    return min(4, len(os.sched_getaffinity(0))) if use_cuda(config) else 0


def pad_multiple(config: Config) -> int:
    """Resolves training.pad_to_multiple_of."""
    training = config.training
    if training.pad_to_multiple_of is not None:
        return training.pad_to_multiple_of
    if config.batch.packing is Packing.unpadded:
        return 1
    if training.torch_compile:
        return 64
    return 8 if use_cuda(config) else 1


def resolve_precision(precision: Precision, *, cpu: bool) -> Precision:
    """Resolves `auto`: bf16 where the GPU has it, else fp32."""
    if precision is not Precision.auto:
        return precision
    # Older cards emulate bf16, which is slower than fp32.
    native = not cpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return Precision.bf16 if native else Precision.fp32
