"""Attacks the readers of CSV, TSV, JSONL and Parquet, and the rules for rows."""

import csv
import json
import logging
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchopt.data import Corpus, Example, load
from batchopt.errors import RequestError
from batchopt.request.config import BadRow, FilesDataConfig

FORMATS = ["csv", "tsv", "jsonl", "parquet"]


def read(train_file: Path, validation_file: Path | None = None, **keys) -> Corpus:
    validation = None if validation_file is None else str(validation_file)
    return load.load_corpus(
        FilesDataConfig(train_file=str(train_file), validation_file=validation, **keys)
    )


def write(path: Path, columns: list[str], rows: list[list]) -> Path:
    """Writes rows in the format of the suffix, with the standard writer of that format."""
    match path.suffix:
        case ".csv" | ".tsv":
            with path.open("w", encoding="utf-8", newline="") as stream:
                writer = csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",")
                writer.writerows([columns, *rows])
        case ".jsonl":
            objects = [dict(zip(columns, row, strict=True)) for row in rows]
            lines = [json.dumps(object_, ensure_ascii=False) + "\n" for object_ in objects]
            path.write_text("".join(lines), encoding="utf-8")
        case ".parquet":
            table = pyarrow.table(
                {name: [row[index] for row in rows] for index, name in enumerate(columns)}
            )
            pyarrow.parquet.write_table(table, path)
    return path


def write_bytes(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.fixture
def validation_file(tmp_path: Path) -> Path:
    return write(tmp_path / "validation.csv", ["dialogue", "summary"], [["held", "out"]])


def error_of(train_file: Path, validation_file: Path | None = None, **keys) -> str:
    with pytest.raises(RequestError) as caught:
        read(train_file, validation_file, **keys)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 800
    return message


# Round trips

# csv.writer and Arrow cannot hold lone surrogates; readers take \r\n for \n and strip.
texts = (
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
    .map(lambda text: text.replace("\r\n", "\n").strip())
    .filter(lambda text: text and "\r\n" not in text and "\0" not in text)
)
rows_of_texts = st.lists(
    st.tuples(texts, texts, texts, texts), min_size=1, max_size=6, unique_by=lambda row: row[0]
)


@pytest.mark.parametrize("suffix", FORMATS)
@settings(max_examples=50, deadline=None)
@given(rows=rows_of_texts)
def test_what_is_written_is_read_back(suffix, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("round_trip")
    columns = ["name", "text", "first", "second"]
    path = write(folder / f"train.{suffix}", columns, [list(row) for row in rows])

    corpus = read(
        path,
        path,
        id_column="name",
        dialogue_column="text",
        summary_columns=["first", "second"],
    )

    expected = tuple(Example(name, text, (one, two)) for name, text, one, two in rows)
    assert corpus == Corpus(expected, expected)


def test_all_formats_give_the_same_fingerprint(tmp_path):
    rows = [[f"대화 {i}\n둘째 줄", f'"요약", {i}'] for i in range(10)]
    paths = [write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], rows) for suffix in FORMATS]
    assert len({read(path).fingerprint for path in paths}) == 1


def test_suffix_in_capitals_is_known(tmp_path):
    write(tmp_path / "a.csv", ["dialogue", "summary"], [["a", "b"], ["c", "d"]])
    assert len(read((tmp_path / "a.csv").rename(tmp_path / "A.CSV")).train) == 1


def test_home_folder_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path / "a.csv", ["dialogue", "summary"], [["a", "b"], ["c", "d"]])
    assert len(read(Path("~/a.csv")).train) == 1


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
def test_byte_order_mark_is_no_part_of_the_first_column(suffix, tmp_path, validation_file):
    path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], [["a", "b"]])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read(path, validation_file).train == (Example("train-0", "a", ("b",)),)


