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
from itertools import accumulate, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.findings.thresholds import MARGIN
from analysis.words.texts import Language
from batchopt.errors import RequestError
from batchopt.record.files import is_there
from batchopt.record.keys import Word

if TYPE_CHECKING:
    import pandas as pd

    from analysis.findings.facts import Findings
    from analysis.reading.runs import Run, Sweep

OUTPUT = "outputs/analysis/batch_optimization"
MULTIRUN = "multirun"

FORMATS = ("png", "svg", "pdf")

HELP = f"""\
Analyses the runs of a sweep and writes tables, figures and a report.

  python -m analysis [PATH...] [sweep=PATH[,PATH...]] [output=DIR] [KEY=VALUE...]

  PATH, sweep         a sweep (a directory with sweep.json), a single run (with record.json), or a
                      directory that holds some, such as outputs/runs/DATE. Several are compared
                      like the runs of one sweep. Default: the newest sweep under {MULTIRUN}/
  output              where to write. Default: {OUTPUT}
  language            of the report: en or ko. Default: en
  figures             formats: {", ".join(FORMATS)}; several with commas. Default: png
  equivalence_margin  ROUGE points of 100: differences in quality within it do not matter.
                      Default: {MARGIN}
  memory_budget_gib   what a device has; the report then names the best setting that fits
  baseline            a preset or setting that the others are compared with. Default: the slowest
  full_steps          optimizer steps of the training that is planned; the report predicts its time,
                      energy and free memory. Default: what the sweep's config says
  adopt               an aim: fastest, least_memory, best_quality, best_rouge_per_minute,
                      best_rouge_per_gib or least_energy. Writes its choice as conf/batch/best.yaml,
                      for batch=best
  adopt_anyway        true: also where the data cannot decide. Default: false
  adopt_dir           where best.yaml is written. Default: conf/batch of this checkout or, where
                      batchopt is installed, batch in the folder that BATCHOPT_CONF names

Exit codes: 0 written; 2 the request was wrong, nothing was written."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked for."""

    sweep: tuple[Path, ...] = ()
    """The paths to read; none: the newest sweep."""
    output: str = OUTPUT
    language: Language = "en"
    figures: tuple[str, ...] = ("png",)
    equivalence_margin: float = MARGIN
    memory_budget_gib: float | None = None
    baseline: str | None = None
    full_steps: int | None = None
    adopt: str | None = None
    adopt_anyway: bool = False
    adopt_dir: str | None = None


def main(arguments: Sequence[str]) -> int:
    """Analyses what the arguments name and returns the exit code."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(HELP)
        return 0
    try:
        request = parse_arguments(arguments)
        analysis = find(request.sweep or [_newest()], request)
        # Refused before anything is drawn or written.
        preset = adopt(analysis, request)
        output = Path(request.output)
        artifacts = draw(analysis, request)
        write_files(output, artifacts, key="output")
        written = [output / name for name in artifacts]
        for path, content in preset.items():
            write_files(path.parent, {path.name: content}, key="adopt_dir")
            written.append(path)
    except RequestError as error:
        print(f"analysis: {error}", file=sys.stderr)
        return 2
    print(*(f"wrote {path}" for path in written), sep="\n")
    return 0


def parse_arguments(arguments: Sequence[str]) -> Request:
    """Reads key=value words, and paths.

    Raises:
        RequestError: A word that is neither, a key that does not exist, or a wrong value.
    """
    options: dict[str, Any] = {}
    named: list[Path] = []
    keys = [field.name for field in fields(Request)]
    for argument in arguments:
        if is_there(argument):  # also a run's directory with "=" in its name
            named.append(Path(argument))
            continue
        word = Word.parse(argument)
        key, value = f"{word.sign}{word.key}", word.value
        if not value:
            raise RequestError(
                f"{argument!r} is no path that is there and no option with a value; the options "
                f"are sweep=PATH[,PATH] and, likewise, {', '.join(keys[1:])}"
            )
        if key not in keys:
            raise RequestError(f"{key} is not an option; the options are {', '.join(keys)}")
        options[key] = _READ.get(key, _read_text)(key, value)
    if named:
        options["sweep"] = (*named, *options.get("sweep", ()))
    return Request(**options)


def _read_text(_: str, value: str) -> str:
    return value


def _read_paths(_: str, value: str) -> tuple[Path, ...]:
    """Splits at commas; Hydra puts some into the names of run directories.

    The longest name that is there counts.
    """
    if value.startswith("[") and value.endswith("]"):
        value = value[1:-1]
    parts = [part.strip() for part in value.split(",") if part.strip()]
    paths: list[Path] = []
    while parts:
        joined = accumulate(parts, lambda path, part: f"{path},{part}")
        names = list(takewhile(_may_be_there, joined))
        paths.append(Path(next(filter(is_there, reversed(names)), parts[0])))
        del parts[: paths[-1].as_posix().count(",") + 1]
    return tuple(paths)


def _may_be_there(path: str) -> bool:
    """Whether no system's limits forbid the path, nor its last name; both in characters."""
    return len(path) <= 4096 and len(path.rpartition("/")[2]) <= 255


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


