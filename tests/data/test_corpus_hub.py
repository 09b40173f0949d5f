"""Attacks `data=hub` with local folders and, offline, with names that are not there."""

import json
from pathlib import Path

import pytest

from batchopt.data import Corpus, Example, load
from batchopt.errors import RequestError
from batchopt.request.config import BadRow, HubDataConfig

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    """No network and a cache of its own, whatever was imported before."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def write(folder: Path, **splits: list) -> str:
    """Writes a folder of JSONL files, one a split, and returns its path."""
    folder.mkdir()
    for split, rows in splits.items():
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder)


def rows(count: int, letter: str = "d") -> list[dict[str, str]]:
    return [{"dialogue": f"{letter}{i}", "summary": f"s{i}", "topic": "t"} for i in range(count)]


def read(name: str, **keys) -> Corpus:
    return load.load_corpus(HubDataConfig(name=name, **keys))


def error_of(name: str, **keys) -> str:
    with pytest.raises(RequestError) as caught:
        read(name, **keys)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_local_folder_of_jsonl(tmp_path):
    name = write(tmp_path / "data", train=rows(3), validation=rows(1, "v"))
    assert read(name) == Corpus(
        tuple(Example(f"train-{i}", f"d{i}", (f"s{i}",)) for i in range(3)),
        (Example("validation-0", "v0", ("s0",)),),
    )


def test_local_folder_of_csv_in_korean(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("번호,대화,요약\n1,가,나\n2,다,라\n", encoding="utf-8")
    corpus = read(
        str(folder),
        validation_split=None,
        id_column="번호",
        dialogue_column="대화",
        summary_columns=["요약"],
    )
    assert sorted(e.id for e in corpus.train + corpus.validation) == ["1", "2"]


def test_hub_and_files_give_the_same_content(tmp_path):
    from batchopt.request.config import FilesDataConfig

    references = [row | {"summary": [row["summary"], "another"]} for row in rows(20)]
    name = write(tmp_path / "data", train=references)
    of_files = load.load_corpus(FilesDataConfig(train_file=f"{name}/train.jsonl"))
    of_hub = read(name, validation_split=None)
    assert of_hub.fingerprint == of_files.fingerprint


def test_slice_of_a_split(tmp_path):
    name = write(tmp_path / "data", train=rows(9))
    corpus = read(name, train_split="train[:6]", validation_split="train[6:]")
    assert [len(corpus.train), len(corpus.validation)] == [6, 3]


def test_bad_row_is_named_or_skipped(tmp_path):
    bad = [*rows(2), {"dialogue": " ", "summary": "s"}, {"dialogue": "d", "summary": None}]
    name = write(tmp_path / "data", train=bad, validation=rows(1, "v"))
    assert error_of(name) == (
        f"data.name: {name}, data.train_split: train, row 3: the column 'dialogue' is empty; "
        "fill it, or leave such rows out with data.on_bad_row=skip"
    )
    assert read(name, on_bad_row=BadRow.skip).skipped_rows == 2


def test_missing_column_names_those_that_exist(tmp_path):
    name = write(tmp_path / "data", train=rows(2), validation=rows(1))
    message = error_of(name, summary_columns=["sumary"])
    assert "no column 'sumary', only 'dialogue', 'summary', 'topic'" in message
    assert "perhaps 'summary'" in message


def test_missing_split_names_those_that_exist(tmp_path):
    name = write(tmp_path / "data", train=rows(2), test=rows(1))
    message = error_of(name)
    assert "'train', 'test'" in message
    assert "set data.validation_split to one of them" in message
    assert "data.validation_split=null" in message
    assert "set data.train_split to one of them" in error_of(name, train_split="dev")


def test_missing_configuration_names_those_that_exist(tmp_path):
    name = write(tmp_path / "data", train=rows(2))
    message = error_of(name, config_name="3.0.0")
    assert "'default'" in message
    assert message.endswith("set data.config_name to one of them")


def test_configuration_must_be_named_where_there_are_several(tmp_path):
    name = write(tmp_path / "data", one=rows(2), two=rows(3))
    configs = [{"config_name": n, "data_files": f"{n}.jsonl"} for n in ("one", "two")]
    Path(name, "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    message = error_of(name)
    assert "'one', 'two'" in message
    assert message.endswith("set data.config_name to one of them")
    corpus = read(name, config_name="two", validation_split=None)
    assert len(corpus.train + corpus.validation) == 3


def test_the_revision_is_asked_for_and_remote_code_is_not(tmp_path, monkeypatch):
    asked = []

    def load_dataset(*names, **keys):
        asked.append((names, keys))
        return datasets.Dataset.from_list(rows(2))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    read("some/name", config_name="small", revision="v1", validation_split="dev")
    assert asked == [
        (("some/name", "small"), {"split": "train", "revision": "v1"}),
        (("some/name", "small"), {"split": "dev", "revision": "v1"}),
    ]


@pytest.mark.parametrize("name", ["nobody/no-such-data-set", "./no_such_folder", "a/b/c", "a b!"])
def test_unreachable_data_set_points_to_a_copy(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error_of(name)
    assert message.startswith(f"data.name: {name}, data.train_split: train: Couldn't ")
    assert "data.name=FOLDER, or data=files data.train_file=FILE" in message


def test_folder_without_data(tmp_path):
    assert "data.name=FOLDER, or data=files" in error_of(write(tmp_path / "data"))


def test_data_that_the_library_cannot_read_shows_its_reason(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "train.csv").write_text("dialogue,summary\na,b\na,b,c,d\n")
    message = error_of(str(folder))
    assert "Expected 2 fields in line 3, saw 4" in message
    assert message.endswith("mend the data set, or convert it: data=files data.train_file=FILE")