def test_line_ends_of_windows_and_outer_whitespace(tmp_path, validation_file):
    path = write_bytes(tmp_path / "a.csv", 'dialogue,summary\r\n" a \r\nb\u3000",  c\t\r\n')
    assert read(path, validation_file).train == (Example("train-0", "a \nb", ("c",)),)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_field_beyond_the_csv_modules_limit(suffix, tmp_path, validation_file):
    before = csv.field_size_limit()
    long = "긴 대화 " * 100_000
    path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], [[long, "b"]])
    assert read(path, validation_file).train[0].dialogue == long.strip()
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("suffix", FORMATS)
def test_unicode_line_separators_end_no_row(suffix, tmp_path, validation_file):
    text = "a\u2028b\u0085c\x0bd\x1ce"
    path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], [[text, "b"]])
    assert read(path, validation_file).train[0].dialogue == text


def test_a_lone_carriage_return_ends_no_row_of_jsonl(tmp_path, validation_file):
    path = write_bytes(tmp_path / "a.jsonl", '{"dialogue": "a",\r"summary": "b"}\r\n')
    assert read(path, validation_file).train == (Example("train-0", "a", ("b",)),)


@pytest.mark.parametrize("suffix", FORMATS)
def test_an_error_leaves_no_file_open(suffix, tmp_path):
    path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], [["", "b"], ["c", "d"]])
    with pytest.raises(RequestError) as caught:
        read(path)
    open_files = {entry.resolve() for entry in Path("/proc/self/fd").iterdir()}
    assert path.resolve() not in open_files, caught  # caught: its traceback keeps the frames alive


def test_blank_lines_are_no_rows(tmp_path, validation_file):
    row = '{"dialogue": "a", "summary": "b"}\n'
    path = write_bytes(tmp_path / "a.jsonl", f"\n{row}  \n\n{row}\n")
    assert [example.id for example in read(path, validation_file).train] == ["train-0", "train-1"]
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary\n\na,b\n\n\nc,d\n\n")
    assert [example.id for example in read(path, validation_file).train] == ["train-0", "train-1"]


def test_parquet_and_jsonl_take_whole_numbers_as_ids(tmp_path, validation_file):
    for suffix in ("jsonl", "parquet"):
        path = write(tmp_path / f"a.{suffix}", ["n", "dialogue", "summary"], [[17, "a", "b"]])
        write(tmp_path / f"b.{suffix}", ["n", "dialogue", "summary"], [[18, "c", "d"]])
        corpus = read(path, tmp_path / f"b.{suffix}", id_column="n")
        assert corpus.train[0].id == "17"


# References


def test_lists_and_columns_of_references(tmp_path, validation_file):
    rows = [["a", ["b", " ", "c"], "d"], ["e", ["f"], None]]
    for suffix in ("jsonl", "parquet"):
        path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary", "more"], rows)
        write(tmp_path / f"b.{suffix}", ["dialogue", "summary", "more"], [["x", ["y"], "z"]])
        corpus = read(path, tmp_path / f"b.{suffix}", summary_columns=["summary", "more"])
        assert [example.summaries for example in corpus.train] == [("b", "c", "d"), ("f",)]


def test_an_empty_extra_reference_is_left_out(tmp_path):
    path = write_bytes(tmp_path / "a.csv", "dialogue,one,two\na,,b\nc,d,\n")
    corpus = read(path, path, summary_columns=["one", "two"])
    assert [example.summaries for example in corpus.train] == [("b",), ("d",)]


def test_a_misspelled_extra_reference_column_of_jsonl_is_not_ignored(tmp_path):
    path = write(tmp_path / "a.jsonl", ["dialogue", "summary", "second"], [["a", "b", "c"]] * 2)
    message = error_of(path, summary_columns=["summary", "secnd"])
    assert "no column 'secnd'" in message
    assert "perhaps 'second'" in message


# Bad rows: each is an error with its place, and is left out by on_bad_row=skip

