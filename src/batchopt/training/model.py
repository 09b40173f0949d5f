"""Builds the model that a run trains: fresh and tiny, or pretrained."""

import pickle
from typing import Any

import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from batchopt.data.pretrained import unloadable
from batchopt.errors import RequestError
from batchopt.request.config import Config, PretrainedModelConfig, TinyModelConfig


def build_model(config: Config, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel:
    """Builds the model on the CPU in fp32, with an embedding for every token of the tokenizer.

    Fresh weights depend on `config.seed` alone.

    Raises:
        RequestError: A pretrained model cannot be loaded or is no encoder-decoder.
    """
    model_config = config.model
    if isinstance(model_config, TinyModelConfig):
        return _tiny(model_config, tokenizer, config)
    assert isinstance(model_config, PretrainedModelConfig)
    try:
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(
            model_config.name_or_path,
            revision=model_config.revision,
            trust_remote_code=model_config.trust_remote_code,
            dtype=torch.float32,
            # Read by `evaluation.generation`; transformers would refuse the model for one wrong
            # setting.
            generation_config=GenerationConfig(),  # type: ignore[no-untyped-call]
        )
    except (OSError, ValueError, pickle.UnpicklingError) as error:  # the last: a pickle with code
        raise RequestError(unloadable(model_config, error)) from error
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        # New rows are random, so they depend on the seed as fresh weights do.
        torch.manual_seed(config.seed)
        model.resize_token_embeddings(len(tokenizer))
    return model


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
