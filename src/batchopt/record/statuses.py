"""The words of a record: how a run ended, and the phases that it goes through."""

from enum import StrEnum, auto


class Status(StrEnum):
    """How a run ended. A run without a record is `running`, `killed` or `missing`."""

    completed = auto()
    oom = auto()
    failed = auto()
    killed = auto()
    timeout = auto()
    interrupted = auto()
    running = auto()
    missing = auto()


class Phase(StrEnum):
    """What a run does at one moment. The memory of each phase is measured separately."""

    load = auto()
    train = auto()
    evaluate = auto()
    save = auto()
