"""What the stock Trainer's accumulation does to a training: `make bench-accumulation`.

    python benchmarks/accumulation.py [--steps N] [--model FOLDER --train FILE --validation FILE]

The same BART with fresh weights, the same examples in every optimizer step, no dropout, trained by
the stock Seq2SeqTrainer at 64 x 1 and at 8 x 8, and at 8 x 8 with `batchopt.exact_loss`. Four
times: as the Trainer comes (AdamW, gradients clipped at 1), without clipping, with label smoothing
(for which the Trainer has a loss of its own), and with plain gradient descent. Written to
accumulation.json under --out and printed as tables: the loss and the norm of the gradient that the
Trainer logs, the validation loss and ROUGE-L by step, and how far the weights are from those of
64 x 1 at the end, relative to how far these have moved.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import bench
import torch
from datasets import load_dataset
from rouge_score.rouge_scorer import RougeScorer
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from batchopt import exact_loss

ARMS = {
    "stock 64 x 1": (64, 1, None),
    "stock 8 x 8": (8, 8, None),
    "exact 8 x 8": (8, 8, exact_loss),
}
SETTINGS = {
    "AdamW, clipped at 1 (the defaults)": {"learning_rate": 4e-3},
    "AdamW, not clipped": {"learning_rate": 4e-3, "max_grad_norm": 0.0},
    "AdamW, clipped, label_smoothing_factor=0.1": {
        "learning_rate": 4e-3,
        "label_smoothing_factor": 0.1,
    },
    "gradient descent, not clipped": {"learning_rate": 0.1, "max_grad_norm": 0.0, "optim": "sgd"},
}
LENGTHS = {"max_source_length": 256, "max_target_length": 64}


def train(arm, setting, given):
    """The Trainer's log lines by step, and the weights before and after."""
    size, accumulation, exact = ARMS[arm]
    loss = exact and partial(exact, label_smoothing=setting.get("label_smoothing_factor", 0.0))
    set_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(given.model)
    model = AutoModelForSeq2SeqLM.from_pretrained(given.model)
    before = flat(model)
    data = load_dataset(
        "json", data_files={"train": str(given.train), "validation": str(given.validation)}
    )
    references = data["validation"]["summaries"]

    def tokenize(rows):
        made = tokenizer(rows["dialogue"], max_length=LENGTHS["max_source_length"], truncation=True)
        targets = [summaries[0] for summaries in rows["summaries"]]
        labels = tokenizer(
            text_target=targets, max_length=LENGTHS["max_target_length"], truncation=True
        )
        return {**made, "labels": labels["input_ids"]}

    data = data.map(tokenize, batched=True, remove_columns=data["train"].column_names)
    scorer = RougeScorer(["rougeL"])

    def rouge(prediction):
        tokens = prediction.predictions
        tokens[tokens == -100] = tokenizer.pad_token_id
        texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
        scores = [
            scorer.score_multi(several, text.strip())["rougeL"].fmeasure
            for several, text in zip(references, texts, strict=True)
        ]
        return {"rougeL": sum(scores) / len(scores)}

    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=str(given.out / "trainer"),
            per_device_train_batch_size=size,
            gradient_accumulation_steps=accumulation,
            per_device_eval_batch_size=32,
            max_steps=given.steps,
            warmup_steps=20,
            eval_strategy="steps",
            eval_steps=given.every,
            logging_steps=given.every,
            logging_first_step=True,
            save_strategy="no",
            predict_with_generate=True,
            generation_max_length=LENGTHS["max_target_length"] + 1,
            report_to="none",
            disable_tqdm=True,
            seed=1,
            use_cpu=True,
            **setting,
        ),
        train_dataset=data["train"],
        eval_dataset=data["validation"],
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
        processing_class=tokenizer,
        compute_loss_func=loss,
        compute_metrics=rouge,
    )
    trainer.remove_callback(PrinterCallback)  # it would print between the tables
    trainer.train()
    rows = {}
    names = ("loss", "grad_norm", "eval_loss", "eval_rougeL")
    for line in trainer.state.log_history:
        kept = {name: line[name] for name in names if name in line}
        rows.setdefault(line["step"], {}).update(kept)
    return rows, before, flat(model)


def flat(model):
    return torch.cat([weight.detach().flatten().clone() for weight in model.parameters()])


def print_table(title, found):
    print(f"\n{title}\n")
    arms = list(found)
    print("| step | " + " | ".join(f"{arm}: loss; norm; eval; ROUGE-L" for arm in arms) + " |")
    print("|---|" + "---|" * len(arms))
    steps = list(found[arms[0]]["rows"])
    for step in steps:
        cells = []
        for arm in arms:
            row = found[arm]["rows"].get(step, {})
            forms = (("loss", ".3f"), ("grad_norm", ".2f"), ("eval_loss", ".3f"))
            cell = [format(row[name], form) if name in row else "-" for name, form in forms]
            rouge = row.get("eval_rougeL")
            cells.append("; ".join([*cell, "-" if rouge is None else f"{rouge:.3f}"]))
        print(f"| {step} | " + " | ".join(cells) + " |")
    apart = ", ".join(f"{arm} {found[arm]['apart']:.2g}" for arm in arms[1:])
    print(f"\nWeights at the end, apart from those of {arms[0]}: {apart}.", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=160)
    parser.add_argument("--settings", default="", help="part of a setting's name; default: all")
    parser.add_argument("--every", type=int, default=20, help="steps between two evaluations")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--validation", type=Path)
    parser.add_argument("--out", type=Path, default=bench.TOP / "outputs" / "accumulation")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.train is None:
        given.train, given.validation = bench.make_sample(given.out)
        (given.out / "short.jsonl").write_text(
            "".join(given.validation.open(encoding="utf-8").readlines()[:100]), encoding="utf-8"
        )
        given.validation = given.out / "short.jsonl"
    if given.model is None:
        given.model = given.out / "model"
        words = bench.file_words(given.train, given.validation)
        bench.make_model(given.model, words, width=64, vocabulary=1000)
    results = {}
    for title, setting in SETTINGS.items():
        if given.settings not in title:
            continue
        found, reference = {}, None
        for arm in ARMS:
            rows, before, after = train(arm, setting, given)
            reference = after if reference is None else reference
            moved = torch.linalg.norm(reference - before)
            apart = float(torch.linalg.norm(after - reference) / moved)
            found[arm] = {"rows": rows, "apart": apart}
        results[title] = found
        print_table(title, found)
        (given.out / "accumulation.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
