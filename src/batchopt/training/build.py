"""Loads data and model and joins them to a trainer."""

import os
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.machine import host_memory
from batchopt.request.batch_plan import BatchPlan
from batchopt.request.compose import RunRequest
from batchopt.request.config import DeviceKind
from batchopt.training import trackers
from batchopt.training.recorder import Recorder
from batchopt.training.supervised import logger

if TYPE_CHECKING:
    from batchopt.training.trainer import ExactTrainer


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

    from batchopt.data import tokenized
    from batchopt.data.load import fingerprint, load_corpus
    from batchopt.evaluation.evaluator import (
        MOST_EXAMPLES,
        Evaluator,
        fitting_batch_size,
        generation_budget,
        generation_config,
    )
    from batchopt.evaluation.rouge import choose_tokenizer
    from batchopt.evaluation.rouge_process import RougeProcess
    from batchopt.step.loss import use_slices
    from batchopt.training.allocator import MemoryLimit, own_device_bytes
    from batchopt.training.model import build_model
    from batchopt.training.trainer import ExactTrainer, resolve_precision, use_cuda

    config = request.config
    recorder.per_device = plan.per_device_train_batch_size
    cuda = use_cuda(config)
    if not cuda and os.environ.get("CUDA_VISIBLE_DEVICES"):
        _miss_the_gpu(config.device.kind)
    if not cuda:
        now = host_memory.read_process_memory(os.getpid())
        outcome["metrics"]["imports_memory_bytes"] = now and now.anonymous_bytes
    limit = None
    if cuda and config.device.memory_limit_gib is not None:
        limit_bytes = int(config.device.memory_limit_gib * 2**30)
        limit = MemoryLimit(limit_bytes, torch.cuda, own_device_bytes())
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
        most=MOST_EXAMPLES["cuda" if cuda else "cpu"],
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
    if limit is not None:
        trainer.add_callback(limit)
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
