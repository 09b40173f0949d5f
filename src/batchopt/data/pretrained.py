"""The tokenizer of a pretrained model: loaded, told its languages, given its padding token.

Whatever makes a model's folder unreadable is said in one line here, for its weights too.
"""

import difflib
import importlib.util
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batchopt.errors import RequestError
from batchopt.request.config import ModelConfig, PretrainedModelConfig, TinyCausalModelConfig

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "model.name_or_path"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
PACKAGES = {
    # What transformers says it misses, and what pip calls it.
    "sentencepiece": "sentencepiece",
    "tiktoken": "tiktoken",
    "protobuf": "protobuf",
    "sacremoses": "sacremoses",
    "fugashi": "fugashi ipadic unidic_lite",
    "mecab": "mecab-python3",
    "konlpy": "konlpy",
    "jieba": "jieba",
    "sudachi": "sudachipy",
    "rhoknp": "rhoknp",
    "pythainlp": "pythainlp",
    "bitsandbytes": "bitsandbytes",
}


THREE_LETTERS = {
    "ko": "kor",
    "en": "eng",
    "ja": "jpn",
    "zh": "zho",
    "de": "deu",
    "fr": "fra",
    "es": "spa",
    "ru": "rus",
    "vi": "vie",
}
"""ISO 639-1 and 639-3 (NLLB's) of languages that people bring, to say what was meant."""


def load_tokenizer(model: PretrainedModelConfig) -> "PreTrainedTokenizerBase":
    """Loads the tokenizer, tells it the languages, and gives it a padding token where it has none.

    Raises:
        RequestError: It cannot be loaded, knows no such language, or nothing says how to pad.
    """
    from transformers import AutoTokenizer

    check_folder(model)
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            model.name_or_path,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
        )
    except MemoryError:
        raise
    except Exception as error:  # the library's errors have no base class in common
        raise RequestError(unloadable(model, error)) from error
    _set_languages(model, tokenizer)
    if tokenizer.pad_token_id is None:
        _set_padding(model, tokenizer)
    return tokenizer


def load_config(model: PretrainedModelConfig) -> Any:
    """Loads a pretrained model's config.

    Raises:
        RequestError: It cannot be loaded.
    """
    from transformers import AutoConfig

    check_folder(model)
    try:
        return AutoConfig.from_pretrained(
            model.name_or_path,
            revision=model.revision,
            trust_remote_code=model.trust_remote_code,
        )
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise RequestError(unloadable(model, error)) from error


def is_encoder_decoder(model: ModelConfig) -> bool:
    """Whether a model has an encoder; the others are decoder-only.

    Raises:
        RequestError: The config of a pretrained model cannot be loaded.
    """
    if isinstance(model, PretrainedModelConfig):
        return bool(load_config(model).is_encoder_decoder)
    return not isinstance(model, TinyCausalModelConfig)


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


def check_folder(model: PretrainedModelConfig) -> None:
    """Finds files that git has put down without their content.

    Raises:
        RequestError: There is one.
    """
    folder = Path(model.name_or_path)
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if not file.is_file() or file.stat().st_size > 1024:
            continue
        with file.open("rb") as stream:
            pointer = stream.read(len(LFS_POINTER)) == LFS_POINTER
        if pointer:
            raise RequestError(
                f"{KEY}: {file} is a pointer of git-lfs, not the file itself; fetch it with "
                f"git lfs pull in {folder}, or with hf download"
            )


