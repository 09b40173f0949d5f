"""Which runs may be compared: groups of the same but for the preset, the packing and the seed.

What sets groups apart are facets, found from what was asked for and from the composed configs,
never from names of directories. Within a group, what differs all the same (the machine, library
versions, the data behind the same name) blocks the rankings that depend on it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.reading.config import plain_value
from analysis.reading.runs import Run
from batchopt.record.keys import Word, changes_no_number, plain_text

EFFECTIVE = "batch.effective_batch_size"
_COMPARED = ("batch", "seed", "device")
"""Keys and groups that set no runs apart because they are what is compared, or blocks rankings."""

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
    return key.partition(".")[0] not in _COMPARED and not changes_no_number(key)


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


def setting_words(run: Run) -> list[str]:
    """The overrides that make a run's setting, whatever the seed."""
    return [*([f"batch={run.preset}"] if run.preset else []), *other_words(run)]


def other_words(run: Run) -> list[str]:
    """The overrides of a run beside its preset and its seed."""
    return [word for word in run.overrides if Word.parse(word).key not in ("batch", "seed")]


def _overrides(run: Run) -> dict[str, str]:
    words = (Word.parse(override) for override in run.overrides)
    return {word.key: plain_value(plain_text(word.value or "")) for word in words}


def effective_batch(runs: Sequence[Run]) -> int | None:
    """The effective batch that most runs have; of equally many, the first planned."""
    sizes = [size for run in runs if (size := run.plan.get("effective_batch_size")) is not None]
    return Counter(sizes).most_common(1)[0][0] if sizes else None
