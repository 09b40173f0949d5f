"""The corpus as token ids: made once, kept on disk, shared by all runs that ask for the same.

The name of a folder is a hash of everything that decides its content, so no content is ever stale.
Beside the tokens stand the ids and the references of the validation split, so a run needs nothing
else of the corpus. A note says which corpus a data config names; with it a run finds its folder
without reading the corpus.

Finding a folder needs no torch; making it imports transformers.
"""

import glob
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from batchopt.data import Corpus, Example
from batchopt.data.ends import find_ends
from batchopt.data.load import load_corpus
from batchopt.data.markers import Marker, find_markers
from batchopt.data.pretrained import is_encoder_decoder, load_tokenizer
from batchopt.data.prompts import find_prompts
from batchopt.data.texts import PlainTexts, Rows, Texts
from batchopt.data.token_rows import TokenRows
from batchopt.errors import RequestError
from batchopt.record.files import read_json, write_json
from batchopt.request.config import (
    Config,
    DataConfig,
    ModelConfig,
    PretrainedModelConfig,
    TinyModelConfig,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 7
"""Version of the content of a folder; part of its name."""

BATCH = 1000
"""Examples that are tokenised and written at a time."""


@dataclass(frozen=True, slots=True)
class TokenizedSummary:
    """Facts about a tokenised corpus; lengths are in tokens, after cutting."""

    fingerprint: str
    skipped_rows: int
    read_as: list[str]
    """What was found out about the files."""
    train_examples: int
    validation_examples: int
    truncated_sources: int
    truncated_targets: int
    longest_source: int
    longest_target: int
    end_token: str
    end_token_id: int
    """The token that ends every label, as the model ends a generation."""
    ended_labels: int
    """Labels that had it from the tokenizer; it was added to the others."""
    source_ends: str
    """The tokens around every source, such as `<s> … </s>`."""
    complete_sources: int
    """Sources that had them from the tokenizer; they were added to the others."""
    prompt: str
    """Where the prompt around every source is from; empty: there is none."""
    extra_tokens: list[str]
    """Tokens that were added to the vocabulary."""
    markers: list[str] | None
    """What model.extra_tokens=auto found, a clause each; None: the tokens were named."""

    def additions(self) -> list[str]:
        """Says in a clause each how files were read, and what was added to the tokens."""
        rows = self.train_examples + self.validation_examples
        said = list(self.read_as)
        if self.prompt:
            said.append(f"every dialogue is in a prompt from {self.prompt}")
        if self.ended_labels < rows:
            said.append(
                f"{self.ended_labels} of {rows} summaries ended with {self.end_token}; added"
            )
        if self.complete_sources < rows:
            said.append(
                f"{self.complete_sources} of {rows} dialogues had the ends {self.source_ends} that "
                "the encoder expects; added"
            )
        if self.markers is not None:
            found = ", ".join(self.markers) or "no marker that the tokenizer does not know"
            said.append(f"model.extra_tokens=auto found {found}")
        return said


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A tokenised corpus.

    Each row of `train` and `validation` has `input_ids` and `labels`, both without padding and
    complete: a label ends with the end token of the model, also where it is cut. A row of
    `validation` also has the `id` and the `references` (texts) of its example.
    """

    train: TokenRows
    validation: TokenRows
    tokenizer: "PreTrainedTokenizerBase"
    summary: TokenizedSummary

    def first_example(self) -> tuple[str, str]:
        """The first source and target of the training split, as the model sees them."""
        row = self.train[0]
        source, target = self.tokenizer.batch_decode([row["input_ids"], row["labels"]])
        return source, target


@dataclass(frozen=True, slots=True)
class NotedCorpus:
    """The facts about a corpus that the name of its folder needs."""

    fingerprint: str
    skipped_rows: int
    read_as: Sequence[str] = ()


def cache_folder(config: Config, corpus: Corpus | NotedCorpus) -> Path:
    """Returns the folder for the tokens of this corpus, with this tokenizer and these lengths."""
    facts = {
        "format": FORMAT,
        "corpus": corpus.fingerprint,
        "skipped_rows": corpus.skipped_rows,
        "read_as": list(corpus.read_as),
        "tokenizer": _tokenizer_identity(config.model),
        "max_source_length": config.data.max_source_length,
        "max_target_length": config.data.max_target_length,
        "prompt": [
            config.data.system_prompt,
            config.data.instruction,
            config.data.prompt_template,
        ],
    }
    return Path(config.cache_dir) / f"tokens-{_hash(facts)}"


def note(config: Config, corpus: Corpus) -> None:
    """Writes down which corpus `config.data` names now, for the runs that follow."""
    noted = NotedCorpus(corpus.fingerprint, corpus.skipped_rows, list(corpus.read_as))
    write_json(_note_file(config), asdict(noted))


def prepare(config: Config, corpus: Corpus | None = None) -> Path:
    """Tokenises the corpus unless that was done before, and returns the folder.

    Args:
        config: The tokenizer, the lengths and the cache.
        corpus: None: the corpus that `config.data` names. It is read only where no note of it is
            there, or where the noted tokens are gone.

    Raises:
        RequestError: The data cannot be used, or the tokenizer of the model cannot be loaded.
    """
    if corpus is None:
        noted = read_json(_note_file(config))
        if noted is not None:
            folder = cache_folder(config, NotedCorpus(**noted))
            if folder.exists():
                return folder
        corpus = load_corpus(config.data)
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
    note(config, corpus)
    return folder


def load(folder: Path) -> Tokenized:
    """Opens a folder that `prepare` made; the rows are mapped from disk, not read."""
    from transformers import AutoTokenizer

    return Tokenized(
        train=TokenRows(folder / "train.arrow"),
        validation=TokenRows(folder / "validation.arrow"),
        tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True),
        summary=TokenizedSummary(**read_json(folder / "summary.json")),
    )


def _note_file(config: Config) -> Path:
    name = _hash([repr(config.data), _files_named_by(config.data)])
    return Path(config.cache_dir) / f"corpus-{name}.json"


def _files_named_by(data: DataConfig) -> list[object]:
    """Every value of the config that is the path of a file or folder, with its state.

    The size and the time of change are there so that no note outlives the file it was made from,
    the whole path so that two folders can share a cache.
    """
    found: list[object] = []
    values: list[Any] = [asdict(data)]
    while values:
        value = values.pop()
        if isinstance(value, dict):
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value
        elif isinstance(value, str):
            with suppress(
                OSError, ValueError, RuntimeError
            ):  # most values are not the path of a file
                path = Path(value).expanduser()
                # The files of a pattern, as in data/*.csv.
                matches = sorted(glob.glob(str(path), recursive=True))  # noqa: PTH207
                for named in [path] if path.exists() else map(Path, matches):
                    whole = named.resolve(strict=True)
                    state = whole.stat()
                    found.append([str(whole), state.st_size, state.st_mtime_ns])
    return found


def _hash(facts: object) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:20]


def _build(config: Config, corpus: Corpus, folder: Path) -> None:
    import pyarrow

    tokenizer = _tokenizer(config.model, corpus.train)
    extra, markers = _add_tokens(tokenizer, config.model, corpus.train)
    texts = _texts(config, tokenizer, corpus)
    totals = {
        "input_ids": {"cut": 0, "complete": 0, "longest": 0},
        "labels": {"cut": 0, "complete": 0, "longest": 0},
    }

    def counted(column: str, rows: Rows) -> list[list[int]]:
        total = totals[column]
        total["cut"] += rows.cut
        total["complete"] += rows.complete
        total["longest"] = max(total["longest"], *(len(row) for row in rows.tokens))
        return rows.tokens

    def batches(examples: Sequence[Example]) -> Iterator[dict[str, Sequence[Any]]]:
        data = config.data
        for start in range(0, len(examples), BATCH):
            part = examples[start : start + BATCH]
            sources = texts.sources([example.dialogue for example in part], data.max_source_length)
            targets = texts.labels(
                [example.summaries[0] for example in part], data.max_target_length
            )
            yield {
                "input_ids": counted("input_ids", sources),
                "labels": counted("labels", targets),
                "id": [example.id for example in part],
                "references": [example.summaries for example in part],
            }

    tokens = pyarrow.list_(pyarrow.int32())
    rows = {"input_ids": tokens, "labels": tokens}
    own = {"id": pyarrow.string(), "references": pyarrow.list_(pyarrow.string())}
    for name, examples, schema in (
        ("train", corpus.train, pyarrow.schema(rows)),
        ("validation", corpus.validation, pyarrow.schema(rows | own)),
    ):
        # The stream that `TokenRows` maps into memory; at most one batch is held here.
        with pyarrow.ipc.new_stream(str(folder / f"{name}.arrow"), schema) as file:
            for batch in batches(examples):
                columns = {column: batch[column] for column in schema.names}
                file.write_batch(pyarrow.record_batch(columns, schema))
    tokenizer.save_pretrained(folder / "tokenizer")
    summary = TokenizedSummary(
        fingerprint=corpus.fingerprint,
        skipped_rows=corpus.skipped_rows,
        read_as=list(corpus.read_as),
        train_examples=len(corpus.train),
        validation_examples=len(corpus.validation),
        truncated_sources=totals["input_ids"]["cut"],
        truncated_targets=totals["labels"]["cut"],
        longest_source=totals["input_ids"]["longest"],
        longest_target=totals["labels"]["longest"],
        end_token=str(tokenizer.convert_ids_to_tokens(texts.label_end)),
        end_token_id=texts.label_end,
        ended_labels=totals["labels"]["complete"],
        source_ends=texts.source_ends,
        complete_sources=totals["input_ids"]["complete"],
        prompt=texts.prompt,
        extra_tokens=extra,
        markers=None if markers is None else [str(marker) for marker in markers],
    )
    write_json(folder / "summary.json", asdict(summary))


def _tokenizer_identity(model: ModelConfig) -> list[object]:
    if isinstance(model, TinyModelConfig):
        return [model.source, model.vocab_size, model.extra_tokens]
    assert isinstance(model, PretrainedModelConfig)
    # Whatever a tokenizer reads (vocabulary, merges, templates, code), and the end tokens of the
    # model's configs: every file of the folder but the weights.
    local = Path(model.name_or_path)
    files = sorted(local.iterdir()) if local.is_dir() else []
    return [
        model.name_or_path,
        model.revision,
        model.extra_tokens,
        model.source_prefix,
        model.source_language,
        model.target_language,
        [
            [file.name, hashlib.sha256(file.read_bytes()).hexdigest()]
            for file in files
            if file.is_file() and file.suffix not in _WEIGHTS
        ],
    ]


_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf"}


def _texts(config: Config, tokenizer: "PreTrainedTokenizerBase", corpus: Corpus) -> Texts:
    """Chooses how texts become tokens.

    Raises:
        RequestError: A key of the config is of the other kind of models.
    """
    model, data = config.model, config.data
    prefix = getattr(model, "source_prefix", "")
    if not is_encoder_decoder(model):
        if prefix:
            raise RequestError(
                f"model.source_prefix is {prefix!r}, and {getattr(model, 'name_or_path', '')} is a "
                "decoder-only model; use data.instruction or data.prompt_template"
            )
        summaries = [example.summaries[0] for example in corpus.train]
        return find_prompts(data, model, tokenizer, summaries)
    for key in ("system_prompt", "instruction", "prompt_template"):
        if getattr(data, key) is not None:
            raise RequestError(
                f"data.{key} is for decoder-only models, and "
                f"{getattr(model, 'name_or_path', f'model={model.source}')} is an encoder-decoder; "
                "leave it out, or use model.source_prefix with a pretrained model"
            )
    return PlainTexts(tokenizer, find_ends(model, tokenizer), prefix)


def _tokenizer(model: ModelConfig, train: Sequence[Example]) -> "PreTrainedTokenizerBase":
    if isinstance(model, TinyModelConfig):
        return _train_tokenizer(model, train)
    assert isinstance(model, PretrainedModelConfig)
    return load_tokenizer(model)


def _add_tokens(
    tokenizer: "PreTrainedTokenizerBase", model: ModelConfig, train: Sequence[Example]
) -> tuple[list[str], list[Marker] | None]:
    """Adds model.extra_tokens to the vocabulary.

    Returns:
        The tokens that are new, and the markers that `auto` has found; None where they were named.
    """
    known = tokenizer.get_vocab()
    markers = None
    asked: list[str] = model.extra_tokens
    if model.extra_tokens == "auto":
        markers = find_markers(train, tokenizer.tokenize, known)
        asked = [marker.text for marker in markers]
    tokenizer.add_tokens(asked)
    return [token for token in dict.fromkeys(asked) if token not in known], markers


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
