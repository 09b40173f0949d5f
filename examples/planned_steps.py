"""Divides steps of 64 examples into micro-batches with little padding.

The Trainer's batch is one whole optimizer step, and `training_step` runs its micro-batches. With
every packing the gradient is the same as at 64 x 1.
"""

import tempfile

import tiny
from torch.utils.data import DataLoader
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments

from batchopt import BatchPlan, Packing, StepCollator, StepSampler, micro_batch_loss

PLAN = BatchPlan(per_device_train_batch_size=8, effective_batch_size=64)


class PlannedTrainer(Seq2SeqTrainer):
    def get_train_dataloader(self):
        sampler = StepSampler(len(self.train_dataset), effective_batch_size=64, seed=self.args.seed)
        loader = DataLoader(
            self.train_dataset, batch_sampler=sampler, collate_fn=self.data_collator
        )
        return self.accelerator.prepare(loader)

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        step_loss = 0.0
        for micro_batch in inputs["micro_batches"]:
            batch = self._prepare_inputs(micro_batch)
            loss = micro_batch_loss(model, batch, inputs["target_tokens"])
            self.accelerator.backward(loss)
            step_loss += loss.detach()
        return step_loss


def main():
    trainer = PlannedTrainer(
        model=tiny.model(),
        args=Seq2SeqTrainingArguments(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=64,  # one step
            max_steps=2,
            logging_steps=1,
            remove_unused_columns=False,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
        ),
        train_dataset=tiny.rows(),
        data_collator=StepCollator(
            PLAN, packing=Packing.balanced, max_tokens_per_micro_batch=None, pad_token_id=1
        ),
    )
    trainer.train()
    return trainer


if __name__ == "__main__":
    main()
