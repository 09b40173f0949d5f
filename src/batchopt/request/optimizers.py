"""Optimizers and schedules by their names in transformers: what each needs, reads and takes.

transformers ignores an argument that its optimizer does not know, and calls a schedule with
whatever it is given, once the training has begun. These tables tell before. They are data alone, so
that a request is checked without torch; tests hold them against the installed transformers.

Source: `transformers.trainer_optimizer` and `transformers.optimization`, version 5.23.
"""

import importlib.util
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from batchopt.request.constraints import Constraint


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


NUMBER = Constraint("a number", _is_number)
NOT_NEGATIVE = Constraint("a number, 0 or more", lambda value: _is_number(value) and value >= 0)
POSITIVE = Constraint("a number greater than 0", lambda value: _is_number(value) and value > 0)
SHARE = Constraint(
    "a number from 0 up to, not including, 1", lambda value: _is_number(value) and 0 <= value < 1
)
COUNT = Constraint("a whole number, 0 or more", lambda value: type(value) is int and value >= 0)
AT_LEAST_ONE = Constraint(
    "a whole number, 1 or more", lambda value: type(value) is int and value >= 1
)
FLAG = Constraint("true or false", lambda value: isinstance(value, bool))
FACTOR = Constraint("a number between 0 and 1", lambda value: _is_number(value) and 0 < value < 1)


