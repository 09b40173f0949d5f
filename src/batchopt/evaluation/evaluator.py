"""Evaluates a model on the validation split: loss, generated summaries, ROUGE."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from batchopt.data import Example
from batchopt.evaluation.rouge import mean_scores
from batchopt.evaluation.rouge_process import RougeProcess
from batchopt.step.batches import Row, pad_batch
from batchopt.step.loss import IGNORED, encode, loss_sum


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


MOST_EXAMPLES = {"cpu": 32, "cuda": 256}
"""By device. More were slower on a CPU (docs/benchmarks.md): a batch runs as long as its longest
summary. A GPU has the time of many more for the launches of one; how many is not measured."""

CPU_BUDGET_BYTES = 2**29
"""What generating may take on a CPU, whose memory is shared with everybody."""

GPU_SHARE = 1 / 8
"""What generating may take of a GPU's memory: weights and optimizer are there too, and it should
not be evaluation that decides what fits."""


def generation_budget(limit_gib: float | None, *, cuda: bool) -> float:
    """Bytes that generating may take here; `limit_gib` is device.memory_limit_gib."""
    if not cuda:
        return CPU_BUDGET_BYTES
    total = torch.cuda.get_device_properties(0).total_memory
    return GPU_SHARE * min(total, math.inf if limit_gib is None else limit_gib * 2**30)


def fitting_batch_size(
    model: PreTrainedModel,
    generation: GenerationConfig,
    *,
    longest_source: int,
    budget_bytes: float,
    most: int = MOST_EXAMPLES["cpu"],
) -> int:
    """How many examples can be generated for at once, from 1 to `most`.

    Counted are, for each beam, keys and values of the decoder's two attentions over the longest
    source and the longest summary, and three copies of the logits. It follows from the model, the
    data and the device, and so is the same for every preset.

    Args:
        model: A sequence-to-sequence model.
        generation: Beams and the length of summaries.
        longest_source: Tokens.
        budget_bytes: What they may take.
        most: An entry of `MOST_EXAMPLES`.
    """
    config = getattr(model.config, "decoder", model.config)  # EncoderDecoderModel has two
    names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")  # BART, T5, others
    layers = next(getattr(config, name) for name in names if getattr(config, name, None))
    tokens = longest_source + (generation.max_new_tokens or 0)
    cache = 2 * layers * config.hidden_size * tokens * model.dtype.itemsize
    logits = 3 * 4 * config.vocab_size
    each = (generation.num_beams or 1) * (cache + logits)
    return max(1, min(most, int(budget_bytes / each)))


class Evaluator:
    """Evaluates the same examples in the same batches every time.

    Batches are sorted by length, longest first: little padding, and a batch that does not fit
    shows at once. Each runs through the encoder once, for its loss and its summaries, and is
    scored while the next one runs.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerBase,
        rouge: RougeProcess,
        generation: GenerationConfig,
        *,
        batch_size: int,
        sliced: bool,
    ) -> None:
        self.examples = examples
        self.tokenizer = tokenizer
        self.rouge = rouge
        self.generation = generation
        self.sliced = sliced
        self.rows = rows
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
        pad_token_id = self.tokenizer.pad_token_id
        assert isinstance(pad_token_id, int)
        loss, tokens, pending = 0.0, 0, []
        for indices in self.batches:
            batch = {
                name: tensor.to(model.device)
                for name, tensor in pad_batch(
                    [self.rows[index] for index in indices], pad_token_id
                ).items()
            }
            with autocast():
                outputs = encode(model, batch)
                loss += loss_sum(model, batch, sliced=self.sliced, encoder_outputs=outputs).item()
                generated = generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    encoder_outputs=outputs,
                    generation_config=self.generation,
                )
            tokens += int((batch["labels"] != IGNORED).sum())
            decoded = self.tokenizer.batch_decode(generated, skip_special_tokens=True)
            texts = [text.strip() for text in decoded]
            references = [self.examples[index].summaries for index in indices]
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
                    "id": example.id,
                    "references": list(example.summaries),
                    "prediction": found[index][0],
                    **{
                        name: value
                        for name, value in found[index][1]._asdict().items()
                        if name != "rouge_f1"
                    },
                }
                for index, example in enumerate(self.examples)
            ],
        )


def generation_config(
    model: PreTrainedModel, *, max_new_tokens: int, num_beams: int
) -> GenerationConfig:
    """The model's own way to generate, with our length and number of beams."""
    own = model.generation_config
    assert own is not None
    settings = own.to_dict()
    # Settings of beam search are meaningless, and warned about, in a greedy search.
    if num_beams == 1:
        settings |= {"early_stopping": False, "length_penalty": 1.0}
    # The lengths of the model's pretraining task are not those of this data.
    settings |= {"max_length": None, "min_length": 0, "max_new_tokens": max_new_tokens}
    settings |= {"num_beams": num_beams, "do_sample": False}
    return GenerationConfig.from_dict(settings)
