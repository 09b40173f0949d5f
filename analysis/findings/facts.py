"""What the analysis can find, as facts without words.

en and ko put them into sentences, recommendation into JSON; neither decides anything.
Settings are named by their labels, aims and limits by keys.
"""

from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from analysis.findings.statistics import Interval, mean_interval
from batchopt.record.statuses import Status

Certainty = Literal["yes", "single runs", "no"]
"""Whether the data tell the choice from every other setting; "single runs" where the distance is
large and how much runs vary is not known."""

Outcome = Literal["ranked", "alone", "tied", "blocked", "not measured", "one training"]
"""What became of an aim. "blocked": no two settings could be compared. "one training": the
settings train alike, so that quality ranks none of them."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Something a person may want, and the column that measures it."""

    key: str
    column: str
    higher_is_better: bool = True
    of_speed: bool = False
    of_memory: bool = False
    of_quality: bool = False


AIMS = (
    Aim("fastest", "steps_per_second", of_speed=True),
    Aim("least_memory", "peak_memory_gib", False, of_memory=True),
    Aim("best_quality", "best_rouge_f1", of_quality=True),
    Aim("best_rouge_per_minute", "rouge_gain_per_min", of_speed=True, of_quality=True),
    Aim("best_rouge_per_gib", "rouge_per_gib", of_memory=True, of_quality=True),
    Aim("least_energy", "energy_wh", False, of_speed=True),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One setting under one aim: a value for each run, for quality the mean of each seed.

    `seeds` is the number of seeds behind the values.
    """

    label: str
    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Of its own values; settings are ranked by what they share."""
        return fmean(self.values)

    @property
    def interval(self) -> Interval | None:
        """Where the mean lies, at 95 %; None for one value."""
        return mean_interval(self.values)


@dataclass(frozen=True, slots=True)
class Contrast:
    """One setting against another under one aim."""

    first: str
    second: str
    scale: Literal["difference", "ratio"]
    """first - second in the unit of the aim's column, or first / second."""
    estimate: float
    over_runs: Interval | None
    """By how much runs vary: over the seeds that both have; Welch's where they share none."""
    paired: bool
    seeds: int
    """Runs that were compared: pairs, or the runs of the smaller side."""
    drift_corrected: bool
    """The settings ran one after the other, so that a steady drift was estimated too."""
    spread: float | None
    """Standard deviation of the difference of two runs (of the logarithms for a ratio)."""
    within_runs: Interval | None
    """By how much single runs vary in themselves: over the validation examples for quality (paired
    bootstrap), over the steps that both took for speed (paired, block bootstrap)."""
    p_value: float | None
    """Of no difference between runs, after Holm's correction over the contrasts beside it."""
    equivalent: bool | None
    """Whether the two are the same within the margin; None: not tested."""
    apart: bool
    """Whether the first is better beyond the noise that was measured, over what both share; of
    single runs, by more than the convention says."""

    @property
    def interval(self) -> Interval | None:
        """What is to be drawn and said: it covers both kinds of noise that are known."""
        known = [one for one in (self.over_runs, self.within_runs) if one]
        if not known:
            return None
        return Interval(
            self.estimate,
            min(one.low for one in known),
            max(one.high for one in known),
            known[0].confidence,
        )


@dataclass(frozen=True, slots=True)
class MoreSeeds:
    """What it would take to decide."""

    have: int
    """Seeds that every setting has by now."""
    need: int | None
    """Seeds of each setting; None: more than `limit`."""
    limit: int
    variance_known: bool
    """False: one seed cannot show the noise, and `need` is only what shows it."""
    examples: int | None = None
    """Validation examples that it would take, where the noise between them is the larger part."""

    @property
    def more(self) -> int | None:
        """How many seeds are still to run."""
        return None if self.need is None else max(0, self.need - self.have)


@dataclass(frozen=True, slots=True)
class Finding:
    """What the numbers of one comparison say about one aim."""

    aim: Aim
    outcome: Outcome
    choice: str | None
    """The setting with the best mean; None where there is none, where several share it, and for
    quality alone where the difference lies within noise."""
    certainty: Certainty
    ranking: tuple[Standing, ...]
    """Best first; in the order of the runs where there may be no ranking."""
    contrasts: tuple[Contrast, ...] = ()
    """The best against each other setting, in the order of the ranking."""
    blocks: tuple[str, ...] = ()
    """Keys of what differs between these settings and those in `left_out`."""
    left_out: tuple[str, ...] = ()
    """Settings that cannot be compared with the ranked ones: their runs differ in `blocks`."""
    tied: tuple[str, ...] = ()
    """Settings that share the best value (outcome "tied")."""
    runs: int = 0
    """How many runs of the choice were planned."""
    unfinished: tuple[tuple[str, int], ...] = ()
    """How many of them ended otherwise than completed, by status."""
    untrusted: tuple[str, ...] = ()
    """Settings left out because the timing of all their runs was disturbed."""
    more_seeds: MoreSeeds | None = None
    """What would decide it, where the data do not."""

    @property
    def decided(self) -> bool:
        """Whether the choice is beyond the noise that was measured."""
        return self.certainty == "yes"

    @property
    def close(self) -> tuple[Contrast, ...]:
        """The contrasts with settings that may be as good."""
        return tuple(contrast for contrast in self.contrasts if not contrast.apart)


@dataclass(frozen=True, slots=True)
class MissingSeeds:
    """A setting lacks seeds that others have: it is compared over those that it shares."""

    label: str
    missing: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SpeedShift:
    """The machine changed its speed during the sweep, for all settings."""

    run_dir: str
    """The first run after it."""
    started_at: str
    change: float
    """As a share of the speed before; below 0: slower."""


@dataclass(frozen=True, slots=True)
class OneAfterTheOther:
    """The settings did not take turns, so that a drift of the machine looks like a setting."""


@dataclass(frozen=True, slots=True)
class Collapsed:
    """Runs of a setting lost most of their quality after the best evaluation."""

    label: str
    seeds: tuple[int | None, ...]
    best: float
    last: float


@dataclass(frozen=True, slots=True)
class StillRunning:
    """Some runs have not ended."""

    count: int
    planned: int


@dataclass(frozen=True, slots=True)
class NewerRecords:
    """Some records have a newer schema than this analysis knows."""

    count: int
    newest: int
    known: int


@dataclass(frozen=True, slots=True)
class OtherBatch:
    """A setting has another effective batch than most."""

    label: str
    size: int
    reference: int


@dataclass(frozen=True, slots=True)
class Differs:
    """Runs of one comparison differ in a fact that a ranking depends on."""

    fact: str
    """A key of FACTS in `words`."""
    holders: tuple[tuple[str, tuple[str, ...]], ...]
    """Each value, with the settings that have it."""


@dataclass(frozen=True, slots=True)
class OneSeed:
    """Settings that completed with one seed."""

    labels: tuple[str, ...]
    everyone: bool


@dataclass(frozen=True, slots=True)
class SeveralDevices:
    """The runs used several devices of one kind."""

    kind: Literal["machines", "gpus"]
    count: int


@dataclass(frozen=True, slots=True)
class SharedGpu:
    """A GPU held memory before the run began."""

    label: str
    seed: int | None
    gib: float


@dataclass(frozen=True, slots=True)
class DisturbedTiming:
    """Something disturbed the timing of some runs of a setting."""

    label: str
    seeds: tuple[int | None, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NotAsAsked:
    """A run used another pair than it was asked for, such as "64 × 1"."""

    label: str
    seed: int | None
    asked: str
    got: str


@dataclass(frozen=True, slots=True)
class SeveralCommits:
    """The runs come from several commits of the code."""

    count: int


@dataclass(frozen=True, slots=True)
class UncommittedCode:
    """Some runs come from a checkout with uncommitted changes."""


@dataclass(frozen=True, slots=True)
class CutTexts:
    """Texts longer than the limits on tokens were cut."""

    count: int


Limit = (
    MissingSeeds
    | SpeedShift
    | OneAfterTheOther
    | Collapsed
    | StillRunning
    | NewerRecords
    | OtherBatch
    | Differs
    | OneSeed
    | SeveralDevices
    | SharedGpu
    | DisturbedTiming
    | NotAsAsked
    | SeveralCommits
    | UncommittedCode
    | CutTexts
)
"""Something that limits what the runs can show."""


@dataclass(frozen=True, slots=True)
class BatchSize:
    """How the effective batch lies to the gradient noise scale."""

    batch: int
    """Examples of one optimizer step."""
    noise_scale: float
    """Examples."""
    runs: int
    upper_bound: bool
    """The micro-batches were cut by length, which makes the estimate too high."""
    verdict: Literal["large", "small", "neither", "open"]


@dataclass(frozen=True, slots=True)
class Costs:
    """The means of one setting: what it costs and what it gives. None: not measured."""

    label: str
    steps_per_second: float | None
    peak_memory_gib: float | None
    best_rouge_f1: float | None


@dataclass(frozen=True, slots=True)
class Knee:
    """The setting with the least memory among those nearly as fast as the fastest."""

    choice: Costs
    fastest: Costs
    tolerance: float
    """As a share of the fastest's speed."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The best setting that fits into so much memory."""

    gib: float
    choice: Costs | None
    """The fastest that fits; None: none fits."""
    fitting: int
    too_large: tuple[Costs, ...]
    """By their measured peak."""
    out_of_memory: tuple[str, ...]
    """Settings that ran out of memory on the device that they had."""


@dataclass(frozen=True, slots=True)
class Payback:
    """Whether measuring paid: against a setting picked blindly among those measured."""

    choice: str
    cost_s: float
    """Device time of all runs of the comparison."""
    saving_s: float
    """Per 1,000 optimizer steps, against the mean of all settings."""
    most_s: float
    """Likewise against the slowest setting."""
    break_even_steps: float
    """Optimizer steps after which the saving has paid for the runs."""


@dataclass(frozen=True, slots=True)
class SameTraining:
    """Whether settings train alike: on the same examples, with the same gradient."""

    dropout: float | None
    """The largest dropout of the model; None: not recorded."""
    verified: bool | None
    """Whether verify.json says so; None: there is none."""
    difference: float | None = None
    """Largest relative difference of the gradient that verify found."""


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """Whether settings that are one training came out alike.

    "gap": two differ by more than seeds explain, which is a fault to look into. "open": the seeds
    show neither a gap nor that there is none. "not learnt": ROUGE did not leave its start.
    """

    outcome: Literal["same", "gap", "open", "one seed", "not learnt", "not measured"]
    gap: Contrast | None = None
    settings: tuple[str, ...] = ()
    """Those that were measured."""
    unmeasured: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FullLength:
    """What this training would take at its full length with one setting."""

    steps: int
    """Optimizer steps."""
    train_time_s: Interval | float
    """Without evaluation; with an interval where runs were repeated."""
    energy_wh: float | None
    headroom_gib: float | None
    """Memory of the device, or the budget, less the peak; None: the device's is not known."""


@dataclass(frozen=True, slots=True)
class Row:
    """One setting as the report's first table has it."""

    label: str
    places: tuple[int, ...]
    endings: tuple[tuple[str, int], ...]
    """How its planned runs ended: status and count."""
    disturbed: int
    """Completed runs whose timing does not count."""
    speed: Standing | None = None
    """Optimizer steps per second; None: no run that counts."""
    memory: Standing | None = None
    """Peak, GiB."""
    quality: Standing | None = None
    """Best ROUGE F1."""
    speed_change: Contrast | None = None
    """Against the baseline; None for the baseline itself."""
    memory_change: Contrast | None = None
    time_to_target_s: float | None = None
    """Seconds of training: steps of the one training divided by this speed."""
    full: FullLength | None = None

    @property
    def completed(self) -> int:
        """Runs that came to their end."""
        return dict(self.endings).get(Status.completed, 0)


@dataclass(frozen=True, slots=True)
class Answer:
    """What to use, in numbers."""

    certainty: Certainty
    choice: Row | None
    """None: nothing can be compared."""
    alike: tuple[str, ...] = ()
    """Settings that may be as fast as the choice."""
    leanest: bool = False
    """Whether the choice needs less memory than these, beyond the noise."""
    runner_up: Contrast | None = None
    """Speed of the choice against the next one."""
    lean: Row | None = None
    """The setting that needs least memory, where that is another one."""
    lean_speed: Contrast | None = None
    """Speed of `lean` against the choice."""
    lean_memory: Contrast | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Runs that are the same but for the preset, the packing and the seed, and what they show."""

    facets: tuple[tuple[str, str], ...]
    """What sets it apart from the other comparisons: keys of the config and their values."""
    places: tuple[int, ...]
    """Which of all runs are in it."""
    reference_batch: int | None
    """Effective batch of the comparison."""
    limits: tuple[Limit, ...]
    blocks_speed: tuple[str, ...]
    """Keys of what differs, so that not all settings are ranked by speed; empty: nothing."""
    blocks_memory: tuple[str, ...]
    blocks_quality: tuple[str, ...]
    margin: float
    """ROUGE F1, 0 to 1: differences within it do not matter."""
    same_training: SameTraining
    aims: tuple[Finding, ...] = ()
    quality: QualityCheck = QualityCheck("not measured")
    rows: tuple[Row, ...] = ()
    """One for each setting, in the order of the batch."""
    baseline: str | None = None
    """The setting that the changes are against."""
    beaten: tuple[tuple[str, str], ...] = ()
    """Settings that are slower and need more memory than another one, with that one."""
    target: float | None = None
    """ROUGE F1 that counts as converged."""
    steps_to_target: float | None = None
    """In the mean over all runs: they are one training."""
    answer: Answer | None = None
    knee: Knee | None = None
    budget: Budget | None = None
    payback: Payback | None = None
    batch_size: BatchSize | None = None

    def finding(self, key: str) -> Finding:
        """What was found about an aim."""
        return next(one for one in self.aims if one.aim.key == key)


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that the report says about the numbers."""

    comparisons: tuple[Comparison, ...]
    """The largest first; at least one."""
    limits: tuple[Limit, ...]
    """What concerns all runs."""
    completed: tuple[bool, ...]
    """For each run, whether its numbers may be ranked at all."""
    unfinished: tuple[tuple[str, int], ...] = ()
    """Sweeps that can be resumed, and how many of their runs are missing, failed or the like."""
    trainings: Finding | None = None
    """Quality of the comparisons against each other, where they are different trainings."""
