"""Prepares once what all runs of a sweep share: `python -m batchopt.training.prepare [OVERRIDES]`.

Reads and checks the data, fetches or trains the tokenizer, tokenises, and fetches the model, so
that runs on machines without a network find it.
"""

import copy
import hashlib
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from batchopt.cli import WRONG_REQUEST, answer
from batchopt.data import Corpus, tokenized
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError, name_ending
from batchopt.machine import lifeline
from batchopt.record.files import read_json, write_json
from batchopt.request.compose import RunRequest, compose_run
from batchopt.request.config import Adapter, Config, DeviceKind, Packing
from batchopt.request.paths import check_writable
from batchopt.request.rules import check_for_decoder_only, refuse_joined
from batchopt.request.words import read_words
from batchopt.training import adapters

FACTS = ("trainable_parameters", "decoder_only", "not_joined")
"""What is kept of a prepared model; `not_joined` says why its rows cannot be joined, or nothing."""


def main(words: list[str]) -> int:
    """Prepares the data of one run and prints where they are."""
    request = compose_run(read_words(words))
    corpus = load_corpus(request.config.data)
    adapters.settle_imports(request.config.adapter)
    folder = tokenized.prepare(request.config, corpus)
    data = tokenized.load(folder)
    summary = data.summary

    from batchopt.step.attention import why_not_joined
    from batchopt.training.model import build_model

    model = build_model(_to_count(request.config), data.tokenizer, summary.extra_tokens)
    _, trained = adapters.count_parameters(model)
    decoder_only = not model.config.is_encoder_decoder
    facts = zip(FACTS, (trained, decoder_only, why_not_joined(model)), strict=True)
    write_json(_model_file(request.config), dict(facts))
    print(
        f"data: {summary.train_examples} training and {summary.validation_examples} validation "
        f"examples in {folder}"
    )
    for addition in summary.additions():
        print(f"data: {addition}")
    if summary.prompt:
        source, target = data.first_example()
        print(f"data: the first prompt as the model reads it:\n{source}")
        print(f"data: and the target that it is to write:\n{target}")
    return 0


def _to_count(config: Config) -> Config:
    """The config of a model that is checked and counted: on the CPU, and not quantised.

    No device is leased here, and to quantise takes its time.
    """
    changed = copy.deepcopy(config)
    changed.device.kind = DeviceKind.cpu
    if changed.adapter.kind is Adapter.qlora:
        changed.adapter.kind, changed.adapter.quantization = Adapter.lora, None
    return changed


def prepare_shared(requests: Iterable[RunRequest]) -> list[str]:
    """Reads and checks the data of all runs, and has a child make what they share.

    Returns:
        The fingerprint of the data of each run.

    Raises:
        RequestError: The data are wrong, cache_dir cannot be written to, the child failed, or a
            setting of the generation does not suit the kind of the model.
        SystemExit: The child has refused the request and said why.
    """
    corpora: dict[str, Corpus] = {}
    models: dict[tuple[str, str, str], dict[str, Any]] = {}
    fingerprints = []
    for request in requests:
        config = request.config
        check_writable("cache_dir", Path(config.cache_dir))
        data = repr(config.data)
        if data not in corpora:
            corpora[data] = load_corpus(config.data)
        corpus = corpora[data]
        fingerprints.append(corpus.fingerprint)
        # By most runs of a sweep.
        shared = (data, repr((config.model, config.adapter)), config.cache_dir)
        if shared not in models:
            _prepare(request, corpus)
            models[shared] = read_json(_model_file(config))
        if models[shared]["decoder_only"]:
            check_for_decoder_only(config.generation)
        if config.batch.packing is Packing.unpadded:
            refuse_joined(models[shared]["not_joined"])
    return fingerprints


def _prepare(request: RunRequest, corpus: Corpus) -> None:
    """Has a child tokenise the data and check the model, unless that was done before."""
    config = request.config
    tokenized.note(config, corpus)
    if tokenized.cache_folder(config, corpus).exists() and _model_file(config).exists():
        return
    code = lifeline.run("batchopt.training.prepare", request.overrides)
    if code == WRONG_REQUEST:
        raise SystemExit(WRONG_REQUEST)  # the child has said why
    if code:
        above = "; the reason stands above" if code > 0 else ""
        raise RequestError(f"preparing the data ended with {name_ending(code)}{above}")


def trainable_parameters(config: Config) -> int:
    """The number of parameters that are trained and saved, once the model has been prepared."""
    return int(read_json(_model_file(config))["trainable_parameters"])


def _model_file(config: Config) -> Path:
    # The data decide the vocabulary and the number of positions of a fresh model. A local model
    # whose files have changed is checked again.
    folder = Path(getattr(config.model, "name_or_path", ""))
    files = sorted(folder.iterdir()) if folder.name and folder.is_dir() else []
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    text = repr((FACTS, config.model, config.adapter, config.data, states))
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Path(config.cache_dir) / f"model-{name}.json"


OTHER_BYTES = 64 * 2**20
"""Bytes that the records, predictions and logs of a run may take; checkpoints come on top."""


def check_disk(requests: Sequence[RunRequest], directory: Path) -> None:
    """Refuses runs whose checkpoints would fill the disk.

    A checkpoint of a run that goes on holds the trained weights and the two moments of AdamW in
    fp32; a checkpoint of a completed run holds the weights. While a checkpoint is written, one more
    is on the disk than are kept.

    Raises:
        RequestError: There is too little room.
    """
    needed, largest = 0, 0
    for request in requests:
        training = request.config.training
        weights = 4 * trainable_parameters(request.config)
        kept = training.keep_checkpoints if training.save_checkpoints else 0
        needed += kept * weights + OTHER_BYTES
        largest = max(largest, (kept + 1) * 3 * weights if kept else 0)
    existing = next(path for path in (directory, *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed + largest > free:
        raise RequestError(
            f"{existing} has {free / 2**30:.1f} GiB free and the runs may need "
            f"{(needed + largest) / 2**30:.1f} GiB, most of it for checkpoints; free some, lower "
            "training.keep_checkpoints, set training.save_checkpoints=false, or write elsewhere "
            "with hydra.sweep.dir=…"
        )


if __name__ == "__main__":
    sys.exit(answer(main))
