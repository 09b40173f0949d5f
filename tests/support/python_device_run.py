"""Trains in the test's own process, on the device that there is: the CPU or `python_device`."""

import time

from batchopt.record.files import read_jsonl
from batchopt.request.compose import compose_run
from batchopt.training.build import build_trainer
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import Events

SMALL = [
    *("data.train_examples=160", "data.validation_examples=6", "data.max_target_length=12"),
    *("data.max_source_length=64", "data.language=en", "metric.tokenizer=whitespace"),
    *("model.d_model=16", "model.ffn_dim=32", "model.layers=1", "model.vocab_size=400"),
    *("training.max_steps=4", "training.logging_steps=1", "training.warmup_steps=2"),
    *("training.eval_steps=4", "training.save_checkpoints=false", "batch=05b"),
    *("training.dataloader_num_workers=0", "training.pad_to_multiple_of=1"),
]
"""Four steps of 64, 64, 32 and 64 examples, padded alike on every device."""


def train(folder, cache, *words, resume_from=None, callbacks=()):
    """Trains one run into a folder.

    Returns:
        The trainer, and the loss of each logged step.
    """
    folder.mkdir(exist_ok=True)
    request = compose_run([*SMALL, f"cache_dir={cache}", *words])
    recorder = Recorder(folder, Events(None), time.monotonic())
    trainer, _ = build_trainer(request, request.plan, recorder)
    if resume_from is not None:
        recorder.restore(resume_from)
    for callback in callbacks:
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=None if resume_from is None else str(resume_from))
    rows = [row for row in read_jsonl(folder / "metrics.jsonl") if row["kind"] == "train"]
    return trainer, {row["step"]: row["train_loss"] for row in rows}
