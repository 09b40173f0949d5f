"""What `find_batch` chooses is what a sweep of the same presets finds to be the fastest.

The data is such that one of the two sizes is the faster by far on any machine: where all texts are
short, calls cost more than arithmetic; where a few are long, a large micro-batch pads every other
text to their length.
"""

import csv
import sys

import pytest
from support.processes import run_to_end
from support.runs import records

from batchopt import find_batch
from batchopt.data import tokenized
from batchopt.data.load import load_corpus
from batchopt.request.compose import compose_run
from batchopt.step.architecture import architecture_of
from batchopt.training.model import build_model

LONG = 500
"""Words of a long dialogue."""


def request(tmp_path, cache, model, long_every):
    """The words of a run on dialogues that are short; `long_every`: how many are long instead."""
    path = tmp_path / "data.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("dialogue", "summary"))
        for number in range(192):
            length = LONG if long_every and number % long_every == 0 else 2
            rows.writerow((f"#{number}: " + "yes no " * (length // 2), f"they agree {number}"))
    return [
        *("data=files", f"data.train_file={path}", f"cache_dir={cache}"),
        *(f"data.max_source_length={LONG + 50}", "data.max_target_length=16"),
        *(f"model={model}", "model.d_model=16", "model.ffn_dim=32", "model.layers=1"),
        *("batch.packing=sorted", "training.max_steps=8", "training.eval_steps=8"),
        *("training.save_checkpoints=false", "metric.tokenizer=rouge_score", "device=cpu"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "long_every", "sizes"), [("tiny", None, (64, 2)), ("tiny_causal", 24, (8, 64))]
)
def test_its_choice_is_the_fastest_of_a_sweep(tmp_path, cache, model, long_every, sizes):
    """Of the two sizes the first is the faster."""
    words = request(tmp_path, cache, model, long_every)
    grid = ["batch=custom", f"batch.per_device_train_batch_size={sizes[0]},{sizes[1]}"]
    command = [sys.executable, "-m", "batchopt.train", "-m", *grid, *words]
    done = run_to_end([*command, "hydra.sweep.dir=sweep", "verify=false"], cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    seconds = {
        record["plan"]["per_device_train_batch_size"]: record["metrics"]["step_time_median_s"]
        for record in records(tmp_path / "sweep").values()
    }
    assert set(seconds) == {*sizes}
    assert min(seconds, key=seconds.get) == sizes[0]

    config = compose_run(words).config
    tokens = tokenized.load(tokenized.prepare(config, load_corpus(config.data)))
    mine = build_model(config, tokens.tokenizer)
    rows = [architecture_of(mine).stock_row(row) for row in tokens.train]
    choice = find_batch(mine, rows, tokens.tokenizer, candidates=sizes, packing="sorted")
    assert choice.per_device_train_batch_size == sizes[0]
