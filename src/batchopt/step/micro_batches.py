"""Which examples of an optimizer step share a micro-batch: integer arithmetic on their lengths.

Cost
    A micro-batch of b examples is padded to its longest source S and its longest target T, so the
    encoder computes b * S tokens and the decoder b * T. With as many encoder as decoder layers L,
    width d, feed-forward width 4d and a vocabulary of V, the multiplications of one token are

        source   L * (4 + 8) d^2  encoder  +  L * 2 d^2  keys and values of the cross-attention
        target   L * (4 + 2 + 8) d^2  decoder  +  V * d  language-model head

    so a target token costs 1 + V / (14 L d) source tokens: 1.6 in model=tiny, 1.8 in bart-base,
    1.3 in bart-large; in memory more than that, because its V logits are kept. The cost is
    b * (source_weight * S + target_weight * T), by default with 1 and 2. Attention scores are
    left out: they add S / 6d to an encoder layer, a ninth in bart-base at 512 tokens.
    Source: https://arxiv.org/abs/2001.08361, table 1 (multiplications per token).

Optimality
    Let all examples be sortable by source and by target at once. Take any cut, its micro-batches
    from the longest down, and deal the sorted examples out again in the same sizes: each
    micro-batch's longest example can only become shorter. So some best cut consists of runs of
    the sorted order, and dynamic programming over runs is exact. In general the two lengths
    disagree, and the best cut into runs of one of a few orders (by source, by target, by both,
    as drawn) is a heuristic; tests/test_micro_batches.py says how far it is from the optimum.

Guarantee
    No packing costs more than `none` in total, and `balanced` and `packed` have no larger
    micro-batch than `sorted` (`packed`: unless max_tokens sets the bound). Every order that is
    tried is cut under these conditions, and the order as drawn is among them, so a cut that keeps
    them always exists. They do bind: the smallest possible maximum of the lengths 10, 6, 1, 1 in
    two micro-batches is 18 and costs 28 in total, where 10, 6 | 1, 1 costs 22.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from batchopt.request.config import Packing

Length = tuple[int, int]
"""Source and target of one example, in tokens or, inside, in units of cost."""

Cut = list[list[int]]
"""Micro-batches, as indices into the examples of the step."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Tokens of one optimizer step: of the examples, and as computed (padded)."""

    source_tokens: int
    target_tokens: int
    padded_source_tokens: int
    padded_target_tokens: int
    largest_micro_batch_tokens: int
    """Source and target, padded."""


def plan_micro_batches(
    lengths: Sequence[Length],
    *,
    per_device_train_batch_size: int,
    packing: Packing,
    max_tokens: int | None = None,
    source_weight: int = 1,
    target_weight: int = 2,
) -> Cut:
    """Cuts the examples of one optimizer step into micro-batches.

    n examples make k = ceil(n / per_device_train_batch_size) micro-batches:

    - `none`: in the order as drawn, the last one smaller where n is no multiple;
    - `sorted`: the same sizes, by length, for the least total cost;
    - `balanced`: any sizes, for the smallest largest cost, then the least total cost;
    - `packed`: any sizes up to the cost of the largest `sorted` one, for the fewest micro-batches,
      at most k, then the least total cost.

    Args:
        lengths: Source and target tokens of each example, both at least 1.
        per_device_train_batch_size: Examples of one micro-batch of `none` and `sorted`.
        packing: How to cut.
        max_tokens: Padded source and target tokens that a `packed` micro-batch may hold instead;
            an example that alone has more is a micro-batch of its own. The others ignore it.
        source_weight: Cost of a padded source token.
        target_weight: Cost of a padded target token.

    Returns:
        Indices into `lengths`, ascending within a micro-batch. `none` is in the order as drawn;
        otherwise the costliest micro-batch comes first, so that the allocator's blocks are large
        enough for all that follow, and a step that does not fit fails at once. Equal costs are in
        the order of their first index.

    Raises:
        ValueError: A size, length, weight or bound is below 1.
    """
    if per_device_train_batch_size < 1:
        raise ValueError(f"per_device_train_batch_size is {per_device_train_batch_size}, not >= 1")
    if min(source_weight, target_weight) < 1:
        raise ValueError(f"weights are {source_weight} and {target_weight}, not >= 1")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, not >= 1")
    for index, (source, target) in enumerate(lengths):
        if min(source, target) < 1:
            raise ValueError(f"example {index} has {source} and {target} tokens, not >= 1")

    drawn = list(range(len(lengths)))
    as_drawn = _chunks(drawn, per_device_train_batch_size)
    if packing is Packing.none or not lengths:
        return as_drawn
    costs = [(source_weight * source, target_weight * target) for source, target in lengths]
    orders = [
        sorted(drawn, key=lambda index: costs[index]),
        sorted(drawn, key=lambda index: costs[index][::-1]),
        sorted(drawn, key=lambda index: sum(costs[index])),
        drawn,
    ]
    budget = _total(costs, as_drawn)
    cut = _equal(orders, costs, per_device_train_batch_size)
    if packing is Packing.balanced:
        for order in orders:
            cut = _balanced(order, costs, budget, cut)
    elif packing is Packing.packed:
        sizes, limit = (lengths, max_tokens) if max_tokens else (costs, _largest(costs, cut))
        if _largest(sizes, cut) > limit:
            cut = _chunks(drawn, 1)
        for order in orders:
            cut = _packed(order, costs, budget, cut, sizes=sizes, limit=limit)
    return sorted(map(sorted, cut), key=lambda part: (-_cost(costs, part), part))


