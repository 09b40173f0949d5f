"""The corpus as token ids: made once, kept on disk, shared by all runs that ask for the same.

The folder's name is a hash of everything that decides its content, so nothing is ever stale.
Finding the folder needs no torch; making it imports transformers and datasets.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from batchopt.data import Corpus, Example
from batchopt.data.load import fingerprint
from batchopt.data.pretrained import load_tokenizer
from batchopt.record.files import read_json, write_json
from batchopt.request.config import Config, ModelConfig, PretrainedModelConfig, TinyModelConfig

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FORMAT = 2
"""Version of what a folder holds; part of its name."""

WEIGHTS = (".safetensors", ".bin", ".pt", ".h5", ".msgpack", ".ot", ".gguf", ".onnx")
"""Suffixes of a model's files that decide no token."""

BATCH = 1000
"""Examples that are tokenised and written at a time."""


@dataclass(frozen=True, slots=True)
class TokenizedSummary:
    """What there is to say about a tokenised corpus; lengths are in tokens, after cutting."""

    train_examples: int
    validation_examples: int
    truncated_sources: int
    truncated_targets: int
    longest_source: int
    longest_target: int


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A tokenised corpus.

    Each row of `train` and `validation` has `input_ids` and `labels`, both without padding.
    """

    train: "Dataset"
    validation: "Dataset"
    tokenizer: "PreTrainedTokenizerBase"
    summary: TokenizedSummary


def cache_folder(config: Config, corpus: Corpus) -> Path:
    """Where the tokens of this corpus, tokenizer and these lengths are, or will be."""
    facts = {
        "format": FORMAT,
        "corpus": fingerprint(corpus),
        "tokenizer": _tokenizer_identity(config.model),
        "max_source_length": config.data.max_source_length,
        "max_target_length": config.data.max_target_length,
    }
    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]
    return Path(config.cache_dir) / f"tokens-{name}"


def prepare(config: Config, corpus: Corpus) -> Path:
    """Tokenises the corpus unless that was done before, and returns the folder.

    Raises:
        RequestError: The model's tokenizer cannot be loaded.
    """
    folder = cache_folder(config, corpus)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            building = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".building-"))
            try:
                _build(config, corpus, building)
                building.chmod(0o755)
                building.replace(folder)
            except BaseException:
                shutil.rmtree(building, ignore_errors=True)
                raise
    return folder


def load(folder: Path) -> Tokenized:
    """Opens what `prepare` made; the rows are mapped from disk, not read."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    return Tokenized(
        train=Dataset.from_file(str(folder / "train.arrow")),
        validation=Dataset.from_file(str(folder / "validation.arrow")),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        summary=TokenizedSummary(**read_json(folder / "summary.json")),
    )


def _build(config: Config, corpus: Corpus, folder: Path) -> None:
    import pyarrow

    tokenizer = _tokenizer(config.model, corpus.train)
    prefix = getattr(config.model, "source_prefix", "")
    longest = {"input_ids": 0, "labels": 0}
    cut = {"input_ids": 0, "labels": 0}

    def tokenize(texts: Sequence[str], column: str, limit: int) -> list[list[int]]:
        # Whole, since only so is it known what is cut; cut by the tokenizer, which knows the end.
        kind = "text_target" if column == "labels" else "text"
        rows: list[list[int]] = tokenizer(**{kind: list(texts)}, verbose=False)["input_ids"]
        long = [index for index, row in enumerate(rows) if len(row) > limit]
        if long:
            again = {kind: [texts[index] for index in long]}
            shorter = tokenizer(**again, truncation=True, max_length=limit)["input_ids"]
            for index, row in zip(long, shorter, strict=True):
                rows[index] = row
        cut[column] += len(long)
        longest[column] = max(longest[column], *(len(row) for row in rows))
        return rows

    def batches(examples: Sequence[Example]) -> Iterator[dict[str, list[list[int]]]]:
        for start in range(0, len(examples), BATCH):
            part = examples[start : start + BATCH]
            sources = tokenize(
                [prefix + example.dialogue for example in part],
                "input_ids",
                config.data.max_source_length,
            )
            targets = tokenize(
                [example.summaries[0] for example in part], "labels", config.data.max_target_length
            )
            yield {"input_ids": sources, "labels": targets}

    tokens = pyarrow.list_(pyarrow.int32())
    schema = pyarrow.schema({"input_ids": tokens, "labels": tokens})
    for name, examples in (("train", corpus.train), ("validation", corpus.validation)):
        # The stream that `Dataset.from_file` maps into memory; no more than a batch is held here.
        with pyarrow.ipc.new_stream(str(folder / f"{name}.arrow"), schema) as file:
            for batch in batches(examples):
                file.write_batch(pyarrow.record_batch(batch, schema))
    tokenizer.save_pretrained(folder / "tokenizer")
    summary = TokenizedSummary(
        train_examples=len(corpus.train),
        validation_examples=len(corpus.validation),
        truncated_sources=cut["input_ids"],
        truncated_targets=cut["labels"],
        longest_source=longest["input_ids"],
        longest_target=longest["labels"],
    )
    write_json(folder / "summary.json", asdict(summary))


def _tokenizer_identity(model: ModelConfig) -> list[object]:
    if isinstance(model, TinyModelConfig):
        return ["tiny", model.vocab_size, model.extra_tokens]
    assert isinstance(model, PretrainedModelConfig)
    local = Path(model.name_or_path)
    files = sorted(
        file
        for file in local.glob("*")
        if file.is_file() and file.suffix not in WEIGHTS and file.stat().st_size < 2**26
    )
    return [
        model.name_or_path,
        model.revision,
        model.extra_tokens,
        model.source_prefix,
        model.source_language,
        model.target_language,
        [[file.name, hashlib.sha256(file.read_bytes()).hexdigest()] for file in files],
    ]


def _tokenizer(model: ModelConfig, train: Sequence[Example]) -> "PreTrainedTokenizerBase":
    if isinstance(model, TinyModelConfig):
        tokenizer = _train_tokenizer(model, train)
    else:
        assert isinstance(model, PretrainedModelConfig)
        tokenizer = load_tokenizer(model)
    tokenizer.add_tokens(model.extra_tokens)
    return tokenizer


def _train_tokenizer(model: TinyModelConfig, train: Sequence[Example]) -> "PreTrainedTokenizerBase":
    """Trains a byte-level BPE on dialogues and summaries; it knows every text there can be."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(
        chain.from_iterable((example.dialogue, *example.summaries) for example in train),
        vocab_size=model.vocab_size,
        min_frequency=2,
        special_tokens=special,
        show_progress=False,
    )
    bpe.post_processor = TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=bpe._tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
