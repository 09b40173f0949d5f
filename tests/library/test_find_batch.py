"""find_batch: its choice is that of the runs, and the process is afterwards what it was."""

import inspect
import json
import os
import random
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy
import pytest
import torch
from support import TOP, somebodys
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainingArguments

from batchopt import find_batch
from batchopt.library.find_batch import _choose
from batchopt.library.peak_memory import OnCpu, OnCuda
from batchopt.library.untouched import Untouched
from batchopt.probe.measure import Probe
from batchopt.request.batch_plan import BatchPlan

GIB = 2**30
KINDS = sorted(somebodys.MODELS)


def contents(value):
    """Everything of a structure as bytes and plain values, to be compared bit for bit."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), value.detach().contiguous().view(-1).view(torch.uint8).tolist())
    if isinstance(value, dict):
        return {str(name): contents(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [contents(part) for part in value]
    return repr(value)


def state(model, optimizer=None):
    """What a training changes: in the process, in the model and in the optimizer."""
    return {
        "python": random.getstate(),
        "numpy": [
            part.tolist() if hasattr(part, "tolist") else part for part in numpy.random.get_state()
        ],
        "torch": contents(torch.get_rng_state()),
        "modes": [module.training for module in model.modules()],
        "weights": {name: contents(weight) for name, weight in model.named_parameters()},
        "gradients": {name: contents(weight.grad) for name, weight in model.named_parameters()},
        "buffers": {name: contents(buffer) for name, buffer in model.named_buffers()},
        "objects": [id(part) for part in (*model.parameters(), *model.buffers())],
        "config": model.config.to_dict(),
        "attributes": [sorted(module.__dict__) for module in model.modules()],
        "optimizer": optimizer and contents(optimizer.state_dict()),
        "handler": signal.getsignal(signal.SIGINT),
    }


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def trained(kind):
    """A model in the middle of a training: gradients, moments, a frozen part in evaluation mode."""
    model = somebodys.MODELS[kind](dropout=0.1)
    model.register_buffer("seen", torch.zeros(2), persistent=False)
    model.lm_head.eval()
    frozen = next(model.parameters())
    frozen.requires_grad_(False)
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    batch = DataCollatorForSeq2Seq(somebodys.tokenizer(), model=model)(somebodys.rows(kind, 4))
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
    for weight in model.parameters():
        weight.data.view(-1)[0] = -0.0  # adding 0 makes it another number, bit for bit
    return model, optimizer


def ask(kind, model, **changes):
    asked = {"candidates": [4, 16, 64], "tokenizer": somebodys.tokenizer()} | changes
    return find_batch(model, somebodys.rows(kind), **asked)


def counting(model, act):
    """Has the model call `act` with the number of the call and the examples of each forward."""
    forward, calls = model.forward, []

    def disturbed(*args, **kwargs):
        calls.append(len(kwargs["input_ids"]))
        model.seen += 1  # a buffer that every forward changes
        random.random(), numpy.random.rand()
        act(len(calls), calls[-1])
        return forward(*args, **kwargs)

    disturbed.__signature__ = inspect.signature(forward)
    model.forward = disturbed
    return calls


def out_of_memory_above(most):
    def act(_, examples):
        if examples > most:
            raise torch.OutOfMemoryError(f"{examples} are too many")

    return act


def test_everything_is_afterwards_what_it_was(kind, trained):
    model, optimizer = trained
    calls = counting(model, lambda *_: None)
    before = state(model, optimizer)
    choice = ask(kind, model, optimizer=optimizer)
    assert {4, 16, 64} <= set(calls)
    assert state(model, optimizer) == before
    ask(kind, model)  # without an optimizer it makes its own
    assert state(model, optimizer) == before
    assert choice.per_device_train_batch_size in (4, 16, 64)


def test_after_out_of_memory_too_and_what_fits_is_chosen(kind, trained):
    model, optimizer = trained
    counting(model, out_of_memory_above(16))
    before = state(model, optimizer)
    choice = ask(kind, model, optimizer=optimizer)
    assert state(model, optimizer) == before
    assert [one.fits for one in choice.candidates] == [False, True, True]
    assert choice.per_device_train_batch_size in (4, 16)
    failed = choice.candidates[0]
    assert failed.predicted, "the line through the others says what it would need"
    assert "out of memory" in failed.why


def test_a_size_that_failed_is_said_to_need_what_the_line_says_and_no_less_than_there_is():
    def measured(size, peak):
        plan = BatchPlan(size, 64)
        fits = peak is not None
        return Probe(plan, fits, "", peak, seconds_per_step=fits and 1.0, tokens=100 * size)

    probes = [measured(64, None), measured(16, 3 * GIB), measured(8, 2 * GIB)]
    plans = [probe.plan for probe in probes]
    for budget, expected in ((4 * GIB, 9 * GIB), (20 * GIB, 20 * GIB)):
        chosen = _choose(plans, probes, 100, budget=budget, margin=0, source="")
        failed, *measured_ones = chosen.candidates
        assert (failed.peak_memory_bytes, failed.predicted) == (expected, True)
        assert [one.peak_memory_bytes for one in measured_ones] == [3 * GIB, 2 * GIB]


@pytest.mark.parametrize("call", [2, 3, 9])
def test_after_ctrl_c_too(kind, trained, call):
    """In the first forward, between forward and step, and while it takes the time."""
    model, optimizer = trained
    counting(model, lambda number, _: number == call and signal.raise_signal(signal.SIGINT))
    before = state(model, optimizer)
    with pytest.raises(KeyboardInterrupt):
        ask(kind, model, optimizer=optimizer)
    assert state(model, optimizer) == before


def test_after_a_bug_too(kind, trained):
    model, optimizer = trained

    def fail(number, _):
        if number == 3:
            raise RuntimeError("a bug of theirs")

    counting(model, fail)
    before = state(model, optimizer)
    with pytest.raises(RuntimeError, match="a bug of theirs"):
        ask(kind, model, optimizer=optimizer)
    assert state(model, optimizer) == before


@pytest.mark.parametrize("when", ["taking", "putting back"])
def test_ctrl_c_waits_for_a_copy_to_be_whole(trained, monkeypatch, when):
    model, optimizer = trained
    before = state(model, optimizer)
    untouched = Untouched(model, optimizer, torch.device("cpu"))
    copy, seen = untouched._copy, []

    def interrupted(tensor):
        if not untouched.held_bytes and when == "taking":
            signal.raise_signal(signal.SIGINT)
        copy(tensor)
        if when == "putting back":
            untouched._undo.append(lambda: signal.raise_signal(signal.SIGINT))

    monkeypatch.setattr(untouched, "_copy", interrupted)
    with pytest.raises(KeyboardInterrupt), untouched.lent():
        seen.append("ran")
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(2 if weight.requires_grad else 1)
    assert seen == ([] if when == "taking" else ["ran"])
    assert state(model, optimizer) == before


def test_it_works_outside_the_main_thread(kind):
    model, answers = somebodys.MODELS[kind](), []
    thread = threading.Thread(target=lambda: answers.append(ask(kind, model)))
    thread.start()
    thread.join()
    assert len(answers[0].candidates) == 3


def test_a_model_that_goes_elsewhere_comes_back_unwritten(kind):
    """As from the CPU to a GPU; the tensors that it had are those that it has."""
    model = somebodys.MODELS[kind]()
    before = state(model)
    pointers = [weight.data_ptr() for weight in model.parameters()]
    with Untouched(model, None, torch.device("meta")).lent():
        assert {weight.device.type for weight in model.parameters()} == {"meta"}
    assert state(model) == before
    assert [weight.data_ptr() for weight in model.parameters()] == pointers


def test_the_answer_prints_within_80_columns_and_goes_into_the_arguments(kind, trained, tmp_path):
    model, _ = trained
    counting(model, out_of_memory_above(16))
    choice = ask(kind, model)
    text = str(choice)
    assert max(map(len, text.splitlines())) <= 80
    for one in choice.candidates:
        assert str(one.plan) in text
    assert "does not fit: out of memory" in text
    assert "s per step" in text
    chosen = next(line for line in text.splitlines() if line.startswith("->"))
    assert str(choice.plan) in chosen
    args = Seq2SeqTrainingArguments(
        output_dir=str(tmp_path), use_cpu=True, **choice.training_arguments()
    )
    assert args.per_device_train_batch_size * args.gradient_accumulation_steps == 64


def test_small_sizes_are_left_once_sizes_get_slower(monkeypatch):
    from batchopt.library import find_batch as module

    seconds = {64: 1.0, 32: 1.3, 16: 1.4, 8: 0.1}
    monkeypatch.setattr(
        module._Training, "seconds_per_step", lambda _, batches: seconds[64 // len(batches)]
    )
    choice = ask("bart", somebodys.bart(), candidates=[64, 32, 16, 8])
    assert choice.per_device_train_batch_size == 64
    assert [one.seconds_per_step for one in choice.candidates] == [1.0, 1.3, 1.4, None]
    assert choice.candidates[-1].why.startswith("not tried")


def test_all_sizes_see_the_same_examples(kind):
    model = somebodys.MODELS[kind]()
    tokens = []
    forward = model.forward

    def watched(*args, **kwargs):
        tokens.append(int(kwargs["input_ids"].gt(1).sum()))
        return forward(*args, **kwargs)

    watched.__signature__ = inspect.signature(forward)
    model.forward = watched
    ask(kind, model, candidates=[64, 32])
    # Of each size: two steps of the worst micro-batches, then four typical ones.
    whole, halves = tokens[2:6], tokens[6 + 4 :]
    assert len(set(whole)) == 1
    assert [sum(halves[at : at + 2]) for at in range(0, 8, 2)] == whole


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"candidates": [7]}, r"candidates: 7 does not divide effective_batch_size \(64\).*32, 64"),
        ({"candidates": []}, "candidates: none"),
        ({"effective_batch_size": 0}, "effective_batch_size is 0"),
        ({"tokenizer": None}, "needs tokenizer or data_collator"),
        ({"packing": "tidy"}, "tidy"),
    ],
)
def test_a_mistake_is_said_in_one_line(kind, changes, said):
    with pytest.raises(ValueError, match=said) as caught:
        ask(kind, somebodys.MODELS[kind](), **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "at least one row"),
        (iter([]), "must have a length"),
        ([{"text": "a"}], "row 0 has no input_ids"),
        ([{"input_ids": [3], "labels": [3]}, {"input_ids": []}], "row 1 has no input_ids"),
    ],
)
def test_rows_that_are_not_tokenized_are_named(kind, rows, said):
    with pytest.raises(ValueError, match=said):
        find_batch(somebodys.MODELS[kind](), rows, somebodys.tokenizer())


def test_where_nothing_fits_it_says_what_to_do(kind):
    model = somebodys.MODELS[kind]()
    model.seen = torch.zeros(1)
    counting(model, out_of_memory_above(0))
    with pytest.raises(MemoryError, match=r"not even 4 x 16 fits.*gradient checkpointing"):
        ask(kind, model)


def test_a_limit_below_what_the_process_has_is_said():
    with pytest.raises(MemoryError, match=r"memory_limit_gib is 0\.01, and this process has"):
        ask("bart", somebodys.bart(), memory_limit_gib=0.01)


def test_a_data_set_of_the_library_and_a_collator_of_ones_own(kind):
    from datasets import Dataset

    model, seen = somebodys.MODELS[kind](), []
    collate = DataCollatorForSeq2Seq(somebodys.tokenizer(), model=model)

    def mine(rows):
        seen.append(set().union(*rows))
        return collate(rows)

    rows = [row | {"id": "a"} for row in somebodys.rows(kind)]
    choice = find_batch(model, Dataset.from_list(rows), data_collator=mine, candidates=[64])
    assert choice.per_device_train_batch_size == 64
    assert set().union(*seen) == {"input_ids", "labels"}, "as the Trainer removes unused columns"


class Cuda(SimpleNamespace):
    """Reads like torch.cuda with one GPU of 10 GiB."""

    reserved, peak, share = GIB, GIB, 0.9

    def empty_cache(self):
        self.reserved = 0

    def memory_reserved(self, _):
        return self.reserved

    def max_memory_reserved(self, _):
        return self.peak

    def reset_peak_memory_stats(self, _):
        self.peak = self.reserved

    def mem_get_info(self, _):
        return 5 * GIB, 10 * GIB

    def get_per_process_memory_fraction(self, _):
        return self.share

    def set_per_process_memory_fraction(self, share, _):
        self.share = share


def test_on_a_gpu_the_allocator_is_limited_for_the_time_and_its_peak_counts():
    cuda = Cuda()
    memory = OnCuda(torch.device("cuda", 0), 4 * GIB, cuda, lambda: cuda.reserved + GIB // 2)
    with memory.limited(0):
        assert cuda.share == pytest.approx(0.35), "4 GiB less the half outside the allocator"
        cuda.peak = cuda.reserved = 3 * GIB
    assert cuda.share == 0.9, "the limit of the process itself is back"
    assert memory.peak_bytes(0) == 3 * GIB + GIB // 2


def test_without_a_limit_a_gpu_has_what_is_free_and_what_the_process_has():
    cuda = Cuda()
    memory = OnCuda(torch.device("cuda", 0), None, cuda, lambda: None)
    assert memory.budget_bytes == 6 * GIB


def test_on_the_cpu_the_limit_of_the_process_comes_back():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    memory = OnCpu(None)
    with pytest.raises(ZeroDivisionError), memory.limited(0):
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] < 2**62
        raise ZeroDivisionError
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


SCRIPT = """
import json, os, signal, sys, tempfile
sys.path.insert(0, "tests")
import torch
from support import somebodys
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments
from batchopt import find_batch
from batchopt.library.exact_loss import ExactLoss
from batchopt.machine import host_memory

