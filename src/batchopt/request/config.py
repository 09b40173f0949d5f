"""The schema of every config group: keys, types, defaults, units and constraints.

conf/*.yaml holds chosen values; this module holds what may be chosen. `OmegaConf.to_object` turns a
composed config into these classes, so that no `DictConfig` leaves the entry point. The classes are
not frozen because omegaconf makes frozen dataclasses read-only while it still composes.

The string under a field is its help text (`--help`, docs); its constraint stands in the field's
metadata. Rules that span several fields stand in `rules`.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from batchopt.record.statuses import Status
from batchopt.request.constraints import (
    at_least,
    character,
    decay_of_length,
    encoding,
    list_of,
    not_empty,
    once,
    one_of,
    one_of_or_flag,
    path,
    paths,
    positive,
    share,
    tokens,
    words_or,
)
from batchopt.request.optimizers import OPTIMIZERS, SCHEDULES, SHORT

RETRY = ("stale", *(status for status in Status if status is not Status.running))
"""Why a run of a sweep may be run again."""


class Packing(Enum):
    """How the examples of one optimizer step are cut into micro-batches."""

    none = "none"
    sorted = "sorted"
    balanced = "balanced"
    packed = "packed"
    unpadded = "unpadded"


PADDED = tuple(packing for packing in Packing if packing is not Packing.unpadded)
"""The packings of every model; unpadded is for decoder-only ones."""


class Order(Enum):
    """In which order a sweep starts its runs."""

    blocked = "blocked"
    as_given = "as_given"


class Language(Enum):
    """Language of the generated sample."""

    ko = "ko"
    en = "en"
    mixed = "mixed"


class BadRow(Enum):
    """What to do with a row that breaks a rule."""

    error = "error"
    skip = "skip"


class Precision(Enum):
    """Arithmetic of forward and backward; weights and optimizer stay in fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"
    fp16 = "fp16"


class Adapter(Enum):
    """What is trained: every weight, or an adapter beside frozen ones."""

    none = "none"
    lora = "lora"
    qlora = "qlora"


class Quantization(Enum):
    """How the frozen weights of linear layers are kept."""

    nf4 = "nf4"
    fp4 = "fp4"
    int8 = "int8"


class Attention(Enum):
    """Implementations of attention in transformers."""

    eager = "eager"
    sdpa = "sdpa"
    flash_attention_2 = "flash_attention_2"


class Loss(Enum):
    """How the logits are made."""

    sliced = "sliced"
    full = "full"


class DeviceKind(Enum):
    """Where to train."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class OnOom(Enum):
    """What to do when a run does not fit into memory."""

    record = "record"
    halve = "halve"
    checkpoint_then_halve = "checkpoint_then_halve"


SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
"""Names of what may stand between two fields, for data.separator."""


class ProbeSizes(Enum):
    """Which batch sizes to probe."""

    presets = "presets"
    all = "all"


class Tracker(Enum):
    """Experiment trackers that transformers has an integration of."""

    none = "none"
    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"
    trackio = "trackio"


class RougeTokenizer(Enum):
    """What ROUGE counts as a word."""

    auto = "auto"
    kiwi = "kiwi"
    whitespace = "whitespace"
    character = "character"
    rouge_score = "rouge_score"


@dataclass(kw_only=True, slots=True)
class BatchConfig:
    """How the examples of one optimizer step reach the device."""

    per_device_train_batch_size: int | None = field(default=None, metadata=at_least(1))
    """Examples of one micro-batch on the device; null: derived."""
    gradient_accumulation_steps: int | None = field(default=None, metadata=at_least(1))
    """Micro-batches of one optimizer step; null: derived."""
    effective_batch_size: int = field(default=64, metadata=at_least(1))
    """Examples of one optimizer step; must be the product of the two keys above."""
    auto: bool = False
    """Choose the pair by probing the device the run is on; set by batch=auto."""
    packing: Packing = Packing.balanced
    """How a step's examples are cut into micro-batches: none (as drawn), sorted by length,
    balanced (least memory, sizes that differ), packed (fewest micro-batches), or unpadded (joined
    to one row without padding; decoder-only models). The gradient is the same."""
    max_tokens_per_micro_batch: int | None = field(default=None, metadata=at_least(1))
    """Padded source and target tokens that a packed micro-batch may hold; null: as many as the
    preset's largest sorted one."""


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """What every source of data has."""

    source: str = MISSING
    """Set by the choice: sample, files or hub."""
    max_source_length: int = field(default=512, metadata=at_least(8))
    """Tokens, of a decoder-only model those of the whole prompt; longer dialogues are cut at the
    end, and counted."""
    max_target_length: int = field(default=128, metadata=at_least(4))
    """Tokens; longer summaries are cut at the end, and counted. Also the longest generation."""
    max_validation_examples: int | None = field(default=None, metadata=at_least(1))
    """Evaluate on the first so many validation examples only; null: all."""
    system_prompt: str | None = None
    """Decoder-only models with a chat template: the system's message; \\n is a line break; null:
    Korean where most summaries are, else English."""
    instruction: str | None = None
    """Decoder-only models: what stands before every dialogue; null: likewise."""
    prompt_template: str | None = field(default=None, metadata=once("{dialogue}"))
    """Decoder-only models: the whole prompt, such as 'Summarise.\\n{dialogue}\\nSummary:\\n'; null:
    the model's chat template or, where it has none, instruction and dialogue."""


