"""Hydra's own sweeper, except that it launches the runs of a sweep in the order of sweep.json.

It lies in `hydra_plugins` because Hydra takes sweepers only from there.
"""

from collections.abc import Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.types import Override

from batchopt.record.read import read_plan


class BatchoptSweeper(BasicSweeper):
    """Passes the runs to the launcher, whichever it is, first to last.

    Hydra numbers the runs as they are launched, so `hydra.job.num` is a run's place in time. The
    directories are those of the plan, so their names do not depend on the order.
    """

    def split_arguments(  # type: ignore[override]  # Hydra calls its static method on the sweeper
        self, overrides: list[Override], max_batch_size: int | None
    ) -> Sequence[Sequence[Sequence[str]]]:
        """Lists the words of each run in the parts that the launcher gets at once."""
        from batchopt.request.words import quoted

        assert self.config is not None
        plan = read_plan(Path(str(self.config.hydra.sweep.dir)))
        assert plan is not None
        (typed,) = BasicSweeper.split_arguments(overrides, None)
        runs = sorted(zip(plan.jobs, typed, strict=True), key=lambda run: run[0].place)
        launched = [
            [*words, quoted("hydra.sweep.subdir", Path(job.run_dir))] for job, words in runs
        ]
        return list(self.split_overrides_to_chunks(launched, max_batch_size))
