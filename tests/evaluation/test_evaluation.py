"""An evaluation is the plain one, only cheaper: same loss, same summaries, same scores."""

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    T5Config,
    T5ForConditionalGeneration,
)

from batchopt.data import tokenized
from batchopt.errors import RequestError
from batchopt.evaluation.evaluator import (
    MOST_EXAMPLES,
    Evaluator,
    fitting_batch_size,
)
from batchopt.evaluation.generation import plan_generation
from batchopt.evaluation.rouge import Scorer, make_tokenizer, mean_scores
from batchopt.evaluation.rouge_process import RougeProcess
from batchopt.request.compose import compose_run
from batchopt.request.config import GenerationSettings
from batchopt.step.architecture import ENCODER_DECODER, IGNORED
from batchopt.step.loss import target_loss_sum
from batchopt.training.model import build_model

PREDICTIONS = ["#Person1#은 학교에 갔다", "the dogs ran\nhome", "", "\ufffd broken", 'a "quote"']
REFERENCES = [
    ["#Person1#은 학교에 갔다", "#Person1#이 왔다"],
    ["the dog ran home"],
    ["nothing"],
    ["\ufffd broken"],
    ["a quote", "b"],
]


@pytest.mark.parametrize("name", ["kiwi", "rouge_score", "character", "whitespace"])
def test_another_process_gives_the_same_scores(name):
    here = Scorer(make_tokenizer(name)).score(PREDICTIONS, REFERENCES)
    there = RougeProcess(name)
    # Twice, since an evaluation comes again; and split, since batches come one by one.
    for _ in range(2):
        futures = [
            there.submit(PREDICTIONS[:2], REFERENCES[:2]),
            there.submit(PREDICTIONS[2:], REFERENCES[2:]),
        ]
        assert [scores for future in futures for scores in future.result()] == here


def test_the_process_scores_with_the_public_metric(tmp_path):
    """As a run does; and the scoring process holds no torch, transformers or scipy."""
    said = run_scorer(tmp_path, "print(Rouge.calls, file=sys.stderr)")
    answer, calls = said.stdout, said.stderr.splitlines()[-1]
    assert json.loads(answer) == [[1.0, 1.0, 1.0, 1.0]]
    assert calls == "2", "one to warm up, and one question"
    assert not {"torch", "transformers", "scipy"} & set(said.stderr.split()), said.stderr


def run_scorer(folder, at_end):
    code = f"""
import atexit, sys
from batchopt.evaluation import rouge_process
Rouge = rouge_process._metric_class()
Rouge.calls, plain = 0, Rouge._compute
def counted(self, **words):
    Rouge.calls += 1
    return plain(self, **words)
Rouge._compute = counted
sys.argv[1:] = ["whitespace"]
rouge_process.main()
print(*{{"torch", "transformers", "scipy"}} & set(sys.modules), file=sys.stderr)
{at_end}
"""
    return subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([["a b"], [["a b", "c"]]]) + "\n",
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )


