"""The command: arguments, the straight line from files to artifacts, and exit codes."""

import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from analysis.errors import RequestError
from analysis.labels import Language

OUTPUT = "outputs/analysis/batch_optimization"
MULTIRUN = "multirun"

CACHE = "outputs/cache"
FORMATS = ("png", "svg", "pdf")

HELP = f"""\
Analyses the runs of a sweep and writes tables, figures and a report.

  python -m analysis [sweep=PATH[,PATH...]] [output=DIR] [KEY=VALUE...]

  sweep               a sweep (a directory with sweep.json), a single run (with record.json), or a
                      directory that holds some; several with commas. Default: the newest sweep
                      under {MULTIRUN}/
  output              where to write. Default: {OUTPUT}
  language            of the report: en or ko. Default: en
  figures             formats: {", ".join(FORMATS)}; several with commas. Default: png
  equivalence_margin  ROUGE points of 100: differences in quality within it do not matter.
                      Default: 0.5
  memory_budget_gib   what a device has; the report then names the best setting that fits
  adopt               an aim: fastest, least_memory, best_quality, best_rouge_per_minute,
                      best_rouge_per_gib or least_energy. Writes its choice as conf/batch/best.yaml,
                      for batch=best
  adopt_anyway        true: also where the data cannot decide. Default: false
  adopt_dir           where best.yaml is written. Default: conf/batch of this checkout
  cache_dir           where is kept what was read of large sweeps. Default: {CACHE}

Exit codes: 0 written; 2 the request was wrong, nothing was written."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    sweep: str | None = None
    output: str = OUTPUT
    language: Language = "en"
    figures: tuple[str, ...] = ("png",)
    equivalence_margin: float = 0.5
    memory_budget_gib: float | None = None
    adopt: str | None = None
    adopt_anyway: bool = False
    adopt_dir: str | None = None
    cache_dir: str = CACHE


def main(arguments: Sequence[str]) -> int:
    """Analyses what the arguments name and returns the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return 0
    try:
        request = parse_arguments(arguments)
        artifacts, preset = analyse(_named_paths(request.sweep), request)
        output = Path(request.output)
        write_files(output, artifacts, key="output")
        written = [output / name for name in artifacts]
        if preset is not None:
            from analysis.adopt import NAME, preset_directory

            directory = preset_directory(request.adopt_dir)
            write_files(directory, {NAME: preset.encode()}, key="adopt_dir")
            written.append(directory / NAME)
    except RequestError as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    print(*(f"wrote {path}" for path in written), sep="\n")
    return 0


def parse_arguments(arguments: Sequence[str]) -> Request:
    """Reads key=value words.

    Raises:
        RequestError: A word that is no key=value, a key that does not exist, or a wrong value.
    """
    options: dict[str, Any] = {}
    keys = [field.name for field in fields(Request)]
    for argument in arguments:
        key, separator, value = argument.partition("=")
        if not separator or not value:
            raise RequestError(
                f"{argument!r} is not an option with a value; the options are sweep=PATH[,PATH] "
                f"and, likewise, {', '.join(keys[1:])}"
            )
        if key not in keys:
            raise RequestError(f"{key} is not an option; the options are {', '.join(keys)}")
        options[key] = _READ.get(key, _read_text)(key, value)
    return Request(**options)


def _read_text(_: str, value: str) -> str:
    return value


def _read_language(key: str, value: str) -> str:
    if value not in ("en", "ko"):
        raise RequestError(f"{key} is {value!r}; it must be en or ko")
    return value


def _read_formats(key: str, value: str) -> tuple[str, ...]:
    formats = tuple(part.strip() for part in value.split(","))
    for one in formats:
        if one not in FORMATS:
            raise RequestError(f"{key} is {one!r}; it must be of {', '.join(FORMATS)}")
    return formats


def _read_positive(key: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise RequestError(f"{key} is {value!r}; it must be a number above 0")
    return number


def _read_truth(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RequestError(f"{key} is {value!r}; it must be true or false")
    return value.lower() == "true"


_READ: Mapping[str, Callable[[str, str], Any]] = {
    "language": _read_language,
    "figures": _read_formats,
    "equivalence_margin": _read_positive,
    "memory_budget_gib": _read_positive,
    "adopt_anyway": _read_truth,
}


def analyse(
    paths: Sequence[Path], request: Request | None = None
) -> tuple[dict[str, bytes], str | None]:
    """Reads the runs at or below the paths and makes every artifact.

    Returns:
        The content of each file by name, and that of the adopted preset where one is asked for.

    Raises:
        RequestError: There is nothing to analyse, a sweep is damaged, or nothing can be adopted.
    """
    from analysis.cache import Cache
    from analysis.read import read_sweeps

    request = request or Request()
    cache = Cache.open(Path(request.cache_dir) / "analysis", paths)
    sweeps = read_sweeps(paths, cache)
    cache.save()
    # pandas and matplotlib take seconds to import: --help and a wrong request do not wait.
    from analysis import adopt, fonts, html, markdown, recommendation
    from analysis.comparisons import label_settings
    from analysis.figures import draw_all
    from analysis.findings import Options, find
    from analysis.frame import build_frame
    from analysis.report import build_document

    runs = [run for sweep in sweeps for run in sweep.runs]
    frame = build_frame(runs)
    labels = label_settings(runs)
    findings = find(
        runs, frame, labels, Options(request.equivalence_margin, request.memory_budget_gib)
    )
    preset = None
    if request.adopt is not None:
        adopt.preset_directory(request.adopt_dir)  # refused before anything is drawn
        place = adopt.choose(findings, runs, labels, request.adopt, anyway=request.adopt_anyway)
        preset = adopt.write_preset(runs[place], labels[place], findings, sweeps, request.adopt)

    build = partial(build_document, sweeps, runs, frame, labels, findings)
    report = build(language=request.language)
    drawn = report if fonts.has_hangul() else build(language="en")
    recommended = recommendation.describe(sweeps, runs, labels, findings)
    rows = io.StringIO()
    frame.to_csv(rows, index=False, lineterminator="\n")
    return {
        "batch_optimization_results.csv": rows.getvalue().encode(),
        **draw_all(drawn, request.figures),
        "batch_optimization_report.md": markdown.render(report).encode(),
        "batch_optimization_report.html": html.render(report).encode(),
        "recommendation.json": (
            json.dumps(recommended, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
    }, preset


def write_files(directory: Path, contents: Mapping[str, bytes], key: str = "output") -> None:
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
            f"{key}: {directory} cannot be written ({error}); name another with {key}=DIR"
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