def padding(
    lengths: Sequence[Length], cut: Cut, rounded: Sequence[Length] | None = None
) -> Padding:
    """Counts the tokens of a step that is cut into these micro-batches.

    `rounded` are the lengths to which each example is padded at least; None: its own.
    """
    rounded = lengths if rounded is None else rounded
    sources = [len(part) * max(rounded[index][0] for index in part) for part in cut]
    targets = [len(part) * max(rounded[index][1] for index in part) for part in cut]
    return Padding(
        source_tokens=sum(source for source, _ in lengths),
        target_tokens=sum(target for _, target in lengths),
        padded_source_tokens=sum(sources),
        padded_target_tokens=sum(targets),
        largest_micro_batch_tokens=max(map(sum, zip(sources, targets, strict=True)), default=0),
    )


def _equal(orders: Sequence[list[int]], costs: Sequence[Length], size: int) -> Cut:
    """The cheapest cut of an order into equal parts, the smaller part at either end."""
    remainder = len(costs) % size
    cuts = [_chunks(order, size) for order in orders]
    if remainder:
        cuts += [[order[:remainder], *_chunks(order[remainder:], size)] for order in orders]
    return min(cuts, key=lambda cut: _total(costs, cut))


def _balanced(order: list[int], costs: Sequence[Length], budget: int, best: Cut) -> Cut:
    """Smallest largest cost, in as many runs of the order as `best` has parts, or `best`."""

    def attempt(limit: int) -> Cut | None:
        return _cheapest_runs(order, costs, budget, len(best), sizes=costs, limit=limit)

    # A larger limit never needs more runs nor makes them dearer, so both searches may bisect. The
    # first is quick; the second ends where it starts unless the budget binds.
    limits = range(max(map(sum, costs)), _largest(costs, best) + 1)
    ordered = [costs[index] for index in order]
    enough = bisect_left(limits, True, key=lambda limit: _fewest_runs(ordered, limit) <= len(best))
    found = _first(limits[enough:], attempt) or best
    return min(best, found, key=lambda cut: (_largest(costs, cut), _total(costs, cut)))


def _packed(
    order: list[int],
    costs: Sequence[Length],
    budget: int,
    best: Cut,
    *,
    sizes: Sequence[Length],
    limit: int,
) -> Cut:
    """Fewest runs of the order up to `limit`, counted in `sizes`, or `best`."""

    def attempt(runs: int) -> Cut | None:
        return _cheapest_runs(order, costs, budget, runs, sizes=sizes, limit=limit)

    # One run more never makes the cut dearer, so the search may bisect.
    fewest = _fewest_runs([sizes[index] for index in order], limit)
    found = _first(range(fewest, len(best) + 1), attempt) or best
    return min(best, found, key=lambda cut: (len(cut), _total(costs, cut)))


