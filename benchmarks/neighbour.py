"""What a busy neighbour costs a run on the CPU: `make bench-neighbour`.

One run alone, one beside a process of another login session that never waits, one beside such a
process that comes when the run trains, and two runs side by side. Each is a whole command.
`--turns` rounds follow one another, so that a drift of the machine favours none. `--before DIR`
runs another checkout of batchopt in turns with this one. Printed are optimizer steps per second,
median and all. Words after the options are overrides. A run that is too slow is ended after
--limit seconds, and its steps so far count.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
WORLDS = ("alone", "beside", "later", "twice")
PINNED = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")


@contextmanager
def neighbour():
    """A session of its own: in ours, the kernel would share the cores out among all alike."""
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True)
    try:
        yield
    finally:
        busy.kill()
        busy.wait()


class Run:
    def __init__(self, top, folder, lease, cache, words):
        self.folder = folder
        environ = {key: value for key, value in os.environ.items() if key not in PINNED}
        environ |= {"PYTHONPATH": f"{top / 'src'}:{top}", "BATCHOPT_LEASE_DIR": str(lease)}
        self.child = subprocess.Popen(
            [
                *(sys.executable, "-m", "batchopt.train", "device.kind=cpu", f"cache_dir={cache}"),
                *("training.logging_steps=1", "training.save_checkpoints=false"),
                f"hydra.run.dir={folder}",
                *words,
            ],
            env=environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def trains(self):
        return (self.folder / "metrics.jsonl").exists() and '"train"' in (
            self.folder / "metrics.jsonl"
        ).read_text()

    def wait_until_it_trains(self, limit):
        deadline = time.monotonic() + limit
        while not self.trains() and self.child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)

    def steps_per_second(self, limit):
        """Steps after the first that was logged, by the training's own clock."""
        try:
            printed, _ = self.child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            self.child.terminate()
            printed, _ = self.child.communicate()
        for line in printed.splitlines():
            if re.match(r"threads: |the run has fallen", line):
                print(f"    {line}", flush=True)
        if not self.trains():
            raise SystemExit(f"the run trained nothing:\n{printed}")
        rows = [
            row
            for line in (self.folder / "metrics.jsonl").read_text().splitlines()
            if (row := json.loads(line))["kind"] == "train"
        ]
        first, last = rows[0], rows[-1]
        if first is last:
            return 1 / limit
        return (last["step"] - first["step"]) / (last["train_time_s"] - first["train_time_s"])


def measure(world, top, folder, words, limit):
    """Steps per second of one world; of two runs, both together."""
    cache = folder.parent / "cache"
    folder.mkdir()

    def start(name):
        run = Run(top, folder / name, folder / f"lease-{name}", cache, words)
        stack.callback(run.child.terminate)
        return run

    with ExitStack() as stack:
        if world == "beside":
            stack.enter_context(neighbour())
            time.sleep(1.0)
        runs = [start("first")]
        if world == "twice":
            runs.append(start("second"))
        if world == "later":
            runs[0].wait_until_it_trains(limit)
            stack.enter_context(neighbour())
        return sum(run.steps_per_second(limit) for run in runs)


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # no run and no neighbour stays behind
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds that a run may take")
    parser.add_argument("--before", type=Path, metavar="DIR", help="another checkout, in turns")
    parser.add_argument("--worlds", default=",".join(WORLDS), help="some of %(default)s")
    parser.add_argument("overrides", nargs="*", default=["batch=05a", "training.max_steps=25"])
    arguments = parser.parse_args()
    words, worlds = arguments.overrides, arguments.worlds.split(",")
    sides = {"now": TOP, **({"before": arguments.before.resolve()} if arguments.before else {})}
    found = {(world, side): [] for world in worlds for side in sides}
    with tempfile.TemporaryDirectory() as folder:
        measure("alone", TOP, Path(folder) / "warm", [*words, "training.max_steps=1"], 600.0)
        for turn in range(arguments.turns):
            order = [*sides] if turn % 2 else [*reversed(sides)]
            for world in worlds:
                for side in order:
                    own = Path(folder) / f"{turn}-{world}-{side}"
                    rate = measure(world, sides[side], own, words, arguments.limit)
                    found[world, side].append(rate)
                    print(f"{turn} {world:7} {side:7} {rate:.2f} steps/s", flush=True)
    for (world, side), rates in found.items():
        all_rates = ", ".join(f"{rate:.2f}" for rate in rates)
        print(f"{world:7} {side:7} median {statistics.median(rates):.2f} steps/s ({all_rates})")


if __name__ == "__main__":
    main()
