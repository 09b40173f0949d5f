"""The loss on a device that is not the CPU: the same gradient, no wait, aligned products."""

import copy

import pytest
import torch
from support.python_device import DEVICE, NAME, python_device
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    T5Config,
    T5ForConditionalGeneration,
)

from batchopt.step import sliced_loss
from batchopt.step.architecture import ENCODER_DECODER
from batchopt.step.loss import micro_batch_loss

VOCABULARY = 97


def build(name, *, checkpointing=False):
    torch.manual_seed(0)
    if name == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                **{"vocab_size": VOCABULARY, "d_model": 16, "d_kv": 8, "d_ff": 32},
                **{"num_layers": 1, "num_heads": 2, "dropout_rate": 0.0},
                decoder_start_token_id=0,
            )
        )
    else:
        model = BartForConditionalGeneration(
            BartConfig(
                **{"vocab_size": VOCABULARY, "d_model": 16, "dropout": 0.0},
                **{"encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 32},
                **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32},
            )
        )
    if checkpointing:
        # transformers 5.22 renamed it.
        renamed = getattr(model, "activation_checkpointing_enable", None)
        (renamed or model.gradient_checkpointing_enable)()
    return model.train()


def batch():
    generator = torch.Generator().manual_seed(1)
    rows = [
        {
            name: torch.randint(4, VOCABULARY, (length,), generator=generator).tolist()
            for name, length in (("input_ids", source), ("labels", target))
        }
        for source, target in ((20, 11), (7, 11), (13, 4), (20, 1))
    ]
    return ENCODER_DECODER.pad_batch(rows, 1)


def loss_and_gradients(model, device, *, sliced, label_smoothing=0.0, autocast=False):
    model = copy.deepcopy(model).to(device)
    DEVICE.reset()
    moved = {
        name: tensor if device == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
        for name, tensor in batch().items()
    }
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        loss = micro_batch_loss(model, moved, 27, label_smoothing, sliced=sliced)
    loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters()}
    return loss.detach(), {name: each for name, each in gradients.items() if each is not None}


def on_the_host(loss, gradients):
    return loss.item(), {name: gradient.cpu() for name, gradient in gradients.items()}


def largest_difference(ours, theirs):
    assert ours.keys() == theirs.keys()
    scale = max(gradient.abs().max() for gradient in theirs.values())
    return max((ours[name] - theirs[name]).abs().max() / scale for name in theirs)


@pytest.mark.parametrize("name", ["bart", "t5"])
@pytest.mark.parametrize("sliced", [True, False])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("checkpointing", [True, False])
def test_a_micro_batch_is_the_cpus_and_waits_for_transformers_alone(
    name, sliced, label_smoothing, checkpointing
):
    model = build(name, checkpointing=checkpointing)
    settings = {"sliced": sliced, "label_smoothing": label_smoothing}
    with python_device() as device:
        found = loss_and_gradients(model, NAME, **settings)
        ours = [wait for wait in device.waits if " @ transformers." not in wait]
        assert ours == [], "among them the backward pass, which names no line"
        # Twice or three times the model looks whether anything is padded.
        assert len(device.waits) <= 3
        loss, gradients = on_the_host(*found)
    expected, exact = on_the_host(*loss_and_gradients(model, "cpu", **settings))
    assert loss == pytest.approx(expected, rel=1e-6)
    assert largest_difference(gradients, exact) < 1e-6


class Products(TorchDispatchMode):
    """Notes the sizes of all matrix products that the vocabulary is part of."""

    def __init__(self):
        super().__init__()
        self.sizes = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            sizes = {size for x in args if isinstance(x, torch.Tensor) for size in x.shape}
            self.sizes |= {size for size in sizes if size >= VOCABULARY}
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("name", ["bart", "t5"])
def test_in_bf16_the_head_is_aligned_for_tensor_cores_and_the_gradient_no_less_exact(
    name, label_smoothing
):
    model = build(name)
    if name == "bart":
        model.final_logits_bias.normal_()
    settings = {"sliced": True, "label_smoothing": label_smoothing}
    with python_device(), Products() as products:
        found = loss_and_gradients(model, NAME, autocast=True, **settings)
        loss, gradients = on_the_host(*found)
    assert products.sizes == {128}
    theirs, cpus = on_the_host(*loss_and_gradients(model, "cpu", autocast=True, **settings))
    expected, exact = on_the_host(*loss_and_gradients(model, "cpu", **settings))
    assert loss == pytest.approx(theirs, rel=1e-3)
    assert loss == pytest.approx(expected, rel=1e-2)
    assert largest_difference(gradients, exact) < 1.5 * largest_difference(cpus, exact)


def test_a_slice_on_a_gpu_is_worth_its_gradient_of_the_weight():
    """mT5 has 250,112 words: 268 positions had 256 MiB of logits and a gradient of 512 MB."""
    assert sliced_loss._slice_rows("cuda", 250_112) == 2048
    assert sliced_loss._slice_rows("cuda", 8_000) > 8_000
    assert sliced_loss._slice_rows("cpu", 250_112) == 16
