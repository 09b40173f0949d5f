"""What is read of a pretrained model before its weights: tokenizer, config, generation settings."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.request.config import PretrainedModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase


def load_tokenizer(model: PretrainedModelConfig) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer.

    Raises:
        RequestError: It cannot be loaded.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(
            model.name_or_path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise RequestError(unloadable(model, error)) from error


def load_config(model: PretrainedModelConfig) -> "PreTrainedConfig":
    """Loads the config of the model.

    Raises:
        RequestError: It cannot be loaded.
    """
    from transformers import AutoConfig

    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            model.name_or_path, revision=model.revision, trust_remote_code=model.trust_remote_code
        )
    except (OSError, ValueError) as error:
        raise RequestError(unloadable(model, error)) from error
    return config


def generation_settings(model: PretrainedModelConfig) -> dict[str, Any]:
    """Reads the generation settings of the checkpoint as they stand.

    They are in generation_config.json or, of older models, in config.json. They are not checked
    here: transformers refuses whole files for one setting that does not fit the others.

    Returns:
        The settings by name; from config.json those that transformers knows as such.
    """
    from transformers import GenerationConfig, PreTrainedConfig

    name, revision = model.name_or_path, model.revision
    try:
        found, _ = PreTrainedConfig.get_config_dict(
            name, revision=revision, _configuration_file="generation_config.json"
        )
    except OSError:
        found = {}
    if found:
        return dict(found)
    try:
        config, _ = PreTrainedConfig.get_config_dict(name, revision=revision)
    except OSError:
        return {}
    known = vars(GenerationConfig())  # type: ignore[no-untyped-call]
    return {key: value for key, value in config.items() if key in known}


def unloadable(model: PretrainedModelConfig, error: Exception) -> str:
    """Says in one line why a pretrained model cannot be loaded, and what to do."""
    reason = str(error).strip().splitlines()[0]
    if Path(model.name_or_path).is_dir():
        return (
            f"model.name_or_path: the folder {model.name_or_path} cannot be loaded ({reason}); it "
            "must hold what save_pretrained writes: config.json, model.safetensors and the "
            "tokenizer's files"
        )
    return (
        f"model.name_or_path: {model.name_or_path} is no local folder and cannot be had from the "
        f"hub ({reason}); check the name, or fetch it where there is a network (hf download "
        f"{model.name_or_path} --local-dir DIR) and set model.name_or_path=DIR"
    )
