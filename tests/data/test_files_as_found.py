"""Attacks what is found out about a file: its encoding, its separator, its shape.

The files are written as the programs write them that people have: Excel of a German or Korean
Windows, its "Unicode text", and the nested JSON of AI Hub and NIKL.
"""

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchopt.data import load
from batchopt.data.encodings import find_encoding
from batchopt.errors import RequestError
from batchopt.request.config import BadRow, FilesDataConfig
from batchopt.request.rules import check

ROWS = [
    ("안녕하세요, 오늘 뭐 하세요; 집에 계세요?", "오늘 할 일을 묻는다."),
    ("네 \t 내일은 #@이름#과 만나요 ㅋㅋㅋㅋㅋ", "내일, 만난다; 둘이."),
    ('"점심은?"\n김밥 | 라면!', "점심으로 김밥"),
]
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp949"]
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def table(separator, rows=ROWS, header=("dialogue", "summary"), **how):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, **how).writerows([header, *rows])
    return text.getvalue()


def read(path, **keys):
    return load.load_corpus(FilesDataConfig(train_file=str(path), **keys))


def texts(corpus):
    """Dialogue and first summary of all rows in the order of the source."""
    rows = {example.id: example for example in (*corpus.train, *corpus.validation)}
    ordered = sorted(rows.values(), key=lambda row: int(row.id.partition("-")[2]))
    return [(row.dialogue, row.summaries[0]) for row in ordered]


def error_of(path, **keys):
    with pytest.raises(RequestError) as caught:
        read(path, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Encodings and separators


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("separator", SEPARATORS)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "txt"])
def test_any_encoding_and_separator_under_any_suffix(suffix, separator, encoding, tmp_path):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(table(SEPARATORS[separator]).encode(encoding))
    corpus = read(path)
    assert texts(corpus) == ROWS
    name = {"utf-8-sig": "UTF-8"}.get(encoding, encoding.upper())
    assert corpus.read_as == (f"a.{suffix}: read as {name}, separated by {separator}",)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_in_any_encoding(encoding, tmp_path):
    rows = [{"dialogue": dialogue, "summary": summary} for dialogue, summary in ROWS]
    (tmp_path / "a.json").write_bytes(json.dumps(rows, ensure_ascii=False).encode(encoding))
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_bytes(lines.encode(encoding))
    for suffix in ("json", "jsonl"):
        assert texts(read(tmp_path / f"a.{suffix}")) == ROWS


cells = st.text(st.characters(codec="cp949", exclude_categories=["Cc"]), min_size=1, max_size=30)
korean = st.text(
    st.sampled_from("가나다라마바사아자차카타파하 요약대화안녕습니다,;\t|ABC123.?"), min_size=3
)


@settings(max_examples=100, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, korean), min_size=1, max_size=5),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-16-le", "utf-16-be"]),
    separator=st.sampled_from(list(SEPARATORS.values())),
)
def test_unicode_is_never_taken_for_something_else(rows, encoding, separator, tmp_path_factory):
    path = tmp_path_factory.mktemp("unicode") / "a.csv"
    # Excel's own quoting, and a header of Hangul, which is no ASCII.
    path.write_bytes(table(separator, rows, ("대화", "요약")).encode(encoding))
    found = find_encoding(path)
    assert path.read_bytes().decode(found) == table(separator, rows, ("대화", "요약"))


