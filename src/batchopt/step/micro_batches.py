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
    Suppose one order sorts all examples by source and by target at once. Take any partition, its
    micro-batches from the longest down, and deal the sorted examples out again in the same sizes:
    the longest example of each micro-batch can only become shorter. So some best partition
    consists of runs of the sorted order, and dynamic programming over runs is exact. In general
    the two lengths disagree, and the best partition into runs of one of a few orders (by source,
    by target, by both, as drawn) is a heuristic; tests/step/test_micro_batches.py measures how far
    it is from the optimum.

Guarantee
    No packing costs more than `none` in total, and `unpadded` costs the least there is. `balanced`
    and `packed` have no larger micro-batch than `sorted` (`packed`: unless max_tokens sets the
    bound). Every order is divided under these conditions, and the order as drawn is among them, so
    a partition that keeps them always exists. `balanced` then gives up to a tenth of the smallest
    maximum back, as long as that lowers the total: on MTS-Dialog at 8 x 8 the padded tokens fall
    from 1.26 to 1.23 times the real ones.
    The conditions matter: the smallest possible maximum of the lengths 10, 6, 1, 1 in two
    micro-batches is 18 and costs 28 in total, while 10, 6 | 1, 1 costs 22.
"""

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from itertools import accumulate

from batchopt.request.config import Packing

Length = tuple[int, int]
"""Source and target of one example, in tokens or, inside, in units of cost."""

SPARE = 1.1
"""How much larger than need be the largest micro-batch of `balanced` may be, for less padding."""

Partition = list[list[int]]
"""The micro-batches of a step: each a list of indices into the examples of the step."""


@dataclass(frozen=True, slots=True)
class Padding:
    """Tokens of one optimizer step: those of the examples, and those computed (padded)."""

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
) -> Partition:
    """Divides the examples of one optimizer step into micro-batches.

    n examples make k = ceil(n / per_device_train_batch_size) micro-batches:

    - `none`: in the order as drawn, the last one smaller where n is no multiple;
    - `sorted`: the same sizes, by length, for the least total cost;
    - `balanced`: any sizes, no cost a tenth above the smallest possible largest one, for the least
      total cost;
    - `packed`: any sizes up to the cost of the largest `sorted` one, for the fewest micro-batches,
      at most k, then the least total cost;
    - `unpadded`: any sizes. Its examples are not padded, so a micro-batch costs the sum of theirs,
      and the largest is at most 4/3 of the smallest possible one.

    Args:
        lengths: Source and target tokens of each example, at least 1 and 0. Of a decoder-only
            model, which reads both as one sequence: their sum, and 0.
        per_device_train_batch_size: Examples of one micro-batch of `none` and `sorted`.
        packing: How to divide them.
        max_tokens: Padded source and target tokens that a `packed` micro-batch may hold, in place
            of the cost of the largest `sorted` one. A longer example is a micro-batch of its own.
            The other packings ignore it.
        source_weight: Cost of a padded source token.
        target_weight: Cost of a padded target token.

    Returns:
        Indices into `lengths`, ascending within a micro-batch. `none` keeps the order as drawn.
        Otherwise the costliest micro-batch comes first: the blocks of the allocator are then large
        enough for all others, and a step that does not fit fails at once. Micro-batches of equal
        cost are in the order of their first index.

    Raises:
        ValueError: A size, length, weight or bound is below 1.
    """
    _check(lengths, per_device_train_batch_size, max_tokens, source_weight, target_weight)
    drawn = list(range(len(lengths)))
    as_drawn = _chunks(drawn, per_device_train_batch_size)
    if packing is Packing.none or not lengths:
        return as_drawn
    costs = [(source_weight * source, target_weight * target) for source, target in lengths]
    if packing is Packing.unpadded:
        sums = [sum(cost) for cost in costs]
        parts = map(sorted, _dealt(sums, len(as_drawn)))
        return sorted(parts, key=lambda part: (-sum(sums[index] for index in part), part))
    orders = [
        sorted(drawn, key=lambda index: costs[index]),
        sorted(drawn, key=lambda index: costs[index][::-1]),
        sorted(drawn, key=lambda index: sum(costs[index])),
        drawn,
    ]
    # Of a decoder-only model's lengths, one is 0: then three of them are one.
    orders = [list(order) for order in dict.fromkeys(map(tuple, orders))]
    budget = _total(costs, as_drawn)
    partition = _equal(orders, costs, per_device_train_batch_size)
    if packing is Packing.balanced:
        most = _largest(costs, partition)
        for order in orders:
            partition = _balanced(order, costs, budget, partition)
        most = min(most, int(SPARE * _largest(costs, partition)))
        for order in orders:
            found = _cheapest_runs(order, costs, budget, len(as_drawn), sizes=costs, limit=most)
            partition = min(partition, found or partition, key=lambda one: _total(costs, one))
    elif packing is Packing.packed:
        sizes, limit = (lengths, max_tokens) if max_tokens else (costs, _largest(costs, partition))
        if _largest(sizes, partition) > limit:
            partition = _chunks(drawn, 1)
        for order in orders:
            partition = _packed(order, costs, budget, partition, sizes=sizes, limit=limit)
    return sorted(map(sorted, partition), key=lambda part: (-_cost(costs, part), part))


def _check(
    lengths: Sequence[Length],
    per_device_train_batch_size: int,
    max_tokens: int | None,
    source_weight: int,
    target_weight: int,
) -> None:
    if per_device_train_batch_size < 1:
        raise ValueError(f"per_device_train_batch_size is {per_device_train_batch_size}, not >= 1")
    if min(source_weight, target_weight) < 1:
        raise ValueError(f"weights are {source_weight} and {target_weight}, not >= 1")
    if max_tokens is not None and max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}, not >= 1")
    for index, (source, target) in enumerate(lengths):
        if source < 1 or target < 0:
            raise ValueError(f"example {index} has {source} and {target} tokens, not >= 1 and 0")


def padding(
    lengths: Sequence[Length], partition: Partition, rounded: Sequence[Length] | None = None
) -> Padding:
    """Counts the tokens of a step that is divided into these micro-batches.

    `rounded` are the least lengths that each example is padded to; None: its own.
    """
    rounded = lengths if rounded is None else rounded
    sources = [len(part) * max(rounded[index][0] for index in part) for part in partition]
    targets = [len(part) * max(rounded[index][1] for index in part) for part in partition]
    return Padding(
        source_tokens=sum(source for source, _ in lengths),
        target_tokens=sum(target for _, target in lengths),
        padded_source_tokens=sum(sources),
        padded_target_tokens=sum(targets),
        largest_micro_batch_tokens=max(map(sum, zip(sources, targets, strict=True)), default=0),
    )


def without_padding(lengths: Sequence[Length], partition: Partition) -> Padding:
    """Counts the tokens of a step whose micro-batches are joined and not padded."""
    sources, targets = (sum(each) for each in zip(*lengths, strict=True))
    largest = max(sum(sum(lengths[index]) for index in part) for part in partition)
    return Padding(sources, targets, sources, targets, largest)


def _dealt(sizes: Sequence[int], parts: int) -> Partition:
    """Deals the examples out, the longest first, each to the part that has least so far.

    Source: R. L. Graham, Bounds on multiprocessing timing anomalies, 1969,
    https://doi.org/10.1137/0117039, theorem 2.
    """
    dealt: Partition = [[] for _ in range(parts)]
    least = [(0, part) for part in range(parts)]  # a heap
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        size, part = least[0]
        dealt[part].append(index)
        heapreplace(least, (size + sizes[index], part))
    return dealt


def _equal(orders: Sequence[list[int]], costs: Sequence[Length], size: int) -> Partition:
    """The cheapest partition of an order into equal parts; a smaller part is first or last."""
    remainder = len(costs) % size
    partitions = [_chunks(order, size) for order in orders]
    if remainder:
        partitions += [[order[:remainder], *_chunks(order[remainder:], size)] for order in orders]
    return min(partitions, key=lambda partition: _total(costs, partition))


def _balanced(order: list[int], costs: Sequence[Length], budget: int, best: Partition) -> Partition:
    """The smallest largest cost in as many runs as `best` has, or `best` itself."""

    def attempt(limit: int) -> Partition | None:
        return _cheapest_runs(order, costs, budget, len(best), sizes=costs, limit=limit)

    # A larger limit needs no more runs and makes them no dearer, so both searches may bisect. The
    # first is quick; the second ends at once unless the budget is the tighter bound.
    limits = range(max(map(sum, costs)), _largest(costs, best) + 1)
    ordered = [costs[index] for index in order]
    enough = bisect_left(limits, True, key=lambda limit: _fewest_runs(ordered, limit) <= len(best))
    found = _first(limits[enough:], attempt) or best
    return min(best, found, key=lambda one: (_largest(costs, one), _total(costs, one)))


def _packed(
    order: list[int],
    costs: Sequence[Length],
    budget: int,
    best: Partition,
    *,
    sizes: Sequence[Length],
    limit: int,
) -> Partition:
    """The fewest runs up to `limit`, counted in `sizes`, or `best` itself."""

    def attempt(runs: int) -> Partition | None:
        return _cheapest_runs(order, costs, budget, runs, sizes=sizes, limit=limit)

    # One more run never makes the partition dearer, so the search may bisect.
    fewest = _fewest_runs([sizes[index] for index in order], limit)
    found = _first(range(fewest, len(best) + 1), attempt) or best
    return min(best, found, key=lambda one: (len(one), _total(costs, one)))


def _first(values: range, attempt: Callable[[int], Partition | None]) -> Partition | None:
    """The partition for the smallest value that yields one. Every larger value must yield one, too.

    That value is usually the first, so the first is tried before the bisection.
    """
    if not values:
        return None
    found = attempt(values[0])
    if found is None:
        at = bisect_left(values, True, key=lambda value: attempt(value) is not None)
        found = attempt(values[at]) if at < len(values) else None
    return found


def _fewest_runs(ordered: Sequence[Length], limit: int) -> int:
    """The number of runs that cover the order; each is within `limit` or has one example."""
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
) -> Partition | None:
    """Divides an order into that many runs, for the least total cost.

    A run of several examples may be as large as `limit`, counted in `sizes`.

    Returns:
        None if there is no such partition, or it costs more than `budget`.
    """
    sources, targets = zip(*(costs[index] for index in order), strict=True)
    ends = _run_ends([sizes[index] for index in order], limit)
    # Run r ends at earliest[r] or later, or too much would be left for the runs after it. It ends
    # at latest[r] or earlier: r runs of full size end there, and each run after it still gets an
    # example. The band between them is narrow if `runs` is close to the fewest possible, which
    # keeps this fast.
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
    partition, end = [], len(order)
    for layer in reversed(best[1:]):
        start = layer[end][1]
        partition.append(order[start:end])
        end = start
    return partition


def _run_ends(ordered: Sequence[Length], limit: int) -> list[int]:
    """For each start, the end of the longest run within `limit`, or of a run of one example."""
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


def _chunks(order: list[int], size: int) -> Partition:
    return [order[start : start + size] for start in range(0, len(order), size)]


def _cost(costs: Sequence[Length], part: Sequence[int]) -> int:
    sources, targets = zip(*(costs[index] for index in part), strict=True)
    longest: int = max(sources) + max(targets)
    return len(part) * longest


def _total(costs: Sequence[Length], partition: Partition) -> int:
    return sum(_cost(costs, part) for part in partition)


def _largest(costs: Sequence[Length], partition: Partition) -> int:
    return max(_cost(costs, part) for part in partition)
