"""LoRA and QLoRA: one training in every preset, every factor trained, only the adapter saved."""

import importlib.util
import time

import pytest
import torch
from support.causal_models import make_causal
from support.models import data_file, make_model, plain_tokenizer, save
from torch.utils.flop_counter import FlopCounterMode

from batchopt.record.files import read_jsonl
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import compose_run
from batchopt.request.config import Adapter, AdapterConfig, Packing, TrainingConfig
from batchopt.request.words import read_words
from batchopt.step.architecture import architecture_of
from batchopt.step.batches import StepCollator
from batchopt.step.loss import micro_batch_loss, use_slices
from batchopt.training import adapters
from batchopt.training.build import build_trainer
from batchopt.training.flops import count_flops
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events
from batchopt.verify import proof

pytest.importorskip("peft", reason="the extra lora is not installed")
quantised = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="the extra qlora is not installed",
)
pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning"
)  # peft's
KINDS = {
    "lora": ["adapter=lora"],
    "dora": ["adapter=lora", "adapter.dora=true"],
    "rslora": ["adapter=lora", "adapter.rslora=true", "adapter.target_modules=[{two}]"],
    "nf4": ["adapter=qlora"],
    "fp4": ["adapter=qlora", "adapter.quantization=fp4", "adapter.double_quantization=false"],
    "int8": ["adapter=qlora", "adapter.quantization=int8"],
    "nf4-dora": ["adapter=qlora", "adapter.dora=true"],
}
TWO = {"Bart": "q_proj,v_proj", "T5": "q,v", "Llama": "q_proj,v_proj"}
PRESETS = {"05a": BatchPlan(2, 8), "05c": BatchPlan(8, 8)}


