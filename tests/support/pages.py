"""The READMEs and pages of docs/, and the commands in them as a person types them."""

import re
from pathlib import Path

from support import TOP

README = TOP / "README.md"
KOREAN = TOP / "README.ko.md"
DOCS = sorted(
    page
    for page in (TOP / "docs").rglob("*.md")
    if page.name not in {"log.md", "decisions.md"} and page.parent.name != "reference"
)
"""The pages that tell people what to type. Past commands stay in the log and in the decisions."""

SHELL = re.compile(r"^```sh\n(.*?)^```", re.M | re.S)
YAML = re.compile(r"^```yaml\n# ([\w./-]+\.yaml)\n(.*?)^```", re.M | re.S)
INLINE = re.compile(r"`((?:make|python -m)\s[^`]+)`")


def commands(page: Path) -> list[str]:
    """The lines of a page's shell blocks and the commands in its text and tables, in their order.

    Comments go. A command that the page repeats is there once.
    """
    text = page.read_text(encoding="utf-8").replace("\\\n", "")
    found = [
        (block.start(), number, line.split("  #")[0].strip())
        for block in SHELL.finditer(text)
        for number, line in enumerate(block[1].splitlines())
    ]
    found += [(code.start(), 0, " ".join(code[1].split())) for code in INLINE.finditer(text)]
    return list(dict.fromkeys(line for _, _, line in sorted(found) if line))


def files(page: Path) -> dict[str, str]:
    """Each YAML file that a page has people write: its path and its text."""
    return {
        name: f"# {name}\n{text}" for name, text in YAML.findall(page.read_text(encoding="utf-8"))
    }
