"""Imports large libraries without the garbage collector.

Torch and transformers make a million objects that live as long as the process. The collector walks
all of them again and again while they are made, for a fourth of the time of their import.
"""

import gc
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
