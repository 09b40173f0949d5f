"""The command: arguments, the straight line from files to artifacts, and exit codes."""

import io
import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis.errors import RequestError
from analysis.labels import Language

OUTPUT = "outputs/analysis/batch_optimization"
MULTIRUN = "multirun"

HELP = f"""\
Analyses the runs of a sweep and writes tables, figures and a report.

  python -m analysis [sweep=PATH[,PATH...]] [output=DIR]

  sweep   a sweep (a directory with sweep.json), a single run (with record.json), or a directory
          that holds some; several with commas. Default: the newest sweep under {MULTIRUN}/
  output  where to write. Default: {OUTPUT}

Exit codes: 0 written; 2 the request was wrong, nothing was written."""


def main(arguments: Sequence[str]) -> int:
    """Analyses what the arguments name and returns the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return 0
    try:
        options = parse_arguments(arguments)
        artifacts = analyse(_named_paths(options.get("sweep")))
        output = Path(options.get("output") or OUTPUT)
        write_files(output, artifacts)
    except RequestError as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    print(*(f"wrote {output / name}" for name in artifacts), sep="\n")
    return 0


def parse_arguments(arguments: Sequence[str]) -> dict[str, str]:
    """Reads key=value words.

    Raises:
        RequestError: A word that is no key=value, or a key that does not exist.
    """
    options = {}
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if key not in ("sweep", "output") or not value:
            raise RequestError(
                f"{argument!r} is not an option with a value; the options are sweep=PATH[,PATH] "
                "and output=DIR"
                if not separator or not value
                else f"{key} is not an option; the options are sweep and output"
            )
        options[key] = value
    return options


def analyse(
    paths: Sequence[Path], language: Language = "en", formats: Sequence[str] = ("png",)
) -> dict[str, bytes]:
    """Reads the runs at or below the paths and makes the content of every artifact, by name.

    Raises:
        RequestError: There is nothing to analyse, or a sweep is damaged.
    """
    from analysis.read import read_sweeps

    sweeps = read_sweeps(paths)
    # pandas and matplotlib take seconds to import: --help and a wrong request do not wait.
    from analysis import fonts, html, markdown, recommendation
    from analysis.comparisons import label_settings
    from analysis.figures import draw_all
    from analysis.findings import find
    from analysis.frame import build_frame
    from analysis.report import build_document

    runs = [run for sweep in sweeps for run in sweep.runs]
    frame = build_frame(runs)
    labels = label_settings(runs)
    findings = find(runs, frame, labels)
    report = build_document(sweeps, runs, frame, labels, findings, language=language)
    drawn = (
        report
        if fonts.has_hangul()
        else build_document(sweeps, runs, frame, labels, findings, language="en")
    )
    recommended = recommendation.describe(sweeps, runs, labels, findings)
    rows = io.StringIO()
    frame.to_csv(rows, index=False, lineterminator="\n")
    return {
        "batch_optimization_results.csv": rows.getvalue().encode(),
        **draw_all(drawn, formats),
        "batch_optimization_report.md": markdown.render(report).encode(),
        "batch_optimization_report.html": html.render(report).encode(),
        "recommendation.json": (
            json.dumps(recommended, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
    }


def write_files(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Writes all files or none: each is complete beside its place before the first is moved.

    Raises:
        RequestError: The directory cannot be written.
    """
    temporary: dict[Path, Path] = {}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            descriptor, name_beside = tempfile.mkstemp(dir=directory, prefix=f".{name}.")
            path = Path(name_beside)
            temporary[path] = directory / name
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(content)
            path.chmod(0o644)  # mkstemp makes private files; a report is there to be shown
        for path, destination in temporary.items():
            path.replace(destination)
    except OSError as error:
        raise RequestError(
            f"output: {directory} cannot be written ({error}); name another with output=DIR"
        ) from error
    finally:
        for path in temporary:
            path.unlink(missing_ok=True)


def _named_paths(value: str | None) -> list[Path]:
    from analysis.read import newest_sweep

    if value is None:
        return [newest_sweep(Path(MULTIRUN))]
    # Hydra puts commas into the names of run directories.
    if Path(value).exists():
        return [Path(value)]
    return [Path(part.strip()) for part in value.split(",") if part.strip()]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
