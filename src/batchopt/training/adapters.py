"""LoRA and QLoRA: the adapter that is trained beside a frozen model, with peft and bitsandbytes.

Both packages are extras, and both are imported in the functions that need them.

Sources: LoRA https://arxiv.org/abs/2106.09685, QLoRA https://arxiv.org/abs/2305.14314,
LLM.int8() https://arxiv.org/abs/2208.07339.
"""

import logging
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.machine.imports import import_transformers
from batchopt.request.config import Adapter, AdapterConfig, Config, Precision, Quantization

if TYPE_CHECKING:
    import torch

COARSENESS = (Precision.fp32, Precision.fp16, Precision.bf16)
"""From the finest arithmetic to the coarsest."""


def settle_imports(config: AdapterConfig) -> None:
    """Imports transformers, and keeps it from importing what the run does not use.

    Wherever its Trainer finds peft it imports it, and peft imports bitsandbytes: seconds, and
    memory that would be counted as the run's. Without an adapter peft is hidden to the end of the
    process, as `imports.hidden` hides.

    Call it before transformers is imported; after that it hides nothing.
    """
    if "transformers" not in sys.modules:
        if config.kind is Adapter.none:
            sys.modules.setdefault("peft", None)  # type: ignore[arg-type]
        import_transformers()
    # It warns of a kernel that it can do without, and at every product of 8 bits.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def quantization(adapter: AdapterConfig) -> Quantization | None:
    """How the frozen weights are quantised; None: not at all."""
    return (adapter.quantization or Quantization.nf4) if adapter.kind is Adapter.qlora else None


def coarsest(config: Config, training: Precision) -> Precision:
    """The coarsest arithmetic in which anything of a run is computed.

    Args:
        config: Its adapter may have another than its training.
        training: The arithmetic of the training, resolved.
    """
    found = [training]
    if config.adapter.kind is not Adapter.none:
        found.append(_resolved(config.adapter.base_dtype, training))
    if quantization(config.adapter) is Quantization.int8:
        found.append(Precision.fp16)  # its products read rows of 8 bits, and write fp16
    elif config.adapter.kind is Adapter.qlora:
        found.append(_resolved(config.adapter.compute_dtype, training))
    return max(found, key=COARSENESS.index)


def loading(adapter: AdapterConfig, training: Precision, device: "torch.device") -> dict[str, Any]:
    """How from_pretrained loads the frozen weights: its arguments.

    Args:
        adapter: none: fp32 weights on the CPU.
        training: The arithmetic of the training, resolved.
        device: Where quantised weights go at once; they cannot be moved.
    """
    import torch

    if adapter.kind is Adapter.none:
        return {"dtype": torch.float32}
    arguments: dict[str, Any] = {"dtype": dtype_of(_resolved(adapter.base_dtype, training))}
    kept = quantization(adapter)
    if kept is None:
        return arguments

    from transformers import BitsAndBytesConfig

    make: Any = BitsAndBytesConfig
    if kept is Quantization.int8:
        # With a threshold, what counts as an outlier depends on the other rows of a micro-batch,
        # and so would the gradient. Without, each row is quantised by itself.
        quantised = make(load_in_8bit=True, llm_int8_threshold=0.0)
    else:
        quantised = make(
            load_in_4bit=True,
            bnb_4bit_quant_type=kept.value,
            bnb_4bit_use_double_quant=adapter.double_quantization,
            bnb_4bit_compute_dtype=dtype_of(_resolved(adapter.compute_dtype, training)),
        )
    return arguments | {"quantization_config": quantised, "device_map": {"": device}}


