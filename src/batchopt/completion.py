"""Completion in the shell: `eval "$(python -m batchopt.train -sc install=bash)"`.

Hydra finds what can follow, but knows neither `python -m` nor flags on the line that is typed; so
the line is given to it without them, and bash gets a function that asks for lines with `-m`.
"""

import re
from collections.abc import Mapping

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
