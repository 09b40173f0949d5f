"""The loss in slices is the loss: same value, same gradient, for every kind of head there is."""

import copy
import logging

import pytest
import torch
from transformers import (
    AutoModelForSeq2SeqLM,
    BartConfig,
    BartForConditionalGeneration,
    BigBirdPegasusConfig,
    LEDConfig,
    MBartConfig,
    MT5Config,
    PegasusConfig,
    T5Config,
)

from batchopt.request.config import Loss, TrainingConfig
from batchopt.step import sliced_loss
from batchopt.step.architecture import ENCODER_DECODER, IGNORED, twin
from batchopt.step.loss import loss_sum, target_loss_sum, use_slices

BART = {
    "vocab_size": 97,
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "dropout": 0.0,
    "max_position_embeddings": 64,
}
T5 = {
    "vocab_size": 97,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 1,
    "num_heads": 2,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
}
CONFIGS = {
    "bart": BartConfig(**BART),
    "mbart": MBartConfig(**BART),
    "pegasus": PegasusConfig(**BART),
    "t5": T5Config(**T5),
    "t5 untied": T5Config(**T5, tie_word_embeddings=False),
    "mt5": MT5Config(**T5),
}
SLICED = TrainingConfig(learning_rate=1.0)


def build(config):
    torch.manual_seed(0)
    model = AutoModelForSeq2SeqLM.from_config(config)
    if hasattr(model, "final_logits_bias"):
        # Zero in every published model, so that only here it would be missed.
        model.final_logits_bias.normal_()
    return model


def batch(vocabulary=97):
    generator = torch.Generator().manual_seed(1)
    made = {
        "input_ids": torch.randint(4, vocabulary, (5, 20), generator=generator),
        "attention_mask": torch.ones(5, 20, dtype=torch.long),
        "labels": torch.randint(4, vocabulary, (5, 11), generator=generator),
    }
    made["attention_mask"][0, 7:] = 0
    made["labels"][1, 4:] = IGNORED
    made["labels"][2, 1:] = IGNORED
    return made


def loss_and_gradients(model, label_smoothing=0.0, *, sliced):
    model = copy.deepcopy(model)
    loss = loss_sum(model, batch(), label_smoothing, sliced=sliced) / 36
    loss.backward()
    parameters = model.named_parameters()
    return loss.item(), {name: p.grad for name, p in parameters if p.grad is not None}


def largest_difference(ours, theirs):
    scale = max(gradient.abs().max() for gradient in theirs.values())
    return max((ours[name] - theirs[name]).abs().max() / scale for name in theirs)


@pytest.fixture(params=[1, 12, 10**6], ids=["a row", "some rows", "all rows"])
def slices(request, monkeypatch):
    """Slices of a position each, of several with a smaller last one, and of all at once."""
    monkeypatch.setitem(sliced_loss.SLICE_BYTES, "cpu", request.param * 4 * 97)


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_gradient_are_those_of_the_models_own_logits(name, label_smoothing):
    model = build(CONFIGS[name])
    assert use_slices(SLICED, model)
    loss, gradients = loss_and_gradients(model, label_smoothing, sliced=True)
    full, exact = loss_and_gradients(model, label_smoothing, sliced=False)
    assert loss == pytest.approx(full, rel=1e-6)
    assert gradients.keys() == exact.keys()
    assert largest_difference(gradients, exact) < 1e-6


def test_a_head_with_a_bias_that_learns_gets_its_gradient():
    model = build(CONFIGS["bart"])
    model.lm_head.bias = torch.nn.Parameter(torch.randn(97))
    loss, gradients = loss_and_gradients(model, 0.1, sliced=True)
    full, exact = loss_and_gradients(model, 0.1, sliced=False)
    assert loss == pytest.approx(full, rel=1e-6)
    assert "lm_head.bias" in gradients
    assert largest_difference(gradients, exact) < 1e-6


def test_the_gradient_is_the_derivative():
    """Against finite differences, so that both ways cannot be wrong together."""
    torch.manual_seed(0)
    inputs = [torch.randn(shape, requires_grad=True) for shape in ((4, 3), (6, 3), (6,))]

    def loss(states, weight, bias):
        targets = torch.tensor([0, 5, 2, 2])
        return 7 * sliced_loss.sliced_loss_sum(
            states, sliced_loss.Head(weight, bias, 0.5), targets, 0.2
        )

    loss(*inputs).backward()
    for number, tensor in enumerate(inputs):
        direction = torch.randn_like(tensor)
        moved = [
            loss(*inputs[:number], (tensor + step * direction).detach(), *inputs[number + 1 :])
            for step in (1e-2, -1e-2)
        ]
        slope = (moved[0] - moved[1]).item() / 2e-2
        assert slope == pytest.approx((tensor.grad * direction).sum().item(), rel=1e-3)


