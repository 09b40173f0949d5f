"""Decoder-only models: every division of a step is the same training, and texts need no batch."""

import copy
from itertools import pairwise

import pytest
import torch
import transformers
from support.causal_models import WORDS, make_causal
from transformers import Gemma4TextConfig, GenerationConfig, MambaConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.modeling_outputs import CausalLMOutput

from batchopt import exact_loss
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.config import PADDED, Packing, TrainingConfig
from batchopt.step.architecture import DECODER_ONLY, ENCODER_DECODER, architecture_of
from batchopt.step.attention import why_not_joined
from batchopt.step.batches import StepCollator
from batchopt.step.loss import loss_sum, micro_batch_loss, use_slices
from batchopt.training.adapters import in_fp32
from batchopt.training.flops import count_flops
from batchopt.training.model_checks import check_causal

PLANS = [BatchPlan(2, 16), BatchPlan(4, 16), BatchPlan(16, 16)]
PAD = 1


def rows(count=13, seed=0):
    """Prompts and targets of many lengths; the padding token is a word of some."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(least, longest):
        length = int(torch.randint(least, longest, (), generator=generator))
        return torch.randint(PAD, 60, (length,), generator=generator).tolist()

    return [{"input_ids": tokens(1, 30), "labels": [*tokens(0, 12), 2]} for _ in range(count)]


def divided(plan, packing, examples, **options):
    collator = StepCollator(
        plan,
        packing=packing,
        max_tokens_per_micro_batch=None,
        pad_token_id=PAD,
        architecture=DECODER_ONLY,
        **options,
    )
    return collator(examples)


def flat_gradient(model):
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def gradient(model, step, *, sliced, label_smoothing=0.0):
    model = copy.deepcopy(model)
    for batch in step["micro_batches"]:
        micro_batch_loss(
            model, batch, step["target_tokens"], label_smoothing, sliced=sliced
        ).backward()
    return flat_gradient(model)


def alone(model, examples):
    """The gradient by the model's own loss, one example at a time and without padding."""
    model = copy.deepcopy(model)
    total = sum(len(row["labels"]) for row in examples)
    for row in examples:
        stock = {name: torch.tensor([ids]) for name, ids in DECODER_ONLY.stock_row(row).items()}
        model(**stock, num_items_in_batch=total).loss.backward()
    return flat_gradient(model)


@pytest.mark.parametrize("kind", WORDS)
def test_every_division_has_the_gradient_of_the_examples_alone(kind):
    model = make_causal(kind)
    assert architecture_of(model) is DECODER_ONLY
    examples = rows()
    whole = alone(model, examples)
    assert torch.linalg.norm(whole) > 1e-2
    sliced = use_slices(TrainingConfig(learning_rate=1.0), model)
    assert sliced, "this kind's head is known"
    for plan in PLANS:
        for packing in PADDED:
            for slices in (True, False):
                ours = gradient(model, divided(plan, packing, examples), sliced=slices)
                assert torch.linalg.norm(ours - whole) < 3e-6 * torch.linalg.norm(whole)


@pytest.mark.parametrize("kind", WORDS)
def test_joined_rows_are_refused_where_and_only_where_their_gradient_is_another(kind):
    model, examples = make_causal(kind), rows()
    whole = alone(model, examples)
    apart = max(
        float(
            torch.linalg.norm(
                gradient(model, divided(plan, Packing.unpadded, examples), sliced=sliced) - whole
            )
            / torch.linalg.norm(whole)
        )
        for plan in PLANS
        for sliced in (True, False)
    )
    reason = why_not_joined(model)
    if reason:
        assert apart > 1e-3
        assert reason.startswith(f"{model.config.model_type} does not keep joined rows apart")
    else:
        assert apart < 3e-6
    assert bool(reason) == (kind in ("OPT", "Bloom"))


def test_a_recurrent_state_is_noticed_and_nothing_is_changed():
    model = transformers.MambaForCausalLM(
        MambaConfig(vocab_size=60, hidden_size=16, num_hidden_layers=2, state_size=4)
    ).train()
    before = copy.deepcopy(model.state_dict())
    assert "does not keep joined rows apart" in why_not_joined(model)
    assert model.training
    assert all(torch.equal(one, before[name]) for name, one in model.state_dict().items())


def test_an_attention_that_overlooks_positions_is_noticed():
    model = make_causal("Llama")
    transformers.AttentionInterface.register("careless", careless)
    transformers.AttentionMaskInterface.register("careless", sdpa_mask)
    model.set_attn_implementation("careless")
    assert "does not keep joined rows apart" in why_not_joined(model)


