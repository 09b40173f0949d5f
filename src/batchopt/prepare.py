"""Does once what all runs of a sweep share: `python -m batchopt.prepare [OVERRIDES]`.

Reads and checks the data, fetches or trains the tokenizer, tokenises, and fetches the model, so
that runs on machines without a network find it.
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path

from batchopt import lifeline, tokenized
from batchopt.cli import WRONG_REQUEST, answer
from batchopt.compose import RunRequest, accept_plus, compose_run
from batchopt.config import Config
from batchopt.corpus import Corpus
from batchopt.corpus.load import fingerprint, load_corpus
from batchopt.errors import RequestError
from batchopt.run_files import read_json, write_json


def main(words: list[str]) -> int:
    """Prepares one run's data and prints what there is."""
    request = compose_run([accept_plus(word) for word in words])
    corpus = load_corpus(request.config.data)
    folder = tokenized.prepare(request.config, corpus)
    data = tokenized.load(folder)
    summary = data.summary

    from batchopt.modeling import build_model

    count = build_model(request.config, data.tokenizer).num_parameters()
    write_json(_model_file(request.config), {"parameters": count})
    print(
        f"data: {summary.train_examples} training and {summary.validation_examples} validation "
        f"examples in {folder}"
    )
    return 0


def prepare_shared(requests: Iterable[RunRequest]) -> list[str]:
    """Checks the data of all runs, and has a child make what they share.

    Returns:
        The fingerprint of each run's data.

    Raises:
        RequestError: The data are wrong, or the child failed.
        SystemExit: The child has refused the request and said why.
    """
    corpora: dict[str, tuple[Corpus, str]] = {}
    fingerprints, seen = [], set()
    for request in requests:
        config = request.config
        data = repr(config.data)
        if data not in corpora:
            loaded = load_corpus(config.data)
            corpora[data] = loaded, fingerprint(loaded)
        corpus, name = corpora[data]
        fingerprints.append(name)
        # Most runs of a sweep share these, and to look for the tokens takes a hash of the data.
        shared = (data, repr(config.model), config.cache_dir)
        if shared in seen:
            continue
        seen.add(shared)
        tokens = tokenized.cache_folder(config, corpus)
        if tokens.exists() and _model_file(config).exists():
            continue
        code = lifeline.run("batchopt.prepare", request.overrides)
        if code == WRONG_REQUEST:
            raise SystemExit(WRONG_REQUEST)  # the child has said why
        if code:
            raise RequestError(
                f"preparing the data failed with exit code {code}; what went wrong stands above"
            )
    return fingerprints


def parameters(config: Config) -> int:
    """The number of the model's parameters, once it has been prepared."""
    return int(read_json(_model_file(config))["parameters"])


def _model_file(config: Config) -> Path:
    # The data decide the vocabulary and the number of positions of a fresh model.
    text = repr((config.model, config.data))
    name = hashlib.sha256(text.encode()).hexdigest()[:20]
    return Path(config.cache_dir) / f"model-{name}.json"


if __name__ == "__main__":
    sys.exit(answer(main))