def _first(values: range, attempt: Callable[[int], Cut | None]) -> Cut | None:
    """The cut of the smallest value that yields one; every larger value then does, too.

    That value is usually the first, so it is tried before the bisection.
    """
    if not values:
        return None
    found = attempt(values[0])
    if found is None:
        at = bisect_left(values, True, key=lambda value: attempt(value) is not None)
        found = attempt(values[at]) if at < len(values) else None
    return found


def _fewest_runs(ordered: Sequence[Length], limit: int) -> int:
    """How many runs up to `limit`, or of a single example, it takes to cover the order."""
    runs, count, source, target = 1, 0, 0, 0
    for own_source, own_target in ordered:
        count += 1
        source = max(source, own_source)
        target = max(target, own_target)
        if count > 1 and count * (source + target) > limit:
            runs += 1
            count, source, target = 1, own_source, own_target
    return runs


def _cheapest_runs(
    order: list[int],
    costs: Sequence[Length],
    budget: int,
    runs: int,
    *,
    sizes: Sequence[Length],
    limit: int,
) -> Cut | None:
    """Cuts an order into that many runs for the least total cost.

    A run of several examples may be as large as `limit`, counted in `sizes`.

    Returns:
        None where there is no such cut or it costs more than `budget`.
    """
    sources, targets = zip(*(costs[index] for index in order), strict=True)
    ends = _run_ends([sizes[index] for index in order], limit)
    # Run r can end from earliest[r], or too much would be left for the others, up to latest[r],
    # where r runs of full size end and each other one still gets an example. The band between
    # them is narrow where `runs` is close to the fewest possible, which keeps this fast.
    latest, earliest = [0], [len(order)]
    for run in range(runs):
        latest.append(min(ends[latest[-1]], len(order) - runs + run + 1))
        earliest.append(max(bisect_left(ends, earliest[-1]), runs - run - 1))
    earliest.reverse()
    if latest[-1] < len(order):
        return None
    # best[r][end]: least total cost of the first `end` examples in r runs, and where run r starts
    best = [{0: (0, 0)}]
    for run in range(runs):
        before, after = best[-1], {}
        for end in range(earliest[run + 1], latest[run + 1] + 1):
            low = max(bisect_left(ends, end), earliest[run])
            starts = range(end - 1, low - 1, -1)
            longest_sources = accumulate(sources[low:end][::-1], max)
            longest_targets = accumulate(targets[low:end][::-1], max)
            after[end] = min(
                (before[start][0] + (end - start) * (source + target), start)
                for start, source, target in zip(
                    starts, longest_sources, longest_targets, strict=True
                )
                if start <= latest[run]
            )
        best.append(after)
    if best[-1][len(order)][0] > budget:
        return None
    cut, end = [], len(order)
    for layer in reversed(best[1:]):
        start = layer[end][1]
        cut.append(order[start:end])
        end = start
    return cut


def _run_ends(ordered: Sequence[Length], limit: int) -> list[int]:
    """For each start, where the longest run up to `limit`, or else of one example, ends."""
    sources, targets = zip(*ordered, strict=True)
    ends: list[int] = []
    end = 0
    for start in range(len(ordered)):
        end = max(end, start + 1)
        while end < len(ordered):
            longer = slice(start, end + 1)
            if (end + 1 - start) * (max(sources[longer]) + max(targets[longer])) > limit:
                break
            end += 1
        ends.append(end)
    return ends


def _chunks(order: list[int], size: int) -> Cut:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _cost(costs: Sequence[Length], part: Sequence[int]) -> int:
    sources, targets = zip(*(costs[index] for index in part), strict=True)
    longest: int = max(sources) + max(targets)
    return len(part) * longest


def _total(costs: Sequence[Length], cut: Cut) -> int:
    return sum(_cost(costs, part) for part in cut)


def _largest(costs: Sequence[Length], cut: Cut) -> int:
    return max(_cost(costs, part) for part in cut)
