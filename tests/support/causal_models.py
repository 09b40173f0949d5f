"""Small decoder-only models with fresh weights."""

import torch
import transformers

SIZE = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 128,
}
GROUPED = SIZE | {"num_key_value_heads": 2}
IDS = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
WORDS = {
    "Llama": GROUPED,
    "Qwen2": GROUPED,
    "Mistral": GROUPED | {"sliding_window": 8},
    "GPT2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "Gemma2": GROUPED
    | {"head_dim": 8, "final_logit_softcapping": 3.0, "attn_logit_softcapping": 20.0},
    "Gemma": GROUPED | {"head_dim": 8},
    "Cohere": GROUPED | {"logit_scale": 0.25},
    "Granite": GROUPED | {"logits_scaling": 4.0},
    "Phi": GROUPED,
    "OPT": {
        **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 32},
        **{"max_position_embeddings": 128, "word_embed_proj_dim": 8},
    },
    "GPTNeoX": SIZE,
    "Bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 4},
}
"""Each kind with what it does to positions, heads and logits that the others do not."""


def make_causal(kind: str, vocabulary: int = 60, **config):
    """A model of a class; its dropout is as its config has it."""
    torch.manual_seed(0)
    made = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary, **(WORDS[kind] | IDS | config)
    )
    name = f"{kind}LMHeadModel" if kind == "GPT2" else f"{kind}ForCausalLM"
    model = getattr(transformers, name)(made).eval()
    with torch.no_grad():  # fresh weights predict nothing; larger ones show what is wrong
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(5)
    return model
