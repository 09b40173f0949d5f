"""The process that trains one run: `python -m batchopt.worker RUN_DIR`.

Everything heavy is here, so that one run's memory is one process' memory and one run's death is
one process' death. The worker writes the run's files and tells the supervisor, last, how it ended
as far as it could tell itself. The supervisor makes record.json of it.
"""

import argparse
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchopt import checkpoints, memory, trackers
from batchopt.batch_plan import BatchPlan
from batchopt.compose import RunRequest, read_run
from batchopt.config import DeviceKind
from batchopt.errors import RequestError
from batchopt.failures import describe
from batchopt.lifeline import end_with_starter
from batchopt.recorder import Events, Recorder, StopRequested
from batchopt.run_files import STACKS, TRAIN_LOG

if TYPE_CHECKING:
    from batchopt.trainer import ExactTrainer

logger = logging.getLogger("batchopt")


def main() -> int:
    """Runs the worker; exits with 0 also where the run failed, since it has told so."""
    parser = argparse.ArgumentParser(description="Train one run; batchopt.train starts this.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--per-device-train-batch-size", type=int, required=True)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--attempt", type=int, default=1)
    parser.add_argument("--earlier-s", type=float, default=0.0, help="time of earlier attempts")
    add_supervision(parser)
    arguments = parser.parse_args()
    events = be_supervised(arguments)
    _log_to(arguments.run_dir / TRAIN_LOG, events)
    started = time.monotonic() - arguments.earlier_s
    recorder = Recorder(arguments.run_dir, events, started, arguments.attempt)
    events.tell(outcome=run(recorder, arguments))
    return 0


def add_supervision(parser: argparse.ArgumentParser) -> None:
    """Adds the descriptor that `attempt.run_child` passes."""
    parser.add_argument("--events", type=int, help="descriptor to report to")


def be_supervised(arguments: argparse.Namespace) -> Events:
    """Makes this process one that a supervisor can follow, end, and look into."""
    stacks = (arguments.run_dir / STACKS).open("a")
    faulthandler.enable(stacks, all_threads=True)
    faulthandler.register(signal.SIGQUIT, stacks, all_threads=True)
    # The supervisor ends the run with SIGTERM; Ctrl-C in the terminal is the supervisor's.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_starter()
    return Events(arguments.events)


def run(recorder: Recorder, arguments: argparse.Namespace) -> dict[str, Any]:
    """Trains the run and says how it ended; never raises for what a run can do."""
    outcome: dict[str, Any] = {"metrics": {}, "traceback": None}
    signal.signal(signal.SIGTERM, lambda *_: recorder.request_stop())
    try:
        recorder.phase("load")
        request = read_run(recorder.run_dir)
        plan = BatchPlan(
            arguments.per_device_train_batch_size, request.config.batch.effective_batch_size
        )
        trainer = build_trainer(
            request,
            plan,
            recorder,
            outcome,
            gradient_checkpointing=arguments.gradient_checkpointing,
            tracked=True,
        )
        train(trainer, outcome)
        outcome |= _ended(recorder, outcome["plan"]["optimizer_steps"])
        if outcome["status"] == "completed":
            checkpoints.keep_weights_only(recorder.run_dir)
    except StopRequested:
        outcome |= {"status": "interrupted", "cause": "stopped before the training began"}
    except Exception as error:  # whatever it is, it belongs into the record
        memory.lift_limit()
        status, cause = describe(error)
        outcome |= {"status": status, "cause": cause, "traceback": traceback.format_exc()}
        logger.error("%s: %s", status, cause)
        logger.info("%s", outcome["traceback"])
    outcome["metrics"] = recorder.metrics() | outcome["metrics"]
    return outcome


def _ended(recorder: Recorder, planned: int) -> dict[str, Any]:
    """How a training that came back ended; early stopping is an end as planned."""
    done = len(recorder.steps)
    if recorder.stop_requested and done < planned:
        return {"status": "interrupted", "cause": f"stopped after step {done} of {planned}"}
    return {"status": "completed", "cause": f"completed {done} optimizer steps"}


