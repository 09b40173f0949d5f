"""What a person would write today: one preset, the Trainer of transformers as it comes.

    for size in 8 16 64; do
        python benchmarks/baseline.py --model DIR --train FILE --validation FILE --out DIR/$size \
            --per-device $size --accumulation $((64 / size))
    done

Nothing of batchopt is in here. The one repair: the loss is divided by the step's target tokens,
without which 8 x 8 trains with a gradient eight times too large. `--strategy` is the Trainer's
`train_sampling_strategy`; `batch_rebalance` gets what it needs to be at its best: the lengths of
source and target together, in a column that the Trainer must not remove. `Meter` at the end is
the measuring, which a person would not have.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from datasets import load_dataset
from rouge_score.rouge_scorer import RougeScorer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
    set_seed,
)

MAX_SOURCE, MAX_TARGET = 512, 128
CUDA = torch.cuda.is_available()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True, help="folder of model and tokenizer")
    parser.add_argument("--train", required=True, help="JSONL with dialogue and summaries")
    parser.add_argument("--validation", required=True)
    parser.add_argument("--out", required=True)
    parser.add_argument("--per-device", type=int, required=True)
    parser.add_argument("--accumulation", type=int, required=True)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--strategy", default="random", help="random, group_by_length, …")
    parser.add_argument("--eval-batch", type=int, default=8)
    parser.add_argument("--only", choices=("train", "evaluate"), help="default: both")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    # On Hopper and Blackwell cuDNN's attention plans for up to a second for each new shape.
    torch.backends.cuda.enable_cudnn_sdp(False)
    set_seed(given.seed)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(given.model)

    def tokenize(rows):
        made = tokenizer(rows["dialogue"], max_length=MAX_SOURCE, truncation=True)
        targets = [summaries[0] for summaries in rows["summaries"]]
        labels = tokenizer(text_target=targets, max_length=MAX_TARGET, truncation=True)
        both = zip(made["input_ids"], labels["input_ids"], strict=True)
        lengths = [len(source) + len(target) for source, target in both]
        return {**made, "labels": labels["input_ids"], "length": lengths}

    data = load_dataset("json", data_files={"train": given.train, "validation": given.validation})
    references = data["validation"]["summaries"]
    data = data.map(tokenize, batched=True, remove_columns=data["train"].column_names)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"])

    def rouge(prediction):
        tokens = prediction.predictions
        tokens[tokens == -100] = tokenizer.pad_token_id
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        scores = [
            scorer.score_multi(several, text.strip())
            for several, text in zip(references, texts, strict=True)
        ]
        return {
            name: sum(score[name].fmeasure for score in scores) / len(scores)
            for name in ("rouge1", "rouge2", "rougeL")
        }

    def loss(outputs, labels, num_items_in_batch):
        logits = outputs.logits.flatten(0, 1)
        summed = torch.nn.functional.cross_entropy(logits, labels.flatten(), reduction="sum")
        return summed / num_items_in_batch

    pad = DataCollatorForSeq2Seq(tokenizer, model=model)

    def collate(rows):
        names = ("input_ids", "attention_mask", "labels")
        return pad([{name: row[name] for name in names} for row in rows])

    meter = Meter()

    class Trainer(Seq2SeqTrainer):
        def training_step(self, model, inputs, num_items_in_batch=None):
            meter.count(inputs)
            return super().training_step(model, inputs, num_items_in_batch)

    trainer = Trainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=given.out,
            per_device_train_batch_size=given.per_device,
            gradient_accumulation_steps=given.accumulation,
            learning_rate=given.learning_rate,
            num_train_epochs=given.epochs,
            max_steps=given.max_steps,
            train_sampling_strategy=given.strategy,
            remove_unused_columns=False,
            per_device_eval_batch_size=given.eval_batch,
            bf16=CUDA,  # as batchopt does where the hardware has it
            dataloader_num_workers=4 if CUDA else 0,
            eval_strategy="no" if given.only else "epoch",
            save_strategy="no",
            logging_steps=5,
            predict_with_generate=True,
            generation_max_length=MAX_TARGET + 1,  # the start token counts
            report_to="none",
            disable_tqdm=True,
            seed=given.seed,
        ),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=collate,
        processing_class=tokenizer,
        compute_loss_func=loss,
        compute_metrics=rouge,
        callbacks=[meter],
    )
    if given.only == "evaluate":
        meter.begin()
        trainer.evaluate()
        result = {"peak_memory_bytes": meter.peak(), "baseline_memory_bytes": meter.before}
    else:
        trainer.train()
        result = meter.result()
    evaluations = [row for row in trainer.state.log_history if "eval_runtime" in row]
    if evaluations:
        result |= {
            "eval_time_s": evaluations[-1]["eval_runtime"],
            "eval_loss": evaluations[-1]["eval_loss"],
            "rougeL_f1": evaluations[-1]["eval_rougeL"],
        }
    Path(given.out).mkdir(parents=True, exist_ok=True)
    (Path(given.out) / "result.json").write_text(json.dumps(result))


class Meter(TrainerCallback):
    """Speed and memory by the definitions of batchopt's record, so that they can be compared.

    Steady state: the first 10 steps, or a fifth of fewer than 50, are left out, evaluations too.
    Memory: resident and anonymous, the kernel's high-water mark while training; on a GPU what
    torch's allocator reserved of the driver. Nothing here makes a GPU wait within the steps.
    """

    def __init__(self):
        self.tokens = [0]
        self.seconds = []

    def count(self, inputs):
        """The tokens of the examples of a micro-batch, without padding."""
        self.tokens[-1] += inputs["attention_mask"].sum() + (inputs["labels"] >= 0).sum()

    def begin(self):
        """Starts the high-water mark of memory anew."""
        if CUDA:
            self.before = torch.cuda.memory_reserved()
            torch.cuda.reset_peak_memory_stats()
            return
        self.before = memory()["RssAnon"]
        Path("/proc/self/clear_refs").write_text("5")

    def peak(self):
        if CUDA:
            return torch.cuda.max_memory_reserved()
        now = memory()
        return now["VmHWM"] - now["RssFile"] - now["RssShmem"]

    def on_train_begin(self, args, state, control, **_):
        self.steps_per_epoch = state.max_steps / args.num_train_epochs
        self.first = min(10, state.max_steps // 5)
        self.begin()
        self.mark = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        if CUDA and state.global_step in (self.first, state.max_steps):
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.mark)
        if state.global_step <= self.steps_per_epoch:
            self.trained = self.peak()  # before the first evaluation, which is not training
        self.tokens.append(0)
        self.mark = time.perf_counter()

    def on_evaluate(self, args, state, control, **_):
        self.mark = time.perf_counter()

    def result(self):
        steps = len(self.seconds) - self.first
        seconds = sum(self.seconds[self.first :])
        return {
            "steps_per_second": steps / seconds,
            "tokens_per_second": int(sum(self.tokens[self.first :])) / seconds,
            "baseline_memory_bytes": self.before,
            "peak_memory_bytes": self.trained,
        }


def memory():
    lines = Path("/proc/self/status").read_text().splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    names = ("RssAnon", "RssFile", "RssShmem", "VmHWM")
    return {name: int(fields[name].split()[0]) * 1024 for name in names}


if __name__ == "__main__":
    main()
