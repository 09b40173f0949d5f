"""What differs between an encoder-decoder and a decoder-only model, and nothing else.

A row is the same for both: the tokens of a source, and of the target with its end. An
encoder-decoder reads them apart. A decoder-only model reads them joined, source before target, and
its loss counts the target alone. How rows become a batch, what they cost, where the hidden states
and the labels of the loss come from, and how a text is generated follow from that.
"""

import copy
import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypedDict

import torch
from torch import Tensor, nn

from batchopt.step.micro_batches import Length, Padding

IGNORED = -100
"""Label of a position without a target token, as everywhere in transformers."""


class Row(TypedDict):
    """The token ids of one example, without padding: its source, and its target with the end."""

    input_ids: list[int]
    labels: list[int]


class Architecture(ABC):
    """How a model reads sources and targets."""

    auto_class: str
    """The class of transformers that loads such a model."""
    generates_after_source: bool
    """Whether what is generated follows the source in one sequence, so that a rule against
    repetition would forbid the words of the source."""
    counts_head_at_targets: bool
    """Whether FLOPs count the head at target tokens alone: the rest needs no logits."""

    @abstractmethod
    def lengths(self, source: int, target: int) -> Length:
        """The lengths that decide what a row costs, for `plan_micro_batches`."""

    @abstractmethod
    def counted(self, counts: Padding) -> Padding:
        """The counts of a step, from those that the lengths above give."""

    @abstractmethod
    def longest(self, rows: Sequence[Row]) -> Row:
        """A row as long as any of these."""

    @abstractmethod
    def pad_batch(
        self, rows: Sequence[Row], pad_token_id: int, least: Length = (0, 0)
    ) -> dict[str, Tensor]:
        """Pads rows to one batch.

        Args:
            rows: At least one.
            pad_token_id: Fills the inputs up.
            least: The batch becomes at least as long, counted as `lengths` counts.

        Returns:
            `input_ids` (batch, length); `labels` (batch, length of the hidden states), at each
            position the token that the model is to predict there, or `IGNORED`;
            `target_positions`, the places of the target tokens in the flattened labels; and what
            else the model needs.
        """

    def join_rows(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Joins rows to one long row without padding; each begins at position 0.

        Attention must keep them apart by their positions: see `step.attention`.

        Args:
            rows: At least one.

        Returns:
            As `pad_batch` with a batch of one, and `position_ids`.

        Raises:
            ValueError: The model reads sources and targets apart.
        """
        raise ValueError("packing unpadded is for decoder-only models")

    @abstractmethod
    def tokens(self, batch: dict[str, Tensor]) -> int:
        """The tokens that a batch makes the model read."""

    @abstractmethod
    def stock_row(self, row: Row) -> dict[str, list[int]]:
        """The row as the Trainer of transformers takes it."""

    @abstractmethod
    def trunks(self, model: nn.Module) -> list[nn.Module]:
        """The parts of the model below its head."""

    @abstractmethod
    def positions(
        self, model: nn.Module, source: int, target: int
    ) -> list[tuple[str, int, nn.Module]]:
        """The keys of lengths, the positions that they ask for, and the part that has these."""

    @abstractmethod
    def encode(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """What the loss and the generation of a batch have in common; None: nothing."""

    @abstractmethod
    def states(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """The last hidden states at the labels (batch, length, width).

        Args:
            model: Its trunks are called one by one.
            batch: From `pad_batch`.
            encoded: The result of `encode` for this batch; None: made here.
        """

    @abstractmethod
    def logits(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """The logits at the labels (batch, length, vocabulary), as the whole model makes them."""

    @abstractmethod
    def generate(
        self, model: Any, rows: Sequence[Row], batch: dict[str, Tensor], encoded: Any, settings: Any
    ) -> Tensor:
        """Generates a text for each row.

        Args:
            model: As transformers made it.
            rows: The rows of the batch.
            batch: From `pad_batch`, on the model's device.
            encoded: The result of `encode` for this batch.
            settings: A GenerationConfig with a `pad_token_id`.

        Returns:
            The generated tokens, without the source (batch, length).
        """

    @abstractmethod
    def cached_values(self, config: Any) -> int:
        """Numbers that generation keeps of each token, source and target: keys and values."""


class EncoderDecoder(Architecture):
    """The encoder reads the source, the decoder the target: BART, T5 and their kin."""

    auto_class = "AutoModelForSeq2SeqLM"
    generates_after_source = False
    counts_head_at_targets = False

    def lengths(self, source: int, target: int) -> Length:
        """Both count by themselves."""
        return source, target

    def counted(self, counts: Padding) -> Padding:
        """As they are."""
        return counts

    def longest(self, rows: Sequence[Row]) -> Row:
        """The longest source and the longest target, be they of one row or two."""
        longest = Row(input_ids=[], labels=[])
        for row in rows:  # once: each is read from disk
            longest["input_ids"] = max(longest["input_ids"], row["input_ids"], key=len)
            longest["labels"] = max(longest["labels"], row["labels"], key=len)
        return longest

    def pad_batch(
        self, rows: Sequence[Row], pad_token_id: int, least: Length = (0, 0)
    ) -> dict[str, Tensor]:
        """Sources and targets are padded apart; the sources have an `attention_mask`."""
        sources = [row["input_ids"] for row in rows]
        labels = pad([row["labels"] for row in rows], IGNORED, least[1])
        return {
            "input_ids": pad(sources, pad_token_id, least[0]),
            "attention_mask": pad([[1] * len(source) for source in sources], 0, least[0]),
            "labels": labels,
            "target_positions": target_positions(labels),
        }

    def tokens(self, batch: dict[str, Tensor]) -> int:
        """Those of the sources and of the targets."""
        return batch["input_ids"].numel() + batch["labels"].numel()

    def stock_row(self, row: Row) -> dict[str, list[int]]:
        """Source and target apart, as here."""
        return {"input_ids": row["input_ids"], "labels": row["labels"]}

    def trunks(self, model: nn.Module) -> list[nn.Module]:
        """Encoder and decoder."""
        whole = unwrapped(model)
        return [whole.get_encoder(), whole.get_decoder()]

    def positions(
        self, model: nn.Module, source: int, target: int
    ) -> list[tuple[str, int, nn.Module]]:
        """Each part has its own."""
        encoder, decoder = self.trunks(model)
        return [
            ("data.max_source_length", source, encoder),
            ("data.max_target_length", target, decoder),
        ]

    def encode(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """The outputs of the encoder: `last_hidden_state` and the rest."""
        encoder = unwrapped(model).get_encoder()
        return encoder(input_ids=batch["input_ids"], **_attention(model, batch))

    def states(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """Those of the decoder with teacher forcing."""
        encoded = self.encode(model, batch) if encoded is None else encoded
        output = unwrapped(model).get_decoder()(
            input_ids=decoder_inputs(model, batch["labels"]),
            encoder_hidden_states=encoded.last_hidden_state,
            encoder_attention_mask=batch["attention_mask"],
            use_cache=False,
        )
        states: Tensor = output.last_hidden_state
        return states

    def logits(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """The whole model with teacher forcing."""
        output = model(
            input_ids=batch["input_ids"] if encoded is None else None,
            **_attention(model, batch),
            encoder_outputs=encoded,
            decoder_input_ids=decoder_inputs(model, batch["labels"]),
            use_cache=False,
        )
        logits: Tensor = output.logits
        return logits

    def generate(
        self, model: Any, rows: Sequence[Row], batch: dict[str, Tensor], encoded: Any, settings: Any
    ) -> Tensor:
        """The encoder has read the sources already."""
        made: Tensor = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            encoder_outputs=encoded,
            generation_config=settings,
        )
        return made

    def cached_values(self, config: Any) -> int:
        """Of both attentions of the decoder: a token is a source's or a target's."""
        config = getattr(config, "decoder", config)  # EncoderDecoderModel has two
        names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")  # BART, T5, others
        layers = next(getattr(config, name) for name in names if getattr(config, name, None))
        return 2 * int(layers) * int(config.hidden_size)


class DecoderOnly(Architecture):
    """One decoder reads the source and goes on with the target: GPT, Llama, Qwen and their kin.

    A token is joined to what follows it only through causal attention, so padding at the right
    changes nothing before it. In training there is no attention mask, which lets the kernels take
    their causal path, and positions count from the left as they do without padding.
    """

    auto_class = "AutoModelForCausalLM"
    generates_after_source = True
    counts_head_at_targets = True

    def lengths(self, source: int, target: int) -> Length:
        """One sequence."""
        return source + target, 0

    def counted(self, counts: Padding) -> Padding:
        """The padding of a sequence counts with its source."""
        return dataclasses.replace(
            counts,
            padded_source_tokens=counts.padded_source_tokens - counts.target_tokens,
            padded_target_tokens=counts.target_tokens,
        )

    def longest(self, rows: Sequence[Row]) -> Row:
        """The row that is longest in all."""
        return max(rows, key=lambda row: len(row["input_ids"]) + len(row["labels"]))

    def pad_batch(
        self, rows: Sequence[Row], pad_token_id: int, least: Length = (0, 0)
    ) -> dict[str, Tensor]:
        """Source and target are joined and padded at the right."""
        labels = pad([_predicted(row) for row in rows], IGNORED, least[0])
        tokens = [row["input_ids"] + row["labels"] for row in rows]
        return {
            "input_ids": pad(tokens, pad_token_id, least[0]),
            "labels": labels,
            "target_positions": target_positions(labels),
        }

    def join_rows(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        """Without a mask: given one, transformers would look for the ends of rows no more."""
        labels = torch.tensor([list(chain.from_iterable(map(_predicted, rows)))])
        tokens = [row["input_ids"] + row["labels"] for row in rows]
        return {
            "input_ids": torch.tensor([list(chain.from_iterable(tokens))]),
            "position_ids": torch.cat([torch.arange(len(row)) for row in tokens]).unsqueeze(0),
            "labels": labels,
            "target_positions": target_positions(labels),
        }

    def tokens(self, batch: dict[str, Tensor]) -> int:
        """Those of the one sequence."""
        return batch["input_ids"].numel()

    def stock_row(self, row: Row) -> dict[str, list[int]]:
        """Joined; transformers moves the labels by one itself."""
        source, target = row["input_ids"], row["labels"]
        return {"input_ids": source + target, "labels": [IGNORED] * len(source) + target}

    def trunks(self, model: nn.Module) -> list[nn.Module]:
        """The decoder."""
        return [unwrapped(model).get_decoder()]

    def positions(
        self, model: nn.Module, source: int, target: int
    ) -> list[tuple[str, int, nn.Module]]:
        """Source and target share them."""
        [decoder] = self.trunks(model)
        return [("data.max_source_length + data.max_target_length", source + target, decoder)]

    def encode(self, model: nn.Module, batch: dict[str, Tensor]) -> Any:
        """Nothing: training pads at the right, and generation at the left."""
        return None

    def states(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """Those of the decoder."""
        [decoder] = self.trunks(model)
        states: Tensor = decoder(**_inputs(batch), use_cache=False).last_hidden_state
        return states

    def logits(self, model: nn.Module, batch: dict[str, Tensor], encoded: Any = None) -> Tensor:
        """At every position, those of the source too."""
        logits: Tensor = model(**_inputs(batch), use_cache=False).logits
        return logits

    def generate(
        self, model: Any, rows: Sequence[Row], batch: dict[str, Tensor], encoded: Any, settings: Any
    ) -> Tensor:
        """Sources are padded at the left, so that each goes on where it ends."""
        sources = [row["input_ids"] for row in rows]
        # To pad at the left: turn each around, pad, and turn the whole around.
        ids, mask = (
            pad([row[::-1] for row in rows], value).flip(1).to(model.device)
            for rows, value in (
                (sources, settings.pad_token_id),
                ([[1] * len(source) for source in sources], 0),
            )
        )
        made: Tensor = model.generate(
            input_ids=ids, attention_mask=mask, generation_config=settings
        )
        return made[:, ids.shape[1] :]

    def cached_values(self, config: Any) -> int:
        """Of every layer, since some models have several kinds."""
        return 2 * sum(map(_key_width, _layers(config.get_text_config(decoder=True))))


def _layers(config: Any) -> list[Any]:
    """The config of each layer."""
    if getattr(config, "is_heterogeneous", False):  # it then has no value for all layers
        return list(config.per_layer_config)
    if not getattr(config, "global_head_dim", None):
        return [config] * int(config.num_hidden_layers)
    # Gemma 4 in transformers 5.13 and older: names of their own for the layers of full attention.
    full = copy.copy(config)
    full.head_dim = config.global_head_dim
    if config.attention_k_eq_v:
        full.num_key_value_heads = config.num_global_key_value_heads
    return [full if kind == "full_attention" else config for kind in config.layer_types]


def _key_width(config: Any) -> int:
    """The numbers in the keys of a token, in one layer.

    With grouped-query attention there are fewer heads of keys than of queries. A layer of a
    state-space model has no heads; what it keeps does not grow with the tokens.
    """
    heads = getattr(config, "num_attention_heads", None)
    if heads is None:
        return 0
    kept = getattr(config, "num_key_value_heads", None) or heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return int(kept) * int(width)


ENCODER_DECODER = EncoderDecoder()
DECODER_ONLY = DecoderOnly()


def architecture_of(model: Any) -> Architecture:
    """The architecture of a model, as its config says."""
    return named_architecture(unwrapped(model).config)


def named_architecture(config: Any) -> Architecture:
    """The architecture that a config of transformers says its model has."""
    return ENCODER_DECODER if config.is_encoder_decoder else DECODER_ONLY


def pad(rows: list[list[int]], value: int, least: int = 0) -> Tensor:
    """Stacks token rows of different lengths; shorter rows are filled up with `value`."""
    longest = max(least, *(len(row) for row in rows))
    return torch.tensor([row + [value] * (longest - len(row)) for row in rows])


def target_positions(labels: Tensor) -> Tensor:
    """Where the target tokens are in the flattened labels; a GPU makes its host wait for that."""
    return (labels.flatten() != IGNORED).nonzero().flatten()


def _predicted(row: Row) -> list[int]:
    """The token that a decoder-only model is to predict at each position of a row.

    The last token of the source predicts the first of the target.
    """
    return [IGNORED] * (len(row["input_ids"]) - 1) + row["labels"] + [IGNORED]


def _inputs(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs of a decoder-only model.

    Raises:
        ValueError: Source and target of the batch are apart.
    """
    if batch["input_ids"].shape != batch["labels"].shape:
        raise ValueError(
            "the batch is one of an encoder-decoder model and this model is decoder-only; make it "
            "with StepCollator(…, architecture=architecture_of(model))"
        )
    return {name: batch[name] for name in ("input_ids", "position_ids") if name in batch}


def decoder_inputs(model: nn.Module, labels: Tensor) -> Tensor:
    """The decoder's inputs: the labels moved by one, behind the token that the decoder begins with.

    The model, given the labels, would compute a loss of its own too. FSMT writes into the labels.

    Raises:
        TypeError, ValueError: The model does not know what its decoder begins with.
    """
    whole = unwrapped(model)
    own = getattr(whole, "prepare_decoder_input_ids_from_labels", None)
    if own is not None:
        prepared: Tensor = own(labels=labels.clone())
        return prepared
    # M2M100, NLLB, NLLB-MoE, Blenderbot: they do so inside of their forward.
    start, pad_token = whole.config.decoder_start_token_id, whole.config.pad_token_id
    if start is None or pad_token is None:
        raise ValueError("the config has no decoder_start_token_id or no pad_token_id")
    moved = labels.roll(1, dims=1)
    moved[:, 0] = start
    return moved.masked_fill(moved == IGNORED, pad_token)


def twin(model: nn.Module) -> nn.Module:
    """A copy of the model that shares its weights and nothing else.

    A model may change as it runs: BigBird gives up its sparse attention at the first short input.
    """
    shared = {id(weight): weight for weight in model.parameters()}
    return copy.deepcopy(model, shared)


def unwrapped(model: nn.Module) -> Any:
    """The model inside the wrapper of torch.compile."""
    return getattr(model, "_orig_mod", model)


def _attention(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the encoder may attend to.

    Where attention is local and some tokens see all (LED, Longformer), that is the first one, as
    the authors do for summaries. LongT5 makes its global tokens itself.

    Source: https://arxiv.org/abs/2004.05150, section 5, and
    https://huggingface.co/docs/transformers/model_doc/led
    """
    mask = batch["attention_mask"]
    told = {"attention_mask": mask}
    encoder: Any = unwrapped(model).get_encoder()
    if "global_attention_mask" in inspect.signature(encoder.forward).parameters:
        seen = torch.zeros_like(mask)
        seen[:, 0] = 1
        told["global_attention_mask"] = seen
    return told
