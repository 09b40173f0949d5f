"""The wheel: what it carries, that its commands work anywhere, and how a release is made."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from support import TOP

from batchopt import __version__

WORKFLOWS = sorted((TOP / ".github" / "workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy of the checkout in which somebody has adopted a pair."""
    top = tmp_path_factory.mktemp("checkout")
    for name in ("src", "analysis", "conf"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TOP / name, top / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE", ".gitignore"):
        shutil.copy(TOP / name, top)
    (top / "conf/batch/best.yaml").write_text("per_device_train_batch_size: 2\n")
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"]
    subprocess.run([*build, "-w", str(out), str(top)], check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Where the wheel is installed, without its dependencies."""
    site = tmp_path_factory.mktemp("site")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", str(site)]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return site


def run(*words, cwd, site):
    return subprocess.run(
        words,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONPATH": str(site)},
    )


def test_the_wheel_carries_every_file_that_is_read(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("src", ""), ("analysis", "analysis/"), ("conf", "batchopt/conf/")):
        for path in (TOP / folder).rglob("*"):
            name = inside + path.relative_to(TOP / folder).as_posix()
            ours = path.is_file() and "__pycache__" not in name and path.name != "best.yaml"
            assert not ours or name in names, name
    assert {"batchopt/py.typed", "batchopt/data/sample_texts.py"} <= names


def test_the_wheel_carries_nothing_else(wheel):
    """Above all no conf/batch/best.yaml of whoever built it."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"analysis", "batchopt", "hydra_plugins", f"batchopt-{__version__}.dist-info"}
    assert [name for name in names if "best.yaml" in name or "__pycache__" in name] == []


def test_an_installed_wheel_finds_its_conf_and_its_analysis(installed, tmp_path):
    python = [sys.executable, "-m"]
    where = run(
        *python, "batchopt.train", "--info", "searchpath", cwd=tmp_path, site=installed
    ).stdout
    assert f"{installed}/batchopt/conf" in where
    done = run(*python, "batchopt.train", "--cfg", "job", "batch=05c", cwd=tmp_path, site=installed)
    assert "per_device_train_batch_size: 64" in done.stdout, done.stderr
    assert "sweep=" in run(*python, "analysis", "--help", cwd=tmp_path, site=installed).stdout


def test_the_one_command_of_an_installed_wheel(installed, tmp_path):
    program = str(installed / "bin" / "batchopt")
    said = run(program, "--version", cwd=tmp_path, site=installed).stdout
    assert said == f"batchopt {__version__}\n"
    assert run(program, "init", "mine", cwd=tmp_path, site=installed).returncode == 0
    assert (tmp_path / "mine" / "conf" / "data" / "mine.yaml").is_file()
    done = run(program, "trian", cwd=tmp_path, site=installed)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_adopt_of_an_installed_wheel_names_the_folder_to_write_to(installed, tmp_path):
    code = "from analysis.report.adopt import preset_directory; print(preset_directory(None))"
    bare = run(sys.executable, "-c", code, cwd=tmp_path, site=installed)
    assert "name a directory to write best.yaml into with adopt_dir=DIR" in bare.stderr
    set_up = f"import os; os.environ['BATCHOPT_CONF'] = 'file://{tmp_path}/conf'; {code}"
    own = run(sys.executable, "-c", set_up, cwd=tmp_path, site=installed)
    assert own.stdout == f"{tmp_path}/conf/batch\n", own.stderr


@pytest.fixture
def package(tmp_path):
    """Runs `make package` with a recording for Python; returns the exit code and the calls."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    calls, tools = tmp_path / "calls", tmp_path / "venv" / "bin"
    tools.mkdir(parents=True)
    for name in ("python", "check-wheel-contents"):
        script = f'#!/bin/sh\n[ "$1" = -c ] && echo 1.2.3 || echo {name} "$@" >> "{calls}"\n'
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    (tmp_path / "venv" / ".installed").touch()

    def make(*words):
        calls.write_text("")
        options = [f"VENV={tmp_path}/venv", f"DIST={tmp_path}/dist", *words]
        done = subprocess.run(
            ["make", "package", *options], cwd=TOP, capture_output=True, text=True, check=False
        )
        return done, calls.read_text()

    return make


@pytest.mark.parametrize("tag", ["", "v1.2.3"])
def test_make_package_builds_and_checks(package, tag):
    done, calls = package(f"TAG={tag}")
    assert done.returncode == 0, done.stderr
    assert re.search(r"build --no-isolation[^\n]*\n.*twine check --strict.*\ncheck-wheel", calls)


@pytest.mark.parametrize("tag", ["v1.2", "1.2.3", "v1.2.4"])
def test_make_package_refuses_a_tag_that_is_not_the_version(package, tag):
    done, calls = package(f"TAG={tag}")
    assert done.returncode != 0
    assert f"TAG is {tag}; it must be v1.2.3" in done.stdout
    assert calls == ""


def steps(workflow):
    for job in yaml.safe_load(workflow.read_text())["jobs"].values():
        yield from job.get("steps", ())
        if "uses" in job:
            yield job


def test_the_workflows_run_what_is_here():
    assert [path.name for path in WORKFLOWS] == ["ci.yml", "oldest.yml", "release.yml"]
    ran = {path.name: [step.get("run", "") for step in steps(path)] for path in WORKFLOWS}
    assert "bash .ci/run" in ran["ci.yml"]
    makefile = (TOP / "Makefile").read_text()
    for line in (line for lines in ran.values() for line in lines if line.startswith("make ")):
        assert re.search(rf"^{line.split()[1]}:", makefile, re.M), line
    called = [
        step["uses"] for step in steps(TOP / ".github/workflows/release.yml") if "uses" in step
    ]
    local = [TOP / name for name in called if name.startswith("./")]
    assert local == [TOP / "./.github/workflows/ci.yml"], "a release runs all that main runs"
    assert local[0].is_file()


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint_finds_nothing():
    subprocess.run(["actionlint", *map(str, WORKFLOWS)], cwd=TOP, check=True)
