"""Gives the stock Trainer the right gradient under accumulation, with one argument.

Without `compute_loss_func=exact_loss`, transformers 5 makes the gradient of BART and T5 at 8 x 8
eight times too large (transformers issue 47688). Pass the model to the collator, so that it adds
the decoder_input_ids.
"""

import tempfile

import tiny
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from batchopt import exact_loss


def main():
    model = tiny.model()
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=8,
            gradient_accumulation_steps=8,
            max_steps=2,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=tiny.rows(),
        data_collator=DataCollatorForSeq2Seq(tiny.tokenizer(), model=model),
        compute_loss_func=exact_loss,
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
