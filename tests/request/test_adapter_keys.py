"""The keys of an adapter: what does not go together is one line, and so is a missing package."""

import pytest

from batchopt.errors import RequestError
from batchopt.request import optimizers
from batchopt.request.compose import compose_run
from batchopt.request.config import Adapter, Quantization
from batchopt.request.words import read_words
from batchopt.training.adapters import quantization

KOBART = ["model=kobart"]


@pytest.fixture
def installed(monkeypatch):
    """Which packages are there; all of them, until a test says otherwise."""
    missing = set()
    monkeypatch.setattr(optimizers, "installed", lambda name: name not in missing)
    return missing


def test_a_choice_brings_what_it_needs(installed):
    adapter = compose_run([*KOBART, "adapter=qlora", "adapter.rank=144"]).config.adapter
    assert (adapter.kind, adapter.rank) == (Adapter.qlora, 144)
    assert quantization(adapter) is Quantization.nf4
    words = [*KOBART, "adapter=qlora", "adapter.quantization=int8"]
    assert quantization(compose_run(words).config.adapter) is Quantization.int8
    assert quantization(compose_run(["adapter=lora"]).config.adapter) is None
    assert compose_run([]).config.adapter.kind is Adapter.none


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["adapter=lora", "adapter.quantization=nf4"], "null unless adapter=qlora"),
        ([*KOBART, "adapter=qlora", "adapter.quantization=int4"], "nf4, fp4, int8"),
        (["adapter=qlora"], "adapter is qlora; it must be none or lora with model=tiny"),
        (
            ["adapter=qlora", "model=tiny_causal"],
            "adapter is qlora; it must be none or lora with model=tiny_causal",
        ),
        (["adapter=lora", "adapter.rank=0"], "adapter.rank is 0; it must be 1 or more"),
        (["adapter=lora", "adapter.target_modules=[]"], "as in [one,two], or all-linear"),
        (["adapter=lora", "adapter.target_modules=q_proj"], "as in [one,two], or all-linear"),
        (["model.extra_tokens=all"], "as in [one,two], or auto"),
        (["adapter=qlorra"], "did you mean adapter=qlora"),
    ],
)
def test_what_does_not_go_together_is_refused(installed, words, message):
    with pytest.raises(RequestError) as refused:
        compose_run(words)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("package", "choice"), [("peft", "lora"), ("peft", "qlora"), ("bitsandbytes", "qlora")]
)
def test_a_missing_package_is_one_line_with_its_remedy(installed, package, choice):
    installed.add(package)
    with pytest.raises(RequestError) as refused:
        compose_run([*KOBART, f"adapter={choice}"])
    assert f"the package {package} is not installed; pip install 'batchopt[{choice}]'" in str(
        refused.value
    )


def test_markers_are_typed_as_they_stand():
    words = read_words(["model.extra_tokens=[#Person1#,[NAME]]"])
    assert compose_run(words).config.model.extra_tokens == ["#Person1#", "[NAME]"]
    assert compose_run(read_words(["model.extra_tokens=auto"])).config.model.extra_tokens == "auto"
