"""The task that Hydra runs for each job, here or on another machine.

It has a module of its own because submitit imports it by name.
"""

import logging
import os
import traceback
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from batchopt.errors import RequestError
from batchopt.probe.choose import choose
from batchopt.record.statuses import Status
from batchopt.request.objective import read_objectives
from batchopt.request.read_back import read_run
from batchopt.run.supervisor import supervise
from batchopt.slurm import jobs as slurm
from batchopt.sweeps.left import is_kept, is_over
from batchopt.sweeps.plan import planned_place
from batchopt.sweeps.screen import show_run
from batchopt.sweeps.search import add_to_search, value_of
from batchopt.training import trackers

logger = logging.getLogger(__name__)

CUT_SHORT = (Status.interrupted, Status.killed, Status.timeout)
"""Statuses with which a run goes on when SLURM starts its job once more."""


def run_job(_: DictConfig) -> str | float | tuple[float, ...]:
    """Runs one job; returns its status or, if there is an objective, its value for the search.

    It raises for nothing that a run can do: after an exception Hydra would run the other jobs, but
    nothing that comes after the sweep.
    """
    # On a full disk Python would print a traceback for each line that it cannot write to a log
    # file. The terminal shows these lines anyway.
    logging.raiseExceptions = False
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    try:
        request = read_run(run_dir)
        # A single run has no number.
        job = HydraConfig.get().job
        add_to_search(request, None if OmegaConf.is_missing(job, "num") else job.num)
        objectives = read_objectives(request.config.objective)
        if is_kept(run_dir):
            return value_of(run_dir, objectives) if objectives else "kept"
        over = is_over(run_dir, request.config.sweep.retry)
        if over is not None and not (over in CUT_SHORT and slurm.is_requeued(os.environ)):
            return value_of(run_dir, objectives) if objectives else over
        trials = HydraConfig.get().sweeper.get("n_trials")
        with show_run(run_dir, str(request.plan or "batch=auto"), trials) as screen:
            status = supervise(request, run_dir, choose, screen.take, planned_place(run_dir))
        trackers.report(request, run_dir)
        return value_of(run_dir, objectives) if objectives else status
    except (RequestError, OSError) as error:  # a full disk, files that are damaged
        logger.error("%s cannot be run: %s", run_dir, error)
        return Status.failed
    except Exception:  # a bug of batchopt, not of the run; the run stays without a record
        logger.error("batchopt itself failed:\n%s", traceback.format_exc())
        return Status.failed
