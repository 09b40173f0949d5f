"""A text reaches its key as it was typed, through Hydra's grammar, a sweep and a second reading."""

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from batchopt.errors import RequestError
from batchopt.record.keys import Word, plain_text
from batchopt.request.compose import compose_run
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import read_words

PARSER = OverridesParser.create()
FILES = ["data=files", "data.train_file=x.csv"]


def read(*typed):
    """The config of a command line."""
    return compose_run(read_words(typed)).config


@pytest.mark.parametrize(
    "name",
    [
        "학습.csv",
        "train (1).csv",
        "내 자료/대화 & 요약; 최종#2.csv",
        "it's.csv",
        '"quoted" file.csv',
        "a=b.csv",
        "<draft>!.csv",
        "[1] train.csv",
        "[draft].csv",
        "{a}.csv",
        "d (1,2)/a.csv",
        "back\\slash'.csv",
        "`x` ^ | *.csv",
        "1e3",
        "007",
        "true",
        "데이터",
    ],
)
def test_a_name_is_taken_as_typed(name):
    config = read("data=files", f"data.train_file={name}", f"data.dialogue_column={name}")
    assert config.data.train_file == name
    assert config.data.dialogue_column == name


@pytest.mark.parametrize(
    ("typed", "tokens"),
    [
        ("[#Person1#,#Person2#]", ["#Person1#", "#Person2#"]),
        ("[#Person1#, #Person2#]", ["#Person1#", "#Person2#"]),
        ("[[NAME],<PERSON>,{이름},#@이름#]", ["[NAME]", "<PERSON>", "{이름}", "#@이름#"]),
        ("[:(,:),;)]", [":(", ":)", ";)"]),
        ("[null,1.50,true]", ["null", "1.50", "true"]),
        ("['#Person1#',\"a, b\"]", ["#Person1#", "a, b"]),
        ("[]", []),
    ],
)
def test_tokens_are_taken_as_typed(typed, tokens):
    assert read(f"model.extra_tokens={typed}").model.extra_tokens == tokens


@pytest.mark.parametrize(
    ("typed", "files"),
    [
        ("[a b.csv,학습 (1).csv]", ["a b.csv", "학습 (1).csv"]),
        ("[~/a.csv,'b,c.csv']", ["/home/누구/a.csv", "b,c.csv"]),
        ("자료/*.csv", ["자료/*.csv"]),
        ("[draft] a.csv", ["[draft] a.csv"]),
    ],
)
def test_several_files_are_taken_as_typed(typed, files, monkeypatch):
    monkeypatch.setenv("HOME", "/home/누구")
    assert read("data=files", f"data.train_file={typed}").data.files("train_file") == files


@pytest.mark.parametrize(
    ("typed", "value"), [(",", ","), (";", ";"), ("\t", "\t"), ("comma", "comma"), ("|", "|")]
)
def test_a_separator_is_taken_as_typed(typed, value):
    assert read(*FILES, f"data.separator={typed}").data.separator == value


@pytest.mark.parametrize("prefix", ["summarize: ", "요약: ", " 앞뒤 ", "translate (ko); ", "null "])
def test_blanks_at_the_ends_of_a_text_stay(prefix):
    words = ["model=pretrained", "model.name_or_path=x", f"model.source_prefix={prefix}"]
    assert read(*words).model.source_prefix == prefix


TEXT = st.text(min_size=1, max_size=15).filter(
    lambda text: (
        len(f"{text}.".splitlines()) == 1
        and text.strip() not in ("", "null")
        and text.lower().strip() != "null"
        and not {",", "'", '"', "\\", "$", "(", "\x00"} & set(text)
    )
)


@given(TEXT)
def test_hydra_reads_any_text_as_it_was_typed(text):
    (word,) = read_words([f"data.dialogue_column={text}"])
    assert PARSER.parse_override(word).value() == text


@given(st.sampled_from(["data.dialogue_column", "model.extra_tokens", "seed", "batch"]), st.text())
def test_a_second_reading_changes_nothing(key, value):
    once = read_words([f"{key}={value}"])
    assert read_words(once) == once


