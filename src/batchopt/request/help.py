"""`--help` and shell completion: groups, choices and keys, from conf/ and the schemas."""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from itertools import pairwise
from typing import Any

from omegaconf import MISSING

from batchopt.commands import COMMANDS, MODULES
from batchopt.request.compose import EXPERIMENT, GROUPS, choices_of
from batchopt.request.constraints import constraint_of
from batchopt.request.sections import SECTIONS, Section

WIDTH = 80
"""Columns of the help text: those of an ordinary terminal."""

_COMMANDS = "\n".join(f"  {f'python -m {module}':<26} {text}" for module, text in MODULES.items())

USAGE = f"""\
Which per-device batch size and how much gradient accumulation?
Measured, with the evidence.

Commands (each with --help; batchopt NAME is the same, as in batchopt status):
{_COMMANDS}

Trainings:
  python -m batchopt.train batch=05b           (+batch=05b does the same)
  python -m batchopt.train -m batch=05a,05b,05c
  python -m batchopt.train -m batch=05a,05b,05c seed=1,2,3
  python -m batchopt.train -m batch=05a,05b,05c hydra/launcher=slurm
  python -m batchopt.train data=files data.train_file=train.csv batch=05b

  --cfg job shows the config that a request makes; --hydra-help lists Hydra's
  own flags."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key of the config: its dotted name, its default as one would type it, and its text."""

    name: str
    default: str
    text: str


def help_text() -> str:
    """Returns the whole help text."""
    return "\n\n".join([USAGE, _groups(), *map(_section, SECTIONS)])


def keys_of(section: Section) -> list[Key]:
    """Lists the keys of a section; a constraint ends the text of its key."""
    group, _, schema = section
    texts = field_texts(schema)
    keys = []
    for item in dataclasses.fields(schema):
        name = f"{group}.{item.name}" if group else item.name
        if name in {section.group for section in SECTIONS} or item.name == "source":
            continue
        constraint = constraint_of(item)
        rule = f" Must be {constraint.text}." if constraint else ""
        keys.append(Key(name, default_of(item), texts.get(item.name, "") + rule))
    return keys


def _groups() -> str:
    lines = ["Groups (GROUP=CHOICE):"]
    for group in (*GROUPS, EXPERIMENT, "hydra/launcher"):
        first = f"  {group:<15} "
        choices = ", ".join(choices_of(group))
        lines.append(_wrapped(choices, first, " " * len(first)))
    return "\n".join(lines)


def heading_of(section: Section) -> str:
    """Names a section, as in `data (data=files)`; "" for the top level."""
    choice = f" ({section.group}={section.choice})" if section.choice else ""
    return section.group + choice


def _section(section: Section) -> str:
    lines = [f"{heading_of(section) or 'top level'}:"]
    for key in keys_of(section):
        lines.append(_wrapped(f"{key.name}={key.default}", "  ", "    "))
        lines += [_wrapped(key.text, "      ", "      ")] if key.text else []
    return "\n".join(lines)


def _wrapped(text: str, first: str, others: str) -> str:
    """Breaks a text at blanks into lines of the width of the help text."""
    return textwrap.fill(
        text,
        WIDTH,
        initial_indent=first,
        subsequent_indent=others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def default_of(item: "dataclasses.Field[Any]") -> str:
    """Returns the default of a field as one would type it; … if there is none."""
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
    """Reads the strings under the fields of a schema, inherited fields included."""
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


BASH = f"""\
_batchopt_complete() {{
    local words=($COMP_LINE) train
    if [[ ${{words[1]}} == -m && ${{words[2]}} =~ ^batchopt\\.(train|probe|verify)$ ]]; then
        train=(-m batchopt.train)
    elif [[ ${{words[0]##*/}} != batchopt ]]; then
        return
    elif (( COMP_CWORD == 1 )); then
        compopt +o nospace
        COMPREPLY=($(compgen -W "{" ".join(COMMANDS)}" -- "${{COMP_WORDS[1]}}"))
        return
    elif [[ ${{words[1]}} =~ ^(train|probe|verify)$ ]]; then
        train=(train)
    else
        return
    fi
    local found
    found=$(COMP_LINE=$COMP_LINE "${{words[0]}}" "${{train[@]}}" -sc query=bash 2>/dev/null)
    COMPREPLY=($(compgen -W "$found" -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}
COMP_WORDBREAKS=${{COMP_WORDBREAKS//=}}
complete -o nospace -o default -F _batchopt_complete python python3 batchopt
"""


def plain_line(environ: Mapping[str, str]) -> str:
    """Turns the line that is being typed into what Hydra completes: a program, no flags."""
    line = environ.get("COMP_LINE", "")
    line = re.sub(r"^\s*\S*(?:python[\d.]*\s+-m\s+\S+|batchopt\s+\w+)", "batchopt", line)
    return re.sub(r"\s(?:-m|--multirun)(?=\s|$)", "", line)
