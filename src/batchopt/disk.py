"""Whether the disk has room for what runs will write."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from batchopt.compose import RunRequest
from batchopt.errors import RequestError
from batchopt.prepare import parameters

OTHER_BYTES = 64 * 2**20
"""Of a run's records, predictions and logs; checkpoints are the rest."""


def check_disk(requests: Sequence[RunRequest], directory: Path) -> None:
    """Refuses runs whose checkpoints would fill the disk.

    A checkpoint to go on from holds the weights and AdamW's two moments in fp32, one of a
    completed run the weights. While one is written, one more is on the disk than are kept.

    Raises:
        RequestError: There is too little room.
    """
    needed, largest = 0, 0
    for request in requests:
        training = request.config.training
        weights = 4 * parameters(request.config)
        kept = training.keep_checkpoints if training.save_checkpoints else 0
        needed += kept * weights + OTHER_BYTES
        largest = max(largest, (kept + 1) * 3 * weights if kept else 0)
    existing = next(path for path in (directory, *directory.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if needed + largest > free:
        raise RequestError(
            f"{existing} has {free / 2**30:.1f} GiB free and the runs may need "
            f"{(needed + largest) / 2**30:.1f} GiB, most of it for checkpoints; free some, lower "
            "training.keep_checkpoints, set training.save_checkpoints=false, or write elsewhere "
            "with hydra.sweep.dir=…"
        )
