"""`batchopt init`: the folder is whole, nothing is overwritten, and its words compose."""

import csv
import os
import shutil
import subprocess
import sys

import pytest

from batchopt.cli import answer
from batchopt.errors import RequestError
from batchopt.init import __main__ as init
from batchopt.request.compose import choices_of, compose_run
from batchopt.request.words import read_words

NAMES = {
    "Makefile",
    ".gitignore",
    "conf/data/mine.yaml",
    "conf/experiment/mine.yaml",
    "data/train.csv",
    "data/validation.csv",
}


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A new folder of that kind, with a name as people have them; its conf/ is in use."""
    folder = tmp_path / "my 실험"
    assert init.main([str(folder)]) == 0
    monkeypatch.chdir(folder)
    monkeypatch.setenv("BATCHOPT_CONF", f"file://{folder}/conf")
    return folder


def test_a_folder_has_conf_a_makefile_and_rows(folder, capsys):
    assert files(folder) == NAMES
    with (folder / "data/train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 640
    assert all(row["dialogue"] and row["summary"] for row in rows)


def test_its_experiment_composes_with_each_preset(folder):
    for preset in ("05a", "05b", "05c"):
        request = compose_run(read_words(["experiment=mine", f"batch={preset}"]))
        assert request.config.data.train_file == "data/train.csv"
        assert request.preset == preset
    assert "mine" in choices_of("data"), "help, completion and messages know it"


def test_an_adopted_pair_of_the_folder_is_a_choice(folder):
    (folder / "conf/batch").mkdir()
    (folder / "conf/batch/best.yaml").write_text("per_device_train_batch_size: 32\n")
    request = compose_run(read_words(["experiment=mine", "batch=best"]))
    assert str(request.plan) == "32 x 2"
    assert "best" in choices_of("batch")


def test_without_its_conf_the_answer_is_the_line_to_type(folder, monkeypatch):
    monkeypatch.delenv("BATCHOPT_CONF")
    with pytest.raises(RequestError, match=r"export BATCHOPT_CONF='?file://.*/my 실험/conf"):
        compose_run(read_words(["experiment=mine"]))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_every_target_of_its_makefile_is_a_command(folder):
    text = (folder / "Makefile").read_text()
    targets = [line.split(":")[0] for line in text.splitlines() if ": ## " in line]
    assert len(targets) > 8
    done = subprocess.run(
        ["make", *(f"--eval=.PHONY: {target}" for target in targets), "BATCHOPT=echo", *targets],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "train -m experiment=mine batch=05a,05b,05c seed=1,2,3" in done.stdout
    assert all(f"make {target} " in done.stdout for target in targets), "make help lists it"


@pytest.mark.parametrize("name", sorted(NAMES))
def test_nothing_is_overwritten(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["init"])
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("mine")
    assert answer(init.main) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"batchopt: {name} is there already, and nothing is overwritten")
    assert files(tmp_path) == {name}
    assert path.read_text() == "mine"


def test_a_folder_with_other_files_is_filled(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "data").mkdir()
    assert init.main([str(tmp_path)]) == 0
    assert files(tmp_path) == {*NAMES, "notes.txt"}
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".batchopt-")]


@pytest.mark.parametrize("place", ["/proc/x", "file/x"])
def test_a_folder_that_cannot_be_written_is_one_line(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(RequestError, match=f"FOLDER is {place}, and .* name another place"):
        init.main([place])


def test_a_file_where_a_folder_belongs_leaves_nothing(tmp_path):
    (tmp_path / "conf").write_text("mine")
    with pytest.raises(RequestError, match="cannot be written"):
        init.main([str(tmp_path)])
    assert files(tmp_path) == {"conf"}
    (tmp_path / "conf").unlink()
    assert init.main([str(tmp_path)]) == 0


def test_a_disk_that_fills_leaves_nothing(tmp_path, monkeypatch):
    def full(self, content):
        if self.name == "train.csv":
            raise OSError(28, os.strerror(28))
        with self.open("wb") as file:
            file.write(content)

    monkeypatch.setattr(init.Path, "write_bytes", full)
    with pytest.raises(RequestError, match="No space left on device"):
        init.main([str(tmp_path)])
    assert files(tmp_path) == set()
