"""The corpus is tokenised once, cut with a count, and found again by what it is made of."""

import dataclasses
import json
import multiprocessing
import pickle
import shutil
from pathlib import Path

import pytest
import transformers

from batchopt.data import Corpus, Example, tokenized
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError
from batchopt.request.compose import compose_run


def corpus(word="hello"):
    def example(number):
        return Example(str(number), f"#Person1#: {word} " * (number + 1), (f"{word} {number}",))

    return Corpus(
        tuple(example(number) for number in range(40)), tuple(example(n) for n in range(40, 44))
    )


def config(tmp_path, *words):
    return compose_run([f"cache_dir={tmp_path}/cache", *words]).config


def test_rows_keep_their_order_and_decode_to_their_texts(tmp_path):
    data = tokenized.load(tokenized.prepare(config(tmp_path), corpus()))
    texts = [
        data.tokenizer.decode(row["input_ids"], skip_special_tokens=True) for row in data.train
    ]
    assert texts == [example.dialogue for example in corpus().train]
    labels = data.train[3]["labels"]
    assert data.tokenizer.decode(labels, skip_special_tokens=True) == "hello 3"
    assert labels[0] == data.tokenizer.bos_token_id
    assert labels[-1] == data.tokenizer.eos_token_id


def test_what_is_cut_is_counted(tmp_path):
    short = tokenized.load(
        tokenized.prepare(config(tmp_path, "data.max_source_length=16"), corpus())
    )
    lengths = [len(row["input_ids"]) for row in short.train]
    assert max(lengths) == 16 == short.summary.longest_source
    whole = tokenized.load(tokenized.prepare(config(tmp_path), corpus()))
    longer = [len(row["input_ids"]) > 16 for row in [*whole.train, *whole.validation]]
    assert short.summary.truncated_sources == sum(longer) > 0
    assert short.summary.truncated_targets == 0
    assert short.train[39]["input_ids"][-1] == short.tokenizer.eos_token_id


def test_rows_are_written_a_batch_at_a_time_and_mapped_from_disk(tmp_path, monkeypatch):
    """So that a corpus of any size takes no more memory than a batch of it."""
    whole = tokenized.load(tokenized.prepare(config(tmp_path / "whole"), corpus()))
    monkeypatch.setattr(tokenized, "BATCH", 7)
    sizes = []
    call = transformers.PreTrainedTokenizerFast.__call__

    def counted(self, text=None, **kwargs):
        sizes.append(len(text or kwargs.get("text_target", "")))
        return call(self, text, **kwargs)

    monkeypatch.setattr(transformers.PreTrainedTokenizerFast, "__call__", counted)
    for extra in ([], ["data.max_source_length=16"]):
        folder = tokenized.prepare(config(tmp_path / f"parts{len(extra)}", *extra), corpus())
        parts = tokenized.load(folder)
        assert max(sizes) == 7
        assert str(folder / "train.arrow") in Path("/proc/self/maps").read_text()
        if not extra:
            assert list(parts.train) == list(whole.train)
    # Only what is too long is tokenised again: 40 + 4 examples, both texts, and the long sources.
    assert sum(sizes) == 2 * 2 * 44 + parts.summary.truncated_sources


def test_the_folder_follows_everything_that_decides_its_content(tmp_path):
    def folder(*words, word="hello"):
        return tokenized.cache_folder(config(tmp_path, *words), corpus(word))

    others = [
        folder(word="other"),
        folder("model.vocab_size=900"),
        folder("data.max_source_length=100"),
        folder("data.max_target_length=100"),
        folder("model.extra_tokens=['#Person1#']"),
    ]
    assert len({folder(), *others}) == 6
    assert folder() == folder("batch=05c") == folder("seed=7") == folder("model.d_model=32")


def test_extra_tokens_are_one_token(tmp_path):
    data = tokenized.load(
        tokenized.prepare(config(tmp_path, "model.extra_tokens=['#Person1#']"), corpus())
    )
    assert "#Person1#" in data.tokenizer.tokenize("#Person1#: hello")


def test_two_processes_at_once_make_one_folder(tmp_path):
    made = config(tmp_path)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        folders = pool.starmap(tokenized.prepare, [(made, corpus())] * 2)
    assert folders[0] == folders[1]
    left = {path.name.split("-")[0] for path in folders[0].parent.iterdir()}
    assert left == {"tokens", "corpus"}, "nothing half-built"


def test_a_build_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenized, "write_json", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        tokenized.prepare(config(tmp_path), corpus())
    assert [path for path in (tmp_path / "cache").iterdir() if path.suffix != ".lock"] == []


def test_a_local_model_folder_without_a_tokenizer_is_refused_with_a_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "model").mkdir()
    asked = config(tmp_path, "model=pretrained", f"model.name_or_path={tmp_path}/model")
    with pytest.raises(RequestError, match="save_pretrained") as refusal:
        tokenized.prepare(asked, corpus())
    assert "\n" not in str(refusal.value)


