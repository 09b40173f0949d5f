"""`--help`: groups, choices and keys, generated from conf/ and the schemas."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any

from omegaconf import MISSING

from batchopt.request import config
from batchopt.request.compose import DATA, EXPERIMENT, GROUPS, MODELS, choices_of

USAGE = """\
Which per-device batch size and how much gradient accumulation? Measured, with the evidence.

  python -m batchopt.train batch=05b                    one run (+batch=05b does the same)
  python -m batchopt.train -m batch=05a,05b,05c         a sweep
  python -m batchopt.train -m batch=05a,05b,05c seed=1,2,3
  python -m batchopt.train -m batch=05a,05b,05c hydra/launcher=slurm
  python -m batchopt.train data=files data.train_file=train.csv batch=05b
  python -m batchopt.status [watch=true]                what each run of a sweep is doing now
  python -m analysis                                    the report of the newest sweep
  python -m batchopt.doctor                             what this machine has, and what is missing

  --cfg job shows the config that a request makes; --hydra-help lists Hydra's own flags."""


def help_text() -> str:
    """The whole help text."""
    return "\n\n".join([USAGE, _groups(), *_sections()])


def _groups() -> str:
    lines = ["Groups (GROUP=CHOICE):"]
    for group in (*GROUPS, EXPERIMENT, "hydra/launcher"):
        lines.append(f"  {group:<15} {', '.join(choices_of(group))}")
    return "\n".join(lines)


def _sections() -> list[str]:
    sections = [_section("batch", "", config.BatchConfig)]
    sections += [_section("data", f" (data={name})", schema) for name, schema in DATA.items()]
    sections += [_section("model", f" (model={name})", schema) for name, schema in MODELS.items()]
    sections += [
        _section("training", "", config.TrainingConfig),
        _section("metric", "", config.MetricConfig),
        _section("device", "", config.DeviceConfig),
        _section("tracker", "", config.TrackerConfig),
        _section("run", "", config.RunConfig),
        _section("probe", "", config.ProbeConfig),
        _section("sweep", "", config.SweepConfig),
        _section("", "", config.Config),
    ]
    return sections


def _section(group: str, note: str, schema: type) -> str:
    lines = [f"{group or 'top level'}{note}:"]
    texts = field_texts(schema)
    for item in dataclasses.fields(schema):
        if item.name in (*GROUPS, "run", "probe", "sweep", "source"):
            continue
        key = f"{group}.{item.name}" if group else item.name
        head = f"  {key}={default_of(item)}"
        text = textwrap.wrap(texts.get(item.name, ""), 92)
        lines += [head, *(f"      {line}" for line in text)]
    return "\n".join(lines)


def default_of(item: "dataclasses.Field[Any]") -> str:
    """The default of a field as one would write it on the command line; … where there is none."""
    value = item.default
    if item.default_factory is not dataclasses.MISSING:
        value = item.default_factory()
    if value is dataclasses.MISSING or value == MISSING:
        return "…"
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


@cache
def field_texts(schema: type) -> dict[str, str]:
    """The strings that stand under the fields of a schema, inherited ones included."""
    texts: dict[str, str] = {}
    for cls in reversed(schema.__mro__[:-1]):
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
        body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
        for statement, below in pairwise(body):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
            ):
                texts[statement.target.id] = " ".join(str(below.value.value).split())
    return texts


BASH = """\
_batchopt_complete() {
    local words=($COMP_LINE)
    [[ ${words[1]} == -m && ${words[2]} =~ ^batchopt\\.(train|probe|verify)$ ]] || return
    local found
    found=$(COMP_LINE=$COMP_LINE "${words[0]}" -m batchopt.train -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -W "$found" -- "${COMP_WORDS[COMP_CWORD]}"))
}
COMP_WORDBREAKS=${COMP_WORDBREAKS//=}
complete -o nospace -o default -F _batchopt_complete python python3
"""


def plain_line(environ: Mapping[str, str]) -> str:
    """The line that is being typed, as Hydra reads it: one word for the program, no flags."""
    line = environ.get("COMP_LINE", "")
    line = re.sub(r"^\s*\S*python[\d.]*\s+-m\s+\S+", "batchopt", line)
    return re.sub(r"\s(?:-m|--multirun)(?=\s|$)", "", line)
