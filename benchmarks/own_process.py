"""Runs one measurement in a process of its own, so that nothing of the one before is left in it."""

import json
import os
import subprocess
import sys


class Failed(Exception):
    """The process failed; its text is what it printed on standard error."""


def measure(script, *words, env=None):
    """The JSON that `python SCRIPT WORDS` prints last; `env` is added to the environment."""
    done = subprocess.run(
        [sys.executable, script, *map(str, words)],
        env=os.environ | (env or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failed(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
