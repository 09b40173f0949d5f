"""What a pretrained model must have before anything runs: positions, special tokens, all weights.

What the model's files or its tokenizer say is set; what nobody says is refused in one line.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from batchopt.data.pretrained import KEY, languages
from batchopt.errors import RequestError
from batchopt.request.config import DataConfig, PretrainedModelConfig
from batchopt.step.architecture import architecture_of, decoder_inputs
from batchopt.step.attention import computable, is_flash

logger = logging.getLogger(__name__)

KOREAN = ("ko_KR", "kor_Hang", "ko")
"""What mBART, NLLB and M2M100 call Korean, for the example in a message."""


def check_weights(name: str, model: PreTrainedModel, loaded: Mapping[str, Any]) -> None:
    """Refuses weights that do not fit the model, and says which are missing.

    Args:
        name: The model's.
        model: As loaded.
        loaded: What from_pretrained says of it: missing_keys and mismatched_keys.

    Raises:
        RequestError: A weight has another size than the config asks for.
    """
    unfitting = sorted(loaded["mismatched_keys"], key=str)
    if unfitting:
        first = unfitting[0]
        weight, there, wanted = first if isinstance(first, tuple) else (first, "?", "?")
        raise RequestError(
            f"{KEY}: {len(unfitting)} weights of {name} do not fit its config.json (first: "
            f"{weight} is {_size(there)}, and the config asks for {_size(wanted)}); take both "
            "from the same model"
        )
    missing = sorted(loaded["missing_keys"])
    if missing:
        total = len(model.state_dict())
        logger.warning(
            "%s: %d of the %d weights of %s are not in its files and are trained from scratch "
            "(%s%s)",
            KEY,
            len(missing),
            total,
            name,
            ", ".join(missing[:3]),
            ", ..." if len(missing) > 3 else "",
        )


def check_positions(data: DataConfig, name: str, model: Any) -> None:
    """Refuses lengths beyond the positions that the model has.

    Raises:
        RequestError: Dialogues, or summaries and what is generated, may be too long.
    """
    parts = architecture_of(model).positions(model, data.max_source_length, data.max_target_length)
    for key, length, part in parts:
        limit = position_limit(part)
        if limit is not None and length > limit:
            remedy = f"set {key}={limit} or less" if "+" not in key else "lower one of them"
            raise RequestError(
                f"{key} is {length}, and {name} has positions for {limit} tokens; {remedy}"
            )
        trained = getattr(model.config, "max_position_embeddings", None)
        if limit is None and isinstance(trained, int) and length > trained:
            logger.warning(
                "%s is %d, and %s was trained on positions up to %d", key, length, name, trained
            )


def check_causal(name: str, model: PreTrainedModel) -> None:
    """Refuses a decoder-only model that sees the tokens that it is to predict, such as a BERT.

    Raises:
        RequestError: Another last token changes what is predicted before it.
    """
    tokens = torch.tensor([[0, 1, 2, 3], [0, 1, 2, 4]], device=model.device)
    was_training = model.training
    model.eval()  # type: ignore[no-untyped-call]
    with torch.no_grad(), computable(model):
        one, other = model(input_ids=tokens, use_cache=False).logits[:, :3]
    model.train(was_training)
    rounding = 1e-5 if model.dtype is torch.float32 and not is_flash(model) else 1e-2
    if float((one - other).abs().max()) > rounding * float(one.abs().max()):
        raise RequestError(
            f"{KEY}: {name} is a {model.config.model_type} that reads in both directions, so it "
            "cannot write; name an encoder-decoder such as a BART, or a decoder-only model such as "
            "a Llama"
        )


def settle_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Sets the token that pads, the tokenizer's where the model has none."""
    config: Any = model.config
    generation: Any = model.generation_config
    if getattr(config, "pad_token_id", None) is None:
        config.pad_token_id = tokenizer.pad_token_id
    generation.pad_token_id = config.pad_token_id


