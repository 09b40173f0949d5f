"""batchopt's command line with another job: one that only notes which device it had, and when.

    python -m local_gpus_app -m seed=1,2,3 hydra/launcher=local_gpus

`LOG` names the file for the notes; the batch decides what the job does.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig

from batchopt.compose import conf_dir, register_schemas
from batchopt.device import lease_for_run
from batchopt.run_files import RECORD, write_json


def job(config) -> str:
    run_dir = Path(HydraConfig.get().runtime.output_dir)
    stopped = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    info, lease = lease_for_run(config.device, run_dir)
    begin = time.monotonic_ns()
    note("began", device=lease.device, run=run_dir.name, pid=os.getpid(), begin=begin)
    seconds, status = float(config.run.timeout_min or 0.1), "completed"
    if config.seed == 99:
        os.kill(os.getpid(), signal.SIGKILL)
    while time.monotonic_ns() < begin + seconds * 1e9 and not stopped:
        time.sleep(0.01)
    if stopped:
        status = "interrupted"
        # A second Ctrl-C within a while is to be seen too.
        time.sleep(float(os.environ.get("LINGER", "0")))
    note(
        "ended",
        device=lease.device,
        run=run_dir.name,
        begin=begin,
        end=time.monotonic_ns(),
        signals=stopped,
    )
    lease.close()
    write_json(
        run_dir / RECORD,
        {
            "status": status,
            "cause": f"{stopped}",
            "metrics": {},
            "plan": {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 64},
        },
    )
    return status


def note(event: str, **values) -> None:
    descriptor = os.open(os.environ["LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, (json.dumps({"event": event, **values}) + "\n").encode())
    os.close(descriptor)


def main() -> None:
    register_schemas()
    hydra.main(config_path=str(conf_dir()), config_name="config", version_base="1.3")(job)()