@dataclass(kw_only=True, slots=True)
class SampleDataConfig(DataConfig):
    """The corpus that batchopt generates itself."""

    source: str = "sample"
    language: Language = Language.mixed
    """ko, en, or mixed (half and half)."""
    train_examples: int = field(default=2000, metadata=at_least(1))
    """Generated training dialogues."""
    validation_examples: int = field(default=200, metadata=at_least(1))
    """Generated validation dialogues; none of them is a training dialogue."""
    seed: int = 0
    """Seed of the generator; the same seed gives the same corpus."""


@dataclass(kw_only=True, slots=True)
class RowDataConfig(DataConfig):
    """What the sources that are read row by row have in common."""

    id_column: str | None = None
    """Column with a unique name of the example; null: numbered by row."""
    dialogue_column: str = "dialogue"
    """Column with the dialogue."""
    summary_columns: list[str] = field(default_factory=lambda: ["summary"])
    """Columns with reference summaries; in JSON and Parquet a column may hold a list of texts."""
    validation_dialogue_column: str | None = None
    """Column with the dialogue in the validation data; null: as data.dialogue_column."""
    validation_summary_columns: list[str] | None = None
    """Columns with reference summaries in the validation data; null: as data.summary_columns."""
    turn_separator: str = "\\n"
    """What joins the turns where a dialogue is a list of them; \\n is a line break."""
    validation_fraction: float = 0.1
    """Share of the training rows held out where no validation file or split is named."""
    split_seed: int = 0
    """Seed of that split."""
    on_bad_row: BadRow = BadRow.error
    """error: stop at the first row that breaks a rule; skip: leave it out and count it."""
    max_train_examples: int | None = None
    """Train on the first so many examples only; null: all."""


@dataclass(kw_only=True, slots=True)
class FilesDataConfig(RowDataConfig):
    """Files of one's own."""

    source: str = "files"
    train_file: Any = field(default=MISSING, metadata=paths())
    """Path of a .csv, .tsv, .txt, .json, .jsonl or .parquet file. Several: a list, as in
    [a.csv,b.csv], or a pattern, as in data/*.csv."""
    validation_file: Any = field(default=None, metadata=paths())
    """Path of the validation file, or several; null: a share of the training rows is held out."""
    separator: str | None = field(default=None, metadata=character(*SEPARATORS))
    """What stands between two fields of a .csv, .tsv or .txt file: comma, semicolon, tab, pipe or
    the character itself; null: found in the file."""
    encoding: str | None = field(default=None, metadata=encoding())
    """Encoding of text files, such as utf-8, utf-16 or cp949; null: found in the file."""

    def files(self, key: str) -> list[str]:
        """The paths and patterns that train_file or validation_file names; none: an empty list."""
        value = getattr(self, key)
        if value is None:
            return []
        return [str(item) for item in value] if isinstance(value, list) else [str(value)]