def kinds(*models):
    return [
        pytest.param(name, model, marks=[quantised] if "adapter=qlora" in words else [])
        for name, words in KINDS.items()
        for model in ("Bart", "T5", *models)
    ]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models whose linear layers hold a block of 64 weights, and their data."""
    folder = tmp_path_factory.mktemp("models")
    data_file(folder)
    tokenizer = plain_tokenizer()
    for kind in ("Bart", "T5"):
        model = make_model(kind, len(tokenizer))
        save(folder / kind, model, tokenizer)
    save(folder / "Llama", make_causal("Llama", len(tokenizer)), tokenizer)
    return folder


@pytest.fixture
def words(folders):
    def make(name, model, *more):
        typed = [
            *("data=files", f"data.train_file={folders}/data.csv", f"cache_dir={folders}/cache"),
            *("model=pretrained", f"model.name_or_path={folders}/{model}", "device.kind=cpu"),
            *("data.max_source_length=60", "data.max_target_length=20", "adapter.rank=4"),
            *("data.validation_fraction=0.2", "metric.tokenizer=whitespace"),
            *("batch=custom", "batch.per_device_train_batch_size=2", "training.max_steps=4"),
            *("batch.effective_batch_size=4", "training.logging_steps=1", "training.eval_steps=2"),
            *(word.format(two=TWO[model]) for word in KINDS[name]),
            *(['data.prompt_template="{dialogue}="'] if model == "Llama" else []),
            *("training.learning_rate=1e-2", *more),
        ]
        return read_words(typed)

    return make


@pytest.fixture
def train(words, tmp_path):
    """Trains in this process; returns the trainer and the loss of each step."""

    def run(name, model, *more, folder="run", resume_from=None):
        (tmp_path / folder).mkdir(exist_ok=True)
        request = compose_run(words(name, model, *more))
        recorder = Recorder(tmp_path / folder, Events(None), time.monotonic())
        trainer, facts = build_trainer(request, request.plan, recorder)
        trainer.train(resume_from_checkpoint=resume_from)
        rows = list(read_jsonl(tmp_path / folder / "metrics.jsonl"))
        losses = {row["step"]: row["train_loss"] for row in rows if row["kind"] == "train"}
        return trainer, facts, losses

    return run


def trained(model):
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize(("name", "model"), kinds("Llama"))
@pytest.mark.parametrize("extra", [[], ["model.extra_tokens=auto"]], ids=["", "tokens"])
def test_every_preset_and_packing_is_the_same_training(words, name, model, extra):
    setting = proof.prepare(compose_run(words(name, model, *extra)), steps=2)
    checks = proof.verify(setting, PRESETS, [Packing.none, Packing.sorted])
    assert all(check.passed for check in checks)
    exact = [check for check in checks if check.precision == "fp32"]
    assert len(exact) == 4
    assert max(check.gradient_difference for check in exact) < 1e-5, checks
    assert max(check.loss_difference for check in exact) < 1e-6
    assert len(checks) == (8 if name == "int8" else 4), "int8 is checked as it trains, too"


@pytest.mark.parametrize(("name", "model"), kinds("Llama"))
def test_every_trained_tensor_has_its_gradient_after_an_evaluation(words, name, model):
    """On some CPUs bitsandbytes packs weights in evaluation mode, and the gradient is another."""
    setting = proof.prepare(
        compose_run(words(name, model, "model.extra_tokens=['#Person1#']")), steps=1
    )
    collate = StepCollator(
        BatchPlan(8, 8),
        packing=Packing.none,
        max_tokens_per_micro_batch=None,
        pad_token_id=setting.tokenizer.pad_token_id,
        architecture=architecture_of(setting.model),
    )
    batch = collate(setting.steps[0])["micro_batches"][0]

    def gradient():
        setting.model.zero_grad()
        setting.model.train()
        torch.manual_seed(0)  # the same dropout
        micro_batch_loss(setting.model, batch, 1).backward()
        return {name: weight.grad.clone() for name, weight in trained(setting.model).items()}

    before = gradient()
    assert before
    assert all(one.abs().sum() > 0 for one in before.values())
    setting.model.eval()
    with torch.no_grad():
        micro_batch_loss(setting.model, batch, 1)
        setting.model.generate(input_ids=batch["input_ids"], max_new_tokens=3)
    after = gradient()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("name", "model"), kinds())
def test_a_try_of_slices_leaves_the_model_as_it_is(words, name, model):
    """A copy that shares weights of 8 bits would keep their scales."""
    request = compose_run(words(name, model))
    setting = proof.prepare(request, steps=1)
    rows = torch.tensor([setting.steps[0][0]["input_ids"]])
    with torch.no_grad():
        assert use_slices(request.config.training, setting.model)
        tried = setting.model(input_ids=rows, labels=rows[:, :6]).logits
        fresh = proof.prepare(request, steps=1).model(input_ids=rows, labels=rows[:, :6]).logits
    assert torch.equal(tried, fresh)


@pytest.mark.parametrize(("name", "model"), kinds("Llama"))
def test_a_run_saves_the_adapter_alone_and_resumes_bit_identically(train, name, model):
    more = ["adapter.dropout=0.1", "model.extra_tokens=auto"]
    more += ["training.gradient_checkpointing=true"]
    first, facts, losses = train(name, model, *more, folder="undisturbed")
    checkpoint = first.recorder.run_dir / "checkpoints" / "checkpoint-2"
    saved = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    count = facts.model.trainable_parameters
    assert 4 * count <= saved < 4 * count + 20_000
    assert facts.model.dropout >= 0.1
    assert facts.model.parameters > 2 * count
    assert (checkpoint / "adapter_config.json").exists()
    assert (checkpoint / "generation_config.json").exists()
    resumed, _, rest = train(name, model, *more, folder="resumed", resume_from=str(checkpoint))
    assert rest == {step: losses[step] for step in (3, 4)}
    one, other = trained(first.model), trained(resumed.model)
    assert all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("tokens", [(), (298, 299)], ids=["", "tokens"])
def test_the_gradients_of_frozen_weights_are_not_counted(tokens):
    model = make_model("T5", 300)
    model.set_attn_implementation("eager")
    batch = {"input_ids": torch.ones(3, 20, dtype=torch.long), "labels": torch.ones(3, 7).long()}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    everything = count_flops(model, batch)
    adapted = adapters.adapt(model, AdapterConfig(kind=Adapter.lora, rank=1), "a T5", tokens)
    with FlopCounterMode(display=False) as counter:
        micro_batch_loss(adapted, batch, 1).backward()
    assert count_flops(adapted, batch) == counter.get_total_flops()
    assert tokens or counter.get_total_flops() < 0.8 * everything
    assert all(weight.grad is None for weight in adapted.parameters() if not weight.requires_grad)


def test_a_scaled_embedding_stays_scaled_beside_trained_rows():
    model = make_model("MBart", 300, scale_embedding=True).eval()
    rows = torch.tensor([[5, 298, 299, 2]])
    with torch.no_grad():
        before = model(input_ids=rows, labels=rows).logits
        adapted = adapters.adapt(model, AdapterConfig(kind=Adapter.lora), "an mBART", (298, 299))
        after = adapted.eval()(input_ids=rows, labels=rows).logits
    assert torch.allclose(before, after, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
def test_a_head_of_lora_is_not_sliced_and_trains(caplog):
    """Its weight is not all that makes the logits, which a comparison at the start cannot see."""
    wanted = AdapterConfig(kind=Adapter.lora, target_modules=["q_proj", "lm_head"])
    adapted = adapters.adapt(make_model("Bart", 300), wanted, "a BART")
    assert not use_slices(TrainingConfig(learning_rate=1.0), adapted)
    assert "has no head that can be sliced" in caplog.text
    adapters.randomise(adapted, 1)
    batch = {"input_ids": torch.ones(3, 9, dtype=torch.long), "labels": torch.ones(3, 7).long()}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    micro_batch_loss(adapted, batch, 1).backward()
    assert all(one.grad.abs().sum() > 0 for one in trained(adapted).values())