@settings(max_examples=100, deadline=None)
@given(rows=st.lists(st.tuples(korean, korean), min_size=1, max_size=5))
def test_korean_in_cp949_is_found_whatever_the_words(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("korean") / "a.csv"
    path.write_bytes(table(",", [*rows, ("그래요", "그렇다")]).encode("cp949"))
    assert find_encoding(path) == "cp949"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("dialogue,summary\nHäagen trinkt Öl für Größe,Er trinkt\n", "cp1252"),
        ("dialogue,summary\nこんにちは元気ですか,挨拶する\n", "euc-jp"),
        ("dialogue,summary\nこんにちは元気ですか,挨拶する\n", "shift-jis"),
        ("dialogue,summary\n你好今天天气怎么样,问天气\n", "gbk"),
        ("dialogue,summary\nПривет как дела сегодня,Спрашивает\n", "koi8-r"),
    ],
)
def test_what_is_in_no_known_encoding_is_not_guessed(text, encoding, tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes((text + "a,b\n").encode(encoding))
    message = error_of(path)
    assert "name its encoding with data.encoding" in message
    read(path, encoding=encoding)


def test_english_with_one_word_of_cp949(tmp_path):
    rows = [("Hi there, how are you?", "They greet")] * 30 + [("뷁 웃음이 나요", "웃음")]
    path = tmp_path / "a.csv"
    path.write_bytes(table(",", rows).encode("cp949"))
    assert texts(read(path)) == rows


def test_utf16_that_is_torn_is_told(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(table(",").encode("utf-16")[:-1])
    assert "this is not UTF-16 throughout" in error_of(path)


def test_what_is_forced_is_taken(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(table(",").encode("cp949"))
    message = error_of(path, encoding="utf-8")
    assert message.endswith(
        "none of the 3 rows can be used; mend them, first line 2: the row is not UTF-8; name the "
        "file's encoding with data.encoding"
    )
    path.write_text(table(":"), encoding="utf-8")
    assert "there is no column 'dialogue'" in error_of(path)
    assert texts(read(path, separator=":")) == ROWS
    path.write_text(table("\t"), encoding="utf-8")
    for separator in ("tab", "\t", r"\t"):
        assert texts(read(path, separator=separator)) == ROWS


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"separator": "semikolon"}, "data.separator is semikolon; it must be one of comma, semi"),
        ({"separator": '"'}, "data.separator is "),
        ({"encoding": "utf-9"}, "data.encoding is utf-9; it must be the name of an encoding, such"),
        ({"encoding": "base64"}, "data.encoding is base64; it must be the name of an encoding"),
        ({"train_file": []}, "data.train_file is []; it must be a path, or a list of paths"),
        ({"train_file": {"a": 1}}, "it must be a path, or a list of paths, as in [a.csv,b.csv]"),
    ],
)
def test_a_key_that_cannot_be_is_refused(keys, expected):
    from batchopt.request.compose import compose_run

    config = compose_run(["data=files", "data.train_file=a.csv"]).config
    for key, value in keys.items():
        setattr(config.data, key, value)
    with pytest.raises(RequestError) as caught:
        check(config)
    assert expected in str(caught.value)


# What Excel writes


def test_a_file_of_excel(tmp_path):
    """Semicolons, CP949, quotes, Windows' line ends, a line sep=, empty columns and rows below."""
    lines = ["sep=;", "dialogue;summary;;", '"안녕; ""잘"" 지내?";인사;;', "네\t그래;대답;;"]
    path = tmp_path / "엑셀.csv"
    for end in ("\r\n", "\n"):
        content = end.join([*lines, *[";;;"] * 40]) + end
        for encoding in ("cp949", "utf-8-sig", "utf-16"):
            path.write_bytes(content.encode(encoding))
            assert texts(read(path)) == [('안녕; "잘" 지내?', "인사"), ("네\t그래", "대답")]


def test_an_empty_row_in_the_middle_is_bad_and_names_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sep=;\ndialogue;summary\na;b\n;\nc;d\n;\n")
    message = error_of(path)
    assert "line 4: the column 'dialogue' is empty" in message
    assert read(path, on_bad_row=BadRow.skip).skipped_rows == 1