GOOD = {"dialogue": "a", "summary": "b"}
BAD_JSON = {
    "empty dialogue": ({"dialogue": "", "summary": "b"}, "'dialogue' is empty; fill it"),
    "blank summary": ({"dialogue": "a", "summary": " \n\u3000"}, "'summary' is empty"),
    "null": ({"dialogue": None, "summary": "b"}, "'dialogue' is empty"),
    "no reference": ({"dialogue": "a", "summary": []}, "'summary' is empty"),
    "missing dialogue": ({"dialog": "a", "summary": "b"}, "perhaps 'dialog'"),
    "missing summary": ({"dialogue": "a", "sumary": "b"}, "perhaps 'sumary'"),
    "number": ({"dialogue": 3, "summary": "b"}, "holds a number, not text"),
    "truth": ({"dialogue": "a", "summary": True}, "holds true or false, not text"),
    "list of numbers": ({"dialogue": ["a", 3], "summary": "b"}, "a number, which is no turn"),
    "no text": ({"dialogue": [{"who": "a"}], "summary": "b"}, "an object with 'who', which is no"),
    "object": ({"dialogue": "a", "summary": {"text": "b"}}, "holds an object, not text"),
    "number in list": ({"dialogue": "a", "summary": ["b", 3]}, "holds a number, not text"),
    "half a character": ({"dialogue": "a\ud83d", "summary": "b"}, "surrogate"),
    "list": ([1, 2], "the row is a list, not an object; write one JSON object on each line"),
    "text": ("a", "the row is text, not an object"),
    "null row": (None, "the row is null, not an object"),
}
BAD_LINES = {
    "broken": (b'{"dialogue": "a",', "the row is not JSON ("),
    "two objects": (b"{} {}", "the row is not JSON (Extra data"),
    "deep": (b"[" * 200_000, "cannot be read as JSON"),
    "huge number": (b'{"n": ' + b"9" * 10_000 + b"}", "cannot be read as JSON"),
    "cp949": ('{"dialogue": "대화", "summary": "요약"}'.encode("cp949"), "the row is not UTF-8,"),
}
BAD_JSONL = BAD_LINES | {
    name: (json.dumps(row).encode(), message) for name, (row, message) in BAD_JSON.items()
}


@pytest.mark.parametrize("name", BAD_JSONL)
def test_bad_row_of_jsonl(name, tmp_path, validation_file, caplog):
    line, expected = BAD_JSONL[name]
    good = json.dumps(GOOD).encode()
    last = json.dumps({**GOOD, "dialogue": "그 밖은 UTF-8입니다"}, ensure_ascii=False).encode()
    path = write_bytes(tmp_path / "a.jsonl", b"\n".join([good, b"", line, last]))

    message = error_of(path, validation_file)
    assert message.startswith(f"data.train_file: {path}, line 3: ")
    assert expected in message
    assert message.endswith("or leave such rows out with data.on_bad_row=skip")

    corpus = read(path, validation_file, on_bad_row=BadRow.skip)
    # The id is the row's number in the file, whatever was left out before it.
    assert [example.id for example in corpus.train] == ["train-0", "train-2"]
    assert corpus.skipped_rows == 1
    assert "left out 1 of 3 rows: line 3: " in caplog.text


