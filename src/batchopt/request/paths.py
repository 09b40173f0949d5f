"""Paths that a request names: `~` is the home, and folders must be writable."""

import dataclasses
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from batchopt.errors import RequestError
from batchopt.request.constraints import is_path


def expand_homes(section: Any) -> None:
    """Replaces `~` at the beginning of every path in a config by the home."""
    for item in dataclasses.fields(section):
        value = getattr(section, item.name)
        if dataclasses.is_dataclass(value):
            expand_homes(value)
        elif is_path(item) and isinstance(value, str):
            setattr(section, item.name, _expanded(value))
        elif is_path(item) and isinstance(value, list):
            setattr(section, item.name, [_expanded(str(one)) for one in value])


def _expanded(path: str) -> str:
    # The name of a user who does not exist stays, and the file is then missing under that name.
    return os.path.expanduser(path)  # noqa: PTH111


def folder_name(overrides: str) -> str:
    """Makes the name of one folder from the overrides of a run.

    Drops the quotes, backslashes and plus signs of Hydra's grammar, and cuts what a file system
    would refuse.
    """
    name = re.sub(r"[\\'\"]|(?:(?<=,)|^)\+\+", "", overrides).replace("/", "_")
    return name.encode()[:200].decode(errors="ignore")


def check_writable(key: str, folder: Path) -> None:
    """Refuses a folder that cannot be made, or cannot be written to; leaves nothing behind.

    Raises:
        RequestError: Names the key, the folder and the reason.
    """
    existing = folder.absolute()
    while not os.path.lexists(existing):
        existing = existing.parent
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix=".batchopt-"):
            return
    except NotADirectoryError as error:
        raise RequestError(
            f"{key} is {folder}, and {existing} is not a folder; name another place"
        ) from error
    except OSError as error:
        raise RequestError(
            f"{key} is {folder}, and {existing} cannot be written to ({error.strerror}); name "
            "another place"
        ) from error
