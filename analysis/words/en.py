"""Every sentence about the findings, in English. What each function says: `language.Words`."""

from collections.abc import Callable, Iterable, Sequence

from analysis.findings.facts import (
    Aim,
    Answer,
    Certainty,
    Collapsed,
    Comparison,
    Contrast,
    Costs,
    CutTexts,
    Differs,
    DisturbedTiming,
    Finding,
    Findings,
    Limit,
    MissingSeeds,
    NewerRecords,
    NotAsAsked,
    OneAfterTheOther,
    OneSeed,
    OtherBatch,
    SameTraining,
    SeveralCommits,
    SeveralDevices,
    SharedGpu,
    SpeedShift,
    Standing,
    StillRunning,
    UncommittedCode,
)
from analysis.findings.statistics import Interval
from analysis.words.numbers import join_words, number, plural, rounded, short, signed

FEW = 4
"""Of more settings only the table gives each one's time."""

TITLES = {
    "fastest": "Fastest",
    "least_memory": "Least memory",
    "best_quality": "Best quality",
    "best_rouge_per_minute": "Best ROUGE per minute",
    "best_rouge_per_gib": "Best ROUGE per GiB",
    "least_energy": "Least energy",
}
BEST = {
    "fastest": "is the fastest",
    "least_memory": "needs least memory",
    "best_quality": "has the highest ROUGE",
    "best_rouge_per_minute": "gains most ROUGE per minute",
    "best_rouge_per_gib": "has most ROUGE per GiB",
    "least_energy": "needs least energy",
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
    "threads": "number of threads",
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
        case "one training":
            return "The settings are one training: quality ranks none of them."
        case "tied":
            tied = join_words(finding.tied)
            return f"{tied} have the same best value: {_value(aim, ranking[0])}."
        case "alone":
            return (
                f"{ranking[0].label} is the only setting with a figure "
                f"({_value(aim, ranking[0])}); there is nothing to compare it with."
            )
    first, following = ranking[0], ranking[1]
    seen = "" if finding.certainty == "yes" else " in what was observed"
    return (
        f"{first.label} {BEST[aim.key]}{seen}: {_value(aim, first)}, "
        f"{_distance(finding, first, following)}."
    )


def reason(finding: Finding) -> str:
    """All about one aim: the choice, how far the data tell it from the others, what failed."""
    return " ".join([in_one_sentence(finding), *details(finding), *notes(finding)])


def details(finding: Finding) -> list[str]:
    """How far the data tell the choice from the others, with intervals and p-values."""
    if finding.outcome != "ranked":
        return []
    sentences = list(_noise(finding))
    if finding.aim.key == "best_quality" and finding.choice is None:
        sentences.append("Quality is no reason to choose one of them.")
    return sentences


def notes(finding: Finding) -> list[str]:
    """Which settings and runs do not count for an aim, and why."""
    sentences = []
    if finding.left_out and finding.outcome != "blocked":
        differ = join_words(FACTS.get(key, key) for key in finding.blocks)
        sentences.append(
            f"{join_words(finding.left_out)} {_are(finding.left_out)} not ranked: the runs differ "
            f"in {differ}."
        )
    if finding.untrusted:
        sentences.append(
            f"{join_words(finding.untrusted)} {_are(finding.untrusted)} left out: the timing of "
            "all their runs was disturbed."
        )
    if finding.unfinished:
        listed = join_words(f"{count} {status}" for status, count in finding.unfinished)
        sentences.append(f"Of its {finding.runs} runs not all completed ({listed}).")
    return sentences


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


def answer(comparison: Comparison) -> tuple[str, ...]:
    """What to use, in numbers; every second part is to stand out."""
    found = comparison.answer
    if found is None or found.choice is None or found.runner_up is None:
        return _no_answer(comparison)
    name, other = found.choice.label, found.runner_up
    size = f", {number(found.choice.memory.mean, 2)} GiB" if found.choice.memory else ""
    parts: tuple[str, ...]
    if found.alike and found.certainty == "no":
        others = join_words(map(short, found.alike))
        least = " It needs least memory of them." if found.leanest else ""
        parts = (
            "Nothing shows that another setting is faster than ",
            name,
            f"{size}. {others} may be as fast.{least}",
        )
    elif found.certainty == "yes":
        parts = ("Use ", name, f": {_faster(other)} than {short(other.second)}{size}.")
    else:
        parts = (
            "",
            name,
            f" was the fastest in single runs: {_faster(other)} than "
            f"{short(other.second)}{size}. Nothing is decided before the runs are repeated.",
        )
    more = [_lean(found), _quality_in_short(comparison)]
    return (*parts[:-1], " ".join([parts[-1], *filter(None, more)]))


def _no_answer(comparison: Comparison) -> tuple[str, ...]:
    """What to say where no two settings can be compared by speed."""
    completed = [row for row in comparison.rows if row.completed]
    fastest, memory = comparison.finding("fastest"), comparison.finding("least_memory")
    if not completed:
        return ("No run has completed: there is nothing to recommend.",)
    if len(completed) == 1:
        row = completed[0]
        size = f", {number(row.memory.mean, 2)} GiB" if row.memory else ""
        speed = f" with {number(row.speed.mean)} steps/s{size}" if row.speed else ""
        return ("Only ", row.label, f" completed{speed}: there is nothing to compare it with.")
    sentences = ["No setting is recommended for its speed."]
    if fastest.untrusted and not fastest.ranking:
        sentences.append("The timing of all runs was disturbed: run them again undisturbed.")
    else:
        sentences.append(" ".join([in_one_sentence(fastest), *notes(fastest)]))
    if memory.outcome == "ranked" and memory.certainty != "no":
        sentences.append(in_one_sentence(memory))
    return (" ".join(sentences),)


def _lean(found: Answer) -> str:
    if found.lean is None or found.lean_memory is None:
        return ""
    less = f"needs {_percent_of(1 - found.lean_memory.estimate)} less"
    slower = found.lean_speed
    if slower is None:
        return f"If memory is short, {short(found.lean.label)} {less}."
    if not slower.apart and slower.over_runs:
        return f"If memory is short, {short(found.lean.label)} {less} and may be as fast."
    word = "slower" if slower.estimate < 1 else "faster"
    share = _percent_of(abs(slower.estimate - 1))
    return f"If memory is short, {short(found.lean.label)} {less} and is {share} {word}."


def _quality_in_short(comparison: Comparison) -> str:
    trained, check = comparison.same_training, comparison.quality
    if trained.verified is False:
        return "Compare their quality too: verify.json says that they are different trainings."
    if check.gap is not None:
        gap = number(100 * abs(check.gap.estimate), 2)
        return (
            f"Look into the quality first: {short(check.gap.first)} is {gap} ROUGE points of 100 "
            f"above {short(check.gap.second)}, more than seeds explain."
        )
    if trained.dropout == 0:
        return "Quality does not separate them: they take the same gradient."
    if trained.dropout:
        return (
            "Quality does not separate them: they take the same gradient in expectation, with "
            "other dropout masks."
        )
    return "Quality does not separate them: but for dropout masks they take the same gradient."


def quality_check(comparison: Comparison) -> str:
    """Whether settings that are one training came out alike."""
    trained, check = comparison.same_training, comparison.quality
    if not check.settings:
        return ""
    margin = f"{100 * comparison.margin:g} ROUGE points of 100"
    if trained.verified is False:
        return (
            "verify.json says that the settings are different trainings: their gradients differ by "
            f"up to {trained.difference or 0:.0e} of the largest element."
        )
    sentences = [_as_one_training(trained)]
    match check.outcome:
        case "same":
            few = len(check.settings) <= FEW
            who = join_words(check.settings) if few else f"All {len(check.settings)} settings"
            sentences.append(f"{who} came out the same within {margin} (TOST).")
        case "gap" if check.gap is not None:
            sentences.append(
                f"{check.gap.first} and {check.gap.second} differ by more than seeds explain "
                f"({_interval(check.gap)}). Look into it: run python -m batchopt.verify."
            )
        case "open":
            sentences.append(
                "Their ROUGE shows no gap beyond the noise between seeds; that they are the same "
                f"within {margin} is not shown."
            )
        case "one seed":
            sentences.append("One seed each cannot show whether their ROUGE differs.")
        case "not learnt":
            sentences.append("ROUGE did not rise above its start: it says nothing of the settings.")
        case _:
            pass
    if check.unmeasured:
        sentences.append(f"Quality was not measured: {join_words(check.unmeasured)}.")
    return " ".join(sentences)


def _as_one_training(trained: SameTraining) -> str:
    """How far the settings are one training, as the files say it."""
    if trained.dropout == 0:
        known = "The settings are the same training up to rounding"
    elif trained.dropout:
        known = (
            "The settings take the same gradient in expectation and draw other dropout masks "
            f"(dropout {trained.dropout:g}): their differences are those between seeds"
        )
    else:
        known = (
            "The settings take the same gradient in expectation; whether the model has dropout was "
            "not recorded"
        )
    if trained.verified:
        known += f" (verify.json: gradients equal to {trained.difference or 0:.0e}, dropout off)"
    return f"{known}."


def beaten(comparison: Comparison) -> str:
    """Which settings are slower and larger than another, and which are left to choose from."""
    sentences = []
    for winner in dict.fromkeys(by for _, by in comparison.beaten):
        losers = [label for label, by in comparison.beaten if by == winner]
        verb, need = ("is", "needs") if len(losers) == 1 else ("are", "need")
        sentences.append(
            f"{join_words(losers)} {verb} slower and {need} more memory than {winner}."
        )
    lost = dict(comparison.beaten)
    left = [row.label for row in comparison.rows if row.speed and row.label not in lost]
    if sentences and 1 < len(left) <= FEW:
        sentences.append(f"Choose between {join_words(left)}.")
    return " ".join(sentences)


def convergence(comparison: Comparison) -> str:
    """When the training reaches its target with each setting."""
    steps, target = comparison.steps_to_target, comparison.target
    if steps is None or target is None:
        return ""
    times = [
        f"{row.label} in {duration(row.time_to_target_s)}"
        for row in comparison.rows
        if row.time_to_target_s is not None
    ]
    text = (
        f"ROUGE F1 reaches {number(target)}, 95 % of the best of the mean curve, after "
        f"{steps:,.0f} steps in the mean over all runs"
    )
    return f"{text}: {join_words(times)}." if 0 < len(times) <= FEW else f"{text}."


def trainings(finding: Finding) -> str:
    """Which of several trainings came out best."""
    return f"Between the trainings: {reason(finding)}"


def unfinished(count: int) -> str:
    """That runs of a sweep are to be finished, before the command that does it."""
    return f"{plural(count, 'run')} did not complete. To finish {'it' if count == 1 else 'them'}:"


def cause(text: str) -> str | None:
    """Why a run ended, in this language; None where only the record says it."""
    return text


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
        f"{rounded(found.break_even_steps)} steps."
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
    beaten,
    quality_check,
    convergence,
    budget,
    payback,
    batch_size,
)


