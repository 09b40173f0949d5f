"""Imports large libraries quickly: without the garbage collector, and without what nobody uses.

Torch and transformers make a million objects that live as long as the process. The collector walks
all of them again and again while they are made, for a fourth of the time of their import.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Suspends the collector; it never looks at what was made meanwhile.

    For imports only: a cycle of objects that is made here is never freed.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()


def import_transformers() -> None:
    """Imports transformers, and keeps it from importing what no training of texts uses.

    Wherever it finds them it imports `datasets` (with it pandas) and scipy, for 0.7 s of CPU: for
    one more kind of data set, and for the losses of models that find objects in pictures. Whether
    they are there it asks once; others find them later.
    """
    with without_collector(), hidden("datasets", "scipy"):
        from transformers.utils.import_utils import is_datasets_available, is_scipy_available

        is_datasets_available()
        is_scipy_available()


@contextmanager
def hidden(*packages: str) -> Iterator[None]:
    """Lets no import find these packages meanwhile, unless they have been imported already.

    Of a name that stands for None in sys.modules, Python finds no module
    (https://docs.python.org/3.11/reference/import.html#the-module-cache).
    """
    names = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(names))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in names:
            del sys.modules[name]
