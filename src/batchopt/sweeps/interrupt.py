"""Holds Ctrl-C back while Hydra composes, and lets it through while a job runs."""

import functools
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeVar

_Config = TypeVar("_Config")
_Result = TypeVar("_Result")


class HeldInterrupt:
    """Notes Ctrl-C instead of raising KeyboardInterrupt, as a context manager; `came` says so."""

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> "HeldInterrupt":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def let_through(self, job: Callable[[_Config], _Result]) -> Callable[[_Config], _Result]:
        """Wraps a job: Ctrl-C raises as usual while it runs, and at once if it came before."""

        @functools.wraps(job)
        def wrapped(config: _Config) -> _Result:
            signal.signal(signal.SIGINT, self._before)
            try:
                if self.came:
                    raise KeyboardInterrupt
                return job(config)
            finally:
                signal.signal(signal.SIGINT, self._note)

        return wrapped

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
