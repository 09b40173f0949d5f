"""Time and memory against the number of pairs: `python benchmarks/scaling.py PAIRS…`.

For each number, in a process of its own: tokenise that many generated pairs (the tokenizer is
there before), open the result, and plan one epoch of optimizer steps. Peak memory is above what
the corpus itself, read before, takes.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import own_process


def measure(pairs, folder):
    return own_process.measure(__file__, "--child", pairs, folder)


def child(pairs, folder):
    from batchopt.data import Corpus, Example, tokenized
    from batchopt.data.load import load_corpus
    from batchopt.machine.host_memory import read_process_memory, take_peak
    from batchopt.request.batch_plan import BatchPlan
    from batchopt.request.compose import compose_run
    from batchopt.request.config import Packing
    from batchopt.step.batches import StepCollator, StepSampler

    scratch = Path(tempfile.mkdtemp(dir=folder))
    config = compose_run([f"cache_dir={scratch}", "data.language=en"]).config
    small = load_corpus(config.data)
    tokenizer = tokenized.load(tokenized.prepare(config, small)).tokenizer
    tokenized._tokenizer = lambda *_: tokenizer  # training one is not what is measured
    copies = range(-(-pairs // len(small.train)))
    many = (
        Example(f"{copy}-{one.id}", f"{copy} {one.dialogue}", one.summaries)
        for copy in copies
        for one in small.train
    )
    corpus = Corpus(
        tuple(one for one, _ in zip(many, range(pairs), strict=False)), small.validation
    )
    before = read_process_memory(os.getpid()).anonymous_bytes
    take_peak()
    started = time.perf_counter()
    made = tokenized.prepare(config, corpus)
    tokenise_s = time.perf_counter() - started
    peak_bytes = take_peak() - before
    started = time.perf_counter()
    rows = tokenized.load(made).train
    open_s = time.perf_counter() - started
    collator = StepCollator(
        BatchPlan(8, 8), packing=Packing.sorted, max_tokens_per_micro_batch=None, pad_token_id=1
    )
    started = time.perf_counter()
    for indices in StepSampler(len(rows), effective_batch_size=64, seed=1):
        collator([rows[index] for index in indices])
    result = {
        "pairs": pairs,
        "tokenise_s": tokenise_s,
        "peak_bytes": peak_bytes,
        "open_s": open_s,
        "plan_s": time.perf_counter() - started,
        "disk_bytes": sum(file.stat().st_size for file in made.rglob("*") if file.is_file()),
    }
    shutil.rmtree(scratch)
    print(json.dumps(result))


if __name__ == "__main__":
    if sys.argv[1] == "--child":
        child(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        for number in sys.argv[1:]:
            print(measure(int(number), tempfile.gettempdir()))