@dataclass(kw_only=True, slots=True)
class HubDataConfig(RowDataConfig):
    """A data set of the Hugging Face hub."""

    source: str = "hub"
    name: str = field(default=MISSING, metadata=path())
    """Name of a data set on the Hugging Face hub, or a local folder that `datasets` can load."""
    config_name: str | None = None
    """Configuration of the data set; null: its only one."""
    revision: str | None = None
    """Branch, tag or commit; null: the newest."""
    train_split: str = "train"
    """Split to train on."""
    validation_split: str | None = "validation"
    """Split to evaluate on; null: a share of the training split is held out."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """What every model has."""

    source: str = MISSING
    """Set by the choice: tiny, tiny_causal or pretrained."""
    learning_rate: float = field(default=MISSING, metadata=positive())
    """Peak learning rate that suits this model; training.learning_rate takes it over."""
    extra_tokens: Any = field(default_factory=list, metadata=words_or("auto", empty=True))
    """Words to add to the vocabulary as they stand, such as speaker markers ['#Person1#']; auto:
    the markers that the training texts hold, such as #Person1#, #@이름# and [NAME]."""


@dataclass(kw_only=True, slots=True)
class TinyModelConfig(ModelConfig):
    """A small BART with fresh weights."""

    source: str = "tiny"
    vocab_size: int = field(default=1000, metadata=at_least(300))
    """Byte-level BPE vocabulary, trained on the training split."""
    d_model: int = field(default=64, metadata=at_least(2))
    """Width of the model."""
    layers: int = field(default=2, metadata=at_least(1))
    """Encoder layers; the decoder has as many."""
    attention_heads: int = field(default=4, metadata=at_least(1))
    """Heads per attention; must divide d_model."""
    ffn_dim: int = field(default=256, metadata=at_least(1))
    """Width of the feed-forward layers."""
    dropout: float = field(default=0.0, metadata=share())
    """Dropout of hidden states and attention."""


@dataclass(kw_only=True, slots=True)
class TinyCausalModelConfig(TinyModelConfig):
    """A small Llama with fresh weights."""

    source: str = "tiny_causal"
    layers: int = field(default=2, metadata=at_least(1))
    """Decoder layers."""
    key_value_heads: int = field(default=2, metadata=at_least(1))
    """Heads of keys and values; must divide attention_heads."""
    dropout: float = field(default=0.0, metadata=share())
    """Dropout of attention; a Llama has no other."""


@dataclass(kw_only=True, slots=True)
class PretrainedModelConfig(ModelConfig):
    """A pretrained model, encoder-decoder or decoder-only."""

    source: str = "pretrained"
    name_or_path: str = field(default=MISSING, metadata=not_empty() | path())
    """Any encoder-decoder or decoder-only model: its name on the Hugging Face hub, or a local
    folder."""
    revision: str | None = None
    """Branch, tag or commit; null: the newest."""
    source_prefix: str = ""
    """Text put before every dialogue, such as 'summarize: ' for T5; decoder-only models have
    data.instruction."""
    source_language: str | None = None
    """Language of the dialogues as a multilingual tokenizer (mBART, NLLB, M2M100) calls it, such as
    ko_KR, kor_Hang or ko; null: the tokenizer's own default, which is said."""
    target_language: str | None = None
    """Language of the summaries, likewise; null: that of the dialogues."""
    attention: Attention | None = None
    """How attention is computed: eager, sdpa (torch), flash_attention_2 (a package, on a GPU);
    null: as transformers chooses, sdpa where the model has it."""
    trust_remote_code: bool = False
    """Run code that comes with the model; only for models you have read."""


@dataclass(kw_only=True, slots=True)
class AdapterConfig:
    """LoRA and QLoRA: a small adapter is trained beside the frozen weights of the model."""

    kind: Adapter = Adapter.none
    """Set by the choice: none, lora or qlora."""
    rank: int = field(default=16, metadata=at_least(1))
    """Columns of the two factors of each adapted layer."""
    alpha: float = field(default=32.0, metadata=positive())
    """The product of the factors is multiplied by alpha / rank; rslora: by alpha / sqrt(rank)."""
    dropout: float = field(default=0.0, metadata=share())
    """Dropout of what goes into the factors."""
    target_modules: Any = field(default="all-linear", metadata=words_or("all-linear"))
    """Names of the adapted layers, as in [q_proj,v_proj]; all-linear: every linear layer but the
    head."""
    rslora: bool = False
    """Rank-stabilised LoRA, for large ranks (arXiv:2312.03732)."""
    dora: bool = False
    """Train the norms of the weights apart from their directions (DoRA, arXiv:2402.09353)."""
    quantization: Quantization | None = None
    """Of the frozen linear layers but the head, with qlora: nf4, fp4 (4 bits), int8; null: nf4."""
    double_quantization: bool = True
    """Quantise the scales of nf4 and fp4 too, which saves 0.4 bits a weight."""
    compute_dtype: Precision = Precision.auto
    """Arithmetic of the layers of 4 bits; auto: that of training.precision."""
    base_dtype: Precision = Precision.fp32
    """Storage of the frozen weights that are not quantised; auto: as training.precision. fp32 of
    8 B parameters are 32 GB."""


