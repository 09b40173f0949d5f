"""Plans which examples share a micro-batch, and shows how much padding each packing leaves."""

from batchopt import Packing, padding, plan_micro_batches


def main():
    # Source and target tokens of each example of one optimizer step.
    lengths = [(512, 60), (30, 12), (480, 75), (25, 9), (40, 14), (500, 70), (28, 11), (35, 10)]
    totals = {}
    for packing in Packing:
        cut = plan_micro_batches(lengths, per_device_train_batch_size=4, packing=packing)
        tokens = padding(lengths, cut)
        totals[packing.value] = tokens.padded_source_tokens + tokens.padded_target_tokens
        print(f"{packing.value:9} {totals[packing.value]:5} padded tokens  {cut}")
    return totals


if __name__ == "__main__":
    main()
