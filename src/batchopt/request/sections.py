"""Which schema belongs to which group and choice: the table of all keys."""

from typing import NamedTuple

from batchopt.request.config import (
    AdapterConfig,
    BatchConfig,
    Config,
    DeviceConfig,
    FilesDataConfig,
    HubDataConfig,
    MetricConfig,
    PretrainedModelConfig,
    ProbeConfig,
    RunConfig,
    SampleDataConfig,
    SweepConfig,
    TinyModelConfig,
    TrackerConfig,
    TrainingConfig,
)

DATA = {"sample": SampleDataConfig, "files": FilesDataConfig, "hub": HubDataConfig}
MODELS = {"tiny": TinyModelConfig, "pretrained": PretrainedModelConfig}


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
    Section("metric", "", MetricConfig),
    Section("device", "", DeviceConfig),
    Section("tracker", "", TrackerConfig),
    Section("run", "", RunConfig),
    Section("probe", "", ProbeConfig),
    Section("sweep", "", SweepConfig),
    Section("", "", Config),
)
"""Every key of the config."""
