"""The way from a data config to its corpus, and the name of a corpus by its content."""

import hashlib
import json
from dataclasses import replace

from batchopt.data import Corpus, files, hub, sample
from batchopt.errors import RequestError
from batchopt.request.config import DataConfig, FilesDataConfig, HubDataConfig, SampleDataConfig


def load_corpus(config: DataConfig) -> Corpus:
    """Reads or generates both splits, the validation split cut to `max_validation_examples`.

    Raises:
        RequestError: Data or a value of the config that cannot be used.
    """
    limit = config.max_validation_examples
    if limit is not None and limit < 1:
        raise RequestError(
            f"data.max_validation_examples is {limit}; it must be 1 or more, or null for all"
        )
    corpus = _load(config)
    return replace(corpus, validation=corpus.validation[:limit])


def fingerprint(corpus: Corpus) -> str:
    """Returns the SHA-256 of the content of both splits in hexadecimal digits.

    It depends on ids, texts and their order, and not on where or in which format they lie.
    """
    digest = hashlib.sha256()
    for split, examples in (("train", corpus.train), ("validation", corpus.validation)):
        for example in examples:
            line = json.dumps([split, example.id, example.dialogue, example.summaries])
            digest.update(line.encode() + b"\n")
    return digest.hexdigest()


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
