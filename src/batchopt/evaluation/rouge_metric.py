"""ROUGE as an `evaluate.Metric`, made here and never loaded from the hub."""

import tempfile
from typing import Any

import datasets
import evaluate

from batchopt.evaluation.rouge import Scorer, Tokenizer, mean_scores

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
    """ROUGE F1 with a tokenizer of our choice, deterministic; it leaves no files."""

    def __init__(self, tokenizer: Tokenizer):
        # Metric makes its folder even where it keeps everything in memory and never writes to it.
        # The usual place under the home folder may be read-only on a cluster.
        with tempfile.TemporaryDirectory() as folder:
            super().__init__(keep_in_memory=True, cache_dir=folder)
        self.tokenizer = tokenizer
        self._scorer = Scorer(tokenizer)

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
        scores = self._scorer.score(
            predictions, [[texts] if isinstance(texts, str) else texts for texts in references]
        )
        if use_aggregator:
            return mean_scores(scores)._asdict()
        return {name: [getattr(row, name) for row in scores] for name in scores[0]._fields}
