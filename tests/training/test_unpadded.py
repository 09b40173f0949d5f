"""batch.packing=unpadded through the real command line: trained, or refused before it runs."""

import sys

import pytest
from support.causal_models import make_causal
from support.models import data_file, plain_tokenizer, save
from support.processes import run_to_end
from support.runs import records, train

CAUSAL = ["model=tiny_causal", "data.language=en", "batch.packing=unpadded"]


def test_a_sweep_over_packings_is_verified_and_is_one_training(tmp_path, cache):
    words = [*CAUSAL[:2], "batch.packing=none,unpadded", "batch=05a", "training.eval_steps=4"]
    done = train("-m", *words, "hydra.sweep.dir=sweep", cwd=tmp_path, cache=cache)
    assert done.returncode == 0, done.stdout
    assert "verified: the batches give the same gradient" in done.stdout
    padded, unpadded = records(tmp_path).values()
    assert unpadded["status"] == padded["status"] == "completed"
    assert unpadded["plan"]["packing"] == "unpadded"
    ours, theirs = unpadded["metrics"], padded["metrics"]
    assert ours["padding_fraction"] == 0 < theirs["padding_fraction"]
    assert ours["eval_loss"] == pytest.approx(theirs["eval_loss"], rel=1e-4)
    assert ours["mfu"] > 0, "the operations of joined rows are counted"
    assert ours["largest_micro_batch_tokens"] < theirs["largest_micro_batch_tokens"]


def test_an_encoder_decoder_is_refused_in_one_line(tmp_path, cache):
    done = train("batch=05a", "batch.packing=unpadded", cwd=tmp_path, cache=cache)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "batchopt: batch.packing is unpadded: bart reads dialogue and summary apart; it must be "
        "none, sorted, balanced or packed with this model"
    )
    assert not records(tmp_path)


def test_a_model_that_does_not_keep_joined_rows_apart_is_refused_before_it_runs(tmp_path, cache):
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", make_causal("Bloom", len(tokenizer)), tokenizer)
    words = [
        *("batch=05a", "model=causal", f"model.name_or_path={folder}", "data=files"),
        *(f"data.train_file={data_file(tmp_path)}", "batch.packing=unpadded", "device.kind=cpu"),
        *('data.prompt_template="{dialogue}="', "data.max_source_length=80", "verify=false"),
        *("data.max_target_length=40", f"cache_dir={cache}"),
    ]
    command = [sys.executable, "-m", "batchopt.train", "-m", *words, "hydra.sweep.dir=sweep"]
    done = run_to_end(command, cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert (
        "batchopt: batch.packing is unpadded: bloom does not keep joined rows apart: their hidden "
        "states differ from those of padded rows by "
    ) in done.stderr
    assert not records(tmp_path)