def _read_count(key: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise RequestError(f"{key} is {value!r}; it must be a whole number from 1")
    return int(value)


def _read_truth(key: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise RequestError(f"{key} is {value!r}; it must be true or false")
    return value.lower() == "true"


_READ: Mapping[str, Callable[[str, str], Any]] = {
    "sweep": _read_paths,
    "language": _read_language,
    "figures": _read_formats,
    "equivalence_margin": _read_positive,
    "memory_budget_gib": _read_positive,
    "full_steps": _read_count,
    "adopt_anyway": _read_truth,
}


@dataclass(frozen=True, slots=True)
class Analysis:
    """The runs, one row and one label for each, and what follows from them."""

    sweeps: "tuple[Sweep, ...]"
    runs: "tuple[Run, ...]"
    frame: "pd.DataFrame"
    labels: tuple[str, ...]
    findings: "Findings"


def find(paths: Sequence[Path], request: Request) -> Analysis:
    """Reads the runs at or below the paths and says what follows from their numbers.

    Raises:
        RequestError: There is nothing to analyse, a sweep is damaged, or there is no such baseline.
    """
    from analysis.reading.runs import read_sweeps

    sweeps = read_sweeps(paths)
    # pandas takes seconds to import: --help and a wrong request do not wait.
    from analysis.findings import judge
    from analysis.findings.comparisons import label_settings
    from analysis.findings.frame import build_frame

    runs = tuple(run for sweep in sweeps for run in sweep.runs)
    frame = build_frame(runs)
    labels = tuple(label_settings(runs))
    known = dict.fromkeys(name for label in labels for name in (label.split(" (")[0], label))
    if request.baseline is not None and request.baseline not in known:
        raise RequestError(
            f"baseline is {request.baseline!r}, which is no setting of these runs; they are "
            f"{', '.join(known)}"
        )
    options = judge.Options(
        request.equivalence_margin,
        request.memory_budget_gib,
        request.baseline,
        request.full_steps,
    )
    return Analysis(sweeps, runs, frame, labels, judge.find(runs, frame, labels, options))


def adopt(analysis: Analysis, request: Request) -> dict[Path, bytes]:
    """Makes the preset that is asked for, by its path; none where none is asked for.

    Raises:
        RequestError: There is no such aim, the data cannot decide, or no place to write it.
    """
    if request.adopt is None:
        return {}
    from analysis.report.adopt import NAME, choose, preset_directory, write_preset

    directory = preset_directory(request.adopt_dir)
    findings, runs, labels = analysis.findings, analysis.runs, analysis.labels
    place = choose(findings, runs, labels, request.adopt, anyway=request.adopt_anyway)
    preset = write_preset(runs[place], labels[place], findings, analysis.sweeps, request.adopt)
    return {directory / NAME: preset.encode()}


def draw(analysis: Analysis, request: Request) -> dict[str, bytes]:
    """Makes the content of every artifact, by name."""
    from analysis.report import fonts, html, markdown, recommendation
    from analysis.report.build import build_document
    from analysis.report.figures import draw_all, draw_page

    sweeps, runs, labels = analysis.sweeps, analysis.runs, analysis.labels
    build = partial(build_document, sweeps, runs, analysis.frame, labels, analysis.findings)
    report = build(language=request.language)
    drawn = report if fonts.has_hangul() else build(language="en")
    recommended = recommendation.describe(sweeps, runs, labels, analysis.findings)
    rows = io.StringIO()
    analysis.frame.to_csv(rows, index=False, lineterminator="\n")
    return {
        "batch_optimization_results.csv": rows.getvalue().encode(),
        **draw_all(drawn, request.figures),
        "batch_optimization_report.md": markdown.render(report).encode(),
        "batch_optimization_report.html": html.render(report, draw_page(drawn)).encode(),
        "recommendation.json": (
            json.dumps(recommended, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        ).encode(),
    }


def analyse(paths: Sequence[Path], request: Request | None = None) -> dict[str, bytes]:
    """Reads the runs at or below the paths and makes the content of every artifact, by name.

    Raises:
        RequestError: There is nothing to analyse, or a sweep is damaged.
    """
    request = request or Request()
    return draw(find(paths, request), request)


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


def _newest() -> Path:
    from analysis.reading.runs import newest_sweep

    return newest_sweep(Path(MULTIRUN))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
