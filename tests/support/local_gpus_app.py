"""batchopt's command line with another job: one that only notes which device it had, and when.

The environment says where to note it (LOG), how long the job takes (SECONDS), without which file
none ends (UNTIL), how long it takes after a signal (LINGER). A job with seed=99 is killed.
"""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig

from batchopt.machine.device import lease_for_run
from batchopt.record.documents import Record
from batchopt.record.write import write_record
from batchopt.request.compose import conf_dir, register


def job(config: Any) -> str:
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    _, lease = lease_for_run(config.device, run_dir)
    begin = time.monotonic_ns()
    facts = {"run": run_dir.name, "device": lease.device, "begin": begin, "pid": os.getpid()}
    facts["visible"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    note(facts)
    if config.seed == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    ends = begin + float(os.environ["SECONDS"]) * 1e9
    until = Path(os.environ.get("UNTIL", "/"))
    while (time.monotonic_ns() < ends or not until.exists()) and not signals:
        time.sleep(0.01)
    if signals:
        time.sleep(float(os.environ.get("LINGER", "0")))
    note(facts | {"end": time.monotonic_ns(), "signals": signals})
    lease.close()
    status = "interrupted" if signals else "completed"
    plan = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 64}
    write_record(run_dir, Record(status=status, cause=f"{signals}", plan=plan))
    return status


def note(facts: dict[str, Any]) -> None:
    with Path(os.environ["LOG"]).open("a") as log:
        log.write(json.dumps(facts) + "\n")


def main() -> None:
    register()
    hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(job)()
