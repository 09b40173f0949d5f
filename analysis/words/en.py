"""Every sentence about the findings, in English. What each function says: `language.Words`."""

from collections.abc import Callable, Iterable, Sequence

from analysis.findings.facts import (
    Aim,
    Certainty,
    Comparison,
    Contrast,
    Costs,
    CutTexts,
    Differs,
    DisturbedTiming,
    Finding,
    Findings,
    Limit,
    NewerRecords,
    NotAsAsked,
    OneSeed,
    OtherBatch,
    SeveralCommits,
    SeveralDevices,
    SharedGpu,
    Standing,
    StillRunning,
    UncommittedCode,
)
from analysis.findings.statistics import Interval
from analysis.words.numbers import join_words, number, plural, signed

TITLES = {
    "fastest": "Fastest",
    "least_memory": "Least memory",
    "best_quality": "Best quality",
    "best_rouge_per_minute": "Best ROUGE per minute",
    "best_rouge_per_gib": "Best ROUGE per GiB",
    "least_energy": "Least energy",
}
UNITS = {
    "fastest": "optimizer steps/s",
    "least_memory": "GiB peak",
    "best_quality": "ROUGE F1",
    "best_rouge_per_minute": "ROUGE F1 gained/min",
    "best_rouge_per_gib": "ROUGE F1/GiB peak",
    "least_energy": "Wh",
}
FACTS = {
    "device": "device",
    "device_kind": "kind of device",
    "machine": "machine",
    "cpu_count": "number of CPU cores",
    "precision": "precision",
    "driver": "driver",
    "python": "Python",
    "packages": "library versions",
    "model": "model",
    "data": "training data",
    "memory_source": "way of measuring memory",
    "rouge_tokenizer": "ROUGE tokenizer",
}
"""What may differ between runs, by the keys of `Comparison.blocks_speed` and its like."""


def aim_title(key: str) -> str:
    """What an aim is called."""
    return TITLES[key]


def aim_unit(key: str) -> str:
    """The unit of the column that measures an aim."""
    return UNITS[key]


def certainty(value: Certainty) -> str:
    """How sure a choice is, in a word or two."""
    return value


def facets(comparison: Comparison) -> str:
    """What sets a comparison apart from the others of the report."""
    return ", ".join(f"{key} = {value}" for key, value in comparison.facets)


def in_one_sentence(finding: Finding) -> str:
    """The choice and its numbers, or why there is none."""
    aim, ranking = finding.aim, finding.ranking
    match finding.outcome:
        case "not measured":
            return "No comparable run measured this."
        case "blocked":
            names = join_words(FACTS.get(key, key) for key in finding.blocks)
            return f"No ranking: the runs differ in {names}."
        case "tied":
            tied = join_words(finding.tied)
            return f"{tied} have the same best value: {_value(aim, ranking[0])}."
        case "alone":
            return (
                f"{ranking[0].label} is the only setting with a figure "
                f"({_value(aim, ranking[0])}); there is nothing to compare it with."
            )
    best = "highest" if aim.higher_is_better else "lowest"
    if finding.certainty != "yes":
        best += " observed"
    first, following = ranking[0], ranking[1]
    return (
        f"{first.label} has the {best} value: {_value(aim, first)}, "
        f"{_distance(aim, first, following)}."
    )


def reason(finding: Finding) -> str:
    """All about one aim: the choice, how far the data tell it from the others, what failed."""
    sentences = [in_one_sentence(finding)]
    if finding.outcome == "ranked":
        sentences += _noise(finding)
        if finding.aim.key == "best_quality" and finding.choice is None:
            sentences.append("Quality is no reason to choose one of them.")
    if finding.untrusted:
        sentences.append(
            f"{join_words(finding.untrusted)} {_are(finding.untrusted)} left out: the timing of "
            "all their runs was disturbed."
        )
    if finding.unfinished:
        listed = join_words(f"{count} {status}" for status, count in finding.unfinished)
        sentences.append(f"Of its {finding.runs} runs not all completed ({listed}).")
    return " ".join(sentences)


def more_seeds(finding: Finding) -> str:
    """What would decide an aim that is not decided."""
    needed = finding.more_seeds
    if needed is None:
        return ""
    if needed.examples is not None:
        return (
            f"More seeds alone will not decide it: the validation set is too small, and about "
            f"{needed.examples:,} examples would do."
        )
    if not needed.variance_known:
        return f"To see how much runs vary takes {plural(needed.more or 0, 'more seed')}."
    if needed.more is None:
        return (
            f"At the noise between these runs more than {needed.limit} seeds would not decide it."
        )
    return (
        f"At the noise between these runs about {plural(needed.more, 'more seed')} would decide it "
        f"({needed.need} in all, with a power of 80 %)."
    )


def equivalence(comparison: Comparison) -> str:
    """Which settings have the same quality."""
    tested = [contrast for contrast in comparison.quality if contrast.equivalent is not None]
    same = [contrast for contrast in tested if contrast.equivalent]
    if not tested:
        return ""
    margin = f"{100 * comparison.margin:g} ROUGE points of 100"
    if not same:
        return f"No two settings are shown to have the same quality within {margin} (TOST)."
    if len(same) == len(comparison.quality):
        return f"All settings have the same quality within {margin} (TOST, corrected by Holm)."
    pairs = join_words(f"{contrast.first} and {contrast.second}" for contrast in same)
    return f"The same in quality within {margin} (TOST, corrected by Holm): {pairs}."


