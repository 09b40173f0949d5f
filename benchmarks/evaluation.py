"""How large the batches of an evaluation should be: `python benchmarks/evaluation.py OVERRIDES`.

The run's own evaluator on its own validation split, with batches of several sizes that take turns.
Prints seconds and the peak of memory above the start for each size, as one line of JSON a turn.
"""

import argparse
import json
import os
import time

import own_process

SIZES = (8, 32, 64, 128, 256)


def measure(words, size):
    """Seconds and bytes of one evaluation, from a process of its own."""
    return own_process.measure(__file__, f"--size={size}", *words)


def child(words, size):
    import torch
    from limit import build

    from batchopt.machine.host_memory import read_process_memory, take_peak

    trainer = build([*words, "batch=05a", f"training.per_device_eval_batch_size={size}"], 1)
    before = read_process_memory(os.getpid()).anonymous_bytes
    take_peak()
    began = time.perf_counter()
    trainer.evaluator.evaluate(trainer.model, torch.no_grad)
    print(json.dumps({"eval_s": time.perf_counter() - began, "peak_bytes": take_peak() - before}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("words", nargs="*")
    given = parser.parse_intermixed_args()
    if given.size:
        child(given.words, given.size)
        return
    for number in range(given.rounds):
        for size in SIZES:
            print(json.dumps({"round": number, "size": size, **measure(given.words, size)}))


if __name__ == "__main__":
    main()