def test_bf16_is_as_exact_as_the_full_loss_in_bf16():
    model = build(CONFIGS["bart"])
    _, exact = loss_and_gradients(model, sliced=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss, gradients = loss_and_gradients(model, sliced=True)
        full, theirs = loss_and_gradients(model, sliced=False)
    assert loss == pytest.approx(full, rel=1e-2)
    assert all(gradient.dtype == torch.float32 for gradient in gradients.values())
    assert largest_difference(gradients, exact) < 1.5 * largest_difference(theirs, exact)


def test_padded_labels_never_reach_the_head(monkeypatch):
    seen = []
    log_softmax = torch.Tensor.log_softmax

    def counted(logits, *args, **kwargs):
        seen.append(len(logits))
        return log_softmax(logits, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "log_softmax", counted)
    monkeypatch.setitem(sliced_loss.SLICE_BYTES, "cpu", 10 * 4 * 97)
    loss_and_gradients(build(CONFIGS["bart"]), sliced=True)
    assert sum(seen) == int((batch()["labels"] != IGNORED).sum()) == 38
    assert max(seen) == 10, "and never more than a slice of them together"


def test_without_gradients_the_loss_is_the_same_and_nothing_is_kept():
    model = build(CONFIGS["t5"])
    with torch.no_grad():
        loss = loss_sum(model, batch(), sliced=True)
        full = loss_sum(model, batch(), sliced=False)
    assert loss.item() == pytest.approx(full.item(), rel=1e-6)
    assert loss.grad_fn is None


@pytest.mark.parametrize("sliced", [True, False])
@pytest.mark.parametrize("name", CONFIGS)
def test_an_encoder_that_ran_before_gives_the_same_loss(name, sliced):
    model = build(CONFIGS[name])
    encoded = ENCODER_DECODER.encode(model, batch())
    again = loss_sum(model, batch(), sliced=sliced, encoded=encoded)
    assert again.item() == loss_sum(model, batch(), sliced=sliced).item()


def test_a_micro_batch_without_targets_costs_nothing():
    states = torch.randn(0, 3, requires_grad=True)
    weight = torch.randn(6, 3, requires_grad=True)
    loss = sliced_loss.sliced_loss_sum(
        states, sliced_loss.Head(weight, None, 1.0), torch.zeros(0).long()
    )
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()


def test_full_is_full():
    assert not use_slices(TrainingConfig(learning_rate=1.0, loss=Loss.full), build(CONFIGS["bart"]))


class Capped(torch.nn.Linear):
    """A head with something after it that slices would leave out, as T5Gemma's soft cap."""

    def forward(self, states):
        return torch.tanh(super().forward(states))


@pytest.mark.parametrize("what", ["other head", "soft cap"])
def test_a_model_with_another_kind_of_head_keeps_the_full_loss_and_says_so(what, caplog):
    model = build(CONFIGS["t5"])
    if what == "soft cap":
        model.lm_head.forward = Capped.forward.__get__(Capped(16, 97))
    else:
        model.lm_head = torch.nn.Sequential(torch.nn.Linear(16, 97))
    model.train()
    with caplog.at_level(logging.WARNING):
        assert not use_slices(SLICED, model)
    (line,) = caplog.messages
    assert line.startswith("training.loss: T5ForConditionalGeneration")
    assert model.training


def test_trying_a_model_leaves_its_dropout_as_it_was():
    model = build(CONFIGS["bart"]).train()
    state = torch.get_rng_state()
    assert use_slices(SLICED, model)
    assert model.training
    assert torch.equal(state, torch.get_rng_state())


def test_led_runs_one_way_or_the_other():
    """Its encoder pads to attention windows by itself; whichever way is taken, the loss is its."""
    config = LEDConfig(
        **{name: value for name, value in BART.items() if name != "max_position_embeddings"},
        attention_window=8,
        max_encoder_position_embeddings=64,
        max_decoder_position_embeddings=64,
    )
    model = build(config).eval()
    with torch.no_grad():
        loss = loss_sum(model, batch(), sliced=use_slices(SLICED, model))
        logits = model(
            **{
                **batch(),
                "labels": None,
                "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(batch()["labels"]),
            }
        ).logits
    assert loss.item() == pytest.approx(target_loss_sum(logits, batch()["labels"]).item(), rel=1e-5)


class Settles(torch.nn.Module):
    """A part that changes for good when it first runs, as the attention of BigBird does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.calls = 0
        self.register_buffer("seen", torch.zeros(1))

    def forward(self, *arguments, **words):
        self.calls += 1
        self.seen += 1
        return self.inner(*arguments, **words)


def test_trying_a_model_leaves_it_as_it_was():
    model = build(CONFIGS["bart"])
    layer = model.model.encoder.layers[0]
    layer.fc1 = Settles(layer.fc1)
    model.train()
    config, weights = copy.deepcopy(model.config.to_dict()), copy.deepcopy(model.state_dict())
    assert use_slices(SLICED, model)
    assert layer.fc1.calls == 0
    assert model.config.to_dict() == config
    assert model.training
    assert all(torch.equal(weights[name], now) for name, now in model.state_dict().items())


def test_trying_bigbird_leaves_its_sparse_attention():
    sizes = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16, "vocab_size": 97}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = BigBirdPegasusConfig(
        **sizes, **heads, encoder_ffn_dim=16, decoder_ffn_dim=16, block_size=4, num_random_blocks=1
    )
    model = build(config)
    use_slices(SLICED, model)
    assert model.model.encoder.attention_type == "block_sparse"
    assert model.config.attention_type == "block_sparse"


def test_trying_takes_no_second_copy_of_the_weights():
    model = build(CONFIGS["bart"])
    pairs = zip(model.parameters(), twin(model).parameters(), strict=True)
    assert all(own is other for own, other in pairs)


class Overwrites(BartForConditionalGeneration):
    """Writes into the labels that it is given, as FSMT does."""

    def prepare_decoder_input_ids_from_labels(self, labels):
        labels[labels == IGNORED] = self.config.pad_token_id
        return super().prepare_decoder_input_ids_from_labels(labels)


@pytest.mark.parametrize("sliced", [True, False])
def test_labels_stay_what_they_were_whatever_a_model_does_with_them(sliced):
    model = Overwrites(CONFIGS["bart"]).eval()
    given = batch()
    before = given["labels"].clone()
    assert (before == IGNORED).any()
    found = loss_sum(model, given, sliced=sliced)
    assert torch.equal(given["labels"], before)
    plain = BartForConditionalGeneration(CONFIGS["bart"]).eval()
    plain.load_state_dict(model.state_dict())
    assert found.item() == pytest.approx(loss_sum(plain, batch(), sliced=sliced).item())
