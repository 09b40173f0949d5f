"""`python -m batchopt.init [FOLDER]`: writes a folder with conf/, a Makefile and CSV files.

The CSV files hold the generated sample, so that every command works before the first row of one's
own is there.
"""

import csv
import io
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from batchopt.cli import OK, Parser, answer
from batchopt.data import Example
from batchopt.data.sample import generate
from batchopt.errors import RequestError
from batchopt.request.paths import check_writable

FILES = Path(__file__).resolve().parent / "folder"
"""What is written as it stands."""

NAMES = {"gitignore": ".gitignore"}
"""Files that have another name here, where they would mean something."""


def main(words: list[str]) -> int:
    """Writes the folder; returns the exit code."""
    parser = Parser(
        prog="python -m batchopt.init",
        description="Write a folder for an experiment of your own: conf/ with your choices, a "
        "Makefile, and a generated sample as data/train.csv, to be replaced by your rows.",
        epilog="Nothing is overwritten. Exit codes: 0 written; 2 the request was wrong.",
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path(), metavar="FOLDER")
    folder = parser.parse_args(words).folder
    contents = folder_files()
    write_folder(folder, contents)
    print(*(f"wrote {folder / name}" for name in contents), sep="\n")
    conf = shlex.quote(f"file://{folder.resolve() / 'conf'}")
    if folder.resolve() != Path.cwd():
        print(f"next: cd {shlex.quote(str(folder))}")
    print("then: make sweep, make analyze, make adopt   (make help lists all)")
    print(f"without make: export BATCHOPT_CONF={conf}")
    return OK


def folder_files() -> dict[str, bytes]:
    """Returns the content of every file, by its path in the folder."""
    named = {
        path.relative_to(FILES).as_posix(): path.read_bytes()
        for path in sorted(FILES.rglob("*"))
        if path.is_file()
    }
    corpus = generate(language="mixed", train_examples=640, validation_examples=64, seed=0)
    return {NAMES.get(name, name): content for name, content in named.items()} | {
        "data/train.csv": csv_of(corpus.train),
        "data/validation.csv": csv_of(corpus.validation),
    }


def csv_of(examples: Sequence[Example]) -> bytes:
    """Makes a CSV file with the columns dialogue and summary."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["dialogue", "summary"])
    rows.writerows([example.dialogue, example.summaries[0]] for example in examples)
    return text.getvalue().encode()


def write_folder(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Writes all files or none: they are complete beside their place before the first is moved.

    Raises:
        RequestError: A file is there already, or the folder cannot be written.
    """
    there = [name for name in contents if os.path.lexists(folder / name)]
    if there:
        raise RequestError(
            f"{folder / there[0]} is there already, and nothing is overwritten; name another "
            "folder, as in: batchopt init my-experiment"
        )
    check_writable("FOLDER", folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=".batchopt-") as beside:
            for name, content in contents.items():
                path = Path(beside) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            for name in contents:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
            # Every folder is there: from here on files only change their place.
            for name in contents:
                (Path(beside) / name).rename(folder / name)
    except OSError as error:
        raise RequestError(
            f"FOLDER: {folder} cannot be written ({error.strerror}); name another folder"
        ) from error


if __name__ == "__main__":
    sys.exit(answer(main))