@dataclass(kw_only=True, slots=True)
class TrainerArguments:
    """Further arguments of transformers' Trainer, by its names and with its defaults."""

    adam_beta1: float = field(default=0.9, metadata=share())
    """Decay of the mean of the gradients, in the optimizers of the Adam and Lion families."""
    adam_beta2: float = field(default=0.999, metadata=share())
    """Decay of the mean of their squares in the Adam family, or of the momentum in Lion's."""
    adam_epsilon: float = field(default=1e-8, metadata=positive())
    """Added to the root of the mean square, in the Adam family."""
    optim_args: dict[str, Any] = field(default_factory=dict)
    """What an optimizer takes beside these, each by its name, as in
    training.arguments.optim_args.momentum=0.9 for sgd."""
    lr_scheduler_kwargs: dict[str, Any] = field(default_factory=dict)
    """What a schedule takes beside the number of steps, each by its name, as in
    training.arguments.lr_scheduler_kwargs.num_cycles=3 for cosine_with_restarts."""
    tf32: bool | None = None
    """TF32 arithmetic in the fp32 matrix products of a GPU that has it; null: as torch does."""
    full_determinism: bool = False
    """Deterministic algorithms alone: slower, and the same numbers every time on a GPU too."""


@dataclass(kw_only=True, slots=True)
class TrainingConfig:
    """How to train, the same for every preset."""

    learning_rate: float = field(default=MISSING, metadata=positive())
    """Peak learning rate; taken from the model's choice unless named."""
    optimizer: str = field(default="adamw", metadata=one_of(*SHORT, *OPTIMIZERS))
    """Optimizer, by a short name (adamw is adamw_torch_fused, lion is lion_32bit) or its name in
    transformers."""
    weight_decay: float = field(default=0.01, metadata=at_least(0))
    """Weight decay; decoupled in AdamW."""
    warmup_steps: float = field(default=20, metadata=at_least(0))
    """Optimizer steps of linear warm-up; below 1: a share of all steps, as 0.02. The schedules
    constant, reduce_lr_on_plateau and greedy have no warm-up."""
    lr_scheduler_type: str = field(default="linear", metadata=one_of(*SCHEDULES))
    """Schedule after the warm-up; reduce_lr_on_plateau and greedy follow rouge_f1."""
    max_grad_norm: float = field(default=1.0, metadata=at_least(0))
    """Gradients are clipped to this norm; 0: not clipped."""
    num_train_epochs: int = field(default=5, metadata=at_least(1))
    """Passes over the training examples; max_steps goes before it."""
    max_steps: int | None = field(default=None, metadata=at_least(1))
    """Optimizer steps; null: as num_train_epochs says."""
    label_smoothing: float = field(default=0.0, metadata=share())
    """Weight of the uniform distribution in the loss."""
    precision: Precision = Precision.auto
    """auto: bf16 where the GPU has it, else fp32."""
    loss: Loss = Loss.sliced
    """sliced: the logits are made, used and dropped slice by slice: less memory, no slower; full:
    all of them at once. The gradient is the same."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    torch_compile: bool = False
    """Compile the model below its head with torch.compile, for training."""
    pad_to_multiple_of: int | None = field(default=None, metadata=at_least(1))
    """Lengths of micro-batches are rounded up to a multiple of this; null: 64 with torch_compile
    (few shapes), else 8 on a GPU (tensor cores) and 1 on the CPU."""
    dataloader_num_workers: int | None = field(default=None, metadata=at_least(0))
    """Processes that prepare batches beside the training; null: 4 on a GPU, which would wait, or as
    many as there are CPU cores, and 0 on the CPU."""
    logging_steps: int = field(default=5, metadata=at_least(1))
    """Optimizer steps between two lines of metrics.jsonl."""
    eval_steps: int | None = field(default=None, metadata=at_least(1))
    """Optimizer steps between two evaluations; null: once an epoch."""
    per_device_eval_batch_size: int | None = field(default=None, metadata=at_least(1))
    """Examples of one evaluation batch; the same for every preset. null: as many as an eighth of
    the GPU's memory holds the decoder's state of, up to 256, or 512 MiB of the CPU's, up to 32."""
    early_stopping_patience: int | None = field(default=None, metadata=at_least(1))
    """Evaluations without a better rouge_f1 before the run stops; null: never."""
    save_checkpoints: bool = True
    """Write a checkpoint at every evaluation; without, a stopped run starts again."""
    keep_checkpoints: int = field(default=2, metadata=at_least(2))
    """Checkpoints on disk: the best, and the newest ones. Of a completed run only the weights
    stay."""
    arguments: TrainerArguments = field(default_factory=TrainerArguments)
    """Further arguments of the Trainer."""


