"""How summaries are generated, and which settings of the model that takes over.

A checkpoint carries settings of its own: some belong to the model (its special tokens, what it must
not repeat), others to the task that it was published for (lengths, sampling, several answers).
`TAKEN_OVER` lists the first kind. Of the second, generation=checkpoint takes over what is in
`OF_THE_TASK`. Everything else is left out, and so is a value that does not fit, so that no setting
of a checkpoint can make an evaluation fail. Settings of the request go before the checkpoint's.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from transformers import GenerationConfig, PreTrainedTokenizerBase

from batchopt.errors import RequestError
from batchopt.request.config import GenerationSettings
from batchopt.request.rules import LOOKS_AT_PROMPT, check_for_decoder_only
from batchopt.step.architecture import architecture_of

Rule = Callable[[Any, int], bool]
"""Whether a value fits, given the number of tokens in the vocabulary."""


def _is_token(value: Any, vocabulary: int) -> bool:
    return type(value) is int and 0 <= value < vocabulary


def _are_tokens(value: Any, vocabulary: int) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(set(map(str, value))) < vocabulary
        and all(_is_token(item, vocabulary) for item in value)
    )


def _is_token_or_tokens(value: Any, vocabulary: int) -> bool:
    return _is_token(value, vocabulary) or _are_tokens(value, vocabulary)


def _are_words(value: Any, vocabulary: int) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) < vocabulary
        and all(_are_tokens(item, vocabulary) for item in value)
    )


def _is_count(value: Any, _: int) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any, _: int) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_positive(value: Any, vocabulary: int) -> bool:
    return _is_number(value, vocabulary) and value > 0


def _is_flag(value: Any, _: int) -> bool:
    return isinstance(value, bool)


def _is_flag_or_never(value: Any, _: int) -> bool:
    return isinstance(value, bool) or value == "never"


TOKENS: Mapping[str, Rule] = {
    "bos_token_id": _is_token,
    "eos_token_id": _is_token_or_tokens,
    "pad_token_id": _is_token,
    "decoder_start_token_id": _is_token_or_tokens,
}
"""Taken from the generation settings, else from the config of the model."""

TAKEN_OVER: Mapping[str, Rule] = {
    **TOKENS,
    "forced_bos_token_id": _is_token,
    "forced_eos_token_id": _is_token_or_tokens,
    "no_repeat_ngram_size": _is_count,
    "encoder_no_repeat_ngram_size": _is_count,
    "repetition_penalty": _is_positive,
    "encoder_repetition_penalty": _is_positive,
    "bad_words_ids": _are_words,
    "suppress_tokens": _are_tokens,
    "begin_suppress_tokens": _are_tokens,
    "renormalize_logits": _is_flag,
    "remove_invalid_values": _is_flag,
}
"""The settings of a checkpoint that an evaluation takes over, each with its rule."""

TAKEN_OVER_WITH_BEAMS: Mapping[str, Rule] = {
    "length_penalty": _is_number,
    "early_stopping": _is_flag_or_never,
}
"""Also taken over in a search with 2 beams or more; a greedy search does not use them."""


def _is_decay(value: Any, vocabulary: int) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and _is_count(value[0], vocabulary)
        and _is_positive(value[1], vocabulary)
    )


OF_THE_TASK: Mapping[str, Rule] = {
    "num_beams": lambda value, _: type(value) is int and value >= 1,
    "min_length": _is_count,
    "min_new_tokens": _is_count,
    "exponential_decay_length_penalty": _is_decay,
}
"""Also taken over with generation=checkpoint."""

_OF_TOKENS = (
    *("bad_words_ids", "suppress_tokens", "begin_suppress_tokens"),
    *("forced_bos_token_id", "forced_eos_token_id"),
)
"""Settings that name tokens; the request does not know the vocabulary yet."""

_LANGUAGE_CODE = re.compile(r"[a-z]{2,3}_[A-Z][A-Za-z]{1,3}|__[a-z]{2,3}__")

_NO_SETTINGS = {"transformers_version", "use_cache"}


@dataclass(frozen=True, slots=True)
class Generation:
    """How summaries are generated.

    `asked` are the settings of the request. `taken` and `left` are the settings of the model that
    differ from the defaults of transformers, but for its special tokens.
    """

    config: GenerationConfig
    asked: Mapping[str, Any]
    taken: Mapping[str, Any]
    left: Mapping[str, Any]

    def __str__(self) -> str:
        """A clause on the settings of the model; empty if it has none."""
        said = []
        if self.taken:
            said.append(f"takes over {_listed(self.taken)}")
        if self.left:
            said.append(f"leaves out {_listed(self.left)}")
        if not said:
            return ""
        return f"of the model's own generation settings it {' and '.join(said)}"

    def facts(self) -> dict[str, Any]:
        """The part of the record: what summaries are generated with, and what the model had."""
        length = {"max_new_tokens": self.config.max_new_tokens, "num_beams": self.config.num_beams}
        return {
            "settings": {**length, **self.asked, **self.taken},
            "taken_over": sorted(self.taken),
            "left_out": dict(self.left),
        }


def plan_generation(
    model: Any,
    settings: Mapping[str, Any],
    *,
    max_new_tokens: int,
    asked: GenerationSettings,
    end_token_id: int | None = None,
) -> Generation:
    """Chooses the settings of an evaluation.

    Args:
        model: A model that generates.
        settings: The generation settings of its checkpoint, unchecked.
        max_new_tokens: The longest summary.
        asked: The settings of the request, which go before those of the checkpoint.
        end_token_id: The token that ends the labels; it ends a generation too. None: the tokens of
            the model alone.

    Raises:
        RequestError: A setting that was asked for names a token that the model does not have,
            looks at the prompt of a decoder-only model, or needs beams.
    """
    vocabulary = len(model.get_output_embeddings().weight)
    named = _named(asked, vocabulary)
    own = {name: value for name, value in settings.items() if value is not None}
    rules = {**TAKEN_OVER, **(OF_THE_TASK if asked.checkpoint else {})}
    if architecture_of(model).generates_after_source:
        check_for_decoder_only(asked)
        rules = {name: rule for name, rule in rules.items() if name not in LOOKS_AT_PROMPT}
    found = {name: getattr(model.config, name, None) for name in TOKENS} | own
    if "min_length" in named or "min_new_tokens" in named:  # of which only one may be set
        rules = {name: rule for name, rule in rules.items() if not name.startswith("min_")}
    taken = _fitting(rules, found, vocabulary) | named
    taken.setdefault("num_beams", 1)
    if taken["num_beams"] > 1:
        taken = _fitting(TAKEN_OVER_WITH_BEAMS, found, vocabulary) | taken
    elif idle := named.keys() & TAKEN_OVER_WITH_BEAMS:
        name = min(idle)
        raise RequestError(
            f"generation.{name} is {named[name]}, and the checkpoint has one beam; set "
            "generation.num_beams"
        )
    for name in ("min_length", "min_new_tokens"):
        if name not in named and taken.get(name, 0) > max_new_tokens:
            del taken[name]
    suppressed = set(_ids(taken.get("suppress_tokens")))
    if "suppress_tokens" not in named and any(
        name in taken and suppressed.issuperset(_ids(taken[name]))
        for name in ("forced_bos_token_id", "forced_eos_token_id")
    ):
        del taken["suppress_tokens"]  # a token cannot be forced and forbidden at once
    ends = _ids(taken.get("eos_token_id"))
    if end_token_id is not None and end_token_id not in ends:
        taken["eos_token_id"] = [*ends, end_token_id]
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        **taken, max_new_tokens=max_new_tokens, do_sample=False
    )
    # What transformers fills in where a setting is None.
    defaults = GenerationConfig._get_default_generation_params()
    unusual = {
        name: value
        for name, value in own.items()
        if name not in TOKENS
        and name not in _NO_SETTINGS
        and not name.startswith("_")
        and value != defaults.get(name, False)
    }
    return Generation(
        config,
        asked=named,
        taken={
            name: value for name, value in unusual.items() if name in taken and name not in named
        },
        left={name: value for name, value in unusual.items() if taken.get(name) != value},
    )


def _named(asked: GenerationSettings, vocabulary: int) -> dict[str, Any]:
    """The settings of the request that are not null."""
    named = {name: value for name, value in asdict(asked).items() if value is not None}
    del named["checkpoint"]
    for name in _OF_TOKENS:
        if name in named and not TAKEN_OVER[name](named[name], vocabulary):
            raise RequestError(
                f"generation.{name} is {named[name]}; its tokens must be below {vocabulary}, the "
                "number of tokens that the model has"
            )
    return named


def _fitting(
    rules: Mapping[str, Rule], found: Mapping[str, Any], vocabulary: int
) -> dict[str, Any]:
    return {
        name: found[name]
        for name, rule in rules.items()
        if name in found and rule(found[name], vocabulary)
    }


def decode(
    tokenizer: PreTrainedTokenizerBase, generated: Iterable[Iterable[int]], config: GenerationConfig
) -> list[str]:
    """Decodes summaries; only the tokens that frame a text are left out.

    Those are the tokens that begin, end and pad a text, and the codes of languages. A special token
    that stands for something in the text, such as `#Person1#`, stays: a reference has it too.
    """
    frame = framing_tokens(tokenizer, config)
    rows = [[int(token) for token in row if int(token) not in frame] for row in generated]
    texts = tokenizer.batch_decode(rows, skip_special_tokens=False)
    return [text.strip() for text in texts]


def framing_tokens(tokenizer: PreTrainedTokenizerBase, config: GenerationConfig) -> set[int]:
    """The ids of the tokens that frame a text in this tokenizer and these settings."""
    ids: set[int | None] = {
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        tokenizer.cls_token_id,
        tokenizer.sep_token_id,
    }
    for name in TOKENS:
        ids.update(_ids(getattr(config, name)))
    return {token for token in ids if token is not None} | _language_codes(tokenizer)


def _language_codes(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The ids of language codes such as ko_KR (mBART), kor_Hang (NLLB) and __ko__ (M2M100)."""
    special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
    found = {number for token, number in special if _LANGUAGE_CODE.fullmatch(token)}
    for name in ("lang_code_to_id", "lang_token_to_id"):  # some are not among the special tokens
        found |= {number for number in getattr(tokenizer, name, {}).values() if number is not None}
    return found


def _ids(value: Any) -> list[int]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _listed(settings: Mapping[str, Any]) -> str:
    shown = [f"{name}={str(value)[:40]}" for name, value in sorted(settings.items())]
    return ", ".join(shown)