class Mine(ExactLoss, Seq2SeqTrainer): pass

def answer(kind, task, size, limit):
    model = somebodys.MODELS[kind](vocabulary=3000, width=64)
    # Rows that were cut at the longest length, as many of a real data set are.
    row = {"input_ids": [7] * 96, "labels": [9] * (96 if kind == "llama" else 40)}
    rows = [dict(row) for _ in range(128)]
    if task == "find":
        choice = find_batch(
            model, rows, somebodys.tokenizer(), candidates=[64, 16, 8],
            memory_limit_gib=limit or None, memory_margin=0,
        )
        return {
            "chosen": choice.per_device_train_batch_size,
            "peaks": {one.plan.per_device_train_batch_size: one.peak_memory_bytes
                      for one in choice.candidates},
            "fits": {one.plan.per_device_train_batch_size: one.fits for one in choice.candidates},
        }
    args = Seq2SeqTrainingArguments(
        tempfile.mkdtemp(), per_device_train_batch_size=size, max_steps=2, use_cpu=True,
        gradient_accumulation_steps=64 // size, report_to="none", disable_tqdm=True,
        save_strategy="no",
    )
    collate = DataCollatorForSeq2Seq(somebodys.tokenizer(), model=model)
    trainer = Mine(model=model, args=args, train_dataset=rows, data_collator=collate)
    host_memory.trim()
    host_memory.reset_peak(os.getpid())
    trainer.train()
    return host_memory.take_peak()