def test_scoring_prints_nothing_and_leaves_no_file(tmp_path):
    for name in ("home", "here", "tmp"):
        (tmp_path / name).mkdir()
    code = (
        "from batchopt.evaluation.rouge_process import RougeProcess\n"
        "print(RougeProcess('kiwi').submit(['비가 온다'], [['비가 온다']]).result()[0].rouge1_f1)"
    )
    offline = {"HF_HOME": f"{tmp_path}/home", "HF_HUB_OFFLINE": "1", "TMPDIR": f"{tmp_path}/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path / "here",
        env={**os.environ, **offline, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("1.0\n", "")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_more_than_a_pipe_holds_goes_through_both_ways():
    many = 5000
    futures = [
        rouge.submit([f"word {n} " * 20] * 50, [[f"word {n}"]] * 50)
        for rouge in [RougeProcess("rouge_score")]
        for n in range(many // 50)
    ]
    assert sum(len(future.result()) for future in futures) == many


def test_stemming_reaches_the_process():
    scores = RougeProcess("rouge_score", use_stemmer=True).submit(["dogs"], [["dog"]]).result()
    assert scores[0].rouge1_f1 == 1


def test_a_stemmer_that_would_be_ignored_is_refused_before_a_process_starts():
    with pytest.raises(RequestError, match=r"metric\.use_stemmer"):
        RougeProcess("kiwi", use_stemmer=True)


def test_a_process_that_dies_is_an_error_that_says_so():
    rouge = RougeProcess("rouge_score")
    rouge.submit(["a"], [["a"]]).result()
    rouge._process.kill()
    with pytest.raises(RuntimeError, match="ended with exit code -9"):
        rouge.submit(["a"], [["a"]]).result()
    with pytest.raises(RuntimeError, match="ended with exit code -9"):
        rouge.submit(["a"], [["a"]]).result()


def test_it_ends_with_its_object():
    rouge = RougeProcess("rouge_score")
    pid = rouge._process.pid
    del rouge
    gc.collect()
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("ending", ["killed", "exits", "fails"])
def test_it_ends_with_its_parent(ending):
    code = (
        "import sys, time; from batchopt.evaluation.rouge_process import RougeProcess\n"
        "rouge = RougeProcess('rouge_score'); rouge.submit(['a'], [['a']]).result()\n"
        "print(rouge._process.pid, flush=True)\n"
    )
    code += {"killed": "time.sleep(600)", "exits": "", "fails": "1 / 0"}[ending]
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with parent:
        pid = int(parent.stdout.readline())
        if ending == "killed":
            os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    deadline = time.monotonic() + 60
    # An orphan may stay a zombie where nothing reaps it.
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        with contextlib.suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_the_training_process_holds_no_scorer():
    code = (
        "import sys, batchopt.training.worker, batchopt.evaluation.evaluator\n"
        "import batchopt.training.trainer, batchopt.training.model\n"
        "from batchopt.evaluation.rouge_process import RougeProcess\n"
        "RougeProcess('rouge_score').submit(['a'], [['a']]).result(); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"kiwipiepy", "nltk", "rouge_score", "evaluate"} & set(done.stdout.split()) == set()


def plan(model, max_new_tokens, num_beams):
    """The settings of an evaluation of this model."""
    own = model.generation_config.to_dict()
    asked = GenerationSettings(num_beams=num_beams)
    return plan_generation(model, own, max_new_tokens=max_new_tokens, asked=asked).config


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    """An evaluator of 12 examples in batches of 5, 5 and 2, and a model for it."""
    words = ["data.train_examples=64", "data.validation_examples=12", "data.max_target_length=16"]
    words += ["model.d_model=16", "model.layers=1", "device.kind=cpu"]
    config = compose_run([*words, f"cache_dir={tmp_path_factory.mktemp('cache')}"]).config
    data = tokenized.load(tokenized.prepare(config))
    model = build_model(config, data.tokenizer).eval()
    generation = plan(model, 16, 1)
    return data, model, generation


def evaluator(setting, rouge="character", generation=None, sliced=True):
    data, _, own = setting
    return Evaluator(
        list(data.validation),
        data.tokenizer,
        RougeProcess(rouge),
        generation or own,
        batch_size=5,
        sliced=sliced,
    )


BART = BartConfig(
    **{"vocab_size": 50, "d_model": 16, "encoder_layers": 1, "decoder_layers": 3},
    **{"encoder_attention_heads": 2, "decoder_attention_heads": 2},
    **{"encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
)
T5 = T5Config(
    **{"vocab_size": 50, "d_model": 16, "num_layers": 1, "num_decoder_layers": 3},
    **{"num_heads": 2, "d_kv": 8, "d_ff": 16},
)


BERT = BertConfig(
    **{"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 3},
    **{"num_attention_heads": 2, "intermediate_size": 16},
)
ONE_OF_TWO = EncoderDecoderConfig.from_encoder_decoder_configs(BERT, BERT)


@pytest.mark.parametrize("kind", ["bart", "t5", "bert"])
@pytest.mark.parametrize("num_beams", [1, 4])
def test_an_evaluation_takes_as_many_examples_as_its_memory_holds(kind, num_beams):
    model = {
        "bart": lambda: BartForConditionalGeneration(BART),
        "t5": lambda: T5ForConditionalGeneration(T5),
        "bert": lambda: EncoderDecoderModel(ONE_OF_TWO),
    }[kind]()
    generation = plan(model, 10, num_beams)

    def fits(budget):
        return fitting_batch_size(model, generation, longest_source=30, budget_bytes=budget)

    # Keys and values of 3 layers, 16 wide, over 30 + 10 tokens in fp32; 3 logits of 50 words.
    each = num_beams * (2 * 3 * 16 * 40 * 4 + 3 * 50 * 4)
    assert [fits(each * 10), fits(each * 10 - 1), fits(each - 1)] == [10, 9, 1]
    assert fits(each * 10_000) == MOST_EXAMPLES["cpu"]


@pytest.mark.parametrize("sliced", [True, False])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_it_finds_what_the_plain_way_finds(setting, sliced, num_beams):
    data, model, _ = setting
    generation = plan(model, 16, num_beams)
    evaluation = evaluator(setting, generation=generation, sliced=sliced)
    found = evaluation.evaluate(model, contextlib.nullcontext)
    loss, tokens, texts = 0.0, 0, {}
    for indices in evaluation.batches:
        rows = [data.validation[n] for n in indices]
        batch = ENCODER_DECODER.pad_batch(rows, data.tokenizer.pad_token_id)
        with torch.no_grad():
            loss += target_loss_sum(ENCODER_DECODER.logits(model, batch), batch["labels"]).item()
            sources = {name: batch[name] for name in ("input_ids", "attention_mask")}
            generated = model.generate(**sources, generation_config=generation)
        tokens += int((batch["labels"] != IGNORED).sum())
        decoded = data.tokenizer.batch_decode(generated, skip_special_tokens=True)
        texts |= dict(zip(indices, decoded, strict=True))
    plain = [texts[n].strip() for n in range(12)]
    scores = Scorer(make_tokenizer("character")).score(
        plain, [row["references"] for row in data.validation]
    )
    assert found.eval_loss == pytest.approx(loss / tokens, rel=1e-6)
    assert [row["prediction"] for row in found.predictions] == plain
    assert found.scores == pytest.approx(mean_scores(scores)._asdict(), rel=1e-12)
    assert [row["rougeL_f1"] for row in found.predictions] == [row.rougeL_f1 for row in scores]
    assert json.dumps(found.predictions)


def test_the_encoder_runs_once_for_each_batch(setting):
    _, model, _ = setting
    calls = Counter()
    hooks = [
        part.register_forward_hook(lambda *_, name=name: calls.update([name]))
        for name, part in (("encoder", model.get_encoder()), ("decoder", model.get_decoder()))
    ]
    evaluator(setting).evaluate(model, contextlib.nullcontext)
    for hook in hooks:
        hook.remove()
    assert calls["encoder"] == 3
    assert calls["decoder"] <= 3 * (1 + 16)


def test_generation_stops_once_all_summaries_have_ended(setting):
    """Sixteen tokens are allowed; a model that ends at once must not be asked for them."""
    data, model, _ = setting
    ending = BartForConditionalGeneration(BartConfig.from_dict(model.config.to_dict())).eval()
    ending.final_logits_bias[:, data.tokenizer.eos_token_id] = 100.0
    calls = Counter()
    hook = ending.get_decoder().register_forward_hook(lambda *_: calls.update(["decoder"]))
    found = evaluator(setting).evaluate(ending, contextlib.nullcontext)
    hook.remove()
    assert calls["decoder"] == 3 * (1 + 1), "once for the loss and once to generate, each batch"
    assert {row["prediction"] for row in found.predictions} == {""}


def test_a_scorer_that_dies_ends_the_evaluation_with_its_reason(setting):
    _, model, _ = setting
    dying = evaluator(setting)
    dying.rouge._process.kill()
    with pytest.raises(RuntimeError, match="scores ROUGE ended with exit code -9"):
        dying.evaluate(model, contextlib.nullcontext)
