"""Whatever is read, a word, a data file or a record, is understood or refused in one line."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from analysis.reading.runs import read_sweeps
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError
from batchopt.errors import RequestError as AnalysisRequestError
from batchopt.record import files
from batchopt.record.attempts import earlier_attempts
from batchopt.record.read import read_sweep
from batchopt.request.compose import GROUPS, compose_run
from batchopt.request.config import FilesDataConfig
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import read_words
from batchopt.sweeps.left import is_over, what_is_left
from batchopt.sweeps.plan import write_plan

few = settings(
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "40")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

KEYS = st.sampled_from(
    [
        *GROUPS,
        *("batch.per_device_train_batch_size", "training.max_steps", "model.extra_tokens"),
        *("data.train_file", "data.source", "run.stall_min", "sweep.retry", "seed", "on_oom"),
        *("hydra.run.dir", "hydra.sweep.subdir", "hydra/launcher", "hydra.job.name", "hydra"),
        *("hydra.searchpath", "hydra.callbacks.x._target_", "hydra.launcher._target_"),
        *("defaults", "schema", "schema/data", "_target_", "", "batch@x", "model.nothing"),
    ]
) | st.text(max_size=8)
VALUES = (
    st.sampled_from(
        [
            *("05a", "auto", "tiny", "files", "null", "true", "-1", "1e400", "nan", "inf", "???"),
            *("[]", "{}", "[1,2]", "{a:b}", "range(1,3)", "choice(1,2)", "${seed}", "${oc.env:X}"),
            *("${nowhere}", "${data}", "'", '"', "\\", "${", "}", "[", "\x00", "9" * 400, "가나다"),
            "os.system",
        ]
    )
    | st.text(max_size=12)
    | st.integers().map(str)
    | st.floats().map(str)
)
WORDS = st.builds(
    lambda sign, key, equals, value: sign + key + equals + value,
    st.sampled_from(["", "", "+", "++", "~"]),
    KEYS,
    st.sampled_from(["=", "=", "=", ""]),
    VALUES,
) | st.text(max_size=20)


def one_line(refusal):
    message = str(refusal.value if hasattr(refusal, "value") else refusal)
    assert message.strip()
    assert len(message.splitlines()) == 1, message


@few
@example(["model.extra_tokens=05a", "\x1e"])
@example(["batch=[1,2]"])
@example(["+experiment=[1]"])
@example(["hydra/launcher={a:1}"])
@given(st.lists(WORDS, min_size=1, max_size=3))
def test_words_make_a_run_or_one_line(words):
    try:
        compose_run(read_words(words))
    except RequestError as error:
        one_line(error)


@few
@example(["data=[1,2]"])
@example(["+experiment=[1]"])
@given(st.lists(WORDS, min_size=1, max_size=3))
def test_words_make_a_sweep_or_one_line(words):
    try:
        compose_sweep(["batch=05a,05b", *read_words(words)])
    except RequestError as error:
        one_line(error)


CELLS = st.sampled_from(["dialogue", "summary", "Hello.", "안녕", "", " ", '"', "a\nb", "\x00", "﻿"])
LINES = st.lists(CELLS | st.text(max_size=6), min_size=1, max_size=4)
TABLES = st.builds(
    lambda separator, rows: "\n".join(separator.join(row) for row in rows).encode(
        "utf-8", "surrogatepass"
    ),
    st.sampled_from([",", "\t", ";"]),
    st.lists(LINES, max_size=4).map(lambda rows: [["dialogue", "summary"], *rows]),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
ROWS = st.fixed_dictionaries({}, optional={"dialogue": JSON, "summary": JSON, "id": JSON})
JSONL = st.lists(ROWS | JSON, max_size=4).map(
    lambda rows: "\n".join(json.dumps(row) for row in rows).encode()
)


@few
@given(
    st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet", ".txt"]),
    TABLES | JSONL | st.binary(max_size=40),
    st.sampled_from(["error", "skip"]),
)
def test_a_data_file_is_a_corpus_or_one_line(tmp_path, suffix, content, on_bad_row):
    file = tmp_path / f"train{suffix}"
    file.write_bytes(content)
    try:
        corpus = load_corpus(FilesDataConfig(train_file=str(file), on_bad_row=on_bad_row))
    except RequestError as error:
        one_line(error)
        assert str(file) in str(error) or "data." in str(error)
    else:
        assert corpus.train
        assert corpus.validation


def record(**changes):
    return {
        "schema_version": 2,
        "status": "completed",
        "cause": "completed 4 optimizer steps",
        "plan": {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4},
        "metrics": {"rouge_f1": 0.5},
        "attempts": [],
    } | changes


RECORDS = (
    st.builds(lambda key, value: record(**{key: value}), st.sampled_from([*record(), "new"]), JSON)
    | JSON
)


@pytest.fixture(scope="module")
def planned():
    return compose_sweep(["batch=05a,05b", "hydra.sweep.dir=sweep"])


def rooted(sweep, folder):
    """The same sweep in a directory of its own."""
    import dataclasses

    jobs = tuple(
        dataclasses.replace(
            job, request=dataclasses.replace(job.request, run_dir=folder / job.run_dir)
        )
        for job in sweep.jobs
    )
    return dataclasses.replace(sweep, directory=folder, jobs=jobs)


@few
@given(RECORDS.map(json.dumps).map(str.encode) | st.binary(max_size=30), st.booleans())
def test_a_record_is_read_or_refused_in_one_line(planned, tmp_path, content, torn):
    sweep = rooted(planned, tmp_path)
    run_dir = tmp_path / sweep.jobs[0].run_dir
    run_dir.mkdir(exist_ok=True)
    (run_dir / files.RECORD).write_bytes(content[: len(content) // 2] if torn else content)
    write_plan(sweep, "the command")
    results = read_sweep(sweep.directory)
    assert [result.name for result in results] == [job.run_dir for job in sweep.jobs]
    from batchopt.sweeps.tables import print_summary

    print_summary(results)
    for read in (
        lambda: what_is_left(sweep, {}),
        lambda: is_over(run_dir, ["failed"]),
        lambda: earlier_attempts(run_dir),
    ):
        try:
            read()
        except RequestError as error:
            one_line(error)
            assert str(run_dir) in str(error)


@few
@given(JSON, st.sampled_from(["metrics.jsonl", "memory.jsonl", "predictions.jsonl"]), JSON)
def test_what_a_killed_run_left_is_read_or_refused_in_one_line(tmp_path, running, name, row):
    (tmp_path / files.RUNNING).write_text(json.dumps(running))
    (tmp_path / name).write_text(json.dumps(row) + '\n{"torn')
    assert all(isinstance(found, dict) for found in files.read_jsonl(tmp_path / name))
    try:
        earlier_attempts(tmp_path)
    except RequestError as error:
        one_line(error)


PLANS = (
    st.fixed_dictionaries(
        {},
        optional={
            "schema_version": JSON,
            "command": st.sampled_from(["python -m batchopt.train -m batch=05a", "'", ""]) | JSON,
            "cwd": st.sampled_from(["/", "/nowhere", "\x00"]) | JSON,
            "jobs": st.lists(
                st.fixed_dictionaries({}, optional={"run_dir": JSON, "overrides": JSON}), max_size=2
            )
            | JSON,
        },
    )
    | JSON
)


@few
@given(PLANS)
def test_a_plan_is_gone_on_with_or_refused_in_one_line(planned, tmp_path, monkeypatch, plan):
    from batchopt import resume, train

    (tmp_path / files.SWEEP).write_text(json.dumps(plan))
    before = (tmp_path / files.SWEEP).read_bytes()
    here = Path.cwd()
    monkeypatch.setattr(train, "main", lambda words: 0)
    for read in (
        lambda: write_plan(rooted(planned, tmp_path), "command"),
        lambda: resume.main([str(tmp_path)]),
    ):
        try:
            read()
        except RequestError as error:
            one_line(error)
        finally:
            os.chdir(here)
    assert (tmp_path / files.SWEEP).read_bytes() == before


@few
@given(RECORDS, PLANS, JSON)
def test_the_analysis_reads_or_refuses_in_one_line(tmp_path, found, plan, row):
    run = tmp_path / "0_batch=05a"
    run.mkdir(exist_ok=True)
    (run / "record.json").write_text(json.dumps(found))
    for name in ("metrics.jsonl", "memory.jsonl"):
        (run / name).write_text(json.dumps(row) + "\n{torn")
    for named in (run, tmp_path):
        try:
            read_sweeps([named])
        except AnalysisRequestError as error:
            one_line(error)
        (tmp_path / "sweep.json").write_text(json.dumps(plan))
    (tmp_path / "sweep.json").unlink()
