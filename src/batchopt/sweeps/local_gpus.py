"""`hydra/launcher=local_gpus`: runs the jobs of a sweep on the GPUs of this machine, one each.

The launcher waits for a device, and starts a process that runs one job on it as Hydra's own
launchers do. The launcher stays small, has one thread and never trains, so that a job's process
cannot harm it or the other jobs, however it dies.

`python -m batchopt.sweeps.local_gpus` is the process of one job.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import cloudpickle
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from batchopt.errors import name_ending
from batchopt.machine.device import is_allocated, lease_name, visible_devices, why_busy
from batchopt.machine.lease import POLL_S, Lease, Ticket
from batchopt.machine.nvml import DeviceInfo, NvmlError
from batchopt.record.read import read_planned_run
from batchopt.request.compose import register
from batchopt.request.config import DeviceConfig
from batchopt.request.objective import read_objectives
from batchopt.run.child_process import DEBOUNCE_S, Stop
from batchopt.sweeps.left import is_over
from batchopt.sweeps.search import value_of
from batchopt.sweeps.tables import in_words

LAST_WORDS = 20
"""How many last lines are shown of a process that ended without a record."""

PATIENCE_S = 10.0
"""Seconds after a second Ctrl-C in which the jobs' processes may write their records."""


@dataclass(frozen=True, slots=True)
class _Job:
    """The next job, composed; `devices` are those that it may get, by the name of their lease."""

    number: int
    name: str
    run_dir: Path
    config: DictConfig
    overrides: list[str]
    device_config: DeviceConfig
    devices: dict[str, DeviceInfo | None]


@dataclass(frozen=True, slots=True)
class _Run:
    """A job with its device and process; `output` is a file in memory of what it printed."""

    job: _Job
    device: str
    child: "subprocess.Popen[bytes]"
    output: int


