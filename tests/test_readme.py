"""Every command of READMEs and docs is one that batchopt takes; the Korean README says the same.

tests/smoke runs the same commands; here they are composed, which takes seconds.
"""

import re
import shlex
import subprocess

import pytest
from support import TOP, pages

from batchopt.commands import COMMANDS
from batchopt.request.compose import compose_run, conf_dir
from batchopt.request.sweep import compose_sweep
from batchopt.request.words import read_words

README = pages.README.read_text(encoding="utf-8")
KOREAN = pages.KOREAN.read_text(encoding="utf-8")
CODE = re.compile(r"^```(?:sh|python|text)?\n(.*?)^```", re.M | re.S)
ALL = {
    command
    for page in (pages.README, pages.KOREAN, *pages.DOCS)
    for command in pages.commands(page)
}
TRAIN = sorted(
    command
    for command in ALL
    if command.startswith("python -m batchopt.train ") and not command.endswith("--help")
)
NEEDS = {
    "hydra/sweeper=optuna": "the extra optuna",
    "+experiment=": "batch=best",
    "batch=05a,05b,05c,05d": "the preset that the page adds",
    "model.attention=flash_attention_2": "the package flash-attn",
    "hydra/launcher=ours": "the profile that the page adds",
}
"""What a command needs that is not here."""


@pytest.mark.parametrize("command", TRAIN)
def test_a_train_command_composes(command):
    lacking = [need for word, need in NEEDS.items() if word in command]
    if lacking and not (lacking == ["batch=best"] and (conf_dir() / "batch/best.yaml").exists()):
        pytest.skip(f"needs {lacking[0]}")
    words = read_words(shlex.split(command)[3:])
    if "-m" in words:
        assert len(compose_sweep([word for word in words if word != "-m"]).jobs) >= 2
    else:
        compose_run(words)


@pytest.mark.parametrize("command", sorted(ALL - set(TRAIN)))
def test_another_command_is_one_of_ours(command):
    """A make target that exists, or a module that answers, or the shell's own."""
    words = shlex.split(command)
    if words[0] == "make":
        target = next(word for word in words[1:] if "=" not in word)
        assert re.search(rf"^{target}:", (TOP / "Makefile").read_text(encoding="utf-8"), re.M)
    elif words[0] == "python" and words[1] == "-m":
        assert words[2].split(".")[0] in ("analysis", "batchopt", "pytest"), command
        folder = TOP if words[2] in ("analysis", "pytest") else TOP / "src"
        name = words[2].replace(".", "/")
        assert words[2] == "pytest" or list(folder.glob(f"{name}*")), command
    elif words[0] == "batchopt":
        assert words[1] in COMMANDS, command
    else:
        assert words[0] in {".", "pip", "scancel", "squeue", "export", "sbatch", "srun"}, command


@pytest.mark.parametrize(
    ("words", "pair"),
    [
        ("batch=05c batch.per_device_train_batch_size=32", "32 x 2"),
        ("batch=05b batch.gradient_accumulation_steps=2", "32 x 2"),
        ("batch=05c training.gradient_checkpointing=true", "64 x 1"),
        ("batch=05b training.dataloader_num_workers=8", "16 x 4"),
    ],
)
@pytest.mark.parametrize("text", [README, KOREAN], ids=["en", "ko"])
def test_the_troubleshooting_table_says_what_happens_to_the_other_number(words, pair, text):
    (row,) = (line for line in text.splitlines() if f"{words}`" in line)
    assert pair in row
    assert str(compose_run(words.split()).plan) == pair


def figures(text):
    """Commands and numbers in the first two cells of the rows of tables that name a pair."""
    return [
        [re.findall(r"`[^`]+`|\d[\d.]*(?: x \d+)?", cell) for cell in line.split("|")[1:3]]
        for line in text.splitlines()
        if line.startswith("| ") and re.search(r"\d x \d", line)
    ]


def test_the_two_readmes_have_the_same_structure():
    assert re.findall(r"^(#+) ", README, re.M) == re.findall(r"^(#+) ", KOREAN, re.M)
    assert CODE.findall(README) == CODE.findall(KOREAN), "the same commands, in the same order"
    assert pages.commands(pages.README) == pages.commands(pages.KOREAN)
    assert figures(README) == figures(KOREAN)
    links = re.compile(r"\]\(([^)#]+)\)")
    assert set(links.findall(README)) - {"README.ko.md"} <= set(links.findall(KOREAN))


@pytest.mark.parametrize("text", [README, KOREAN], ids=["en", "ko"])
def test_every_file_that_a_readme_names_exists(text):
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (TOP / target).exists(), target


def test_the_tree_names_every_folder():
    for top in ("src/batchopt", "analysis"):
        part = re.search(rf"^    {top}/.*\n((?:      .*\n)+)", README, re.M)
        named = re.findall(r"([a-z_]+(?:/|\.py))(?=[ ,])", part[1])
        inside = {
            f"{path.name}/" if path.is_dir() else path.name
            for path in (TOP / top).iterdir()
            if (path / "__init__.py").exists() or path.suffix == ".py"
        }
        assert set(named) >= inside - {"__init__.py", "__main__.py"}, top
        assert [name for name in named if not (TOP / top / name).exists()] == [], top


@pytest.mark.parametrize("target", ["test", "check", "docs", "demo", "resume", "adopt"])
def test_make_knows_how(target):
    done = subprocess.run(
        ["make", "-n", target], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