def adapt(model: Any, adapter: AdapterConfig, name: str, tokens: Sequence[int] = ()) -> Any:
    """Freezes a model and puts the adapter of the config into it; none: returns it as it is.

    Args:
        model: As loaded.
        adapter: The config.
        name: The model's, for messages.
        tokens: Ids of tokens that were added to its vocabulary. Their rows are trained, in the
            embeddings and in the head.

    Returns:
        A model of peft around it.

    Raises:
        RequestError: The model has no layer of such a name, or cannot take the adapter.
    """
    if adapter.kind is Adapter.none:
        return model

    from peft import LoraConfig, TaskType, get_peft_model

    _settle(model)
    _check_names(model, adapter.target_modules, name)
    whole = bool(model.config.is_encoder_decoder)
    lora = LoraConfig(
        task_type=TaskType.SEQ_2_SEQ_LM if whole else TaskType.CAUSAL_LM,
        r=adapter.rank,
        lora_alpha=adapter.alpha,  # type: ignore[arg-type]  # it multiplies by any number
        lora_dropout=adapter.dropout,
        target_modules=adapter.target_modules,
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
    )
    if tokens:
        lora.trainable_token_indices = {
            layer: list(tokens) for layer in _vocabulary_layers(model, name)
        }
    try:
        with warnings.catch_warnings():
            # peft 0.21 asks transformers 5.23 by a name that is going to change.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            adapted: Any = get_peft_model(model, lora)
    except (ValueError, TypeError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(
            f"adapter={adapter.kind.value}: {name} cannot take it ({reason}); choose other "
            "layers by adapter.target_modules"
        ) from error
    if tokens and any(
        type(part).__name__ != "TrainableTokensWrapper"
        for part in _vocabulary_parts(adapted.get_base_model())
    ):
        raise _untrainable_rows(model, name)
    adapted.save_pretrained = partial(_save, adapted)
    return adapted


def plain(model: Any) -> Any:
    """The model of transformers, inside an adapted one as well."""
    inner = getattr(model, "get_base_model", None)
    return model if inner is None else inner()


def is_quantised(model: Any) -> bool:
    """Whether the weights of linear layers are quantised."""
    return getattr(model, "quantization_method", None) is not None


def count_parameters(model: Any) -> tuple[int, int]:
    """The numbers of all parameters and of those that are trained."""
    count = getattr(model, "get_nb_trainable_parameters", None)
    if count is None:
        return model.num_parameters(), model.num_parameters(only_trainable=True)
    trained, everything = count()  # peft's knows how many numbers a byte of 4 bits holds
    return everything, trained


def randomise(model: Any, seed: int) -> None:
    """Makes the second factor of every pair random.

    It begins as zeros, and as long as it is zero the first factor has no gradient, so a comparison
    of gradients would prove half.
    """
    import torch

    drawn = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        if "lora_B" in name or "lora_embedding_B" in name:
            with torch.no_grad():
                values = torch.randn(weight.shape, generator=drawn) * 0.02
                weight.copy_(values)


def in_fp32(model: Any) -> Any:
    """Makes a model compute in fp32: whatever is not quantised is stored so, the rest read so.

    Changes the model that is given, which is returned.
    """
    import torch

    from batchopt.step.attention import leave_flash

    leave_flash(model)

    for module in model.modules():
        kind = type(module)
        if not kind.__module__.startswith("bitsandbytes"):  # peft's have the same names
            continue
        if kind.__name__ == "Linear4bit":
            module.compute_dtype = torch.float32
            module.compute_type_is_set = True
        elif kind.__name__ == "Linear8bitLt":
            module.forward = partial(_linear_of_8_bits, module)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point():
            tensor.data = tensor.data.float()
    return model


def _save(adapted: Any, folder: str, **options: Any) -> None:
    """Saves the adapter alone, and how it generates.

    peft would add both embeddings wherever the vocabulary has grown, at each checkpoint, and ask
    the hub how large it was. The new rows are in the adapter.
    """
    type(adapted).save_pretrained(adapted, folder, save_embedding_layers=False, **options)
    adapted.get_base_model().generation_config.save_pretrained(folder)


def _linear_of_8_bits(module: Any, inputs: "torch.Tensor") -> "torch.Tensor":
    """A linear layer of 8 bits without the quantisation of its inputs.

    That rounds by steps of 1/127, so a difference in the last digit of an input becomes one of a
    hundredth, and a comparison would show nothing else.
    """
    from torch.nn.functional import linear

    weight = module.weight.data.float() * (module.state.SCB.float() / 127)[:, None]
    bias = None if module.bias is None else module.bias.float()
    return linear(inputs.float(), weight, bias)


def _resolved(precision: Precision, training: Precision) -> Precision:
    return training if precision is Precision.auto else precision


def dtype_of(precision: Precision) -> "torch.dtype":
    """The numbers that a precision computes with."""
    import torch

    named = {Precision.bf16: torch.bfloat16, Precision.fp16: torch.float16}
    return named.get(precision, torch.float32)


def _settle(model: Any) -> None:
    """Puts quantised layers into the state that they keep.

    On a CPU with AVX512-BF16, bitsandbytes packs weights of 4 bits for a kernel without a gradient
    in the first pass in evaluation mode, and all training after it has a wrong gradient. A layer of
    8 bits takes the scales from its weight in the first pass; if that is a copy's, which shares the
    weight, the layer itself has none, and takes the integers for numbers.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
        if getattr(getattr(module, "weight", None), "CB", None) is not None:
            module.init_8bit_state()


def _check_names(model: Any, wanted: Any, name: str) -> None:
    """Refuses layers that the model does not have; peft takes those that it finds.

    Raises:
        RequestError: One is not there.
    """
    if not isinstance(wanted, list):
        return
    from torch import nn

    layers = dict(model.named_modules())
    for one in wanted:
        if not any(path == one or path.endswith(f".{one}") for path in layers):
            linear = {
                path.rpartition(".")[2]
                for path, module in layers.items()
                if isinstance(module, nn.Linear)
            }
            raise RequestError(
                f"adapter.target_modules names {one}, and {name} has no such layer; its linear "
                f"layers are {', '.join(sorted(linear))}"
            )


def _vocabulary_parts(model: Any) -> list[Any]:
    """The layers with a row for each token: embeddings of the encoder and decoder, and the head."""
    from batchopt.step.architecture import architecture_of

    trunks: list[Any] = architecture_of(model).trunks(model)
    return [*(trunk.get_input_embeddings() for trunk in trunks), model.get_output_embeddings()]


def _vocabulary_layers(model: Any, name: str) -> list[str]:
    """The names of these layers, one of those that share their weight.

    peft ties the others to the model's own embeddings.
    """
    names = {id(module): path for path, module in model.named_modules()}
    try:
        own = model.get_input_embeddings()
        first = {own.weight.data_ptr(): names[id(own)]}
        parts = {part.weight.data_ptr(): names[id(part)] for part in _vocabulary_parts(model)}
    except (AttributeError, KeyError, NotImplementedError) as error:
        raise _untrainable_rows(model, name) from error
    return [first.get(weight, path) for weight, path in parts.items()]


def _untrainable_rows(model: Any, name: str) -> RequestError:
    return RequestError(
        f"model.extra_tokens: the rows of new tokens cannot be trained beside an adapter in "
        f"{name} ({type(model).__name__}); leave model.extra_tokens out, or set adapter=none"
    )