def languages(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """The languages that a tokenizer marks texts with, by its own codes, with their tokens' ids.

    Empty for a tokenizer that marks none.
    """
    if not hasattr(tokenizer, "set_src_lang_special_tokens"):
        return {}
    codes = getattr(tokenizer, "lang_code_to_id", None)
    if codes:  # mBART, mBART-50, M2M100, PLBart
        return {code: token for code, token in codes.items() if token != tokenizer.unk_token_id}
    special = tokenizer.all_special_tokens  # NLLB
    marks = [token for token in special if re.fullmatch(r"[a-z]{3}_[A-Z][a-z]{3}", token)]
    ids: Any = tokenizer.convert_tokens_to_ids(marks)
    return dict(zip(marks, ids, strict=True))


def _set_languages(model: PretrainedModelConfig, tokenizer: Any) -> None:
    """Sets the languages of both texts; the tokens' folder keeps them with the tokenizer."""
    asked = {
        "model.source_language": model.source_language,
        "model.target_language": model.target_language,
    }
    known = languages(tokenizer)
    for key, code in asked.items():
        if code is None or code in known:
            continue
        if not known:
            raise RequestError(
                f"{key} is {code}, and the tokenizer of {model.name_or_path} "
                f"({type(tokenizer).__name__}) marks no languages; leave {key} out"
            )
        near = _near_codes(code, list(known))
        raise RequestError(
            f"{key} is {code}, which {model.name_or_path} does not know; "
            f"did you mean {' or '.join(near)}? it knows {', '.join(sorted(known))}"
            if near
            else f"{key} is {code}, which {model.name_or_path} does not know; it must be one of "
            f"{', '.join(sorted(known))}"
        )
    if not known:
        return
    own = tokenizer.init_kwargs
    source = model.source_language or own.get("src_lang") or tokenizer.src_lang
    target = model.target_language or model.source_language or own.get("tgt_lang") or source
    if source is not None:
        tokenizer.src_lang = source
        tokenizer.tgt_lang = target
        own |= {"src_lang": source, "tgt_lang": target}


def _near_codes(code: str, known: list[str]) -> list[str]:
    """Codes that begin alike (ko, ko_KR, kor_Hang), or are spelled alike."""
    first = re.split(r"[_\-]", code.lower())[0]
    heads = (first, first[:2], THREE_LETTERS.get(first[:2]))
    alike = [name for name in known if name.lower().startswith(first[:2])]
    exact = [name for name in known if name.lower().split("_")[0] in heads]
    return (exact or alike or difflib.get_close_matches(code, known, n=3, cutoff=0.5))[:3]


def _set_padding(model: PretrainedModelConfig, tokenizer: "PreTrainedTokenizerBase") -> None:
    config = load_config(model)
    parts = (config, getattr(config, "decoder", None), getattr(config, "encoder", None))
    for part in parts:
        number = getattr(part, "pad_token_id", None)
        if isinstance(number, int) and 0 <= number < len(tokenizer):
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(number)
            return
    if not config.is_encoder_decoder and tokenizer.eos_token is not None:
        # Decoder-only models come without one. Any token will do: labels and masks follow from
        # lengths, never from what is padding.
        tokenizer.pad_token = tokenizer.eos_token
        return
    raise RequestError(
        f"{KEY}: the tokenizer of {model.name_or_path} has no padding token, and the model's "
        "config.json has no pad_token_id; write pad_token into tokenizer_config.json, such as "
        f'"pad_token": "{tokenizer.eos_token or "<pad>"}"'
    )


def unloadable(model: PretrainedModelConfig, error: Exception) -> str:
    """Says in one line why a pretrained model cannot be had, and what to do."""
    name = model.name_or_path
    text = " ".join(str(error).split()) or type(error).__name__
    # Without any tokenizer's file transformers blames the packages that could convert one.
    to_convert = any(Path(name).glob("*.model")) or any(Path(name).glob("*.tiktoken"))
    guessed = "Couldn't instantiate the backend tokenizer" in text and not to_convert
    package = None if guessed else _missing_package(error, text)
    if package is not None:
        return (
            f"{KEY}: {name} needs the Python package {package.split()[0]}, which is not installed; "
            f"pip install {package}"
        )
    if "Unrecognized configuration class" in text:
        kind = re.search(r"\.(\w+)Config'>", text)
        return (
            f"{KEY}: {name} is {'a ' + kind[1] if kind else 'a model'} that writes no text; "
            "name one that does: an encoder-decoder such as a BART or a T5, or a decoder-only model"
        )
    if "does not recognize this architecture" in text:
        return f"{KEY}: {name}: {text.split('. ')[0]}; pip install --upgrade transformers"
    if Path(name).is_dir():
        torn = _torn_file(Path(name))
        if torn is not None or type(error).__name__ in ("UnpicklingError", "EOFError"):
            return (
                f"{KEY}: {torn or f'a file of weights in {name}'} cannot be read "
                f"({type(error).__name__}); it is cut off or damaged: fetch or save it again"
            )
        reason = text if len(text) <= 200 else text[:197] + "..."
        return (
            f"{KEY}: the folder {name} cannot be loaded ({reason}); it "
            "must hold what save_pretrained writes: config.json, model.safetensors and the "
            "tokenizer's files"
        )
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return (
        f"{KEY}: {name} is no local folder and cannot be had from the "
        f"hub ({reason}); check the name, or fetch it where there is a network (hf download "
        f"{name} --local-dir DIR) and set {KEY}=DIR"
    )


def _missing_package(error: Exception, text: str) -> str | None:
    """The package that an error asks for, as pip calls it; None: it asks for none."""
    asks = isinstance(error, ImportError) or re.search(
        r"pip install|need to (have|install)|is required to|not found in your environment", text
    )
    if not asks:
        return None
    for found, package in PACKAGES.items():
        if found in text.lower() and importlib.util.find_spec(package.split()[0]) is None:
            return package
    named = re.search(r"pip install (?:-U |--upgrade )?([\w\-]+)", text)
    if named and named[1] != "transformers":
        return named[1]
    if isinstance(error, ModuleNotFoundError) and "Tokenizer" in text:
        # transformers hides the import that failed; its tokenizers of this kind need this one.
        return "sentencepiece"
    return error.name if isinstance(error, ImportError) and error.name else None


def _torn_file(folder: Path) -> Path | None:
    """The first file of weights that is not whole; None: all are, as far as their heads tell."""
    from safetensors import SafetensorError, safe_open

    for file in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(file, framework="np"):
                pass
        except (SafetensorError, OSError):
            return file
    for file in sorted(folder.glob("pytorch_model*.bin")):
        with file.open("rb") as stream:
            pickled = stream.read(1) == b"\x80"  # torch before 1.6
        if not pickled and not zipfile.is_zipfile(file):
            return file
    return None
