"""The process that trains one run: `python -m batchopt.worker RUN_DIR`.

Everything heavy is here, so that one run's memory is one process' memory and one run's death is
one process' death. The worker writes the run's files and, last, outcome.json: how it ended as far
as it could tell itself. The supervisor makes record.json of it.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchopt.compose import RunRequest, read_run
from batchopt.failures import describe
from batchopt.recorder import Events, Recorder
from batchopt.run_files import OUTCOME, TRAIN_LOG, write_json

if TYPE_CHECKING:
    from batchopt.trainer import ExactTrainer

logger = logging.getLogger("batchopt")


def main() -> int:
    """Runs the worker; exits with 0 also where the run failed, since outcome.json says so."""
    parser = argparse.ArgumentParser(description="Train one run; batchopt.train starts this.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--events", type=int, help="descriptor to report phases to")
    parser.add_argument("--lifeline", type=int, help="descriptor that closes with the supervisor")
    arguments = parser.parse_args()
    started = time.monotonic()
    faulthandler.enable()
    # The supervisor ends the worker with SIGTERM; Ctrl-C in the terminal is the supervisor's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if arguments.lifeline is not None:
        threading.Thread(target=_follow, args=(arguments.lifeline,), daemon=True).start()
    _log_to(arguments.run_dir / TRAIN_LOG)
    outcome = run(arguments.run_dir, Events(arguments.events), started)
    write_json(arguments.run_dir / OUTCOME, outcome)
    return 0


def run(run_dir: Path, events: Events, started: float) -> dict[str, Any]:
    """Trains the run of a directory and says how it ended; never raises for what a run can do."""
    outcome: dict[str, Any] = {"status": "failed", "cause": "", "metrics": {}, "traceback": None}
    recorder = Recorder(run_dir, events, started)
    try:
        request = read_run(run_dir)
        events.phase("load")
        _train(build_trainer(request, recorder, outcome), outcome)
        outcome |= {
            "status": "completed",
            "cause": f"completed {len(recorder.steps)} optimizer steps",
        }
    except Exception as error:  # whatever it is, it belongs into the record
        status, cause = describe(error)
        outcome |= {"status": status, "cause": cause, "traceback": traceback.format_exc()}
        logger.error("%s: %s", status, cause)
        logger.info("%s", outcome["traceback"])
    outcome["metrics"] = recorder.metrics() | outcome["metrics"]
    return outcome


def build_trainer(
    request: RunRequest, recorder: Recorder, outcome: dict[str, Any]
) -> "ExactTrainer":
    """Loads data and model and joins them to a trainer.

    Puts what the record says about data, model and device into `outcome` as soon as it is known,
    so that it is there also where the training fails.
    """
    import torch
    from transformers import set_seed
    from transformers.utils.logging import disable_progress_bar

    from batchopt import tokenized
    from batchopt.corpus.load import fingerprint, load_corpus
    from batchopt.evaluation import Evaluator
    from batchopt.loss import use_slices
    from batchopt.modeling import build_model, generation_config
    from batchopt.rouge import choose_tokenizer
    from batchopt.rouge_process import RougeProcess
    from batchopt.trainer import ExactTrainer, resolve_precision, use_cuda

    config, plan = request.config, request.plan
    # One bar is enough, and it is not that of a checkpoint.
    disable_progress_bar()  # type: ignore[no-untyped-call]
    if config.device.threads is not None:
        torch.set_num_threads(config.device.threads)
    corpus = load_corpus(config.data)
    data = tokenized.load(tokenized.prepare(config, corpus))
    references = (text for example in corpus.validation for text in example.summaries)
    rouge = RougeProcess(
        choose_tokenizer(config.metric.tokenizer.value, references),
        use_stemmer=config.metric.use_stemmer,
    )
    model = build_model(config, data.tokenizer)
    set_seed(config.seed)
    sliced = use_slices(config.training, model)
    evaluator = Evaluator(
        corpus.validation,
        data.validation,
        data.tokenizer,
        rouge,
        generation_config(
            model,
            max_new_tokens=config.data.max_target_length,
            num_beams=config.metric.num_beams,
        ),
        batch_size=config.training.per_device_eval_batch_size,
        sliced=sliced,
    )
    trainer = ExactTrainer(
        config=config,
        plan=plan,
        model=model,
        tokenizer=data.tokenizer,
        train_rows=data.train,
        evaluator=evaluator,
        sliced=sliced,
        recorder=recorder,
        progress=sys.stderr.isatty(),
    )
    steps_per_epoch = -(-data.summary.train_examples // plan.effective_batch_size)
    steps = config.training.max_steps or steps_per_epoch * config.training.num_train_epochs
    logger.info(
        "plan: %s = %d examples per optimizer step; %d training examples, %d steps per epoch, "
        "%d steps; %d of %d dialogues and summaries are cut at %d and %d tokens",
        plan,
        plan.effective_batch_size,
        data.summary.train_examples,
        steps_per_epoch,
        steps,
        data.summary.truncated_sources + data.summary.truncated_targets,
        2 * (data.summary.train_examples + data.summary.validation_examples),
        config.data.max_source_length,
        config.data.max_target_length,
    )
    cuda = use_cuda(config)
    outcome |= {
        "plan": {
            "per_device_train_batch_size": plan.per_device_train_batch_size,
            "gradient_accumulation_steps": plan.gradient_accumulation_steps,
            "effective_batch_size": plan.effective_batch_size,
            "packing": config.batch.packing.value,
            "optimizer_steps": steps,
            "train_examples": data.summary.train_examples,
            "validation_examples": data.summary.validation_examples,
        },
        "data": {
            "source": config.data.source,
            "train_examples": data.summary.train_examples,
            "validation_examples": data.summary.validation_examples,
            "skipped_rows": corpus.skipped_rows,
            "truncated_sources": data.summary.truncated_sources,
            "truncated_targets": data.summary.truncated_targets,
            "max_source_length": config.data.max_source_length,
            "max_target_length": config.data.max_target_length,
        },
        "model": {
            "name": getattr(config.model, "name_or_path", config.model.source),
            "parameters": model.num_parameters(),
        },
        "device": {
            "device_kind": "cuda" if cuda else "cpu",
            "precision": resolve_precision(config.training.precision, cpu=not cuda).value,
            "threads": torch.get_num_threads(),
            "torch_device_name": torch.cuda.get_device_name() if cuda else None,
        },
        "data_fingerprint": fingerprint(corpus),
    }
    outcome["metrics"]["rouge_tokenizer"] = rouge.name
    return trainer


def _train(trainer: "ExactTrainer", outcome: dict[str, Any]) -> None:
    """Trains and evaluates; notes the allocator's figures also where the training fails."""
    import torch

    cuda = trainer.args.device.type == "cuda"
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    try:
        trainer.train()
    finally:
        if cuda:
            outcome["metrics"] |= {
                "peak_allocated_bytes": torch.cuda.max_memory_allocated(),
                "peak_reserved_bytes": torch.cuda.max_memory_reserved(),
                "num_alloc_retries": torch.cuda.memory_stats()["num_alloc_retries"],
            }


def _follow(lifeline: int) -> None:
    """Ends the worker when the supervisor has ended, however it did: the pipe closes then."""
    os.read(lifeline, 1)
    os._exit(1)


class _TerminalHandler(logging.Handler):
    """Prints above the progress bar instead of through it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(record.getMessage(), file=sys.stderr)


def _log_to(path: Path) -> None:
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
    )
    logger.addHandler(_TerminalHandler())


if __name__ == "__main__":
    sys.exit(main())