def careless(module, query, key, value, attention_mask, **kwargs):
    return sdpa_attention_forward(module, query, key, value, None, is_causal=True, **kwargs)


def like_flash(module, query, key, value, attention_mask, *, position_ids, **kwargs):
    """As flash attention behaves: no fp32, no mask, rows told apart by their positions."""
    if query.dtype is torch.float32 and not torch.is_autocast_enabled("cpu"):
        raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
    query, key, value = (each.bfloat16() for each in (query, key, value))
    starts = [*(position_ids[0] == 0).nonzero().flatten().tolist(), query.shape[2]]
    parts = [
        sdpa_attention_forward(
            module,
            *(each[:, :, start:end] for each in (query, key, value)),
            None,
            is_causal=True,
            **kwargs,
        )[0]
        for start, end in pairwise(starts)
    ]
    return torch.cat(parts, dim=1), None


@pytest.fixture
def flash():
    transformers.AttentionInterface.register("like_flash", like_flash)
    transformers.AttentionMaskInterface.register("like_flash", lambda **_: None)
    model = make_causal("Llama")
    model.config._attn_implementation = "like_flash"  # its name alone would fetch a kernel
    return model


def test_an_attention_without_fp32_is_tried_in_bf16(flash):
    """A stand-in on the CPU; the kernel itself is for `make test-gpu`."""
    with pytest.raises(RuntimeError, match="only support"):
        flash(input_ids=torch.arange(5).unsqueeze(0), use_cache=False)
    assert why_not_joined(flash) == ""
    assert use_slices(TrainingConfig(learning_rate=1.0), flash)
    check_causal("it", flash)
    batch = DECODER_ONLY.pad_batch(rows(3), PAD)
    assert count_flops(flash, batch) == count_flops(make_causal("Llama"), batch)
    assert flash.config._attn_implementation == "like_flash", "counting changed nothing"


def test_a_copy_of_it_computes_in_fp32_with_torch(flash):
    copied = in_fp32(copy.deepcopy(flash))
    tokens = torch.arange(5).unsqueeze(0)
    theirs = make_causal("Llama")(input_ids=tokens, use_cache=False).logits
    assert torch.equal(copied(input_ids=tokens, use_cache=False).logits, theirs)
    assert flash.config._attn_implementation == "like_flash"


def test_joined_rows_in_bf16_have_the_gradient_of_padded_ones(flash):
    examples = rows()
    with torch.autocast("cpu", torch.bfloat16):
        joined = gradient(flash, divided(PLANS[1], Packing.unpadded, examples), sliced=True)
    whole = alone(make_causal("Llama"), examples)
    assert torch.linalg.norm(joined - whole) < 0.05 * torch.linalg.norm(whole)


def test_a_mask_that_forgot_the_prompt_would_be_noticed():
    model, examples = make_causal("Llama"), rows()
    step = divided(PLANS[-1], Packing.none, examples)
    [batch] = step["micro_batches"]
    batch["labels"][0, 0] = 5
    del batch["target_positions"]
    ours = gradient(model, step, sliced=True)
    whole = alone(model, examples)
    assert torch.linalg.norm(ours - whole) > 1e-3 * torch.linalg.norm(whole)


@pytest.mark.parametrize("kind", ["Llama", "Gemma2"])
def test_label_smoothing_is_the_same_in_slices(kind):
    model, examples = make_causal(kind), rows()
    step = divided(PLANS[0], Packing.sorted, examples)
    one = gradient(model, step, sliced=True, label_smoothing=0.2)
    other = gradient(model, step, sliced=False, label_smoothing=0.2)
    assert torch.linalg.norm(one - other) < 3e-6 * torch.linalg.norm(other)


@pytest.mark.parametrize("packing", list(Packing))
@pytest.mark.parametrize("multiple", [1, 8])
def test_the_counts_are_those_of_the_tensors(packing, multiple):
    examples = rows(16)
    step = divided(PLANS[1], packing, examples, multiple=multiple, longest=(32, 16))
    batches = step["micro_batches"]
    assert step["source_tokens"] == sum(len(row["input_ids"]) for row in examples)
    assert step["target_tokens"] == sum(len(row["labels"]) for row in examples)
    assert step["target_tokens"] == sum(len(batch["target_positions"]) for batch in batches)
    padded = step["padded_source_tokens"] + step["padded_target_tokens"]
    assert padded == sum(DECODER_ONLY.tokens(batch) for batch in batches)
    assert padded >= step["source_tokens"] + step["target_tokens"]
    largest = max(DECODER_ONLY.tokens(batch) for batch in batches)
    assert step["largest_micro_batch_tokens"] == largest
    for batch in batches:
        assert batch["input_ids"].shape == batch["labels"].shape
        assert packing is Packing.unpadded or batch["input_ids"].shape[1] % multiple == 0
    assert sum(step["sizes"]) == step["examples"] == len(examples)
    if packing is Packing.unpadded:
        assert padded == step["source_tokens"] + step["target_tokens"]


