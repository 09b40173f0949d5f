"""The real trainer on a device that is not the CPU: the CPU's numbers, whatever is switched on."""

import pytest
import torch
from support.python_device import python_device
from support.python_device_run import train

from batchopt.step.attention import CUDNN_SETTINGS

WAYS = {
    "sliced": [],
    "full": ["training.loss=full"],
    "smoothed": ["training.label_smoothing=0.1"],
    "checkpointing": ["training.gradient_checkpointing=true"],
    "dropout": ["model.dropout=0.1"],
    "one micro-batch": ["batch=05c"],
    "workers": ["training.dataloader_num_workers=2"],
    "beams": ["metric.num_beams=3"],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_on_the_device_has_the_numbers_of_one_on_the_cpu(way, tmp_path, cache):
    with python_device() as device:
        there, losses = train(tmp_path / "there", cache, *WAYS[way])
        assert there.args.device.type == there.model.device.type == device.name
    here, expected = train(tmp_path / "here", cache, "device.kind=cpu", *WAYS[way])
    assert here.args.device.type == "cpu"
    assert losses == pytest.approx(expected, rel=1e-6)
    for ours, theirs in zip(there.recorder.evaluations, here.recorder.evaluations, strict=True):
        for figure in ("eval_loss", "rouge1_f1", "rougeL_f1"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-6)
    for ours, theirs in zip(there.model.parameters(), here.model.parameters(), strict=True):
        assert torch.allclose(ours.detach().cpu(), theirs, atol=1e-6)
    scale = there.recorder.noise_scale
    assert scale.state() == pytest.approx(here.recorder.noise_scale.state(), rel=1e-3)


def test_bf16_on_the_device_is_the_training_in_bf16(tmp_path, cache, monkeypatch):
    from transformers import training_args

    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    with python_device():
        _, losses = train(tmp_path / "there", cache, "training.precision=bf16")
    _, expected = train(tmp_path / "here", cache, "device.kind=cpu", "training.precision=bf16")
    _, exact = train(tmp_path / "exact", cache, "device.kind=cpu")
    assert losses == pytest.approx(expected, rel=1e-3)
    assert losses != exact


def test_a_run_resumes_between_two_log_lines(tmp_path, cache):
    """The losses of the steps since the last line are those of both attempts."""
    words = ["training.logging_steps=3", "training.save_checkpoints=true", "training.eval_steps=2"]
    with python_device():
        _, losses = train(tmp_path / "run", cache, *words)
        checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-2"
        resumed, again = train(tmp_path / "run", cache, *words, resume_from=checkpoint)
    assert again == losses
    assert len(resumed.recorder.steps) == 4


@pytest.fixture
def attention_as_it_comes():
    torch.backends.cuda.enable_cudnn_sdp(True)
    yield
    torch.backends.cuda.enable_cudnn_sdp(True)


@pytest.mark.usefixtures("attention_as_it_comes")
@pytest.mark.parametrize(("variable", "left"), [(None, False), (CUDNN_SETTINGS[0], True)])
def test_attention_is_planned_anew_for_no_shape(variable, left, tmp_path, cache, monkeypatch):
    """cuDNN would do that; a person who says what they want of it is left alone."""
    for name in CUDNN_SETTINGS:
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, "1")
    train(tmp_path / "cpu", cache, "training.max_steps=1", "device.kind=cpu")
    assert torch.backends.cuda.cudnn_sdp_enabled(), "nothing to leave on a CPU"
    with python_device():
        train(tmp_path / "there", cache, "training.max_steps=1")
    assert torch.backends.cuda.cudnn_sdp_enabled() is left
