"""Evaluates a model on the validation split: loss, generated summaries, ROUGE."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from batchopt.corpus import Example
from batchopt.loss import IGNORED, forward, target_loss_sum
from batchopt.steps import Row, pad_batch

if TYPE_CHECKING:
    from datasets import Dataset

    from batchopt.rouge_metric import Rouge


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one evaluation found.

    `eval_loss` is in nats per target token, without label smoothing. `scores` are the means of
    rouge1_f1, rouge2_f1, rougeL_f1 and rouge_f1; `predictions` has one row per validation example
    with its own scores, in the order of the data.
    """

    eval_loss: float
    scores: dict[str, float]
    predictions: list[dict[str, Any]]


class Evaluator:
    """Evaluates the same examples in the same batches every time.

    Batches are sorted by length, longest first: little padding, and a batch that does not fit
    shows at once.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rows: "Dataset",
        tokenizer: PreTrainedTokenizerBase,
        rouge: "Rouge",
        generation: GenerationConfig,
        *,
        batch_size: int,
    ) -> None:
        self.examples = examples
        self.tokenizer = tokenizer
        self.rouge = rouge
        self.generation = generation
        self.rows: list[Row] = list(rows)
        order = sorted(range(len(self.rows)), key=lambda index: -len(self.rows[index]["input_ids"]))
        self.batches = [
            order[start : start + batch_size] for start in range(0, len(order), batch_size)
        ]

    @torch.no_grad()
    def evaluate(
        self, model: PreTrainedModel, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> Evaluation:
        """Runs the whole validation split; leaves the model in evaluation mode."""
        model.eval()  # type: ignore[no-untyped-call]
        generate: Any = model.generate
        loss_sum, tokens = 0.0, 0
        texts = [""] * len(self.examples)
        pad_token_id = self.tokenizer.pad_token_id
        assert isinstance(pad_token_id, int)
        for indices in self.batches:
            batch = {
                name: tensor.to(model.device)
                for name, tensor in pad_batch(
                    [self.rows[index] for index in indices], pad_token_id
                ).items()
            }
            with autocast():
                logits = forward(model, batch)
                generated = generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    generation_config=self.generation,
                )
            loss_sum += target_loss_sum(logits, batch["labels"]).item()
            tokens += int((batch["labels"] != IGNORED).sum())
            decoded = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
            for index, text in zip(indices, decoded, strict=True):
                texts[index] = text.strip()
        references = [list(example.summaries) for example in self.examples]
        each = self.rouge.compute(predictions=texts, references=references, use_aggregator=False)
        return Evaluation(
            eval_loss=loss_sum / tokens,
            scores={name: sum(values) / len(values) for name, values in each.items()},
            predictions=[
                {
                    "id": example.id,
                    "references": references[index],
                    "prediction": texts[index],
                    **{name: values[index] for name, values in each.items() if name != "rouge_f1"},
                }
                for index, example in enumerate(self.examples)
            ],
        )