def test_the_longest_row_is_the_longest_in_all():
    pairs = [{"input_ids": [5] * 9, "labels": [2]}, {"input_ids": [5] * 4, "labels": [2] * 8}]
    worst = DECODER_ONLY.longest(pairs)
    assert (len(worst["input_ids"]), len(worst["labels"])) == (4, 8)


@pytest.mark.parametrize("kind", WORDS)
def test_a_batch_is_generated_as_its_examples_are_one_by_one(kind):
    model, examples = make_causal(kind), rows(8, seed=3)
    settings = GenerationConfig(
        max_new_tokens=8, do_sample=False, pad_token_id=PAD, eos_token_id=[2, 7], bos_token_id=0
    )

    def generated(some):
        batch = DECODER_ONLY.pad_batch(some, PAD)
        made = DECODER_ONLY.generate(model, some, batch, None, settings)
        return [
            row[: next((n for n, t in enumerate(row) if t in (2, 7)), 8)] for row in made.tolist()
        ]

    together = generated(examples)
    assert together == [generated([row])[0] for row in examples]
    assert len({tuple(text) for text in together}) > 1


def test_keys_and_values_are_counted_by_their_own_heads():
    whole = make_causal("Llama", num_key_value_heads=4)
    grouped = make_causal("Llama", num_key_value_heads=1)
    assert DECODER_ONLY.cached_values(whole.config) == 2 * 2 * 16
    assert DECODER_ONLY.cached_values(grouped.config) == 2 * 2 * 4
    wide = make_causal("Gemma2")  # its heads are wider than hidden_size / heads
    assert DECODER_ONLY.cached_values(wide.config) == 2 * 2 * 2 * 8


def test_layers_of_several_kinds_are_counted_one_by_one():
    """Three layers of Gemma 4 look at a window, and one at everything with wider heads."""
    several = Gemma4TextConfig(
        num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, head_dim=8
    )
    assert DECODER_ONLY.cached_values(several) == 2 * 2 * (8 + 8 + 8 + 512)
    fewer_heads = Gemma4TextConfig(
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attention_k_eq_v=True,
        num_global_key_value_heads=1,
        global_head_dim=32,
    )
    assert DECODER_ONLY.cached_values(fewer_heads) == 2 * (2 * (8 + 8 + 8) + 32)
    assert DECODER_ONLY.cached_values(MambaConfig(num_hidden_layers=4)) == 0


def test_the_exact_loss_moves_the_labels_of_a_decoder_only_model():
    model, examples = make_causal("Qwen2"), rows(1)
    stock = {name: torch.tensor([ids]) for name, ids in DECODER_ONLY.stock_row(examples[0]).items()}
    output = model(**stock)
    tokens = len(examples[0]["labels"])
    assert exact_loss(output, stock["labels"]).item() == pytest.approx(output.loss.item(), rel=1e-6)
    halved = exact_loss(output, stock["labels"], num_items_in_batch=2 * tokens)
    assert 2 * halved.item() == pytest.approx(output.loss.item(), rel=1e-6)
    plain = CausalLMOutput(logits=output.logits)
    assert exact_loss(plain, stock["labels"]).item() == pytest.approx(output.loss.item(), rel=1e-6)


def test_an_unknown_scale_of_the_logits_falls_back_to_the_full_loss(caplog):
    model = make_causal("Llama")
    forward = model.forward

    def scaled(**inputs):
        output = forward(**inputs)
        output.logits = 2 * output.logits
        return output

    model.forward = scaled
    assert not use_slices(TrainingConfig(learning_rate=1.0), model)
    assert "its logits are others" in caplog.text
    batch = DECODER_ONLY.pad_batch(rows(2), PAD)
    assert loss_sum(model, batch, sliced=False) > 0


def test_a_batch_of_the_other_kind_is_refused():
    batch = ENCODER_DECODER.pad_batch(rows(2), PAD)
    for sliced in (True, False):
        with pytest.raises(ValueError, match="architecture=architecture_of"):
            micro_batch_loss(make_causal("Llama"), batch, 10, sliced=sliced)