def limits(findings: Findings) -> list[str]:
    """Everything that limits what the runs can show."""
    found = [*findings.limits, *(one for part in findings.comparisons for one in part.limits)]
    return list(dict.fromkeys(limit(one) for one in found))


def limit(found: Limit) -> str:  # noqa: PLR0911, PLR0912 (one case a kind)
    """One thing that limits what the runs can show."""
    match found:
        case MissingSeeds(label, missing):
            listed = join_words(map(str, missing))
            return (
                f"{label} has no completed run of seed{'s' if len(missing) > 1 else ''} {listed}: "
                "it is compared with others over the seeds that both have."
            )
        case SpeedShift(run_dir, moment, change):
            word = "slower" if change < 0 else "faster"
            return (
                f"From {moment} on ({run_dir}) the machine was {_percent_of(abs(change))} {word} "
                "than before, for all settings."
            )
        case OneAfterTheOther():
            return (
                "The settings ran one after the other: a machine that changes its speed meanwhile "
                "looks like a setting. Differences in speed are corrected for a steady drift; "
                "sweep.order=blocked lets the settings take turns."
            )
        case Collapsed(label, seeds, best, last):
            return (
                f"ROUGE F1 of {label}, {_seeds(seeds)}, fell from {number(best)} to {number(last)} "
                "after its best evaluation: its ROUGE per minute is that of a training that failed."
            )
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
        case DisturbedTiming(label, seeds, reasons):
            return (
                f"The timing of {label}, {_seeds(seeds)}, was disturbed ({'; '.join(reasons)}) "
                "and is not ranked."
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
        test = f"over {plural(first.seeds, 'shared seed')}" if first.paired else "Welch"
        if first.drift_corrected:
            test = "corrected for a steady drift of the machine"
        yield (
            f"Against {first.second} {_interval(first)} ({test}; {_p(first.p_value)} after "
            "Holm's correction)."
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
            yield (
                f"Against {single[0].second}, step by step on the same examples, "
                f"{_interval(single[0])}."
            )
        yield f"One run each against {whom}: how much repeats differ cannot be told."
        if near:
            yield f"{join_words(near)} may be as good."


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


def _seeds(seeds: Sequence[int | None]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {join_words(map(str, seeds))}"


def _faster(contrast: Contrast) -> str:
    share = _percent_of(abs(contrast.estimate - 1))
    return f"{share} {'faster' if contrast.estimate >= 1 else 'slower'}"


def _percent_of(share: float) -> str:
    return f"{number(100 * share, 2)} %"


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


def _distance(finding: Finding, first: Standing, following: Standing) -> str:
    """How far the next setting is, over what both share; for quality as a difference."""
    contrast = next(one for one in finding.contrasts if one.second == following.label)
    shown = f"than {following.label} ({number(following.mean)})"
    if contrast.scale == "difference":
        word = "more" if contrast.estimate >= 0 else "less"
        return f"{number(abs(contrast.estimate), 2)} {word} {shown}"
    more = "faster" if finding.aim.key == "fastest" else "more"
    less = "slower" if finding.aim.key == "fastest" else "less"
    word = more if contrast.estimate >= 1 else less
    return f"{_percent_of(abs(contrast.estimate - 1))} {word} {shown}"


def _costs(costs: Costs) -> str:
    figures = [
        *([f"{number(costs.steps_per_second)} steps/s"] if costs.steps_per_second else []),
        *([f"{number(costs.peak_memory_gib)} GiB"] if costs.peak_memory_gib else []),
    ]
    return f"{costs.label} [{', '.join(figures)}]" if figures else costs.label


def _are(words: Sequence[str]) -> str:
    return "is" if len(words) == 1 else "are"