def knee(comparison: Comparison) -> str:
    """Which of the nearly fastest settings takes the least memory."""
    if comparison.knee is None:
        return ""
    found = comparison.knee
    within = f"{number(100 * found.tolerance, 1)} %"
    if found.choice.label == found.fastest.label:
        return (
            f"No setting within {within} of the fastest takes less memory than it: "
            f"{_costs(found.fastest)}."
        )
    return (
        f"The least memory within {within} of the fastest: {_costs(found.choice)}; the fastest is "
        f"{_costs(found.fastest)}."
    )


def budget(comparison: Comparison) -> str:
    """Which setting is best within a memory budget."""
    if comparison.budget is None:
        return ""
    found = comparison.budget
    limit = f"{found.gib:g} GiB"
    if found.choice is None:
        return f"No setting fits into {limit}."
    text = f"The fastest of {plural(found.fitting, 'setting')} that fit into {limit}: "
    text += f"{_costs(found.choice)}."
    if found.too_large:
        text += f" Too large: {join_words(_costs(one) for one in found.too_large)}."
    if found.out_of_memory:
        text += f" Out of memory when measured: {join_words(found.out_of_memory)}."
    return text


def payback(comparison: Comparison) -> str:
    """Whether measuring paid."""
    if comparison.payback is None:
        return ""
    found = comparison.payback
    return (
        f"The runs took {duration(found.cost_s)}. {found.choice} saves "
        f"{duration(found.saving_s)} in 1,000 optimizer steps against the mean of all settings "
        f"({duration(found.most_s)} against the slowest), which pays for the runs after "
        f"{found.break_even_steps:,.0f} steps."
    )


def batch_size(comparison: Comparison) -> str:
    """How the effective batch lies to the gradient noise scale."""
    found = comparison.batch_size
    if found is None:
        return ""
    # The record holds a moving average, and the noise grows as the loss falls.
    count = f"median of {plural(found.runs, 'run')}, over their last steps"
    scale = number(found.noise_scale, 2)
    seen = (
        f"The gradient noise scale was at most {scale} examples ({count}; an upper bound, since "
        "the micro-batches were cut by length)."
        if found.upper_bound
        else f"The gradient noise scale was {scale} examples ({count})."
    )
    verdict = {
        "large": f"An effective batch of {found.batch} looks large for this stage of training: a "
        "smaller one would need hardly more optimizer steps.",
        "small": f"An effective batch of {found.batch} looks small for this stage of training: a "
        "larger one would need clearly fewer optimizer steps.",
        "neither": f"An effective batch of {found.batch} is of that size: neither small nor large.",
        "open": f"Whether {found.batch} is too small it cannot say; runs with batch.packing=none "
        "measure it.",
    }
    return f"{seen} {verdict[found.verdict]}"


def decisions(comparison: Comparison) -> list[str]:
    """What follows beyond the single aims."""
    return list(filter(None, (one(comparison) for one in DECISIONS)))


DECISIONS: Sequence[Callable[[Comparison], str]] = (
    equivalence,
    knee,
    budget,
    payback,
    batch_size,
)


def limits(findings: Findings) -> list[str]:
    """Everything that limits what the runs can show."""
    found = [*findings.limits, *(one for part in findings.comparisons for one in part.limits)]
    return list(dict.fromkeys(limit(one) for one in found))


def limit(found: Limit) -> str:  # noqa: PLR0911 (one case a kind)
    """One thing that limits what the runs can show."""
    match found:
        case StillRunning(count, planned):
            return f"{count} of {planned} runs are still running: this report is not final."
        case NewerRecords(count, newest, known):
            return (
                f"{plural(count, 'record')} {'is' if count == 1 else 'are'} of a newer batchopt "
                f"(schema_version {newest}; this analysis knows {known}): what it does not know "
                "is left out."
            )
        case OtherBatch(label, size, reference):
            return (
                f"{label} has an effective batch of {size} and most others {reference}: its steps "
                "are not the same steps, so it is not ranked against them."
            )
        case Differs(fact, holders):
            listed = "; ".join(f"{value}: {join_words(who)}" for value, who in holders)
            return (
                f"The runs differ in {FACTS.get(fact, fact)} ({listed}); what depends on it is not "
                "ranked."
            )
        case OneSeed(names, everyone):
            who = "Every setting" if everyone else join_words(names)
            return (
                f"{who} completed with one seed only: differences in quality cannot be told from "
                "the noise between seeds."
            )
        case SeveralDevices(kind, count):
            return (
                f"The runs used {count} {'GPUs' if kind == 'gpus' else kind} of the same kind, and "
                "single devices differ somewhat in speed."
            )
        case SharedGpu(label, seed, gib):
            return (
                f"The GPU of {label}, seed {seed}, held {number(gib)} GiB before the run began: it "
                "may have been shared, and then speed and memory are not the run's alone."
            )
        case DisturbedTiming(label, seed, reasons):
            return (
                f"The timing of {label}, seed {seed}, was disturbed ({'; '.join(reasons)}) and is "
                "not ranked."
            )
        case NotAsAsked(label, seed, asked, got):
            return (
                f"{label}, seed {seed}, is not what was asked for: {asked} was asked for and {got} "
                "was run."
            )
        case SeveralCommits(count):
            return f"The runs come from {count} different commits of the code."
        case UncommittedCode():
            return "Some runs come from a checkout with changes that were not committed."
        case CutTexts(count):
            return f"{count} texts were longer than the limits on tokens and were cut."