for line in sys.stdin:
    if pid := os.fork():
        if os.waitpid(pid, 0)[1]:
            print("answer: null", flush=True)
        continue
    signal.alarm(300)
    print("answer:", json.dumps(answer(*json.loads(line))), flush=True)
    os._exit(0)
"""


@pytest.fixture(scope="module")
def somebody():
    """Asks the script of somebody, which answers each question in a process of its own.

    malloc moves the size from which it maps a block by itself, and so two equal runs differ by up
    to 13 %. Here the size is fixed, for what is measured and for what measures alike: at 1 MiB what
    one size leaves in the heap still moves the next one by up to 6 %, at 128 KiB by 0.2 %.
    """
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        cwd=TOP,
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**17)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(*question):
            print(json.dumps(question), file=process.stdin, flush=True)
            said = next(line for line in process.stdout if line.startswith("answer: "))
            return json.loads(said.removeprefix("answer: "))

        yield ask
        process.stdin.close()


@pytest.mark.slow
def test_what_it_measures_is_what_runs_take(kind, somebody):
    """Runs of the stock Trainer in processes of their own; the limit forbids 64 x 1 to both.

    No size lies near the limit: what a heap keeps differs from machine to machine by tens of MiB.
    """
    runs = {size: somebody(kind, "run", size, 0) for size in (64, 16)}
    found = somebody(kind, "find", 0, 0)["peaks"]
    for size, peak in runs.items():
        assert found[str(size)] == pytest.approx(peak, rel=0.05)
    limit = (runs[64] + runs[16]) / 2
    limited = somebody(kind, "find", 0, limit / GIB)
    assert limited["fits"] == {"64": False, "16": True, "8": True}
    assert limited["chosen"] < 64
    assert limited["peaks"]["16"] == pytest.approx(runs[16], rel=0.05)
    assert limited["peaks"]["64"] >= int(limit), "it failed there, whatever a line says"
