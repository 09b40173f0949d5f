"""Which schema belongs to which group and choice: the table of all keys."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple, get_origin, get_type_hints

from batchopt.request.config import (
    AdapterConfig,
    BatchConfig,
    Config,
    DeviceConfig,
    FilesDataConfig,
    GenerationSettings,
    HubDataConfig,
    MetricConfig,
    PretrainedModelConfig,
    ProbeConfig,
    RunConfig,
    SampleDataConfig,
    SweepConfig,
    TinyCausalModelConfig,
    TinyModelConfig,
    TrackerConfig,
    TrainerArguments,
    TrainingConfig,
)

DATA = {"sample": SampleDataConfig, "files": FilesDataConfig, "hub": HubDataConfig}
MODELS = {
    "tiny": TinyModelConfig,
    "tiny_causal": TinyCausalModelConfig,
    "pretrained": PretrainedModelConfig,
}


class Section(NamedTuple):
    """Keys that are listed together: those of a group, or with `choice` of one choice of it.

    The top level has the group "".
    """

    group: str
    choice: str
    schema: type


SECTIONS = (
    Section("batch", "", BatchConfig),
    *(Section("data", choice, schema) for choice, schema in DATA.items()),
    *(Section("model", choice, schema) for choice, schema in MODELS.items()),
    Section("adapter", "", AdapterConfig),
    Section("training", "", TrainingConfig),
    Section("training.arguments", "", TrainerArguments),
    Section("metric", "", MetricConfig),
    Section("generation", "", GenerationSettings),
    Section("device", "", DeviceConfig),
    Section("tracker", "", TrackerConfig),
    Section("run", "", RunConfig),
    Section("probe", "", ProbeConfig),
    Section("sweep", "", SweepConfig),
    Section("", "", Config),
)
"""Every key of the config."""


def _open_tables() -> Iterator[str]:
    for group, _, schema in SECTIONS:
        hints = get_type_hints(schema)
        for item in dataclasses.fields(schema):
            if get_origin(hints[item.name]) is dict:
                yield f"{group}.{item.name}"


OPEN_TABLES = tuple(_open_tables())
"""Keys that hold a table, and the keys of that table are whatever another key allows."""
