"""ROUGE with Korean words in the stock Trainer, as its `compute_metrics`.

`kiwi` counts morphemes, so a particle is a word of its own and `#Person1#` is one word. The usual
ROUGE keeps only a to z and 0 to 9, and gives identical Hangul a score of 0.
"""

import tempfile

import tiny
from transformers import DataCollatorForSeq2Seq, Seq2SeqTrainer, Seq2SeqTrainingArguments

from batchopt import Rouge

TEXTS = ["#Person1#은 회의를 취소했다", "내일 비가 온다"]
"""What your tokenizer decodes; the tiny one here knows no words."""


def main():
    rouge = Rouge("kiwi")

    def compute_metrics(evaluated):
        predictions = [TEXTS[number % 2] for number in range(len(evaluated.predictions))]
        references = [[TEXTS[number % 2]] for number in range(len(evaluated.label_ids))]
        return rouge.compute(predictions=predictions, references=references)

    model = tiny.model()
    trainer = Seq2SeqTrainer(
        model=model,
        args=Seq2SeqTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            predict_with_generate=True,
            generation_max_length=8,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        eval_dataset=tiny.rows(8),
        data_collator=DataCollatorForSeq2Seq(tiny.tokenizer(), model=model),
        compute_metrics=compute_metrics,
    )
    return trainer.evaluate()


if __name__ == "__main__":
    print(main())
