"""Small models with fresh weights in a folder, as save_pretrained writes them."""

import csv
from pathlib import Path

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer
from tokenizers.processors import TemplateProcessing

TEXTS = [
    (f"#Person1#: 안녕 {n}, 오늘 뭐 해? #Person2#: 집에 있어.", f"#Person2#은 집에 있다 {n}.")
    for n in range(12)
]
SIZE = {
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 16,
    "decoder_ffn_dim": 16,
}
IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
T5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
T5 |= {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
PART = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}


def data_file(folder: Path) -> Path:
    path = folder / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([("dialogue", "summary"), *TEXTS])
    return path


def plain_tokenizer(template="<s> $A </s>", **names):
    """A byte-level BPE; `names` rename its special tokens, None leaves one out."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        (text for row in TEXTS for text in row),
        vocab_size=300,
        min_frequency=1,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        show_progress=False,
    )
    if template:
        bpe._tokenizer.post_processor = TemplateProcessing(
            single=template, special_tokens=[("<s>", 0), ("</s>", 2)]
        )
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    special = {name: token for name, token in (special | names).items() if token is not None}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, **special)


def unigram():
    """The vocabulary of a sentencepiece model, as multilingual tokenizers take it."""
    letters = sorted(set("".join(text for row in TEXTS for text in row)) - {" "})
    special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    return [*special, *((letter, -3.0) for letter in letters)]


def make_model(kind: str, vocabulary: int, positions: int = 64, **config):
    """A model of a class with fresh weights."""
    torch.manual_seed(0)
    one = {**SIZE, **IDS, "max_position_embeddings": positions}
    match kind:
        case "T5" | "UMT5" | "LongT5":
            made = getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **T5, **config)
        case "ProphetNet":
            made = transformers.ProphetNetConfig(
                vocab_size=vocabulary,
                hidden_size=16,
                num_encoder_layers=1,
                num_decoder_layers=1,
                num_encoder_attention_heads=2,
                num_decoder_attention_heads=2,
                encoder_ffn_dim=16,
                decoder_ffn_dim=16,
                max_position_embeddings=positions,
                **(IDS | {"pad_token_id": 0} | config),  # its positions begin after this number
            )
        case "LED":
            one.pop("max_position_embeddings")
            made = transformers.LEDConfig(
                vocab_size=vocabulary,
                max_encoder_position_embeddings=positions,
                max_decoder_position_embeddings=positions // 2,
                attention_window=4,
                **(one | config),
            )
        case "FSMT":
            made = transformers.FSMTConfig(
                langs=["en", "de"],
                src_vocab_size=vocabulary,
                tgt_vocab_size=vocabulary,
                tie_word_embeddings=False,
                **one,
                **config,
            )
        case "BigBirdPegasus":
            made = transformers.BigBirdPegasusConfig(
                vocab_size=vocabulary, attention_type="original_full", **one, **config
            )
        case "NllbMoe":
            made = transformers.NllbMoeConfig(
                vocab_size=vocabulary, num_experts=2, expert_capacity=8, **one, **config
            )
        case "PegasusX":
            made = transformers.PegasusXConfig(
                vocab_size=vocabulary, block_size=8, num_global_tokens=4, **one, **config
            )
        case _:
            made = getattr(transformers, f"{kind}Config")(vocab_size=vocabulary, **(one | config))
    if kind == "Marian":
        return transformers.MarianMTModel(made)
    return getattr(transformers, f"{kind}ForConditionalGeneration")(made)


def two_models(encoder: str, decoder: str, vocabulary: int, positions: int = 64, **ids):
    """An encoder-decoder made of two models; `ids` go into its config."""
    torch.manual_seed(0)
    part = {**PART, "vocab_size": vocabulary, "max_position_embeddings": positions}
    configs = []
    for kind in (encoder, decoder):
        more = {"attention_window": 4} if kind == "Longformer" else {}
        if kind == "GPT2":
            sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": positions}
            configs.append(
                transformers.GPT2Config(
                    vocab_size=vocabulary, bos_token_id=0, eos_token_id=2, **sizes
                )
            )
        else:
            configs.append(getattr(transformers, f"{kind}Config")(**part, **more))
    whole = transformers.EncoderDecoderConfig.from_encoder_decoder_configs(*configs)
    model = transformers.EncoderDecoderModel(config=whole)
    for name, token in ids.items():
        setattr(model.config, name, token)
        setattr(model.generation_config, name, token)
    return model


def save(folder: Path, model, tokenizer) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