@pytest.mark.parametrize(
    "word",
    [
        *("batch=05a,05b", "seed=1,2", "seed=range(1,4)", "batch=glob(05*)", "seed=choice(1,2)"),
        *("objective=[rouge_f1,steps_per_second]", "training.learning_rate=tag(log,interval(0,1))"),
        *("data.train_file=${oc.env:HOME}/a.csv", "data.train_file='a b.csv'", "data.id_column="),
        *("hydra.launcher.setup=['module load cuda']", "data.validation_file=null", "~tracker"),
        *("hydra.sweeper.study_name=x", "-m", "--cfg", "job", "sweep.retry=[oom]"),
    ],
)
def test_what_hydra_reads_right_is_left_alone(word):
    assert read_words([word]) == [word]


def test_a_sweep_over_such_names_is_one_run_a_name_in_a_folder_of_its_own():
    typed = ["data=files", "data.train_file=a b.csv,학습 (1).csv,d/c.csv,choice.csv"]
    jobs = compose_sweep(read_words(typed)).jobs
    names = ["a b.csv", "학습 (1).csv", "d/c.csv", "choice.csv"]
    assert [job.request.config.data.train_file for job in jobs] == names
    assert [job.run_dir for job in jobs] == [
        "0_data.train_file=a b.csv",
        "1_data.train_file=학습 (1).csv",
        "2_data.train_file=d_c.csv",
        "3_data.train_file=choice.csv",
    ]
    # As a worker, a resumed sweep or the check before a sweep composes each run once more.
    again = [compose_run(read_words(job.request.overrides)).config for job in jobs]
    assert again == [job.request.config for job in jobs]
    words = [Word.parse(job.request.overrides[-1]) for job in jobs]
    assert [plain_text(word.value) for word in words] == names
    listed = compose_sweep(
        read_words([*FILES, "data.summary_columns=[요약],[#요약#,b]", "data.dialogue_column=대화"])
    )
    assert [job.request.config.data.summary_columns for job in listed.jobs] == [
        ["요약"],
        ["#요약#", "b"],
    ]


def test_a_very_long_list_makes_a_folder_that_a_file_system_takes():
    tokens = ",".join(f"#이름{number}#" for number in range(60))
    first, second = compose_sweep(read_words([f"model.extra_tokens=[{tokens}],[]"])).jobs
    assert len(first.run_dir.encode()) < 255
    assert first.run_dir != second.run_dir


def test_a_comma_is_part_of_a_file_that_exists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("서울, 2024.csv").write_text("x")
    assert read("data=files", "data.train_file=서울, 2024.csv").data.train_file == "서울, 2024.csv"


@pytest.mark.parametrize("form", ["{}", "'{}'"])
def test_a_tilde_is_the_home_in_every_path(form, monkeypatch):
    monkeypatch.setenv("HOME", "/home/누구")
    path, expected = form.format("~/a b.csv"), "/home/누구/a b.csv"
    config = read(
        *("data=files", f"data.train_file={path}", f"data.validation_file={path}"),
        *("model=pretrained", f"model.name_or_path={path}", f"cache_dir={path}"),
        f"data.dialogue_column={path}",
    )
    for value in (config.data.train_file, config.data.validation_file):
        assert value == expected
    assert config.model.name_or_path == config.cache_dir == expected
    assert config.data.dialogue_column == "~/a b.csv", "a column is no path"
    assert str(compose_run(read_words([f"hydra.run.dir={path}"])).run_dir) == expected
    sweep = compose_sweep(read_words([f"hydra.sweep.dir={path}", "seed=1,2"]))
    assert str(sweep.directory) == expected
    assert f"hydra.sweep.dir='{expected}'" in sweep.hydra_overrides
    assert read("data=hub", "data.name=~").data.name == "/home/누구"


def test_bytes_that_are_no_utf_8_are_refused_with_the_remedy():
    name = "한글.csv".encode("cp949").decode(errors="surrogateescape")
    with pytest.raises(RequestError, match="not UTF-8; rename the file, for example with: convmv"):
        read_words(["data=files", f"data.train_file={name}"])


def test_the_command_of_a_sweep_survives_the_shell():
    typed = ["data=files", "data.train_file=it's (1).csv,학습.csv", "model.extra_tokens=[#A#]"]
    words = read_words(typed)
    assert read_words(shlex.split(shlex.join(words))) == words
