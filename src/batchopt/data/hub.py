"""Examples from the Hugging Face hub, or from a local folder, through the `datasets` library."""

from batchopt.data import Corpus
from batchopt.data.rows import (
    Columns,
    RowSource,
    build_corpus,
    check_columns,
    train_columns,
    validation_columns,
)
from batchopt.errors import RequestError
from batchopt.request.config import HubDataConfig


def read(config: HubDataConfig) -> Corpus:
    """Loads the training split and the validation split, or holds out a share of the first.

    Raises:
        RequestError: A data set or split that cannot be loaded, a row or a value of the config
            that cannot be used.
    """
    own = train_columns(config)
    train = [_source(config, own, "data.train_split", config.train_split)]
    validation = None
    if config.validation_split is not None:
        own = validation_columns(config)
        validation = [_source(config, own, "data.validation_split", config.validation_split)]
    return build_corpus(config, train, validation)


def _source(config: HubDataConfig, columns: Columns, key: str, split: str) -> RowSource:
    import datasets

    where = f"data.name: {config.name}, {key}: {split}"
    try:
        table = datasets.load_dataset(
            config.name, config.config_name, split=split, revision=config.revision
        )
    except Exception as error:  # the library's errors have no base class in common
        generation = datasets.exceptions.DatasetGenerationError
        told = error.__cause__ or error if isinstance(error, generation) else error
        message = " ".join(str(told).split()).rstrip(".") or type(told).__name__
        raise RequestError(f"{where}: {message}; {_remedy(key, told, message)}") from error
    check_columns(columns, where, table.column_names)
    # Other columns, images say, are never decoded.
    rows = enumerate(table.select_columns(list(columns.wanted())), start=1)
    return RowSource(where, columns, ((f"row {number}", row) for number, row in rows))


def _remedy(key: str, error: BaseException, message: str) -> str:
    if message.startswith("Unknown split"):
        remedy = f"set {key} to one of them"
        if key == "data.validation_split":
            remedy += ", or hold out a share of the training split with data.validation_split=null"
        return remedy
    if message.startswith(("BuilderConfig", "Config name is missing")):
        return "set data.config_name to one of them"
    if isinstance(error, OSError):  # nothing there, no network, no permission
        return (
            "check the name and the network, or use a copy on this machine: "
            "data.name=FOLDER, or data=files data.train_file=FILE"
        )
    return "mend the data set, or convert it: data=files data.train_file=FILE"
