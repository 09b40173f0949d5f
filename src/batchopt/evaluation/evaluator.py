"""Evaluates a model on the validation split: loss, generated summaries, ROUGE."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedTokenizerBase

from batchopt.evaluation.generation import decode
from batchopt.evaluation.rouge import mean_scores
from batchopt.evaluation.rouge_process import RougeProcess
from batchopt.step.architecture import IGNORED, Row, architecture_of
from batchopt.step.loss import loss_sum


class ValidationRow(Row):
    """The tokens of one validation example, with its id and its reference summaries."""

    id: str
    references: list[str]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The result of one evaluation.

    `eval_loss` is in nats per target token, without label smoothing. `scores` are the means of
    rouge1_f1, rouge2_f1, rougeL_f1 and rouge_f1. `predictions` has one row per validation example
    with its own scores, in the order of the data.
    """

    eval_loss: float
    scores: dict[str, float]
    predictions: list[dict[str, Any]]


MOST_EXAMPLES = {"cpu": 32, "cuda": 256}
"""By device. Larger batches were slower on a CPU (docs/benchmarks.md): a batch runs as long as its
longest summary. A GPU computes many summaries in the time of one; how many is not measured."""

CPU_BUDGET_BYTES = 2**29
"""Memory that generation may take on a CPU, whose memory other processes share."""

GPU_SHARE = 1 / 8
"""Share of the memory of a GPU that generation may take. Weights and optimizer are there too, and
evaluation should not decide what fits."""


def generation_budget(limit_gib: float | None, *, cuda: bool) -> float:
    """Bytes that generation may take here; `limit_gib` is device.memory_limit_gib."""
    if not cuda:
        return CPU_BUDGET_BYTES
    total = torch.cuda.get_device_properties(0).total_memory
    return GPU_SHARE * min(total, math.inf if limit_gib is None else limit_gib * 2**30)


def fitting_batch_size(
    model: Any,
    generation: GenerationConfig,
    *,
    longest_source: int,
    budget_bytes: float,
    most: int = MOST_EXAMPLES["cpu"],
) -> int:
    """How many examples can be generated for at once, from 1 to `most`.

    The count is, for each beam, keys and values of the decoder over the longest source and the
    longest summary, and three copies of the logits. It follows from the model, the data and the
    device, so it is the same for every preset.

    Args:
        model: A model of transformers.
        generation: Beams and the length of summaries.
        longest_source: Tokens.
        budget_bytes: Memory that they may take.
        most: An entry of `MOST_EXAMPLES`.
    """
    tokens = longest_source + (generation.max_new_tokens or 0)
    values = architecture_of(model).cached_values(model.config)
    cache = values * tokens * model.dtype.itemsize
    logits = 3 * 4 * len(model.get_output_embeddings().weight)
    each = (generation.num_beams or 1) * (cache + logits)
    return max(1, min(most, int(budget_bytes / each)))


class Evaluator:
    """Evaluates the same examples in the same batches every time.

    Batches are sorted by length, longest first: little padding, and a batch that does not fit
    fails at once. Each batch runs through an encoder once, for its loss and its summaries. It is
    scored while the next batch runs.
    """

    def __init__(
        self,
        rows: Sequence[ValidationRow],
        tokenizer: PreTrainedTokenizerBase,
        rouge: RougeProcess,
        generation: GenerationConfig,
        *,
        batch_size: int,
        sliced: bool,
    ) -> None:
        self.rows = rows
        self.tokenizer = tokenizer
        self.rouge = rouge
        self.generation = generation
        self.batch_size = batch_size
        self.sliced = sliced
        order = sorted(range(len(rows)), key=lambda index: -len(rows[index]["input_ids"]))
        self.batches = [
            order[start : start + batch_size] for start in range(0, len(order), batch_size)
        ]

    def of_the_longest_batch(self) -> "Evaluator":
        """An evaluator of the first batch alone: no batch takes more memory."""
        return Evaluator(
            [self.rows[index] for index in self.batches[0]],
            self.tokenizer,
            self.rouge,
            self.generation,
            batch_size=self.batch_size,
            sliced=self.sliced,
        )

    @torch.no_grad()
    def evaluate(
        self, model: Any, autocast: Callable[[], AbstractContextManager[Any]]
    ) -> Evaluation:
        """Evaluates all rows; leaves the model in evaluation mode."""
        model.eval()
        architecture = architecture_of(model)
        pad_token_id = self.tokenizer.pad_token_id
        assert isinstance(pad_token_id, int)
        loss, tokens, pending = 0.0, 0, []
        for indices in self.batches:
            rows = [self.rows[index] for index in indices]
            batch = {
                name: tensor.to(model.device)
                for name, tensor in architecture.pad_batch(rows, pad_token_id).items()
            }
            with autocast():
                encoded = architecture.encode(model, batch)
                loss += loss_sum(model, batch, sliced=self.sliced, encoded=encoded).item()
                generated = architecture.generate(model, rows, batch, encoded, self.generation)
            tokens += int((batch["labels"] != IGNORED).sum())
            texts = decode(self.tokenizer, generated.tolist(), self.generation)
            references = [self.rows[index]["references"] for index in indices]
            pending.append((indices, texts, self.rouge.submit(texts, references)))
        found = {
            index: (text, scores)
            for indices, texts, scored in pending
            for index, text, scores in zip(indices, texts, scored.result(), strict=True)
        }
        return Evaluation(
            eval_loss=loss / tokens,
            scores=mean_scores([scores for _, scores in found.values()])._asdict(),
            predictions=[
                {
                    "id": row["id"],
                    "references": list(row["references"]),
                    "prediction": found[index][0],
                    **{
                        name: value
                        for name, value in found[index][1]._asdict().items()
                        if name != "rouge_f1"
                    },
                }
                for index, row in enumerate(self.rows)
            ],
        )