def position_limit(part: nn.Module) -> int | None:
    """The most tokens that an encoder or a decoder has positions for; None: no limit.

    Tables of learned or of sinusoidal positions have an end. Relative positions, rotary ones, and
    tables that grow have none.
    """
    limits, padded = [], False
    for name, module in part.named_modules():
        table = re.search(r"(position|\bwpe$)", name.rpartition(".")[2])
        grows = hasattr(module, "make_weight") or hasattr(module, "make_weights")
        if not isinstance(module, nn.Embedding) or not table or grows or "relative" in name:
            continue
        padding = module.padding_idx
        first = getattr(module, "offset", 0 if padding is None else padding + 1)
        limits.append(module.num_embeddings - int(first))
        padded = padding is not None
    if not limits:
        return None
    limit = min(limits)
    config = getattr(part, "config", None)
    windows = getattr(config, "attention_window", None)
    if windows and not padded:  # LED pads up to it, and gives positions to what it pads
        window = max(windows) if isinstance(windows, Sequence) else int(windows)
        limit = limit // window * window or limit
    return limit


def settle_start(
    name: str,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    label: list[int],
    settings: Mapping[str, Any],
) -> None:
    """Sets how the decoder of an encoder-decoder begins, in generation as in training.

    Args:
        name: The model's.
        model: Its config and its generation_config are set.
        tokenizer: Its own.
        label: The tokens of a summary, complete.
        settings: The generation settings of the checkpoint.

    Raises:
        RequestError: Nothing says what the decoder begins with.
    """
    config: Any = model.config
    generation: Any = model.generation_config
    start = _start(model, label)
    if start is None:
        config.decoder_start_token_id = _named_start(name, model, tokenizer, settings)
        start = int(decoder_inputs(model, torch.tensor([label]))[0, 0])
    named = settings.get("decoder_start_token_id")
    if isinstance(named, int) and named != start:
        # A tokenizer that ends in the language (mBART) makes it the first token in training.
        logger.info(
            "%s: summaries are generated from %r on, as in training, not from %r",
            KEY,
            tokenizer.convert_ids_to_tokens(start),
            tokenizer.convert_ids_to_tokens(named),
        )
    generation.decoder_start_token_id = start
    codes = set(languages(tokenizer).values())
    if codes:
        generation.forced_bos_token_id = label[0] if label[0] in codes else None


def settled(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The generation settings that `settle_start` and `settle_padding` have set.

    They go before any others.
    """
    own: Any = model.generation_config
    names = ["decoder_start_token_id", "pad_token_id"]
    if languages(tokenizer):
        names.append("forced_bos_token_id")
    return {name: getattr(own, name) for name in names}


def say_languages(
    name: str, model: PretrainedModelConfig, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Says as which language a multilingual model reads the texts, where nobody has said it."""
    if model.source_language is not None or not languages(tokenizer):
        return
    code = getattr(tokenizer, "src_lang", None)
    logger.warning(
        "model.source_language is not set: %s takes dialogues for %s and summaries for %s; name "
        "the language, such as model.source_language=%s",
        name,
        code,
        getattr(tokenizer, "tgt_lang", None) or code,
        next((known for known in KOREAN if known in languages(tokenizer)), code),
    )


def _size(shape: Any) -> str:
    return " x ".join(map(str, shape)) if isinstance(shape, Sequence) else str(shape)


def _start(model: PreTrainedModel, label: list[int]) -> int | None:
    """The decoder's first token in training; None where the model does not know it."""
    try:
        return int(decoder_inputs(model, torch.tensor([label]))[0, 0])
    except (TypeError, ValueError, AssertionError):
        return None


def _named_start(
    name: str, model: Any, tokenizer: PreTrainedTokenizerBase, settings: Mapping[str, Any]
) -> int:
    """What the files say that the decoder begins with, in the order in which generate looks."""
    own, decoder = vars(model.config), vars(getattr(model.config, "decoder", model.config))
    for source in (settings, own, decoder):
        for field in ("decoder_start_token_id", "bos_token_id"):
            token = source.get(field)
            if isinstance(token, int) and 0 <= token < len(tokenizer):
                return _said(name, tokenizer, token, f"the config's {field}")
    for field in ("cls_token_id", "bos_token_id"):
        token = getattr(tokenizer, field)
        if isinstance(token, int):
            return _said(name, tokenizer, token, f"the tokenizer's {field}")
    raise RequestError(
        f"{KEY}: {name} has no decoder_start_token_id, and its tokenizer has neither a cls_token "
        "nor a bos_token; write decoder_start_token_id into its config.json"
    )


def _said(name: str, tokenizer: PreTrainedTokenizerBase, token: int, source: str) -> int:
    logger.info(
        "%s: %s has no decoder_start_token_id; summaries begin with %s, %r",
        KEY,
        name,
        source,
        tokenizer.convert_ids_to_tokens(token),
    )
    return token