def test_the_summary_is_what_the_record_says(tmp_path):
    summary = tokenized.load(tokenized.prepare(config(tmp_path), corpus())).summary
    assert dataclasses.asdict(summary)["train_examples"] == 40
    assert summary.validation_examples == 4


def test_validation_rows_carry_their_ids_and_all_references(tmp_path):
    examples = [Example("a", "hello", ("one", "둘")), Example("b", "hello there", ("three",))]
    whole = Corpus(corpus().train, tuple(examples), skipped_rows=3)
    data = tokenized.load(tokenized.prepare(config(tmp_path), whole))
    assert [row["id"] for row in data.validation] == ["a", "b"]
    assert [row["references"] for row in data.validation] == [["one", "둘"], ["three"]]
    assert data.train[0].keys() == {"input_ids", "labels"}
    assert data.summary.fingerprint == whole.fingerprint
    assert data.summary.skipped_rows == 3


def test_rows_of_several_batches_are_read_by_their_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenized, "BATCH", 7)
    rows = tokenized.load(tokenized.prepare(config(tmp_path), corpus())).train
    whole = list(rows)
    assert len(whole) == len(rows) == 40
    for number in (0, 6, 7, 20, 34, 35, 39):
        assert rows[number] == whole[number]
        assert len(rows[number]["labels"]) == len(whole[number]["labels"]) > 0
    for number in (40, -1):
        with pytest.raises(IndexError):
            rows[number]
    assert pickle.loads(pickle.dumps(rows))[20] == whole[20], "a loader worker may be sent them"


def write_rows(path, word, count=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"dialogue": f"{word} {n}", "summary": f"{word}"} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def no_reading(monkeypatch):
    """From its call on, whoever reads the corpus fails."""
    return lambda: monkeypatch.setattr(tokenized, "load_corpus", lambda _: 1 / 0)


@pytest.mark.parametrize("source", ["sample", "files"])
def test_what_is_prepared_is_found_without_the_corpus(tmp_path, no_reading, source):
    words = ["data.train_examples=8", "data.validation_examples=2"]
    if source == "files":
        write_rows(tmp_path / "train.jsonl", "hello")
        words = ["data=files", f"data.train_file={tmp_path}/train.jsonl"]
    made = config(tmp_path, *words)
    folder = tokenized.prepare(made, load_corpus(made.data))
    no_reading()
    assert tokenized.prepare(made) == folder
    assert tokenized.prepare(config(tmp_path, *words, "seed=7", "batch=05c")) == folder
    with pytest.raises(ZeroDivisionError):
        tokenized.prepare(config(tmp_path, *words, "data.max_source_length=20"))


def test_a_note_does_not_outlive_the_file_that_it_is_of(tmp_path):
    file = tmp_path / "train.jsonl"
    made = config(tmp_path, "data=files", f"data.train_file={file}")
    write_rows(file, "hello")
    before = tokenized.load(tokenized.prepare(made)).summary.fingerprint
    write_rows(file, "other")  # of the same size
    after = tokenized.load(tokenized.prepare(made)).summary.fingerprint
    assert [before, after] != [before, before]
    assert after == load_corpus(made.data).fingerprint


def test_one_relative_name_in_two_folders_is_two_corpora(tmp_path, monkeypatch):
    found = []
    for name in ("one", "two"):
        write_rows(tmp_path / name / "train.jsonl", name)
        monkeypatch.chdir(tmp_path / name)
        made = config(tmp_path, "data=files", "data.train_file=train.jsonl")
        found.append(tokenized.load(tokenized.prepare(made)).validation[0]["references"])
    assert found == [["one"], ["two"]]


def test_a_run_whose_tokens_are_gone_makes_them_again(tmp_path):
    made = config(tmp_path, "data.train_examples=8", "data.validation_examples=2")
    folder = tokenized.prepare(made)
    shutil.rmtree(folder)
    assert tokenized.prepare(made) == folder
    assert len(tokenized.load(folder).train) == 8


def test_what_was_found_out_about_the_files_stays_with_the_tokens(tmp_path):
    """A run that finds its tokens says it too, and another reading of the same texts its own."""
    lines = "".join(f"대화 {n};요약 {n}\n" for n in range(8))
    for name, encoding in (("a", "cp949"), ("b", "utf-8")):
        path = tmp_path / f"{name}.csv"
        path.write_bytes(("dialogue;summary\n" + lines).encode(encoding))
        asked = config(tmp_path, "data=files", f"data.train_file={path}")
        for _ in range(2):
            summary = tokenized.load(tokenized.prepare(asked)).summary
            said = f"{name}.csv: read as {encoding.upper()}, separated by semicolon"
            assert summary.additions() == [said]


def test_a_new_file_of_a_pattern_is_another_corpus(tmp_path):
    asked = config(tmp_path, "data=files", f"data.train_file={tmp_path}/*.csv")
    rows = []
    for name in "ab":
        (tmp_path / f"{name}.csv").write_text(f"dialogue,summary\n{name}1,s\n{name}2,s\n")
        rows.append(tokenized.load(tokenized.prepare(asked)).summary.train_examples)
    assert rows == [1, 3]
