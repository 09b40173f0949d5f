"""Reads the corpus that a data config names."""

from dataclasses import replace

from batchopt.data import Corpus, files, hub, sample
from batchopt.errors import RequestError
from batchopt.request.config import DataConfig, FilesDataConfig, HubDataConfig, SampleDataConfig


def load_corpus(config: DataConfig) -> Corpus:
    """Reads or generates both splits, and cuts the validation split to `max_validation_examples`.

    Raises:
        RequestError: The data, or a value of the config, cannot be used.
    """
    limit = config.max_validation_examples
    if limit is not None and limit < 1:
        raise RequestError(
            f"data.max_validation_examples is {limit}; it must be 1 or more, or null for all"
        )
    corpus = _load(config)
    return replace(corpus, validation=corpus.validation[:limit])


def _load(config: DataConfig) -> Corpus:
    match config:
        case SampleDataConfig():
            return sample.generate(
                language=config.language.value,
                train_examples=config.train_examples,
                validation_examples=config.validation_examples,
                seed=config.seed,
            )
        case FilesDataConfig():
            return files.read(config)
        case HubDataConfig():
            return hub.read(config)
        case _:
            raise TypeError(f"no source of data for {type(config).__name__}")
