"""ROUGE as an `evaluate.Metric`. It is made here and never loaded from the hub."""

import tempfile
from typing import Any

import datasets
import evaluate

from batchopt.evaluation.rouge import (
    Scorer,
    choose_tokenizer,
    make_tokenizer,
    mean_scores,
    tokenizer_label,
)

_INPUTS = """
Args:
    predictions: One text per example.
    references: One text per example, or a list of them; each ROUGE type takes its best.
    use_aggregator: False: a list of every score with one entry per example, not the means.

Returns:
    `rouge1_f1`, `rouge2_f1`, `rougeL_f1` and `rouge_f1` (mean of the three), 0 to 1.
"""
_CITATION = """@inproceedings{lin-2004-rouge,
    title = "{ROUGE}: A Package for Automatic Evaluation of Summaries",
    author = "Lin, Chin-Yew",
    booktitle = "Text Summarization Branches Out",
    year = "2004",
    url = "https://aclanthology.org/W04-1013/",
}"""


class Rouge(evaluate.Metric):  # type: ignore[misc]  # evaluate has no types
    """ROUGE F1 with words as Korean, English and other languages have them.

    Deterministic, offline, and leaves no files. `compute` takes `predictions`, one text per
    example, and `references`, one text or a list of texts per example.

    Args:
        tokenizer: What counts as a word: `kiwi`, `whitespace`, `character` or `rouge_score`;
            `auto` chooses by the references of each call.
        use_stemmer: Porter stemming of English words (`rouge_score` only).

    Raises:
        RequestError: `use_stemmer` with a tokenizer that has no stemmer, or `kiwi` without the
            package kiwipiepy.
    """

    def __init__(self, tokenizer: str = "auto", *, use_stemmer: bool = False) -> None:
        # Metric makes its folder even if it keeps everything in memory and writes nothing to it.
        # The usual place under the home folder may be read-only on a cluster.
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)
        self._tokenizer = tokenizer
        self._use_stemmer = use_stemmer
        self._scorers: dict[str, Scorer] = {}
        if tokenizer != "auto":
            tokenizer_label(tokenizer, use_stemmer=use_stemmer)

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description="ROUGE-1, ROUGE-2 and ROUGE-L F1 (sentence level).",
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
                datasets.Features({"predictions": text, "references": text}),
            ],
            reference_urls=["https://aclanthology.org/W04-1013/"],
        )

    def _compute(
        self, *, predictions: list[str], references: list[Any], use_aggregator: bool = True
    ) -> dict[str, float] | dict[str, list[float]]:
        several = [[texts] if isinstance(texts, str) else texts for texts in references]
        name = choose_tokenizer(self._tokenizer, (text for texts in several for text in texts))
        if name not in self._scorers:
            tokenizer = make_tokenizer(name, use_stemmer=self._use_stemmer)
            self._scorers[name] = Scorer(tokenizer)
        scores = self._scorers[name].score(predictions, several)
        if use_aggregator:
            return mean_scores(scores)._asdict()
        return {name: [getattr(row, name) for row in scores] for name in scores[0]._fields}
