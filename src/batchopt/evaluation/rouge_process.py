"""ROUGE in a process of its own: both ends of the pipe.

The training process holds no scorer: Kiwi's model alone takes 0.48 GiB, which would stand in every
figure of a run's memory. And one batch is scored while the model generates the next.

One JSON line asks, `[predictions, references]`; one answers, a list of four scores for each
example. The scoring process ends when its input does, thus also when its parent is killed.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from batchopt.evaluation.rouge import RougeScores, Scorer, make_tokenizer, tokenizer_label


class RougeProcess:
    """The training's end of the pipe; the process lives as long as this object.

    `name` is the tokenizer's, as it is written beside every score.
    """

    def __init__(self, tokenizer: str, *, use_stemmer: bool = False) -> None:
        """Starts the process, which loads its tokenizer while the caller goes on.

        Raises:
            RequestError: As `tokenizer_label`.
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
        """Has predictions scored as `Scorer.score` does, in the order in which they are submitted.

        The future raises RuntimeError where the process has died.
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
                f"the process that scores ROUGE ended with exit code {self._process.wait()}; what "
                "it printed stands above, and -9 means that it was killed, perhaps for want of "
                "memory"
            )
        return [RougeScores(*scores) for scores in json.loads(answer)]


def _end(process: "subprocess.Popen[str]", asking: ThreadPoolExecutor) -> None:
    process.kill()  # it holds nothing that could be lost
    process.wait()
    # Not waited for: the last to let go may be that very thread.
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
    scorer = Scorer(make_tokenizer(arguments.tokenizer, use_stemmer=arguments.use_stemmer))
    # What loads at the first word loads now, while the training process builds its model.
    scorer.score(["한국어"], [["한국어"]])
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        for line in sys.stdin:
            print(json.dumps(scorer.score(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
