"""A model, rows and a tokenizer of somebody else, as a script of theirs would have them."""

import random

import torch
from tokenizers import Tokenizer, models
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

VOCABULARY = 50


def bart(vocabulary=VOCABULARY, width=16, dropout=0.0, positions=128):
    torch.manual_seed(0)
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=vocabulary,
            d_model=width,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=2 * width,
            decoder_ffn_dim=2 * width,
            dropout=dropout,
            max_position_embeddings=positions,
        )
    )


def llama(vocabulary=VOCABULARY, width=16, **_):
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=256,
            pad_token_id=1,
        )
    )


MODELS = {"bart": bart, "llama": llama}


def tokenizer():
    words = {"<s>": 0, "<pad>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>"
    )


def rows(kind, count=128, longest=(30, 12)):
    """Random rows; those of a decoder-only model have a prompt without labels before the target."""
    draw = random.Random(0)

    def tokens(most):
        return [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(2, most + 1))]

    made = []
    for _ in range(count):
        source, target = tokens(longest[0]), tokens(longest[1])
        if kind == "llama":
            labels = [-100] * len(source) + target
            source = source + target
        else:
            labels = target
        made.append({"input_ids": source, "labels": labels})
    return made
