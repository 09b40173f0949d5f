"""Does once what all runs of a sweep share: `python -m batchopt.prepare [OVERRIDES]`.

Reads and checks the data, fetches or trains the tokenizer, tokenises.
"""

import sys

from batchopt import tokenized
from batchopt.cli import answer
from batchopt.compose import accept_plus, compose_run
from batchopt.corpus.load import load_corpus


def main(words: list[str]) -> int:
    """Prepares one run's data and prints what there is."""
    request = compose_run([accept_plus(word) for word in words])
    corpus = load_corpus(request.config.data)
    folder = tokenized.prepare(request.config, corpus)
    summary = tokenized.load(folder).summary
    print(
        f"data: {summary.train_examples} training and {summary.validation_examples} validation "
        f"examples in {folder}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(answer(main))
