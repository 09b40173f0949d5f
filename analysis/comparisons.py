"""Which runs may be compared: groups of the same but for the preset, the packing and the seed.

What sets groups apart are facets, found from what was asked for and from the composed configs,
never from names of directories. Within a group, what differs all the same (the machine, library
versions, the data behind the same name) blocks the rankings that depend on it.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from analysis.facts import Limit
from analysis.read import SCHEMA_VERSION, Run, plain_value

EFFECTIVE = "batch.effective_batch_size"
PACKING = "batch.packing"
_NO_FACET = ("batch", "seed", "cache_dir", "verify", "hydra", "run", "sweep", "device")
"""Keys and groups that set no runs apart: what is compared, and what changes no number."""

_BYTES_PER_GIB = 2**30
SHARED_GPU_GIB = 1.0
"""Memory held on a GPU before the run that suggests that somebody else uses it."""

Facets = tuple[tuple[str, str], ...]


def find_facets(runs: Sequence[Run]) -> list[Facets]:
    """For each run the keys in which not all runs are the same, with its values; "" is not known.

    Of keys that tell the runs apart in the same way, such as a model and its learning rate, one is
    kept: one that was asked for, if there is.
    """
    known = _known_settings(runs)
    asked = [_overrides(run) for run in runs]
    kept: dict[tuple[int, ...], tuple[str, list[str]]] = {}
    for key in dict.fromkeys(key for own in known for key in own):
        values = _fill([own.get(key) for own in known], [key in own for own in asked])
        if len(set(values) - {""}) > 1:
            named = any(key in own for own in asked)
            if named or _partition(values) not in kept:
                kept[_partition(values)] = key, values
    # A choice of a group says in one word what several keys say; alone it would say less than they.
    for key in dict.fromkeys(key for own in asked for key in own if "." not in key):
        values = [own.get(key, "") for own in asked]
        if _may_set_apart(key) and _partition(values) in kept:
            kept[_partition(values)] = key, values
    return [
        tuple((key, values[place]) for key, values in kept.values()) for place in range(len(runs))
    ]


def group(runs: Sequence[Run]) -> list[tuple[Facets, list[int]]]:
    """Groups the places of the runs by their facets; the largest group first.

    A run of which a facet is not known joins the largest group that agrees in the rest.
    """
    facets = find_facets(runs)
    counts = Counter(one for one in facets if all(value for _, value in one))
    order = [one for one, _ in counts.most_common()] or list(dict.fromkeys(facets))[:1]
    groups: dict[Facets, list[int]] = {one: [] for one in order}
    for place, own in enumerate(facets):
        fitting = [
            one for one in order if all(not value or (key, value) in one for key, value in own)
        ]
        groups[fitting[0] if fitting else order[0]].append(place)
    return list(groups.items())


def label_settings(runs: Sequence[Run]) -> list[str]:
    """Names what each run tried, as in "05a (8 × 8)"; runs that differ in the seed alone share it.

    Facets, and what was asked of the batch beside its preset, are part of the name where not all
    runs have them.
    """
    facets = find_facets(runs)
    beside = [
        {
            key: value
            for key, value in _overrides(run).items()
            if key.startswith("batch.") and key not in (EFFECTIVE, *_PAIR)
        }
        for run in runs
    ]
    shared = set(beside[0].items()).intersection(*(own.items() for own in beside))
    differing = {key for own in beside for key in own.keys() - dict(shared).keys()}
    keys = {*differing, *(key for own in facets for key, _ in own)} - {EFFECTIVE}
    # "learning_rate=1e-4" reads better than "training.learning_rate=1e-4", where it is as clear.
    shorten = len({key.rsplit(".", 1)[-1] for key in keys}) == len(keys)
    labels = []
    for run, own, extra in zip(runs, facets, beside, strict=True):
        pair = pair_of(run.plan)
        named = [f"{run.preset or run.run_dir}{f' ({pair})' if pair else ''}"]
        for key, value in (*extra.items(), *own):
            if key in keys and value:
                named.append(f"{key.rsplit('.', 1)[-1] if shorten else key}={value}")
        labels.append(", ".join(named))
    return labels


_PAIR = ("batch.per_device_train_batch_size", "batch.gradient_accumulation_steps")


def pair_of(plan: Mapping[str, Any]) -> str:
    """The pair of a plan as in "8 × 8"; "" where it is not known."""
    batch = plan.get("per_device_train_batch_size")
    accumulation = plan.get("gradient_accumulation_steps")
    return f"{batch} × {accumulation}" if batch and accumulation else ""


def _known_settings(runs: Sequence[Run]) -> list[dict[str, str]]:
    """What may set each run apart: its config; that of a run that was asked for the same; or words.

    A run that never started has no config of its own.
    """
    composed = {(run.sweep, _asked(run)): run.config for run in runs if run.config}
    known = []
    for run in runs:
        config = run.config or composed.get((run.sweep, _asked(run))) or _overrides(run)
        own = {key: value for key, value in config.items() if _may_set_apart(key)}
        size = run.plan.get("effective_batch_size")
        known.append(own | ({EFFECTIVE: str(size)} if size is not None else {}))
    return known


def _may_set_apart(key: str) -> bool:
    return key.split(".", maxsplit=1)[0] not in _NO_FACET


def _asked(run: Run) -> frozenset[tuple[str, str]]:
    """What was asked for beside the batch and the seed."""
    return frozenset((key, value) for key, value in _overrides(run).items() if _may_set_apart(key))


def _fill(values: Sequence[str | None], asked: Sequence[bool]) -> list[str]:
    """Gives those that did not ask for a key what others have who did not ask either."""
    default = Counter(
        value for value, named in zip(values, asked, strict=True) if value is not None and not named
    ).most_common(1)
    return [
        value if value is not None else default[0][0] if default else "default" for value in values
    ]


def _partition(values: Sequence[str]) -> tuple[int, ...]:
    """Numbers equal values alike, in the order of their first appearance."""
    numbers: dict[str, int] = {}
    return tuple(numbers.setdefault(value, len(numbers)) for value in values)


def _overrides(run: Run) -> dict[str, str]:
    pairs = (override.lstrip("+~").partition("=") for override in run.overrides)
    return {key: plain_value(value) for key, _, value in pairs}


def _packages(run: Run) -> str | None:
    packages = run.environment.get("packages") or {}
    return ", ".join(f"{name} {version}" for name, version in sorted(packages.items())) or None


def _on_cpu(key: str) -> Callable[[Run], Any]:
    """A run on the CPU has the whole machine for its device."""
    return lambda run: (
        run.environment.get(key) if run.environment.get("device_kind") == "cpu" else None
    )


_MACHINE: Mapping[str, Callable[[Run], Any]] = {
    "device": lambda run: run.environment.get("device_name"),
    "device_kind": lambda run: run.environment.get("device_kind"),
    "machine": _on_cpu("hostname"),
    "cpu_count": _on_cpu("cpu_count"),
    "precision": lambda run: run.environment.get("precision"),
    "driver": lambda run: run.environment.get("driver_version"),
    "python": lambda run: run.environment.get("python"),
    "packages": _packages,
    "model": lambda run: run.model.get("name"),
    "data": lambda run: run.data_fingerprint,
}
_MEMORY: Mapping[str, Callable[[Run], Any]] = {
    "memory_source": lambda run: run.metrics.get("memory_source")
}
_QUALITY: Mapping[str, Callable[[Run], Any]] = {
    "model": lambda run: run.model.get("name"),
    "data": lambda run: run.data_fingerprint,
    "rouge_tokenizer": lambda run: run.metrics.get("rouge_tokenizer"),
}


def find_blocks(
    runs: Sequence[Run], labels: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], list[Limit]]:
    """Finds what differs between runs that are to be compared.

    Returns:
        The keys that block a ranking of speed, of memory and of quality, and a limit for each.
    """
    machine = _differences(runs, labels, _MACHINE)
    memory = machine | _differences(runs, labels, _MEMORY)
    quality = _differences(runs, labels, _QUALITY)
    limits = [
        Limit("differs", {"fact": fact, "holders": holders})
        for fact, holders in (memory | quality).items()
    ]
    return tuple(machine), tuple(memory), tuple(quality), limits


def _differences(
    runs: Sequence[Run], labels: Sequence[str], facts: Mapping[str, Callable[[Run], Any]]
) -> dict[str, list[tuple[str, list[str]]]]:
    """The facts that are not the same for all runs, and who has which value."""
    found = {}
    for name, read in facts.items():
        holders: dict[str, dict[str, None]] = {}
        for run, label in zip(runs, labels, strict=True):
            if (value := read(run)) is not None:
                holders.setdefault(str(value), {})[label] = None
        if len(holders) > 1:
            listed = [(value, list(who)) for value, who in holders.items()]
            found[name] = _only_changes(listed) if name == "packages" else listed
    return found


def _only_changes(holders: Sequence[tuple[str, list[str]]]) -> list[tuple[str, list[str]]]:
    """Leaves out of lists of versions what all of them share."""
    versions = [set(listed.split(", ")) for listed, _ in holders]
    common = versions[0].intersection(*versions[1:])
    return [
        (", ".join(sorted(own - common)) or "–", who)
        for own, (_, who) in zip(versions, holders, strict=True)
    ]


def limits_of_all(
    runs: Sequence[Run], labels: Sequence[str], groups: Sequence[tuple[Facets, list[int]]]
) -> Iterator[Limit]:
    """Limits that concern all runs, or some of them whatever they are compared with."""
    still = sum(run.status == "running" for run in runs)
    if still:
        yield Limit("running", {"count": still, "all": len(runs)})
    newer = [run.newer_schema for run in runs if run.newer_schema is not None]
    if newer:
        yield Limit(
            "newer_records",
            {"count": len(newer), "newest": max(newer), "known": SCHEMA_VERSION},
        )
    yield from _unequal_batches(runs, labels, groups)
    for run, label in zip(runs, labels, strict=True):
        who = {"label": label, "seed": run.seed}
        if run.timing_untrusted:
            yield Limit("timing_untrusted", who | {"reasons": list(run.timing_untrusted)})
        if run.requested:
            asked, got = _as_asked(run.requested), _as_asked(run.plan)
            if asked != got:
                yield Limit("not_as_asked", who | {"asked": asked, "got": got})
    commits = {run.environment.get("git_commit") for run in runs} - {None}
    if len(commits) > 1:
        yield Limit("commits", {"count": len(commits)})
    if any(run.environment.get("git_dirty") for run in runs):
        yield Limit("dirty")
    cut = max(
        (
            (run.data.get("truncated_sources") or 0) + (run.data.get("truncated_targets") or 0)
            for run in runs
        ),
        default=0,
    )
    if cut:
        yield Limit("cut_texts", {"count": cut})


def limits_of_comparison(runs: Sequence[Run], labels: Sequence[str]) -> Iterator[Limit]:
    """Limits of a ranking among completed runs."""
    seeds: dict[str, set[int | None]] = {}
    for run, label in zip(runs, labels, strict=True):
        seeds.setdefault(label, set()).add(run.seed)
    single = [label for label, own in seeds.items() if len(own) == 1]
    if single:
        yield Limit("one_seed", {"labels": single, "all": len(single) == len(seeds)})
    on_gpu = any(run.environment.get("device_kind") == "cuda" for run in runs)
    for kind, key in (("machines", "hostname"), ("gpus", "device_uuid")):
        distinct = {run.environment.get(key) for run in runs} - {None}
        if on_gpu and len(distinct) > 1:
            yield Limit(kind, {"count": len(distinct)})
    for run, label in zip(runs, labels, strict=True):
        held = (run.metrics.get("baseline_memory_bytes") or 0) / _BYTES_PER_GIB
        if run.environment.get("device_kind") == "cuda" and held > SHARED_GPU_GIB:
            yield Limit("shared_gpu", {"label": label, "seed": run.seed, "gib": held})


def _unequal_batches(
    runs: Sequence[Run], labels: Sequence[str], groups: Sequence[tuple[Facets, list[int]]]
) -> Iterable[Limit]:
    sizes = [run.plan.get("effective_batch_size") for run in runs]
    reference = effective_batch([runs[place] for place in groups[0][1]])
    others = {
        label: size
        for label, size in zip(labels, sizes, strict=True)
        if size is not None and size != reference
    }
    for label, size in others.items():
        yield Limit("effective_batch", {"label": label, "size": size, "reference": reference})


def effective_batch(runs: Sequence[Run]) -> int | None:
    """The effective batch that most runs have; of equally many, the first planned."""
    sizes = [size for run in runs if (size := run.plan.get("effective_batch_size")) is not None]
    return Counter(sizes).most_common(1)[0][0] if sizes else None


def _as_asked(plan: Mapping[str, Any]) -> str:
    recomputed = ", gradient_checkpointing" if plan.get("gradient_checkpointing") else ""
    return f"{pair_of(plan) or 'auto'}{recomputed}"
