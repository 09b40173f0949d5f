"""Finds the batch, trains with the exact loss, and survives running out of memory.

In your script: your model, tokenizer and rows in place of those of `tiny`, your own arguments
beside `**choice.training_arguments()`, and one class line.
"""

import tempfile

import tiny
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainingArguments

from batchopt import ExactSeq2SeqTrainer, KeepEffectiveBatch, find_batch


class MyTrainer(KeepEffectiveBatch, ExactSeq2SeqTrainer):
    pass


def main():
    model, tokenizer, rows = tiny.model(), tiny.tokenizer(), tiny.rows()
    choice = find_batch(model, rows, tokenizer, effective_batch_size=64, packing="sorted")
    print(choice)
    trainer = MyTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            **choice.training_arguments(),
            max_steps=2,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        ),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, model=model),
    )
    trainer.train()
    return choice, trainer


if __name__ == "__main__":
    main()