def test_advice_follows_from_the_file(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("text;abstract\na, b; c\nd;e\n")
    message = error_of(path)
    assert "(separated by semicolon): there is no column 'dialogue', only 'text', 'abst" in message
    path.write_text("dialogue;summary\na;b;c\nd;e\n")
    assert "put fields that contain ';' or a line break in double quotes" in error_of(path)


# Skipping is offered where something is left


def test_skipping_is_offered_only_where_rows_are_left(tmp_path):
    offer = "leave such rows out with data.on_bad_row=skip"
    path = tmp_path / "a.csv"
    path.write_text("dialogue,summary\n" + ",b\n" * 3)
    assert offer not in error_of(path)
    assert "none of the 3 rows can be used; mend them, first line 2: " in error_of(path)
    path.write_text("dialogue,summary\n" + ",b\n" * 3 + "c,d\n")
    message = error_of(path)
    assert offer in message
    assert ", line 2: " in message
    jsonl = tmp_path / "a.jsonl"
    jsonl.write_text('{"dialogue": "a", "summary": 3}\n' * 3)
    assert offer not in error_of(jsonl)


# Several files


def test_several_files_and_patterns_are_one_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("dialogue,summary\na1,s\na2,s\n")
    (tmp_path / "b.json").write_text('[{"dialogue": "b1", "summary": "s"}]')
    (tmp_path / "c[1].tsv").write_text("dialogue\tsummary\nc1\ts\n")
    expected = ["a1", "a2", "b1", "c1"]
    lists = (["a.csv", "b.json", "c[1].tsv"], ["a.csv", "b.*", "c*.tsv"], ["?[.c]*s*", "b.json"])
    for names in lists[:2]:
        corpus = load.load_corpus(FilesDataConfig(train_file=names))
        assert [dialogue for dialogue, _ in texts(corpus)] == expected
    assert [dialogue for dialogue, _ in texts(read("*.*s*"))] == expected
    corpus = load.load_corpus(FilesDataConfig(train_file=["a.csv"], validation_file="[bc]*"))
    assert [example.id for example in corpus.validation] == ["validation-0", "validation-1"]


def test_what_is_wrong_with_several_files_names_the_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("id,dialogue,summary\nx,a1,s\n")
    (tmp_path / "b.csv").write_text("id,dialogue,summary\ny,b1,s\nx,b2,s\n")
    message = error_of("?.csv", id_column="id")
    assert message.startswith(
        "data.train_file: b.csv, line 3: the id 'x' is already that of line 2"
    )
    assert "line 2 of a.csv; make" in message
    assert "no*.csv: no file matches; name files that exist" in error_of("no*.csv")
    with pytest.raises(RequestError, match=r"names a\.csv 2 times; name it once"):
        load.load_corpus(FilesDataConfig(train_file=["a.csv", "?.csv"]))


# A validation file with names of its own, as DialogSum's are


def test_the_validation_file_may_name_its_columns_otherwise(tmp_path):
    train = tmp_path / "train.jsonl"
    test = tmp_path / "test.jsonl"
    train.write_text('{"dialogue": "a", "summary": "b"}\n')
    test.write_text('{"text": "c", "summary1": "d", "summary2": "e", "summary3": "f"}\n')
    keys = {"validation_file": str(test), "validation_dialogue_column": "text"}
    names = ["summary1", "summary2", "summary3"]
    corpus = read(train, **keys, validation_summary_columns=names)
    assert corpus.train[0].summaries == ("b",)
    assert corpus.validation[0].summaries == ("d", "e", "f")
    message = error_of(train, **keys)
    assert "set data.validation_summary_columns to what it is called, perhaps 'summary" in message
    assert "data.validation_summary_columns is []" in error_of(train, validation_summary_columns=[])
    message = error_of(train, validation_dialogue_column="summary")
    assert message.startswith("data.validation_summary_columns names 'summary', which is also")


# Turns, and nested JSON


@pytest.mark.parametrize(
    "turns",
    [
        ["가: 안녕", "", "나: 응"],
        [{"speaker": "가", "text": "안녕"}, {"speaker": "나", "text": "응"}],
        [
            {"speaker_id": "가", "form": "안녕", "original_form": "(안녕)"},
            {"role": "나", "content": "응"},
        ],
        [
            {"participantID": "가", "utterance": "안녕"},
            "나: 응",
            {"participantID": "나", "utterance": ""},
        ],
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_dialogue_may_be_a_list_of_turns(suffix, turns, tmp_path):
    path = tmp_path / f"a.{suffix}"
    rows = [{"dialogue": turns, "summary": "s"}, {"dialogue": "x", "summary": "t"}]
    text = json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows))
    path.write_text(text)
    assert texts(read(path))[0][0] == "가: 안녕\n나: 응"
    assert texts(read(path, turn_separator=" / "))[0][0] == "가: 안녕 / 나: 응"
    assert texts(read(path, turn_separator=r"\t"))[0][0] == "가: 안녕\t나: 응"


def aihub(number):
    """As AI Hub publishes 한국어 대화 요약."""
    turns = [("P01", "밥 먹었어?"), ("P02", f"응 {number}")]
    return {
        "header": {"dialogueInfo": {"dialogueID": f"id-{number}", "topic": "식음료"}},
        "body": {
            "dialogue": [
                {"utteranceID": f"U{n}", "turnID": "T1", "participantID": who, "utterance": said}
                for n, (who, said) in enumerate(turns)
            ],
            "summary": f"밥 {number}",
        },
    }


def nikl(number, summary):
    """As NIKL publishes 일상 대화, with a summary in it."""
    turns = [("P01", "밥 먹었어?"), ("P02", f"응 {number}")]
    return {
        "id": f"id-{number}",
        "metadata": {"topic": "음식"},
        "utterance": [
            {"id": f"{number}.{n}", "form": said, "original_form": f"({said})", "speaker_id": who}
            for n, (who, said) in enumerate(turns)
        ],
        **summary,
    }


def task(number):
    """As NIKL's task 일상 대화 요약 has it."""
    turns = [
        {"speaker": "P01", "utterance": "밥 먹었어?"},
        {"speaker": "P02", "utterance": f"응 {number}"},
    ]
    return {
        "id": f"id-{number}",
        "input": {"conversation": turns, "subject_keyword": ["음식"]},
        "output": f"밥 {number}",
    }


NESTED = {
    "AI Hub": {"numberOfItems": 3, "data": [aihub(n) for n in range(3)]},
    "AI Hub, a list": [aihub(n) for n in range(3)],
    "NIKL": {
        "id": "corpus",
        "metadata": {"title": "말뭉치"},
        "document": [nikl(n, {"annotation": {"summary": f"밥 {n}"}}) for n in range(3)],
    },
    "NIKL, plain": {"document": [nikl(n, {"summary": f"밥 {n}"}) for n in range(3)]},
    "NIKL, a list": {
        "document": [nikl(n, {"annotation": [{"summary": f"밥 {n}"}]}) for n in range(3)]
    },
    "NIKL, several corpora": [{"document": [nikl(n, {"summary": f"밥 {n}"})]} for n in range(3)],
    "NIKL task": [task(n) for n in range(3)],
}


@pytest.mark.parametrize("name", NESTED)
def test_the_nested_forms_of_korean_corpora(name, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(NESTED[name], ensure_ascii=False))
    expected = [(f"P01: 밥 먹었어?\nP02: 응 {n}", f"밥 {n}") for n in range(3)]
    assert texts(read(path)) == expected
    corpus = read(path, id_column="name")
    assert "a.json: dialogues from " in corpus.read_as[1]
    assert {example.id for example in (*corpus.train, *corpus.validation)} == {
        "id-0",
        "id-1",
        "id-2",
    }


def test_nested_rows_one_a_line_and_one_a_file(tmp_path):
    lines = tmp_path / "a.jsonl"
    lines.write_text("\n".join(json.dumps(task(n)) for n in range(3)))
    for n in range(3):
        (tmp_path / f"d{n}.json").write_text(json.dumps(aihub(n)))
    assert texts(read(lines)) == texts(read(tmp_path / "d*.json"))


def test_json_under_the_other_name(tmp_path):
    rows = [{"dialogue": a, "summary": b} for a, b in ROWS]
    (tmp_path / "a.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "a.jsonl").write_text(json.dumps(rows, indent=1))
    assert texts(read(tmp_path / "a.json")) == texts(read(tmp_path / "a.jsonl")) == ROWS


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("[1, 2", "line 1: this is not JSON ("),
        ("[" * 100_000, "cannot be read as JSON"),
        ("3", "this JSON is a number, and no list of objects is in it"),
        ('{"version": 1}', "this JSON is an object with 'version', and no list of objects is in"),
        ("[]", "there are no rows"),
        ("[[1], [2]]", "none of the 2 rows can be used; mend them, first row 1: the row is a list"),
        (
            '[{"text": "a", "summary": "b"}]',
            "there is no column 'dialogue', only 'text', 'summary'",
        ),
        ('{"a": [{"x": 1}], "b": [{"x": 1}]}', "an object with 'a', 'b', and no list of objects"),
    ],
)
def test_json_that_holds_no_dialogues(content, expected, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(content)
    assert expected in error_of(path)
