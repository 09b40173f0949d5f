"""The same first step in the installed Trainer, for comparison."""

import copy
import dataclasses
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import (
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_callback import PrinterCallback

from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import Precision
from batchopt.step.architecture import IGNORED, architecture_of
from batchopt.training import adapters
from batchopt.verify.proof import Setting, flat_gradient, fp32_setting, trace_reference


@dataclass(frozen=True, slots=True)
class Stock:
    """The result of the installed Trainer for the same first step, divided in the same way.

    `loss` is the loss that it shows; `gradient_ratio` the norm of its gradient divided by the exact
    norm; `gradient_difference` the relative distance of the two once their norms are made equal.
    """

    preset: str
    batch: str
    loss: float
    gradient_ratio: float
    gradient_difference: float


def exact_gradient(setting: Setting, plans: dict[str, BatchPlan]) -> Tensor:
    """The gradient of the first step in fp32, flat."""
    first = dataclasses.replace(fp32_setting(setting), steps=setting.steps[:1])
    return trace_reference(first, plans, Precision.fp32).gradients[0]


def stock_trainer(setting: Setting, name: str, plan: BatchPlan, exact: Tensor) -> Stock:
    """Runs one optimizer step of the installed Trainer with its usual arguments."""
    model = adapters.in_fp32(copy.deepcopy(setting.model))
    # The Trainer switches dropout on at every step; here dropout must stay off.
    model.train = lambda mode=True: model
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
            train_dataset=[architecture_of(model).stock_row(row) for row in setting.steps[0]],
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
    """Keeps the gradient that the Trainer steps with."""

    def __init__(self) -> None:
        self.gradient: Tensor | None = None

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Called once the gradient contains all micro-batches."""
        self.gradient = flat_gradient(kwargs["model"])
