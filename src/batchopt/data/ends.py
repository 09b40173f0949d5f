"""The tokens at the ends of each text, as the model was trained with them.

Most tokenizers add them. Some add none (KoBART) or only a part. A label without the token that ends
a generation teaches the model never to stop; a source without the tokens of the pretraining is
another kind of text to the encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchopt.data import pretrained
from batchopt.errors import RequestError
from batchopt.request.config import ModelConfig, PretrainedModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BEGINS_WITH_BOS = ("bart", "led", "mvp")
"""Models (`model_type`) that were trained on sources `<s> … </s>`."""

BEGINS_WITH_CLS = ("encoder-decoder",)
"""Models whose encoder was trained on `[CLS] … [SEP]`. All others: `… </s>`."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The tokens at the ends of sources and labels.

    `label_end` ends a generation. `source_begin` is None if a source begins with its text. The last
    two hold the tokens that the tokenizer adds by itself.
    """

    label_end: int
    source_begin: int | None
    source_end: int
    added_to_sources: frozenset[int]
    added_to_labels: frozenset[int]

    def complete_label(self, row: Sequence[int], limit: int | None = None) -> list[int]:
        """Returns the label with its end token, in at most `limit` tokens."""
        end = [] if self._is_ended(row) else [self.label_end]
        return [*row[: None if limit is None else limit - len(end)], *end]

    def complete_source(self, row: Sequence[int], limit: int | None = None) -> list[int]:
        """Returns the source with the tokens at its ends, in at most `limit` tokens."""
        begin, end = [], []
        if self.source_begin is not None and row[:1] and row[0] not in self.added_to_sources:
            begin = [self.source_begin]
        if not row or row[-1] not in self.added_to_sources:
            end = [self.source_end]
        room = None if limit is None else limit - len(begin) - len(end)
        return [*begin, *row[:room], *end]

    def _is_ended(self, label: Sequence[int]) -> bool:
        # Some tokenizers add the code of the language after the end token.
        for token in reversed(label):
            if token == self.label_end:
                return True
            if token not in self.added_to_labels:
                return False
        return False


def find_ends(model: ModelConfig, tokenizer: "PreTrainedTokenizerBase") -> Ends:
    """Finds the tokens that belong at the ends of sources and labels.

    Raises:
        RequestError: Neither the model nor its tokenizer names a token that ends a text.
    """
    model_type, model_ends = _declared(model)
    label = _label_end(model, tokenizer, model_ends)
    begin = None
    if model_type in BEGINS_WITH_BOS:
        begin = tokenizer.bos_token_id
    elif model_type in BEGINS_WITH_CLS:
        begin = tokenizer.cls_token_id
    ends = (tokenizer.eos_token_id, tokenizer.sep_token_id, label)
    return Ends(
        label_end=label,
        source_begin=begin,
        source_end=next(end for end in ends if end is not None),
        added_to_sources=frozenset(tokenizer(text="", verbose=False)["input_ids"]),
        added_to_labels=frozenset(tokenizer(text_target="", verbose=False)["input_ids"]),
    )


def label_end(model: ModelConfig, tokenizer: "PreTrainedTokenizerBase") -> int:
    """Finds the token that ends every label, and with it a generation.

    Raises:
        RequestError: Neither the model nor its tokenizer names one.
    """
    _, model_ends = _declared(model)
    return _label_end(model, tokenizer, model_ends)


def _declared(model: ModelConfig) -> tuple[str, list[int]]:
    """The kind of the model, and the tokens that end its generations as it says itself."""
    if not isinstance(model, PretrainedModelConfig):
        return "bart", []
    config = pretrained.load_config(model)
    for ends in (
        pretrained.generation_settings(model).get("eos_token_id"),
        getattr(config, "eos_token_id", None),
        getattr(getattr(config, "decoder", None), "eos_token_id", None),
    ):
        ids = ends if isinstance(ends, list) else [ends]
        if found := [end for end in ids if isinstance(end, int)]:
            return config.model_type, found
    return config.model_type, []


def _label_end(
    model: ModelConfig, tokenizer: "PreTrainedTokenizerBase", model_ends: Sequence[int]
) -> int:
    """Chooses the end token: one of the model if the tokenizer has it, else the tokenizer's."""
    known = [end for end in model_ends if 0 <= end < len(tokenizer)]
    own = [tokenizer.eos_token_id, tokenizer.sep_token_id]
    # The config of a model with a tokenizer of its own may still name the id of its class, which
    # is some other token here.
    others = {tokenizer.unk_token_id, tokenizer.mask_token_id, tokenizer.pad_token_id} - {*own}
    special = [end for end in known if end in tokenizer.all_special_ids and end not in others]
    choices = [*(end for end in own if end in special), *special, *own, *known]
    end: int | None = next((end for end in choices if end is not None), None)
    if end is None:
        raise RequestError(
            f"model.name_or_path: {getattr(model, 'name_or_path', model.source)}: neither the "
            "model nor its tokenizer names a token that ends a text, so the model could not learn "
            "to stop; set eos_token in tokenizer_config.json and eos_token_id in config.json"
        )
    return end