@dataclass(kw_only=True, slots=True)
class GenerationSettings:
    """How summaries are generated, by the names of transformers.

    null: as the model's checkpoint says, else the default of transformers.
    """

    checkpoint: bool = False
    """Take the beams and the lengths over from the checkpoint too; set by generation=checkpoint."""
    num_beams: int | None = field(default=None, metadata=at_least(1))
    """Beams; 1: greedy."""
    min_length: int | None = field(default=None, metadata=at_least(0))
    """The fewest tokens of a summary, with the token that begins it."""
    min_new_tokens: int | None = field(default=None, metadata=at_least(0))
    """The same without the token that begins it."""
    length_penalty: float | None = None
    """Beam search divides the score of a summary by its length to this power: above 0 longer
    summaries win, below 0 shorter ones."""
    early_stopping: Any = field(default=None, metadata=one_of_or_flag("never"))
    """When beam search ends: true, with enough finished summaries; false, when better ones are
    unlikely; never, when they are impossible."""
    no_repeat_ngram_size: int | None = field(default=None, metadata=at_least(0))
    """No sequence of so many tokens comes twice in a summary; 0: not checked."""
    encoder_no_repeat_ngram_size: int | None = field(default=None, metadata=at_least(0))
    """No sequence of so many tokens of the dialogue comes in the summary; 0: not checked."""
    repetition_penalty: float | None = field(default=None, metadata=positive())
    """Above 1, tokens that the summary has already become less likely."""
    encoder_repetition_penalty: float | None = field(default=None, metadata=positive())
    """Above 1, tokens that the dialogue does not have become less likely."""
    exponential_decay_length_penalty: Any = field(default=None, metadata=decay_of_length())
    """[START, FACTOR]: after START tokens the end becomes likelier, by FACTOR for each token."""
    bad_words_ids: Any = field(default=None, metadata=tokens(lists=True))
    """Sequences of tokens that are not generated, as in [[5,6],[7]]."""
    suppress_tokens: Any = field(default=None, metadata=tokens())
    """Tokens that are not generated."""
    begin_suppress_tokens: Any = field(default=None, metadata=tokens())
    """Tokens that no summary begins with."""
    forced_bos_token_id: int | None = field(default=None, metadata=at_least(0))
    """The first token of every summary, such as a language's."""
    forced_eos_token_id: int | None = field(default=None, metadata=at_least(0))
    """The last token of a summary that reaches its greatest length."""
    renormalize_logits: bool | None = None
    """Normalise the scores again after all other settings."""
    remove_invalid_values: bool | None = None
    """Replace NaN and infinite scores, which slows a generation down."""


@dataclass(kw_only=True, slots=True)
class MetricConfig:
    """How summaries are generated and scored."""

    tokenizer: RougeTokenizer = RougeTokenizer.auto
    """What ROUGE counts as a word; auto: Kiwi morphemes where the references have Hangul."""
    num_beams: int = field(default=1, metadata=at_least(1))
    """Beams of generation=greedy, which takes them over from here; 1: greedy."""
    use_stemmer: bool = False
    """Porter stemming of English words (rouge_score's tokenizer only)."""