BAD_CSV = {
    "empty": (b",b", "the column 'dialogue' is empty"),
    "too few": (b"a", "the row has 1 fields and the header 2"),
    "too many": (b"a,b,c", "the row has 3 fields and the header 2"),
    "cp949": ("대화,요약".encode("cp949"), "the row is not UTF-8, as most of the file is; write"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_bad_row_of_csv(name, tmp_path, validation_file):
    line, expected = BAD_CSV[name]
    path = write_bytes(
        tmp_path / "a.csv",
        b'dialogue,summary\n"two\nlines",b\n\n'
        + line
        + "\n그 밖의 모든 줄은 UTF-8입니다,d\n".encode(),
    )

    message = error_of(path, validation_file)
    assert f"{path}, line 5: {expected}" in message

    corpus = read(path, validation_file, on_bad_row=BadRow.skip)
    assert [example.dialogue for example in corpus.train] == [
        "two\nlines",
        "그 밖의 모든 줄은 UTF-8입니다",
    ]
    assert corpus.skipped_rows == 1


def test_bad_rows_of_parquet(tmp_path, validation_file):
    not_utf8 = pyarrow.array([b"a", None, b"\xff", b"c"], pyarrow.binary()).view(pyarrow.string())
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(
        pyarrow.table({"dialogue": not_utf8, "summary": ["b", "b", "b", "d"]}), path
    )
    assert "row 2: the column 'dialogue' is empty" in error_of(path, validation_file)
    corpus = read(path, validation_file, on_bad_row=BadRow.skip)
    assert [example.id for example in corpus.train] == ["train-0", "train-3"]
    assert corpus.skipped_rows == 2


def test_parquet_column_of_another_type(tmp_path, validation_file):
    path = write(tmp_path / "a.parquet", ["dialogue", "summary"], [[b"a", "b"]])
    assert "row 1: the column 'dialogue' holds bytes, not text" in error_of(path, validation_file)


@pytest.mark.parametrize("suffix", FORMATS)
def test_second_row_of_an_id_is_bad(suffix, tmp_path, validation_file):
    rows = [["x", "a", "b"], ["y", "c", "d"], ["x", "e", "f"]]
    path = write(tmp_path / f"a.{suffix}", ["id", "dialogue", "summary"], rows)
    write(validation_file, ["id", "dialogue", "summary"], [["x", "g", "h"]])  # another split
    message = error_of(path, validation_file, id_column="id")
    assert "the id 'x' is already that of " in message
    corpus = read(path, validation_file, id_column="id", on_bad_row=BadRow.skip)
    assert [example.dialogue for example in corpus.train] == ["a", "c"]


def test_a_skipped_row_claims_no_id(tmp_path):
    path = write_bytes(tmp_path / "a.csv", "id,dialogue,summary\nx,,b\nx,c,d\n,e,f\n")
    corpus = read(path, path, id_column="id", on_bad_row=BadRow.skip)
    assert [(example.id, example.dialogue) for example in corpus.train] == [("x", "c")]
    assert corpus.skipped_rows == 4  # both files


def test_one_warning_a_file_with_the_first_reasons(tmp_path, validation_file, caplog):
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary\na,b\n" + ",b\n" * 5)
    read(path, validation_file, on_bad_row=BadRow.skip)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{path}: left out 5 of 6 rows: line 3: " in record.getMessage()
    assert record.getMessage().endswith("; line 5: the column 'dialogue' is empty; ...")


# What is always an error, also with on_bad_row=skip


@pytest.fixture(params=[BadRow.error, BadRow.skip])
def on_bad_row(request) -> BadRow:
    return request.param


def test_missing_file_and_folder(tmp_path, on_bad_row, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = error_of(Path("no.csv"), on_bad_row=on_bad_row)
    assert message.startswith("data.train_file: no.csv: there is no such file; ")
    assert message.endswith(f"(looked for {tmp_path}/no.csv)")
    assert "there is no such file" in error_of(Path("no.xlsx"), on_bad_row=on_bad_row)
    assert "cannot be read (File name too long)" in error_of(Path("a" * 300 + ".csv"))
    assert "this is a folder" in error_of(tmp_path, on_bad_row=on_bad_row)


def test_a_missing_validation_file_is_found_before_the_training_file_is_read(tmp_path):
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary\n,\n")
    assert error_of(path, tmp_path / "no.csv").startswith("data.validation_file: ")


def test_unknown_suffix(tmp_path, on_bad_row):
    message = error_of(write_bytes(tmp_path / "a.xlsx", "x"), on_bad_row=on_bad_row)
    assert message.endswith(
        "the suffix '.xlsx' is not known; "
        "convert the file to one of .csv, .tsv, .txt, .json, .jsonl, .parquet"
    )


def test_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path / "a.csv", ["dialogue", "summary"], [["a", "b"]])

    def refuse(*_, **__):  # chmod does not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "cannot be read (Permission denied); check its path and permissions" in error_of(path)


@pytest.mark.parametrize("suffix", FORMATS)
def test_empty_file(suffix, tmp_path, on_bad_row):
    path = write_bytes(tmp_path / f"a.{suffix}", b"")
    assert "the file is empty" in error_of(path, on_bad_row=on_bad_row)


@pytest.mark.parametrize("suffix", FORMATS)
def test_no_rows(suffix, tmp_path, on_bad_row):
    path = write(tmp_path / f"a.{suffix}", ["dialogue", "summary"], [])
    if suffix == "jsonl":
        path.write_text("\n\n")
    assert "there are no rows" in error_of(path, on_bad_row=on_bad_row)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("key", "called"),
    [("dialogue_column", "dialog"), ("summary_columns", "sumary"), ("id_column", "dialogue_id")],
)
def test_missing_column(suffix, key, called, tmp_path, validation_file):
    names = {"dialogue_column": "dialogue", "summary_columns": "summary", "id_column": "dialog_id"}
    columns = list((names | {key: called}).values())
    path = write(tmp_path / f"a.{suffix}", columns, [["a"] * 3, ["b"] * 3])
    for on_bad_row in BadRow:
        message = error_of(path, validation_file, id_column="dialog_id", on_bad_row=on_bad_row)
        assert f"there is no column '{names[key]}', only " in message
        assert f"set data.{key} to what it is called, perhaps '{called}'" in message


def test_column_that_is_there_twice(tmp_path, on_bad_row):
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary,summary,,\na,b,c,,\n")
    assert "'summary' is there 2 times" in error_of(path, on_bad_row=on_bad_row)
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary,,\na,b,,\nc,d,,\n")
    assert read(path)  # columns that are not read may have any name


def test_file_without_header_gives_a_short_error(tmp_path):
    path = write_bytes(tmp_path / "a.csv", ",".join(["a long dialogue " * 100] * 50) + "\n")
    assert "there is no column 'dialogue'" in error_of(path)


def test_no_usable_row_left(tmp_path, validation_file):
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary\n,b\nc,\n")
    message = error_of(path, validation_file, on_bad_row=BadRow.skip)
    assert "none of the 2 rows can be used; mend them, first line 2: " in message
    path = write_bytes(tmp_path / "a.jsonl", "[\n{},\n]\n")
    assert "first line 1: " in error_of(path, validation_file, on_bad_row=BadRow.skip)


@pytest.mark.parametrize("row", ['"a,b\nc,d\n', '"a" b,c\n'])
def test_unmatched_quote_never_swallows_rows(row, tmp_path, on_bad_row):
    path = write_bytes(tmp_path / "a.csv", "dialogue,summary\na,b\n" + row)
    message = error_of(path, on_bad_row=on_bad_row)
    assert "line 3: the row that begins here is malformed" in message
    assert csv.field_size_limit() == 131_072


def test_header_that_is_not_utf8_as_the_rest_is(tmp_path, on_bad_row):
    content = "대화,요약\n".encode("cp949") + "그 밖은 모두 UTF-8입니다,b\n".encode() * 3
    path = write_bytes(tmp_path / "a.csv", content)
    message = error_of(path, dialogue_column="대화", on_bad_row=on_bad_row)
    assert "line 1: the header is not UTF-8, as most of the file is; write the whole" in message


@pytest.mark.parametrize(
    "damage", [lambda content: b"x" + content[1:-1], lambda c: c[: len(c) // 2]]
)
def test_damaged_parquet(damage, tmp_path, on_bad_row):
    path = write(tmp_path / "a.parquet", ["dialogue", "summary"], [["a", "b"]])
    path.write_bytes(damage(path.read_bytes()))
    assert "this is not a sound Parquet file (" in error_of(path, on_bad_row=on_bad_row)


# The hold-out split and the limits


def numbered(tmp_path: Path, count: int) -> Path:
    rows = [[f"d{i}", f"s{i}"] for i in range(count)]
    return write(tmp_path / "numbered.csv", ["dialogue", "summary"], rows)


@settings(max_examples=50, deadline=None)
@given(
    count=st.integers(2, 40),
    fraction=st.floats(0, 1, exclude_min=True, exclude_max=True),
    seed=st.integers(0, 5),
)
def test_hold_out_is_a_disjoint_repeatable_split_in_order(count, fraction, seed, tmp_path_factory):
    path = numbered(tmp_path_factory.mktemp("split"), count)
    corpus = read(path, validation_fraction=fraction, split_seed=seed)
    assert corpus == read(path, validation_fraction=fraction, split_seed=seed)
    splits = [
        [int(e.id.removeprefix("train-")) for e in s] for s in (corpus.train, corpus.validation)
    ]
    assert all(split == sorted(split) for split in splits)
    assert all(splits)
    assert sorted(splits[0] + splits[1]) == list(range(count))
    assert abs(len(splits[1]) - count * fraction) <= 1


def test_hold_out_of_today_is_that_of_tomorrow(tmp_path):
    corpus = read(numbered(tmp_path, 20))
    assert [example.id for example in corpus.validation] == ["train-10", "train-18"]


def test_split_seed_matters(tmp_path):
    path = numbered(tmp_path, 50)
    assert read(path, split_seed=0).validation != read(path, split_seed=1).validation


def test_one_row_cannot_be_split(tmp_path):
    path = numbered(tmp_path, 1)
    assert "one usable row cannot be split by data.validation_fraction" in error_of(path)


def test_limits_take_the_first_after_the_split(tmp_path):
    path = numbered(tmp_path, 50)
    full = read(path, validation_fraction=0.5)
    cut = read(path, validation_fraction=0.5, max_train_examples=7, max_validation_examples=5)
    assert cut.train == full.train[:7]
    assert cut.validation == full.validation[:5]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("validation_fraction", 0.0),
        ("validation_fraction", 1.0),
        ("validation_fraction", -0.1),
        ("validation_fraction", float("nan")),
        ("max_train_examples", 0),
        ("max_validation_examples", 0),
        ("summary_columns", []),
        ("summary_columns", ["dialogue"]),
    ],
)
def test_value_out_of_range_names_its_key(key, value, tmp_path):
    assert error_of(numbered(tmp_path, 4), **{key: value}).startswith(f"data.{key} ")


def test_leaks_are_warned_of(tmp_path, caplog):
    path = numbered(tmp_path, 4)
    other = write(tmp_path / "v.csv", ["dialogue", "summary"], [["d1", "s1"], ["d2", "s1"]])
    read(path, other)
    assert "1 of 2 validation examples are training examples too" in caplog.text
    caplog.clear()
    read(path)
    assert not caplog.records


# The fingerprint


def test_fingerprint_tells_contents_apart():
    a, b = Example("1", "a", ("b",)), Example("2", "c", ("d",))
    corpora = [
        Corpus((a,), (b,)),
        Corpus((b,), (a,)),
        Corpus((a, b), ()),
        Corpus((Example("2", "a", ("b",)),), (b,)),
        Corpus((Example("1", "a", ("b", "")),), (b,)),
        Corpus((Example("1", 'a", ["b"', ()),), (b,)),
        Corpus((Example("1", "a\n", ("b",)),), (b,)),
    ]
    assert len({corpus.fingerprint for corpus in corpora}) == len(corpora)


def test_fingerprint_of_today_is_that_of_tomorrow():
    corpus = Corpus((Example("1", "대화", ("요약",)),), (Example("2", "c", ("d", "e")),), 3)
    expected = "7dc70cf129927095c7dd6055d8fd24b453670bd15168bf4e802928f5e94be03d"
    assert corpus.fingerprint == expected


def test_sample_is_dispatched_with_its_keys():
    from batchopt.data import sample
    from batchopt.request.config import Language, SampleDataConfig

    config = SampleDataConfig(
        language=Language.ko,
        train_examples=8,
        validation_examples=4,
        seed=3,
        max_validation_examples=2,
    )
    corpus = sample.generate(language="ko", train_examples=8, validation_examples=4, seed=3)
    assert load.load_corpus(config) == Corpus(corpus.train, corpus.validation[:2])