class Launcher:
    """Holds the runs that go on, the results of ended ones, and a place in the queue for a GPU."""

    def __init__(
        self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        self.hydra_context = hydra_context
        self.task_function = task_function
        self.config = config
        self.running: list[_Run] = []
        self.returns: dict[int, JobReturn] = {}
        self._ticket: Ticket | None = None
        self._stop = Stop()
        self._told = ""
        self._asked_at: float | None = None
        self._insisted_at: float | None = None

    def run(self, jobs: Sequence[tuple[int, Sequence[str]]]) -> list[JobReturn]:
        """Runs jobs, by number and overrides, to their end.

        Raises:
            KeyboardInterrupt: After Ctrl-C, when every run has ended in order.
            SystemExit: Likewise after SIGTERM.
        """
        setup_globals()
        Path(str(self.config.hydra.sweep.dir)).mkdir(parents=True, exist_ok=True)
        waiting = deque(jobs)
        next_job: _Job | None = None
        with Stop() as stop:
            self._stop = stop
            while waiting or next_job or self.running:
                for run in [run for run in self.running if run.child.poll() is not None]:
                    self._take_leave(run)
                if stop.signals:
                    waiting.clear()
                    next_job = None
                    self._leave_line()
                    self._end(stop.signals)
                elif next_job is None and waiting:
                    next_job = self._compose(*waiting.popleft())
                    continue
                elif next_job is not None and self._start(next_job):
                    next_job = None
                    continue
                time.sleep(POLL_S)
        if stop.signals:
            number = stop.signals[0][1]
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        return [self.returns[number] for number, _ in jobs]

    def _compose(self, number: int, overrides: Sequence[str]) -> _Job | None:
        """Composes a job as Hydra's own launchers do; None if it need not run."""
        config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        HydraConfig.instance().set_config(config)
        name = str(config.hydra.sweep.subdir)
        run_dir = Path(str(config.hydra.sweep.dir), name)
        if (status := is_over(run_dir, list(config.sweep.retry))) is not None:
            self._return(number, name, overrides, status)
            return None
        device_config = OmegaConf.to_object(config.device)
        assert isinstance(device_config, DeviceConfig)
        try:
            devices = visible_devices(device_config.kind.value)
        except NvmlError:
            devices = []
        named = {lease_name(device): device for device in devices}
        return _Job(number, name, run_dir, config, list(overrides), device_config, named)

    def _start(self, job: _Job) -> bool:
        """Starts a job if a device is free for it; returns whether it has."""
        lease = self._take_device(job)
        if lease is None:
            return False
        info = job.devices.get(lease.device)
        # In memory: a full disk must not make a run fail for what it prints.
        output = os.memfd_create("output")
        try:
            child = subprocess.Popen(
                [sys.executable, "-m", "batchopt.sweeps.local_gpus"],
                env=os.environ
                | lease.environ
                | ({"CUDA_VISIBLE_DEVICES": info.uuid} if info else {}),
                pass_fds=lease.pass_fds,
                stdin=subprocess.PIPE,
                # The bars and lines of several runs would mix; train.log has the lines.
                stdout=output,
                stderr=subprocess.STDOUT,
                # A process group of its own: Ctrl-C in the terminal reaches only the launcher.
                process_group=0,
            )
        except OSError as error:  # the machine is short of memory or of processes
            os.close(output)
            self._say_once(f"{job.name}: tries again to start: {error}")
            return False
        finally:
            lease.close()  # the child holds it
        assert child.stdin is not None
        work = (self.hydra_context, self.task_function, job.config, Singleton.get_state())
        with suppress(BrokenPipeError):  # the child has died at once; `run` finds that next
            # The pipe stays open: it closes when the launcher ends, which tells the child.
            child.stdin.write(cloudpickle.dumps(work))
            child.stdin.flush()
        self.running.append(_Run(job, lease.device, child, output))
        self._say_once(f"{job.name}: started on {info.name + ', ' if info else ''}{lease.device}")
        return True

    def _take_device(self, job: _Job) -> Lease | None:
        if not job.devices:  # the job's own process finds that out and records it
            return Lease(job.device_config.kind.value, None)
        if is_allocated():
            taken = {run.device for run in self.running}
            free = [name for name in job.devices if name not in taken]
            return Lease(free[0], None) if free else None
        if self._ticket is None:
            self._ticket = Ticket(list(job.devices), str(job.run_dir))
        lease = self._ticket.take(
            lambda name: why_busy(
                job.devices[name], job.device_config, give_up=lambda: bool(self._stop.signals)
            )
        )
        if lease is None:
            self._say_why(job, self._ticket.obstacles)
            return None
        self._leave_line()
        for run in [run for run in self.running if run.device == lease.device]:
            # This run has released the device and is about to end; its end is printed first.
            with suppress(subprocess.TimeoutExpired):
                run.child.wait(timeout=5.0)
                self._take_leave(run)
        return lease

    def _leave_line(self) -> None:
        if self._ticket is not None:
            self._ticket.close()
            self._ticket = None

    def _say_why(self, job: _Job, obstacles: dict[str, str]) -> None:
        ours = {run.device: run.job.name for run in self.running}
        reasons = [ours[device] for device in obstacles if device in ours]
        reasons += [f"{device} {why}" for device, why in obstacles.items() if device not in ours]
        self._say_once(f"{job.name}: waits for {'; '.join(reasons)}")

    def _take_leave(self, run: _Run) -> None:
        """Prints how a run ended, and keeps its result for Hydra."""
        self.running.remove(run)
        assert run.child.stdin is not None
        with suppress(BrokenPipeError):
            run.child.stdin.close()
        result = read_planned_run(run.job.run_dir)
        self._return(run.job.number, run.job.name, run.job.overrides, result.status)
        _say(f"{run.job.name}: {in_words(result)}")
        if result.final is None:
            printed = os.pread(run.output, 1 << 20, 0).decode(errors="replace")
            words = printed.splitlines()[-LAST_WORDS:]
            _say("\n  ".join([f"{run.job.name}: {name_ending(run.child.returncode)}", *words]))
        os.close(run.output)

    def _return(self, number: int, name: str, overrides: Sequence[str], status: str) -> None:
        # Every ending is a result: after a failure Hydra would skip what comes after the sweep.
        result = JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED)
        objectives = read_objectives(self.config.objective)
        run_dir = Path(str(self.config.hydra.sweep.dir), name)
        result.return_value = value_of(run_dir, objectives) if objectives else status
        self.returns[number] = result

    def _end(self, signals: Sequence[tuple[float, int]]) -> None:
        """Passes the first signal on to the runs, and a second one, which ends them at once."""
        now = time.monotonic()
        first_at, number = signals[0]
        last_at, last = signals[-1]
        if self._asked_at is None:
            self._asked_at = now
            self._signal(number)
            _say(f"{signal.Signals(number).name}: ends what runs, in order; a second one, at once")
        elif self._insisted_at is None:
            # Some tools send one signal twice, so two in close succession count as one.
            if last_at > first_at + DEBOUNCE_S and now > self._asked_at + 2 * DEBOUNCE_S:
                self._insisted_at = now
                self._signal(last)
        elif now > self._insisted_at + PATIENCE_S:
            self._signal(signal.SIGKILL)

    def _say_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            _say(text)

    def _signal(self, number: int) -> None:
        for run in self.running:
            run.child.send_signal(number)


def main() -> int:
    """Runs one job; its result is the run's record."""
    # The pipe comes from the launcher that started this process, and from nobody else.
    hydra_context, task_function, config, singletons = pickle.load(sys.stdin.buffer)
    threading.Thread(target=_follow_launcher, daemon=True).start()
    Singleton.set_state(singletons)
    setup_globals()
    register()
    run_job(
        hydra_context=hydra_context,
        task_function=task_function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
    return 0


def _follow_launcher() -> None:
    """Ends the run in order when the launcher has ended, however it did; then the pipe closes."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
