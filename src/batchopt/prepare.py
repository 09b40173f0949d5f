"""Does once what all runs of a sweep share: `python -m batchopt.prepare [OVERRIDES]`.

Reads and checks the data, fetches or trains the tokenizer, tokenises.
"""

import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from batchopt import tokenized
from batchopt.cli import WRONG_REQUEST, answer
from batchopt.compose import RunRequest, accept_plus, compose_run
from batchopt.config import PretrainedModelConfig
from batchopt.corpus import Corpus
from batchopt.corpus.load import load_corpus
from batchopt.errors import RequestError

WITH_MODEL = "--with-model"


def main(words: list[str]) -> int:
    """Prepares one run's data and prints what there is; loads the model too where that is said."""
    request = compose_run([accept_plus(word) for word in words if word != WITH_MODEL])
    corpus = load_corpus(request.config.data)
    folder = tokenized.prepare(request.config, corpus)
    summary = tokenized.load(folder).summary
    print(
        f"data: {summary.train_examples} training and {summary.validation_examples} validation "
        f"examples in {folder}"
    )
    if WITH_MODEL in words:
        from batchopt.modeling import build_model

        model = build_model(request.config, tokenized.load(folder).tokenizer)
        print(f"model: {model.num_parameters():,} parameters")
    return 0


def prepare_shared(requests: Iterable[RunRequest]) -> None:
    """Checks the data of all runs, and has a child make what they share.

    Raises:
        RequestError: The data are wrong, or the child failed.
        SystemExit: The child has refused the request and said why.
    """
    corpora: dict[str, Corpus] = {}
    for request in requests:
        data = request.config.data
        if repr(data) not in corpora:
            corpora[repr(data)] = load_corpus(data)
        if tokenized.cache_folder(request.config, corpora[repr(data)]).exists():
            continue
        _in_a_child(request.overrides)


def fetch_models(requests: Iterable[RunRequest]) -> None:
    """Has a child load each model of the hub once, so that it is in the cache.

    A thousand jobs would ask the hub a thousand times, and nodes may have no network.

    Raises:
        RequestError: The child failed.
        SystemExit: The child has refused the request and said why.
    """
    seen = set()
    for request in requests:
        model = request.config.model
        if isinstance(model, PretrainedModelConfig) and not Path(model.name_or_path).exists():
            if (model.name_or_path, model.revision) not in seen:
                _in_a_child((WITH_MODEL, *request.overrides))
            seen.add((model.name_or_path, model.revision))


def _in_a_child(words: Sequence[str]) -> None:
    child = subprocess.run([sys.executable, "-m", "batchopt.prepare", *words], check=False)
    if child.returncode == WRONG_REQUEST:
        raise SystemExit(WRONG_REQUEST)  # the child has said why
    if child.returncode:
        raise RequestError(
            f"preparing the data failed with exit code {child.returncode}; what went wrong "
            "stands above"
        )


if __name__ == "__main__":
    sys.exit(answer(main))
