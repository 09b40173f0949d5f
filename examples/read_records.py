"""Reads the numbers of a sweep: python examples/read_records.py multirun/DATE/TIME."""

import sys

from batchopt import read_sweep


def main(sweep):
    rows = []
    for run in read_sweep(sweep):
        pair = f"{run.plan.get('per_device_train_batch_size')} per device"
        rows.append((run.run_dir.name, run.status, pair, run.metrics.get("steps_per_second")))
        print(*rows[-1], *(row["rouge_f1"] for row in run.evaluations()[-1:]))
    return rows


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else sys.exit("name a sweep"))
