"""ROUGE in a process of its own: both ends of the pipe.

The training process holds no metric: the model of Kiwi alone takes 0.48 GiB, which would stand in
every memory figure of a run, and `evaluate` takes seconds to import. Besides, one batch is scored
while the model generates the next.

A question is one JSON line, `[predictions, references]`. Its answer is one JSON line, a list of
four scores for each example. The scoring process ends when its input ends, so also when its parent
is killed.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from batchopt.evaluation.rouge import RougeScores, tokenizer_label
from batchopt.machine.imports import hidden, without_collector

if TYPE_CHECKING:
    from batchopt.evaluation.rouge_metric import Rouge


class RougeProcess:
    """The end in the training process. The scoring process lives as long as this object.

    `name` is the name of the tokenizer, as it is written beside every score.
    """

    def __init__(self, tokenizer: str, *, use_stemmer: bool = False) -> None:
        """Starts the process. It loads its tokenizer while the caller goes on.

        Raises:
            RequestError: See `tokenizer_label`.
        """
        self.name = tokenizer_label(tokenizer, use_stemmer=use_stemmer)
        options = ["--use-stemmer"] if use_stemmer else []
        self._process = subprocess.Popen(
            [sys.executable, "-m", "batchopt.evaluation.rouge_process", tokenizer, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,  # ASCII whatever the locale, since json escapes the rest
        )
        # One thread asks and waits, so that neither end can block the other with a full pipe.
        self._asking = ThreadPoolExecutor(1, thread_name_prefix="rouge")
        weakref.finalize(self, _end, self._process, self._asking)

    def submit(
        self, predictions: Sequence[str], references: Sequence[Sequence[str]]
    ) -> "Future[list[RougeScores]]":
        """Has predictions scored by `Rouge`, in the order in which they are submitted.

        Args:
            predictions: One text per example.
            references: At least one text per example.

        Returns:
            The scores of each example. The future raises RuntimeError if the process has died.
        """
        return self._asking.submit(self._ask, [predictions, references])

    def _ask(self, question: object) -> list[RougeScores]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        answer = ""
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(
                f"the process that scores ROUGE ended with exit code {self._process.wait()}; its "
                "own message stands above. -9 means that it was killed, perhaps because memory ran "
                "out"
            )
        return [RougeScores(*scores) for scores in json.loads(answer)]


def _end(process: "subprocess.Popen[str]", asking: ThreadPoolExecutor) -> None:
    process.kill()  # it holds nothing that could be lost
    process.wait()
    # Not waited for: this may be called in that very thread.
    asking.shutdown(wait=False)
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(BrokenPipeError):
            if pipe is not None:
                pipe.close()


def main() -> None:
    """The other end: answers until its input ends."""
    parser = argparse.ArgumentParser(
        description="Score summaries; batchopt.training.worker starts this."
    )
    parser.add_argument("tokenizer")
    parser.add_argument("--use-stemmer", action="store_true")
    arguments = parser.parse_args()
    rouge = _metric_class()(arguments.tokenizer, use_stemmer=arguments.use_stemmer)
    # The tokenizer loads at the first text: now, while the training process builds its model.
    rouge.compute(predictions=["한국어"], references=[["한국어"]])
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for line in sys.stdin:
            predictions, references = json.loads(line)
            columns = rouge.compute(
                predictions=predictions, references=references, use_aggregator=False
            )
            rows = zip(*(columns[name] for name in RougeScores._fields), strict=True)
            print(json.dumps(list(rows)), flush=True)


def _metric_class() -> "type[Rouge]":
    """Imports the metric without torch, transformers and scipy: 3.4 s of CPU and 0.3 GiB less.

    Wherever they can, `datasets` imports torch, `evaluate` transformers (for its pipelines), and
    `evaluate` and `nltk` scipy (for intervals and tests that no score has).
    """
    os.environ["USE_TORCH"] = "0"
    with without_collector(), hidden("transformers", "scipy"):
        import rouge_score.rouge_scorer  # noqa: F401 - with nltk

        from batchopt.evaluation.rouge_metric import Rouge
    return Rouge


if __name__ == "__main__":
    main()
