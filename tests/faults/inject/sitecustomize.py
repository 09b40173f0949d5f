"""Commits a fault in a training process; Python imports this by itself from PYTHONPATH.

FAULTS is JSON: the number of a run in its sweep -> [fault, phase, count]. The fault comes as that
phase begins for the count-th time, in the main thread. Only `batchopt.training.worker` is touched.
"""

import importlib.abc
import importlib.util
import json
import os
import sys
from pathlib import Path


class _AfterImport(importlib.abc.MetaPathFinder):
    """Wraps `Recorder.phase` once batchopt.training.recorder has been imported."""

    def __init__(self, fault, phase, count):
        self.fault, self.phase, self.left = fault, phase, count

    def find_spec(self, name, path, target=None):
        if name != "batchopt.training.recorder":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def execute_and_wrap(module):
            execute(module)
            begin = module.Recorder.phase

            def phase(recorder, name):
                begin(recorder, name)
                if name == self.phase:
                    self.left -= 1
                    if self.left == 0:
                        from faults_to_commit import commit

                        commit(self.fault, recorder.run_dir)

            module.Recorder.phase = phase

        spec.loader.exec_module = execute_and_wrap
        return spec


if sys.orig_argv[1:3] == ["-m", "batchopt.training.worker"]:
    run = Path(sys.orig_argv[3]).name.split("_")[0]
    planned = json.loads(os.environ.get("FAULTS", "{}")).get(run)
    if planned:
        sys.meta_path.insert(0, _AfterImport(*planned))