def refusal(findings: Findings, aim: str) -> str:
    """Why no preset is adopted under an aim, in one sentence without its full stop."""
    found = [
        (part, one) for part in findings.comparisons for one in part.aims if one.aim.key == aim
    ]
    choices = {one.choice for _, one in found if one.choice}
    if not choices:
        return reason(found[0][1]).rstrip(".")
    if len(choices) > 1:
        listed = "; ".join(f"{facets(part)}: {one.choice or 'none'}" for part, one in found)
        return f"the comparisons disagree ({listed})"
    first = next(one for _, one in found if one.certainty != "yes")
    needed = more_seeds(first)
    return " ".join([in_one_sentence(first), needed]).strip().rstrip(".")


def duration(seconds: float) -> str:
    """A time as a person says it."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def _noise(finding: Finding) -> Iterable[str]:
    """Sentences about how far the data tell the first setting from the others."""
    aim = finding.aim
    between = [contrast for contrast in finding.contrasts if contrast.over_runs]
    single = [contrast for contrast in finding.contrasts if not contrast.over_runs]
    if between:
        first = between[0]
        overlap = "overlap" if first.ranges_overlap else "do not overlap"
        test = "paired by seed" if first.paired else "Welch"
        yield (
            f"Against {first.second} {_interval(first)} ({test}; {_p(first.p_value)} after "
            f"Holm's correction); the ranges of the runs {overlap}."
        )
    noise = [contrast for contrast in between if not contrast.apart]
    same = [contrast.second for contrast in noise if contrast.equivalent]
    if same:
        yield f"It is the same as {join_words(same)} within the margin."
    open_ones = [contrast.second for contrast in noise if not contrast.equivalent]
    if open_ones:
        yield f"The data cannot tell it from {join_words(open_ones)}."
    if single and aim.of_quality:
        who = join_words(contrast.second for contrast in single)
        yield f"With one seed, the difference from {who} cannot be told from noise."
    elif single:
        near = [contrast.second for contrast in single if not contrast.apart]
        whom = join_words(contrast.second for contrast in single)
        if single[0].within_runs:
            yield f"Against {single[0].second}, within the runs, {_interval(single[0])}."
        yield (
            f"Between it and {whom} how much runs vary is not known, since a side has one run"
            + (f"; {join_words(near)} may be as good." if near else ".")
        )


def _interval(contrast: Contrast) -> str:
    interval = contrast.interval
    assert interval is not None
    if contrast.scale == "ratio":
        return (
            f"the ratio is {number(interval.estimate)} with a {_percent(interval)} interval of "
            f"{number(interval.low)} to {number(interval.high)}"
        )
    return (
        f"the difference is {signed(interval.estimate)} with a {_percent(interval)} interval of "
        f"{signed(interval.low)} to {signed(interval.high)}"
    )


def _percent(interval: Interval) -> str:
    return f"{number(100 * interval.confidence, 2)} %"


def _p(value: float | None) -> str:
    if value is None:
        return "p not known"
    return f"p = {number(min(value, 0.999), 2)}" if value >= 0.001 else "p < 0.001"


def _value(aim: Aim, standing: Standing) -> str:
    unit = aim_unit(aim.key)
    if standing.interval is None:
        return f"{number(standing.mean)} {unit}"
    low, high = number(standing.interval.low), number(standing.interval.high)
    return (
        f"{number(standing.mean)} {unit} (mean of {len(standing.values)}, 95 % interval {low} to "
        f"{high})"
    )


def _distance(aim: Aim, first: Standing, following: Standing) -> str:
    """How far the next setting is: as a ratio, for quality as a difference."""
    shown = f"{following.label} ({number(following.mean)})"
    if min(first.mean, following.mean) <= 0 or aim.key == "best_quality":
        word = "more" if aim.higher_is_better else "less"
        return f"{number(abs(first.mean - following.mean), 2)} {word} than {shown}"
    if aim.higher_is_better:
        return f"{number(first.mean / following.mean)} times that of {shown}"
    return f"where {shown} has {number(following.mean / first.mean)} times as much"


def _costs(costs: Costs) -> str:
    figures = [
        *([f"{number(costs.steps_per_second)} steps/s"] if costs.steps_per_second else []),
        *([f"{number(costs.peak_memory_gib)} GiB"] if costs.peak_memory_gib else []),
    ]
    return f"{costs.label} [{', '.join(figures)}]" if figures else costs.label


def _are(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"
