"""Compiled parts: the same training in slices, and few compilations whatever the lengths."""

import pytest
import torch
from support.python_device_run import train

# dynamo looks at the gradient of the encoder's states, and torch warns of that
pytestmark = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")


@pytest.fixture
def graphs(monkeypatch):
    """What torch.compile is asked to compile; it runs as it is, since compiling takes minutes."""
    seen = []

    def run_as_it_is(graph, _):
        seen.append(graph)
        return graph.forward

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda module: compile_module(module, backend=run_as_it_is)
    )
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield seen
    torch._dynamo.reset()


def test_a_compiled_training_is_the_same_and_keeps_its_slices(tmp_path, cache, graphs):
    words = ["batch=05a", "training.max_steps=7", "device.kind=cpu", "metric.num_beams=2"]
    compiled, losses = train(tmp_path / "compiled", cache, *words, "training.torch_compile=true")
    _, expected = train(tmp_path / "plain", cache, *words)
    assert compiled.sliced
    assert losses == pytest.approx(expected, rel=1e-5)
    # Encoder and decoder, each once for the first shape and once for any: evaluation adds none.
    assert 0 < len(graphs) <= 4
    assert not torch._dynamo.utils.counters["graph_break"]
    assert len(compiled.recorder.evaluations) == 3


def test_a_checkpoint_of_a_compiled_model_is_one_of_the_model(tmp_path, cache, graphs):
    words = ["training.torch_compile=true", "training.save_checkpoints=true", "device.kind=cpu"]
    compiled, losses = train(
        tmp_path / "run", cache, *words, "training.eval_steps=2", "training.logging_steps=3"
    )
    checkpoint = tmp_path / "run" / "checkpoints" / "checkpoint-2"
    plain = [words[1], words[2], "training.eval_steps=2", "training.logging_steps=3"]
    again, resumed = train(
        tmp_path / "run",
        cache,
        *plain,
        "training.pad_to_multiple_of=64",
        resume_from=checkpoint,
    )
    assert resumed == pytest.approx(losses, rel=1e-5)
    assert type(again.model) is type(compiled.model)