def _word(*choices: str) -> Constraint:
    return Constraint(f"one of {', '.join(choices)}", choices.__contains__)


ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
"""The keys of training.arguments that some optimizers read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """One optimizer.

    `modules` must be installed. `reads` are those of `ADAM` that it reads. `takes` are the keys of
    training.arguments.optim_args.
    """

    modules: tuple[str, ...] = ()
    reads: tuple[str, ...] = ADAM
    takes: Mapping[str, Constraint] = field(default_factory=dict)
    schedule_free: bool = False


_BITSANDBYTES = ("bitsandbytes",)
_LION = Optimizer(modules=_BITSANDBYTES, reads=("adam_beta1", "adam_beta2"))
_ADEMAMIX = Optimizer(
    modules=_BITSANDBYTES,
    takes={
        **{"beta1": SHARE, "beta2": SHARE, "beta3": SHARE},
        **{"alpha": NOT_NEGATIVE, "eps": POSITIVE},
        **{"t_alpha": AT_LEAST_ONE, "t_beta3": AT_LEAST_ONE},
    },
)
_BLOCKWISE = Optimizer(modules=_BITSANDBYTES)
_RMSPROP_OF_BITSANDBYTES = Optimizer(modules=_BITSANDBYTES, reads=())
_LOW_BIT = Optimizer(modules=("torchao",), takes={"bf16_stochastic_round": FLAG})
_SCHEDULE_FREE = Optimizer(
    modules=("schedulefree",),
    takes={"weight_lr_power": NOT_NEGATIVE, "r": NOT_NEGATIVE},
    schedule_free=True,
)

OPTIMIZERS: Mapping[str, Optimizer] = {
    "adamw_torch": Optimizer(),
    "adamw_torch_fused": Optimizer(),
    "adafactor": Optimizer(reads=()),
    "sgd": Optimizer(
        reads=(), takes={"momentum": NOT_NEGATIVE, "dampening": NOT_NEGATIVE, "nesterov": FLAG}
    ),
    "adagrad": Optimizer(reads=(), takes={"lr_decay": NOT_NEGATIVE, "eps": NOT_NEGATIVE}),
    "rmsprop": Optimizer(
        reads=(),
        takes={
            **{"momentum": NOT_NEGATIVE, "alpha": NOT_NEGATIVE},
            **{"eps": NOT_NEGATIVE, "centered": FLAG},
        },
    ),
    "adamw_8bit": _BLOCKWISE,
    "adamw_bnb_8bit": _BLOCKWISE,
    "paged_adamw_8bit": _BLOCKWISE,
    "paged_adamw_32bit": _BLOCKWISE,
    "lion_8bit": _LION,
    "lion_32bit": _LION,
    "paged_lion_8bit": _LION,
    "paged_lion_32bit": _LION,
    "ademamix": _ADEMAMIX,
    "ademamix_8bit": _ADEMAMIX,
    "paged_ademamix_8bit": _ADEMAMIX,
    "paged_ademamix_32bit": _ADEMAMIX,
    "rmsprop_bnb": _RMSPROP_OF_BITSANDBYTES,
    "rmsprop_bnb_8bit": _RMSPROP_OF_BITSANDBYTES,
    "rmsprop_bnb_32bit": _RMSPROP_OF_BITSANDBYTES,
    "adamw_torch_4bit": _LOW_BIT,
    "adamw_torch_8bit": _LOW_BIT,
    "stable_adamw": Optimizer(modules=("optimi",), takes={"max_lr": POSITIVE}),
    "schedule_free_adamw": _SCHEDULE_FREE,
    "schedule_free_radam": _SCHEDULE_FREE,
    "schedule_free_sgd": Optimizer(
        modules=_SCHEDULE_FREE.modules, reads=(), takes=_SCHEDULE_FREE.takes, schedule_free=True
    ),
}
"""The optimizers that take the exact gradient of a whole step, by their names in transformers."""

SHORT = {"adamw": "adamw_torch_fused", "lion": "lion_32bit"}
"""Short names; adafactor, adamw_8bit and paged_adamw_8bit are names of transformers already."""

_NO_WAY_BACK = "a checkpoint with its state cannot be read again, so that no run could be resumed"
_IN_BACKWARD = "it changes the weights during the backward pass, at each micro-batch of a step"
REFUSED_OPTIMIZERS = {
    "adamw_torch_xla": "it is for TPUs",
    "adamw_torch_npu_fused": "it is for Ascend NPUs",
    "adamw_anyprecision": "it needs torchdistx, which is no longer maintained",
    "grokadamw": "a checkpoint does not hold its state, so that no run could be resumed",
    "galore_adamw": _NO_WAY_BACK,
    "galore_adamw_8bit": _NO_WAY_BACK,
    "galore_adafactor": _NO_WAY_BACK,
    "apollo_adamw": _NO_WAY_BACK,
    "lomo": _IN_BACKWARD,
    "adalomo": _IN_BACKWARD,
    "galore_adamw_layerwise": _IN_BACKWARD,
    "galore_adamw_8bit_layerwise": _IN_BACKWARD,
    "galore_adafactor_layerwise": _IN_BACKWARD,
    "apollo_adamw_layerwise": _IN_BACKWARD,
}
"""The other optimizers of transformers, and why each is refused."""

PACKAGES = {"optimi": "torch-optimi", "flash_attn": "flash-attn"}
"""What pip calls a module, where that is another name."""

_WAITS_FOR_SCORES = {
    "factor": FACTOR,
    "patience": COUNT,
    "threshold": NOT_NEGATIVE,
    "threshold_mode": _word("rel", "abs"),
    "cooldown": COUNT,
    "eps": NOT_NEGATIVE,
    # The score is ROUGE: more is better.
    "mode": _word("max"),
}
_WAVES = {"num_cycles": POSITIVE}
_FLOOR = {"min_lr": NOT_NEGATIVE, "min_lr_rate": SHARE}
_CURVE = _word("linear", "cosine", "1-sqrt")

SCHEDULES: Mapping[str, Mapping[str, Constraint]] = {
    "linear": {},
    "cosine": _WAVES,
    "cosine_with_restarts": {"num_cycles": AT_LEAST_ONE},
    "polynomial": {"lr_end": NOT_NEGATIVE, "power": POSITIVE},
    "constant": {},
    "constant_with_warmup": {},
    "inverse_sqrt": {"timescale": AT_LEAST_ONE},
    "reduce_lr_on_plateau": {**_WAITS_FOR_SCORES, "min_lr": NOT_NEGATIVE},
    "cosine_with_min_lr": {**_WAVES, **_FLOOR},
    "cosine_warmup_with_min_lr": {**_WAVES, **_FLOOR, "warmup_lr_rate": SHARE},
    "warmup_stable_decay": {
        "num_decay_steps": AT_LEAST_ONE,
        "num_stable_steps": COUNT,
        "warmup_type": _CURVE,
        "decay_type": _CURVE,
        "min_lr_ratio": SHARE,
        **_WAVES,
    },
    "greedy": {
        **_WAITS_FOR_SCORES,
        **{"warmup": COUNT, "min_lr": NOT_NEGATIVE, "max_lr": POSITIVE},
        **{"smooth": FLAG, "window_size": AT_LEAST_ONE, "reset_start": COUNT},
    },
}
"""The keys of training.arguments.lr_scheduler_kwargs that each schedule takes."""

NEEDS_ONE_OF: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "cosine_with_min_lr": (("min_lr", "min_lr_rate"),),
    "cosine_warmup_with_min_lr": (("min_lr", "min_lr_rate"),),
    "warmup_stable_decay": (("num_decay_steps",),),
    # Without them it moves every learning rate to at least 1e-3.
    "greedy": (("min_lr",), ("max_lr",)),
}
"""Of each group of keys, such a schedule needs exactly one."""

BY_SCORE = ("reduce_lr_on_plateau", "greedy")
"""Schedules that move at evaluations, by rouge_f1; like `constant`, they have no warm-up."""


def optimizer_name(name: str) -> str:
    """The name in transformers of what training.optimizer says."""
    return SHORT.get(name, name)


def installed(module: str) -> bool:
    """Whether a module is installed; it is not imported."""
    return importlib.util.find_spec(module) is not None
