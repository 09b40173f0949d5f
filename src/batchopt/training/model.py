"""Builds the model that a run trains: fresh and tiny, or pretrained."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    EncoderDecoderModel,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from batchopt.data.ends import find_ends
from batchopt.data.pretrained import KEY, generation_settings, load_config, unloadable
from batchopt.errors import RequestError
from batchopt.request.config import (
    Config,
    PretrainedModelConfig,
    TinyCausalModelConfig,
    TinyModelConfig,
)
from batchopt.request.rules import wants_flash_attention
from batchopt.step.architecture import (
    DECODER_ONLY,
    ENCODER_DECODER,
    architecture_of,
    named_architecture,
)
from batchopt.training import adapters
from batchopt.training.model_checks import (
    check_causal,
    check_positions,
    check_weights,
    say_languages,
    settle_padding,
    settle_start,
)


def build_model(
    config: Config, tokenizer: PreTrainedTokenizerBase, extra_tokens: Sequence[str] = ()
) -> PreTrainedModel:
    """Builds the model with an embedding for every token of the tokenizer, and its adapter.

    On the CPU in fp32, unless the weights are those of an adapter: then as `adapter` says.

    Fresh weights depend on `config.seed` alone.

    Args:
        config: The run.
        tokenizer: Of the data.
        extra_tokens: Tokens that were added to the tokenizer; beside an adapter their rows are
            trained.

    Raises:
        RequestError: A pretrained model cannot be loaded, writes no text, or cannot be trained on
            these data or with this adapter.
    """
    with _quiet_loading():
        model, without_row = _whole(config, tokenizer)
    name = getattr(config.model, "name_or_path", "the tiny model")
    added: Any = tokenizer.convert_tokens_to_ids(list(extra_tokens))
    new = sorted({*added, *without_row})
    torch.manual_seed(config.seed)  # the adapter's weights are drawn
    adapted: PreTrainedModel = adapters.adapt(model, config.adapter, name, new)
    if architecture_of(adapted) is DECODER_ONLY:
        check_causal(name, adapted)  # now that a pass does quantised weights no harm
    return adapted


def _whole(
    config: Config, tokenizer: PreTrainedTokenizerBase
) -> tuple[PreTrainedModel, Iterable[int]]:
    """The model without an adapter, and the tokens for which its files had no embedding."""
    model_config = config.model
    if isinstance(model_config, TinyCausalModelConfig):
        return _tiny_causal(model_config, tokenizer, config), ()
    if isinstance(model_config, TinyModelConfig):
        return _tiny(model_config, tokenizer, config), ()
    assert isinstance(model_config, PretrainedModelConfig)
    name = model_config.name_or_path
    model = _load(model_config, config)
    without_row = _embed_all_tokens(model, len(tokenizer), config.seed)
    settle_padding(model, tokenizer)
    if architecture_of(model) is ENCODER_DECODER:
        label = tokenizer(text_target="a")["input_ids"]
        label = find_ends(model_config, tokenizer).complete_label(label)
        settle_start(name, model, tokenizer, label, generation_settings(model_config))
    check_positions(config.data, name, model)
    say_languages(name, model_config, tokenizer)
    return model, without_row


def largest_dropout(model: PreTrainedModel) -> float:
    """Returns the largest probability of dropout in the config of a model and of its parts.

    Classification heads have a dropout of their own, which no summary passes through.
    """
    parts = [model.config.to_dict()]
    lora = getattr(model, "peft_config", {})
    rates = [0.0, *(float(one.lora_dropout) for one in lora.values())]
    for part in parts:  # grows while it is read: the configs of a model of two parts are nested
        parts += [value for value in part.values() if isinstance(value, dict)]
        rates += [
            float(value)
            for name, value in ((str(key), value) for key, value in part.items())
            if ("dropout" in name or name.endswith(("pdrop", "layerdrop")))
            and "classifier" not in name
            and isinstance(value, int | float)
        ]
    return max(rates)


def _load(config: PretrainedModelConfig, run: Config) -> PreTrainedModel:
    found = load_config(config)
    quantised = getattr(found, "quantization_config", None)
    if quantised:
        get = quantised.get if isinstance(quantised, dict) else vars(quantised).get
        raise RequestError(
            f"{KEY}: the weights of {config.name_or_path} are quantised "
            f"({get('quant_method', 'unknown')}) and cannot be trained; name the same model in "
            "full precision"
        )
    torch.manual_seed(run.seed)  # for weights that the files lack
    try:
        auto_class = getattr(transformers, named_architecture(found).auto_class)
        model, loaded = auto_class.from_pretrained(
            config.name_or_path,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            **_how(run),
            **_attention(config, run),
            # Read by `evaluation.generation`; transformers would refuse the model for one wrong
            # setting.
            generation_config=GenerationConfig(),  # type: ignore[no-untyped-call]
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by their names
        )
    except MemoryError:
        raise
    except Exception as error:  # the library's errors have no base class in common
        raise RequestError(unloadable(config, error)) from error
    check_weights(config.name_or_path, model, loaded)
    checked: PreTrainedModel = model
    return checked


@contextmanager
def _quiet_loading() -> Iterator[None]:
    """Keeps transformers from telling of every weight in a line; `check_weights` does in one.

    A higher level of its logger would make it tell of layers that are not sharded, too.
    """
    report = logging.getLogger("transformers.modeling_utils")
    report.addFilter(_is_error)
    try:
        yield
    finally:
        report.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _how(config: Config) -> dict[str, Any]:
    """In which precision the weights are loaded, and where quantised ones go."""
    from batchopt.training.trainer import resolve_precision, use_cuda

    cuda = use_cuda(config)
    training = resolve_precision(config.training.precision, cpu=not cuda)
    return adapters.loading(config.adapter, training, torch.device("cuda:0" if cuda else "cpu"))


def _attention(config: PretrainedModelConfig, run: Config) -> dict[str, str]:
    """The attention that was asked for; what needs a GPU waits for one."""
    from batchopt.training.trainer import use_cuda

    if config.attention is None or (wants_flash_attention(run) and not use_cuda(run)):
        return {}
    return {"attn_implementation": config.attention.value}


def _embed_all_tokens(model: Any, tokens: int, seed: int) -> range:
    """Gives every token an embedding, in all parts of a model.

    Returns:
        The tokens that had none.

    Raises:
        RequestError: The model's embeddings cannot be made longer.
    """

    def embedded(part: Any) -> int:
        # The parts of FSMT do not tell.
        embeddings = getattr(part, "embed_tokens", None) or part.get_input_embeddings()
        return int(embeddings.num_embeddings)

    # New rows are drawn at random, so they depend on the seed like fresh weights do.
    torch.manual_seed(seed)
    two: tuple[Any, ...] = (model,)
    if isinstance(model, EncoderDecoderModel):  # two models, each with its own
        two = (model.encoder, model.decoder)
    try:
        before = min(map(embedded, architecture_of(model).trunks(model)))
        for part in two:
            if tokens > embedded(part):
                part.resize_token_embeddings(tokens)
        if tokens > embedded(model.get_decoder()):
            model.resize_decoder_token_embeddings(tokens)  # Marian with two vocabularies
        heads = [
            len(weight)
            for name, weight in model.named_parameters(remove_duplicate=False)
            # FSMT's stays; GPT-NeoX has the last one.
            if name.endswith(("lm_head.weight", "output_projection.weight", "embed_out.weight"))
        ]
        rows = [*map(embedded, architecture_of(model).trunks(model)), *heads]
        short = tokens > min(rows)
    except (AttributeError, NotImplementedError, TypeError, ValueError, RuntimeError):
        short = True
    if short:
        raise RequestError(
            f"model.extra_tokens: the tokenizer has {tokens} tokens with them, and the embeddings "
            f"of a {type(model).__name__} cannot be made longer; leave model.extra_tokens out, or "
            "use a tokenizer that fits the model"
        )
    return range(before, tokens)


def _tiny(
    tiny: TinyModelConfig, tokenizer: PreTrainedTokenizerBase, config: Config
) -> PreTrainedModel:
    torch.manual_seed(config.seed)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=len(tokenizer),
            d_model=tiny.d_model,
            encoder_layers=tiny.layers,
            decoder_layers=tiny.layers,
            encoder_attention_heads=tiny.attention_heads,
            decoder_attention_heads=tiny.attention_heads,
            encoder_ffn_dim=tiny.ffn_dim,
            decoder_ffn_dim=tiny.ffn_dim,
            dropout=tiny.dropout,
            attention_dropout=tiny.dropout,
            activation_dropout=0.0,
            # One more than the longest target: the start token of the decoder is added.
            max_position_embeddings=max(
                config.data.max_source_length, config.data.max_target_length + 1
            ),
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=tokenizer.eos_token_id,
        )
    )


def _tiny_causal(
    tiny: TinyCausalModelConfig, tokenizer: PreTrainedTokenizerBase, config: Config
) -> PreTrainedModel:
    torch.manual_seed(config.seed)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=tiny.d_model,
            num_hidden_layers=tiny.layers,
            num_attention_heads=tiny.attention_heads,
            num_key_value_heads=tiny.key_value_heads,
            intermediate_size=tiny.ffn_dim,
            attention_dropout=tiny.dropout,
            tie_word_embeddings=True,
            max_position_embeddings=config.data.max_source_length + config.data.max_target_length,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