@dataclass(kw_only=True, slots=True)
class DeviceConfig:
    """Where to train, and how it is measured."""

    kind: DeviceKind = DeviceKind.auto
    """auto: the GPU where there is one."""
    threads: int | None = field(default=None, metadata=at_least(1))
    """Threads of torch on the CPU; null: torch's own choice."""
    sample_interval_s: float = field(default=0.05, metadata=at_least(0.005))
    """Seconds between two samples of memory."""
    wait_for_free: bool = True
    """Wait while programs other than batchopt use the GPU; false: share it with them, and the
    timing is marked as not to be trusted. Other runs of batchopt are always waited for."""
    memory_limit_gib: float | None = field(default=None, metadata=positive())
    """Memory that the training may use, enforced: would it fit into 24? On a GPU the allocator's,
    on the CPU the training process's; null: all there is."""


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """When a run is ended from outside."""

    timeout_min: float | None = field(default=None, metadata=positive())
    """Minutes that a run may take, all attempts together; null: no limit. It writes a checkpoint
    and ends as `timeout`."""
    stall_min: float | None = field(default=30.0, metadata=positive())
    """Minutes without a step or an evaluated batch after which a run counts as hung; its stacks
    are kept and it ends as `timeout`; null: never."""
    grace_s: float = field(default=60.0, metadata=positive())
    """Seconds that a run has to write its checkpoint when it is stopped, before it is killed."""


@dataclass(kw_only=True, slots=True)
class ProbeConfig:
    """How batch sizes are probed, by batchopt.probe and batch=auto."""

    sizes: ProbeSizes = ProbeSizes.presets
    """presets, or all: every divisor of the effective batch."""
    memory_margin: float = field(default=0.1, metadata=share())
    """Share of the device's memory that is to stay free in the worst case."""


@dataclass(kw_only=True, slots=True)
class SweepConfig:
    """In which order a sweep runs, and what it does when it is started again into its directory."""

    order: Order = Order.blocked
    """blocked: a sweep over several seeds runs seed by seed, and the settings of a seed in a drawn
    order, so that a machine that changes its speed meanwhile does not look like a preset; with one
    seed as typed, since no order could balance one run each. as_given: always as typed. A sweep
    that goes on keeps the order in which it began."""
    retry: list[str] = field(
        default_factory=lambda: ["missing", "interrupted", "failed", "stale"],
        metadata=list_of(*RETRY),
    )
    """Which runs to run again; stale: the config, the data or the code differ from now."""


@dataclass(kw_only=True, slots=True)
class TrackerConfig:
    """An experiment tracker that is told of the runs, through the Trainer's own integration."""

    name: Tracker = Tracker.none
    """Set by the choice: none, tensorboard, wandb, mlflow or trackio."""
    project: str = "batchopt"
    """Project (wandb, trackio) or experiment (mlflow) that the runs belong to."""


@dataclass(kw_only=True, slots=True)
class Config:
    """One run."""

    batch: BatchConfig = field(default_factory=BatchConfig)
    data: DataConfig = MISSING
    model: ModelConfig = MISSING
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    metric: MetricConfig = field(default_factory=MetricConfig)
    generation: GenerationSettings = field(default_factory=GenerationSettings)
    device: DeviceConfig = field(default_factory=DeviceConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    run: RunConfig = field(default_factory=RunConfig)
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    sweep: SweepConfig = field(default_factory=SweepConfig)
    on_oom: OnOom = OnOom.record
    """record: out of memory is the run's result; halve: it goes on with half the per-device batch
    and the same effective one; checkpoint_then_halve: with gradient checkpointing first."""
    seed: int = field(default=1, metadata=at_least(0))
    """Seed of the order of the examples, of dropout and of fresh weights."""
    verify: bool = True
    """Before a sweep of several batches: prove on one step that they give the same gradient."""
    objective: Any = None
    """Metric of the record, or a list of several, that a search is told as the result of a run,
    such as rouge_f1 or steps_per_second; null: none. Which way is better is known."""
    cache_dir: str = field(default="outputs/cache", metadata=not_empty() | path())
    """Folder of the tokenised data and of trained tokenizers, shared by all runs."""
