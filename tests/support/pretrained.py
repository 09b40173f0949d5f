"""Small folders as save_pretrained writes them, with tokenizers of many habits."""

import json
from pathlib import Path

from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "ko_KR"]
TEXTS = ["#Person1#: 내일 비가 온대요.", "우산을 가져간다", "Will it rain?", "It will rain."]
SIZES = {
    **{"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "max_position_embeddings": 512},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
}
IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}


def make_tokenizer(template="<s> $A </s>", **names):
    """A byte-level BPE that adds what `template` says; names of None are left out."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(TEXTS, 300, 1, special_tokens=SPECIAL, show_progress=False)
    if template:
        bpe._tokenizer.post_processor = TemplateProcessing(
            single=template, special_tokens=[(token, n) for n, token in enumerate(SPECIAL)]
        )
    named = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    named = {key: token for key, token in (named | names).items() if token is not None}
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **named)


def save(folder, tokenizer, config=None, generation=None, *, weights=True):
    """Writes a model with fresh weights; `generation` is added to its generation_config.json."""
    config = config or BartConfig(vocab_size=len(tokenizer), **SIZES, **IDS)
    if weights:
        BartForConditionalGeneration(config).save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if generation:
        edit(folder / "generation_config.json", **generation)
    return folder


def edit(path: Path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | changes))