def build_trainer(
    request: RunRequest,
    plan: BatchPlan,
    recorder: Recorder,
    outcome: dict[str, Any],
    *,
    gradient_checkpointing: bool = False,
    tracked: bool = False,
) -> "ExactTrainer":
    """Loads data and model and joins them to a trainer.

    Puts what the record says about data, model and device into `outcome`, and tells it, as soon as
    it is known, so that it is there also where the training fails.
    """
    import torch
    from transformers import set_seed
    from transformers.utils.logging import disable_progress_bar

    from batchopt import tokenized
    from batchopt.corpus.load import fingerprint, load_corpus
    from batchopt.evaluation import Evaluator, fitting_batch_size, generation_budget
    from batchopt.loss import use_slices
    from batchopt.modeling import build_model, generation_config
    from batchopt.rouge import choose_tokenizer
    from batchopt.rouge_process import RougeProcess
    from batchopt.trainer import ExactTrainer, resolve_precision, use_cuda

    config = request.config
    recorder.per_device = plan.per_device_train_batch_size
    cuda = use_cuda(config)
    if not cuda and os.environ.get("CUDA_VISIBLE_DEVICES"):
        _miss_the_gpu(config.device.kind)
    if not cuda:
        now = memory.read_process_memory(os.getpid())
        outcome["metrics"]["imports_memory_bytes"] = now and now.anonymous_bytes
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
    generation = generation_config(
        model, max_new_tokens=config.data.max_target_length, num_beams=config.metric.num_beams
    )
    rows = list(data.validation)
    eval_batch_size = config.training.per_device_eval_batch_size or fitting_batch_size(
        model,
        generation,
        longest_source=max(len(row["input_ids"]) for row in rows),
        budget_bytes=generation_budget(config.device.memory_limit_gib, cuda=cuda),
    )
    evaluator = Evaluator(
        corpus.validation,
        rows,
        data.tokenizer,
        rouge,
        generation,
        batch_size=eval_batch_size,
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
        gradient_checkpointing=gradient_checkpointing,
        # The integrations read the environment as the Trainer is made.
        tracked_as=trackers.set_up(request, recorder.run_dir) if tracked else None,
    )
    steps_per_epoch = -(-data.summary.train_examples // plan.effective_batch_size)
    steps = config.training.max_steps or steps_per_epoch * config.training.num_train_epochs
    logger.info(
        "plan: %s = %d examples per optimizer step; %d training examples, %d steps per epoch, "
        "%d steps; %d of %d dialogues and summaries are cut at %d and %d tokens; evaluation in "
        "batches of %d",
        plan,
        plan.effective_batch_size,
        data.summary.train_examples,
        steps_per_epoch,
        steps,
        data.summary.truncated_sources + data.summary.truncated_targets,
        2 * (data.summary.train_examples + data.summary.validation_examples),
        config.data.max_source_length,
        config.data.max_target_length,
        eval_batch_size,
    )
    outcome |= {
        "plan": {
            "per_device_train_batch_size": plan.per_device_train_batch_size,
            "gradient_accumulation_steps": plan.gradient_accumulation_steps,
            "effective_batch_size": plan.effective_batch_size,
            "packing": config.batch.packing.value,
            "gradient_checkpointing": gradient_checkpointing
            or config.training.gradient_checkpointing,
            "optimizer_steps": steps,
            "per_device_eval_batch_size": eval_batch_size,
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
    recorder.events.tell(facts=outcome)
    return trainer


def _miss_the_gpu(kind: DeviceKind) -> None:
    """Says that torch cannot use the GPU that this run was given.

    Raises:
        RequestError: A GPU is demanded.
    """
    import torch

    said = f"a GPU is there, and torch {torch.__version__} cannot use it"
    remedy = "install a build of torch for its driver (https://pytorch.org/get-started/locally)"
    if kind is DeviceKind.cuda:
        raise RequestError(f"device.kind is cuda: {said}; {remedy}")
    logger.warning("%s: the run trains on the CPU; %s, or set device.kind=cpu", said, remedy)


def train(trainer: "ExactTrainer", outcome: dict[str, Any]) -> None:
    """Trains and evaluates, from the last whole checkpoint on where there is one.

    Notes the allocator's figures and the utilisation also where the training fails.
    """
    import torch

    from batchopt.allocator import Allocator
    from batchopt.flops import measure_peak
    from batchopt.trainer import resolve_precision

    recorder, config, device = trainer.recorder, trainer.config, trainer.args.device
    cuda = device.type == "cuda"
    precision = resolve_precision(config.training.precision, cpu=not cuda)
    # The process that scores is loading its tokenizer on a core of the CPU that is measured next.
    trainer.evaluator.rouge.submit([""], [[""]]).result()
    peak = measure_peak(device, precision)
    per_token = _flops_per_token(trainer)
    if not cuda:
        memory.trim()
    if config.device.memory_limit_gib is not None:
        _limit_memory(int(config.device.memory_limit_gib * 2**30), cuda=cuda)
    allocator = Allocator(torch.cuda) if cuda else None
    if allocator is not None:
        recorder.on_phase = allocator.enter
    checkpoint = checkpoints.newest_whole(recorder.run_dir)
    if checkpoint is not None:
        recorder.restore(checkpoint)
        logger.info("resuming from step %d", checkpoints.step_of(checkpoint))
    else:
        recorder.begin_anew()
    try:
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    finally:
        memory.lift_limit()
        if allocator is not None:
            outcome["metrics"] |= allocator.metrics()
        speed = recorder.metrics()["tokens_per_second"]
        outcome["metrics"] |= {
            "peak_flops_per_second": peak,
            "flops_per_token": per_token,
            "mfu": speed * per_token / peak if speed and per_token else None,
        }


def _flops_per_token(trainer: "ExactTrainer") -> float | None:
    """Model FLOPs of one source or target token, on the first step's largest micro-batch."""
    from transformers import PreTrainedModel

    from batchopt.flops import count_flops

    sampler = trainer.step_sampler()
    step = trainer.data_collator([trainer.train_rows[index] for index in next(iter(sampler))])
    batch = step["micro_batches"][0]
    tokens = batch["input_ids"].numel() + batch["labels"].numel()
    assert isinstance(trainer.model, PreTrainedModel)
    try:
        return count_flops(trainer.model, batch) / float(tokens)
    except Exception as error:  # a model that cannot go without content has no utilisation
        logger.warning("mfu is not measured: the operations cannot be counted (%s)", error)
        return None


def _limit_memory(limit_bytes: int, *, cuda: bool) -> None:
    """Enforces device.memory_limit_gib.

    Raises:
        MemoryError: What is loaded is more than that.
    """
    import torch

    if not cuda:
        memory.limit_anonymous(limit_bytes)
        return
    free, total = torch.cuda.mem_get_info()
    # The context of CUDA is no business of the allocator, but it is in the budget.
    context = max(0, total - free - torch.cuda.memory_reserved())
    share = (limit_bytes - context) / total
    if share <= 0:
        raise MemoryError(
            f"the CUDA context alone takes {context / 2**30:.2f} GiB, and "
            f"device.memory_limit_gib is {limit_bytes / 2**30:.2f}"
        )
    torch.cuda.set_per_process_memory_fraction(min(1.0, share))


class _Warnings(logging.Handler):
    """Tells the supervisor, whose the terminal is; an error is told as the run's outcome."""

    def __init__(self, events: Events) -> None:
        super().__init__(logging.WARNING)
        self.events = events

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            self.events.tell(warning=record.getMessage())


def _log_to(path: Path, events: Events) -> None:
    logging.raiseExceptions = False  # on a full disk: what matters is told through `events`
    logging.basicConfig(
        filename=path,
        level=logging.INFO,
        format="[%(asctime)s][%(name)s][%(levelname)s] %(message)s",
    )
    logger.addHandler(_Warnings(events))


if __name__ == "__main__":
    sys.exit(main())
