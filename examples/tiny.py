"""A tiny random model, tokenizer and data set, in place of yours."""

import random

from tokenizers import Tokenizer, models
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

VOCABULARY = 50


def model():
    return BartForConditionalGeneration(
        BartConfig(
            vocab_size=VOCABULARY,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            dropout=0.0,
            max_position_embeddings=64,
        )
    )


def tokenizer():
    words = {"<s>": 0, "<pad>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")), pad_token="<pad>"
    )


def rows(count=128):
    draw = random.Random(0)

    def tokens(longest):
        return [draw.randrange(3, VOCABULARY) for _ in range(draw.randrange(2, longest))]

    return [{"input_ids": tokens(30), "labels": tokens(12)} for _ in range(count)]
