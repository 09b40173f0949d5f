"""Gradients that are added in place: those of autograd, with no tensor as large as a table."""

import copy

import pytest
import torch
from support.models import make_model
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from batchopt.step.architecture import ENCODER_DECODER
from batchopt.step.loss import loss_sum, micro_batch_loss
from batchopt.step.tables import add_rows_in_place

VOCABULARY = 300
KINDS = ["Bart", "T5", "MBart", "Pegasus"]


def micro_batches():
    """Two of them, with padding and repeated tokens."""
    rows = [
        {"input_ids": [5, 9, 9, 7, 2], "labels": [6, 6, 2]},
        {"input_ids": [9, 2], "labels": [8, 7, 6, 5, 2]},
        {"input_ids": [11, 5, 2], "labels": [4, 2]},
    ]
    pad_batch = ENCODER_DECODER.pad_batch
    return [pad_batch(rows[:2], pad_token_id=1), pad_batch(rows[2:], pad_token_id=1)]


def train_step(model, *, in_place, sliced=True, smoothing=0.1):
    for batch in micro_batches():
        micro_batch_loss(model, batch, 10, smoothing, sliced=sliced, in_place=in_place).backward()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sliced", [True, False])
@pytest.mark.parametrize("untied", [True, False])
def test_the_gradient_is_that_of_autograd(kind, sliced, untied):
    model = make_model(kind, VOCABULARY, tie_word_embeddings=not untied).eval()
    ours = copy.deepcopy(model)
    add_rows_in_place(ours)
    train_step(model, in_place=False, sliced=sliced)
    train_step(ours, in_place=True, sliced=sliced)
    expected = dict(model.named_parameters())
    for name, weight in ours.named_parameters():
        theirs = expected[name].grad
        if theirs is None:
            assert weight.grad is None, name
        else:
            torch.testing.assert_close(weight.grad, theirs, rtol=1e-4, atol=1e-7, msg=name)


class Large(TorchDispatchMode):
    """Counts the operations that write a new tensor of the size of a table."""

    def __init__(self, shape):
        super().__init__()
        self.shape = shape
        self.names = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        views = ("detach", "view", "t", "slice", "transpose", "empty", "alias")
        if isinstance(made, torch.Tensor) and made.shape == self.shape and name not in views:
            self.names.append(name)
        return made


@pytest.mark.parametrize("kind", ["Bart", "T5"])
def test_no_micro_batch_makes_a_tensor_as_large_as_the_table(kind):
    model = make_model(kind, VOCABULARY).eval()
    add_rows_in_place(model)
    train_step(model, in_place=True)  # makes the gradients
    with Large(model.get_output_embeddings().weight.shape) as large:
        train_step(model, in_place=True)
    assert set(large.names) <= {"addmm_", "index_add_"}


def test_padding_learns_nothing_from_a_lookup_and_all_from_the_head():
    model = make_model("Bart", VOCABULARY).eval()
    add_rows_in_place(model)
    batch = micro_batches()[0]
    embedding = model.get_input_embeddings()
    embedding(batch["input_ids"]).sum().backward()
    assert embedding.weight.grad[1].abs().sum() == 0
    assert embedding.weight.grad[9].abs().sum() > 0


def test_a_loss_with_another_factor_than_was_said_is_refused():
    model = make_model("Bart", VOCABULARY)
    loss = micro_batch_loss(model, micro_batches()[0], 10, sliced=True, in_place=True)
    with pytest.raises(RuntimeError, match=r"multiplied by 0\.2"):
        (2 * loss).backward()


def test_what_is_frozen_or_not_plain_is_left_alone():
    model = make_model("Bart", VOCABULARY).eval()
    model.get_input_embeddings().weight.requires_grad_(False)
    limited = nn.Embedding(4, 2, max_norm=1.0)
    add_rows_in_place(model)
    add_rows_in_place(limited)
    assert type(limited) is nn.Embedding
    train_step(model, in_place=True)
    assert model.get_input_embeddings().weight.grad is None
    with torch.no_grad():
        assert loss_sum(model, micro_batches()[0], sliced=True).item() > 0


def test_changing_a_model_twice_or_copying_it_changes_nothing():
    model = make_model("MBart", VOCABULARY).eval()
    add_rows_in_place(model)
    kinds = [type(module) for module in model.modules()]
    add_rows_in_place(model)
    assert [type(module) for module in model.modules()] == kinds
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    train_step(model, in_place=True)
    train_step(twin, in_place=True)
    theirs = dict(twin.named_parameters())
    for name, weight in model.named_parameters():
        assert weight.grad is None or torch.equal(weight.grad, theirs[name].grad), name
