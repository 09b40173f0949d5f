"""Models as they are: every class trains and begins to generate as it was trained, or is refused.

The classes are those that AutoModelForSeq2SeqLM knows and that take texts; small, fresh weights.
"""

import json
import logging
import shutil
import types

import pytest
import sentencepiece
import torch
import transformers
from support.models import (
    TEXTS,
    data_file,
    make_model,
    plain_tokenizer,
    save,
    two_models,
    unigram,
)

from batchopt.cli import answer
from batchopt.data import tokenized
from batchopt.data.load import load_corpus
from batchopt.data.pretrained import languages
from batchopt.errors import RequestError
from batchopt.request.compose import compose_run
from batchopt.step.architecture import ENCODER_DECODER, decoder_inputs
from batchopt.step.loss import loss_sum
from batchopt.training import prepare
from batchopt.training.build import choose_generation
from batchopt.training.model import build_model, largest_dropout
from batchopt.training.model_checks import position_limit

LENGTHS = ["data.max_source_length=32", "data.max_target_length=16"]
TABLES = [
    "Bart",
    "MBart",
    "Blenderbot",
    "BlenderbotSmall",
    "Pegasus",
    "Marian",
    "LED",
    "Mvp",
    "PLBart",
    "BigBirdPegasus",
]
"""Classes whose positions end."""
ENDLESS = ["T5", "UMT5", "LongT5", "M2M100", "NllbMoe", "FSMT", "PegasusX"]
CLASSES = [*TABLES, *(kind for kind in ENDLESS if kind != "FSMT"), "ProphetNet"]
PAIRS = [("Bert", "Bert"), ("Roberta", "Roberta"), ("Bert", "GPT2"), ("Longformer", "Bert")]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def config_of(folder, *words):
    """The config of a run on a saved model, with short texts."""
    data = data_file(folder.parent)
    words = [f"data.train_file={data}", "model=pretrained", f"model.name_or_path={folder}", *words]
    return compose_run(["data=files", f"cache_dir={folder.parent}/cache", *LENGTHS, *words]).config


def prepared(folder, *words):
    """Tokens and model of a run, as its worker has them."""
    config = config_of(folder, *words)
    tokens = tokenized.load(tokenized.prepare(config, load_corpus(config.data)))
    return tokens, build_model(config, tokens.tokenizer), config


def ours(caplog):
    """The warnings of batchopt."""
    warnings = (record for record in caplog.records if record.levelname == "WARNING")
    return [record for record in warnings if record.name.startswith("batchopt")]


def refusal(folder, *words):
    with pytest.raises(RequestError) as caught:
        prepared(folder, *words)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


def edit(path, **changes):
    content = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: value for key, value in content.items() if value != "GONE"}))


def check_that_it_trains(tokens, model, config):
    """One gradient, and a generation that begins as the training does."""
    rows = [tokens.train[index] for index in range(3)]
    batch = ENCODER_DECODER.pad_batch(rows, tokens.tokenizer.pad_token_id)
    model.train()
    loss = loss_sum(model, batch, sliced=False)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(
        torch.isfinite(weight.grad).all()
        for weight in model.parameters()
        if weight.grad is not None
    )
    model.eval()
    generation = choose_generation(config, tokens, model).config
    generation.max_new_tokens = 4
    with torch.no_grad():
        made = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            encoder_outputs=ENCODER_DECODER.encode(model, batch),
            generation_config=generation,
        )
    trained = decoder_inputs(model, batch["labels"])
    assert made[:, 0].tolist() == trained[:, 0].tolist()
    return made, trained, batch["labels"]


# Every class


@pytest.mark.parametrize("kind", CLASSES)
def test_every_class_trains_with_more_tokens(kind, tmp_path):
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", make_model(kind, len(tokenizer)), tokenizer)
    words = ["model.extra_tokens=['#Person1#','#Person2#']"]
    tokens, model, config = prepared(folder, *words)
    assert len(tokens.tokenizer) == len(tokenizer) + 2
    assert max(tokens.train[0]["labels"]) == len(tokenizer) + 1
    check_that_it_trains(tokens, model, config)


def test_what_cannot_take_more_tokens_is_refused_and_trains_without(tmp_path):
    """FSMT has three tables, and transformers makes two of them longer."""
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", make_model("FSMT", len(tokenizer)), tokenizer)
    message = refusal(folder, "model.extra_tokens=['#Person1#']")
    assert "embeddings of a FSMTForConditionalGeneration cannot be made longer; leave" in message
    check_that_it_trains(*prepared(folder))


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_two_models_train_with_more_tokens_and_no_ids_in_their_config(pair, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", two_models(*pair, len(tokenizer)), tokenizer)
    tokens, model, config = prepared(folder, "model.extra_tokens=['#Person1#']")
    for part in (model.encoder, model.decoder):
        assert part.get_input_embeddings().num_embeddings == len(tokenizer) + 1
    assert model.decoder.get_output_embeddings().out_features == len(tokenizer) + 1
    check_that_it_trains(tokens, model, config)
    assert "has no decoder_start_token_id; summaries begin with" in caplog.text


def test_new_rows_follow_the_seed(tmp_path):
    tokenizer = plain_tokenizer()
    folder = save(tmp_path / "model", two_models("Bert", "Bert", len(tokenizer)), tokenizer)
    words = ["model.extra_tokens=['#Person1#']"]
    rows = [
        prepared(folder, *words, f"seed={seed}")[1].encoder.get_input_embeddings().weight[-1]
        for seed in (1, 1, 2)
    ]
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[2])


# Positions


@pytest.mark.parametrize("kind", [*TABLES, *PAIRS], ids=str)
def test_the_limit_of_positions_is_where_the_model_breaks(kind):
    if isinstance(kind, str):
        model = make_model(kind, 50, positions=24)
    else:
        model = two_models(*kind, 50, positions=24)
    model.eval()
    for part in (model.get_encoder(), model.get_decoder()):
        limit = position_limit(part)
        assert 8 <= limit <= 24

        def run(length, part=part):
            part(input_ids=torch.full((1, length), 5), attention_mask=torch.ones(1, length).long())

        run(limit)
        with pytest.raises((IndexError, RuntimeError)):
            run(limit + 1)


@pytest.mark.parametrize("kind", ENDLESS)
def test_positions_without_an_end_have_no_limit(kind):
    more = {} if "T5" in kind else {"positions": 16}
    model = make_model(kind, 50, **more).eval()
    for part in (model.get_encoder(), model.get_decoder()):
        assert position_limit(part) is None
        if kind == "FSMT" and part is model.get_decoder():
            continue  # it cannot be called alone
        length = 80
        part(input_ids=torch.full((1, length), 5), attention_mask=torch.ones(1, length).long())


@pytest.mark.parametrize(
    ("kind", "key", "limit"),
    [
        ("Blenderbot", "max_source_length", 24),
        ("Blenderbot", "max_target_length", 24),
        ("ProphetNet", "max_source_length", 23),  # it has one fewer, and would clamp in silence
        ("LED", "max_target_length", 12),
    ],
)
def test_lengths_beyond_the_positions_are_refused(kind, key, limit, tmp_path):
    tokenizer = plain_tokenizer()
    model = make_model(kind, len(tokenizer), positions=24)
    folder = save(tmp_path / "model", model, tokenizer)
    others = {"max_source_length": 12, "max_target_length": 12, key: limit + 1}
    words = [f"data.{name}={value}" for name, value in others.items()]
    assert refusal(folder, *words) == (
        f"data.{key} is {limit + 1}, and {folder} has positions for {limit} tokens; set "
        f"data.{key}={limit} or less"
    )
    prepared(folder, *words, f"data.{key}={limit}")


# Padding, and what the decoder begins with


def test_padding_is_what_the_config_says_or_refused(tmp_path):
    tokenizer = plain_tokenizer(pad_token=None)
    folder = save(tmp_path / "model", make_model("Bart", len(tokenizer)), tokenizer)
    tokens, model, config = prepared(folder)
    assert tokens.tokenizer.pad_token == "<pad>"
    check_that_it_trains(tokens, model, config)
    two = two_models("Bert", "GPT2", len(tokenizer))
    for part in (two.config, two.config.encoder, two.config.decoder, two.generation_config):
        part.pad_token_id = None
    message = refusal(save(tmp_path / "two", two, tokenizer))
    assert "has no padding token, and the model's config.json has no pad_token_id" in message
    two.config.decoder.pad_token_id = 1
    check_that_it_trains(*prepared(save(tmp_path / "said", two, tokenizer)))


def test_nothing_that_says_how_the_decoder_begins_is_refused(tmp_path):
    tokenizer = plain_tokenizer(template="$A </s>", bos_token=None)
    model = make_model("Bart", len(tokenizer))
    folder = save(tmp_path / "model", model, tokenizer)
    for file in ("config.json", "generation_config.json"):
        edit(folder / file, decoder_start_token_id=None, bos_token_id=None)
    message = refusal(folder)
    assert "has no decoder_start_token_id, and its tokenizer has neither a cls_token nor" in message
    edit(folder / "generation_config.json", decoder_start_token_id=2)
    tokens, model, config = prepared(folder)
    made, _, _ = check_that_it_trains(tokens, model, config)
    assert set(made[:, 0].tolist()) == {2}


# Weights


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def cut(folder, name="model.safetensors", length=5000):
    (folder / name).write_bytes((folder / name).read_bytes()[:length])


def as_binary(folder):
    model = transformers.BartForConditionalGeneration.from_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def lose_a_shard(folder):
    model = transformers.BartForConditionalGeneration.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    sorted(folder.glob("*.safetensors"))[0].unlink()


def configured(folder, **changes):
    edit(folder / "config.json", **changes)


QUANTISED = {"quant_method": "bitsandbytes", "load_in_4bit": True}
DAMAGES = {
    "truncated": cut,
    "empty": lambda folder: cut(folder, length=0),
    "a page of HTML": lambda folder: (folder / "model.safetensors").write_text("<html>" * 99),
    "a pointer": lambda folder: (folder / "model.safetensors").write_text(POINTER),
    "a pointer, tokenizer": lambda folder: (folder / "tokenizer.json").write_text(POINTER),
    "a torn .bin": lambda folder: (as_binary(folder), cut(folder, "pytorch_model.bin")),
    "an empty .bin": lambda folder: (as_binary(folder), cut(folder, "pytorch_model.bin", 0)),
    "text as .bin": lambda folder: (
        as_binary(folder),
        (folder / "pytorch_model.bin").write_text("hello, world"),
    ),
    "a missing shard": lose_a_shard,
    "other sizes": lambda folder: configured(folder, d_model=32),
    "quantised": lambda folder: configured(folder, quantization_config=QUANTISED),
    "no text": lambda folder: configured(folder, model_type="vit"),
    "a new class": lambda folder: configured(folder, model_type="bart9"),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "a torn config": lambda folder: (folder / "config.json").write_text('{"model_type": "bart"'),
    "a config of nonsense": lambda folder: configured(folder, d_model="wide"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    tokenizer = plain_tokenizer()
    return save(
        tmp_path_factory.mktemp("sound") / "model", make_model("Bart", len(tokenizer)), tokenizer
    )


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("truncated", "model.safetensors cannot be read (SafetensorError); it is cut off or"),
        ("empty", "it is cut off or damaged: fetch or save it again"),
        ("a page of HTML", "it is cut off or damaged"),
        ("a pointer", "model.safetensors is a pointer of git-lfs, not the file itself; fetch it"),
        ("a pointer, tokenizer", "tokenizer.json is a pointer of git-lfs"),
        ("a torn .bin", "pytorch_model.bin cannot be read ("),
        ("an empty .bin", "pytorch_model.bin cannot be read (EOFError); it is cut off"),
        ("text as .bin", "pytorch_model.bin cannot be read ("),
        ("a missing shard", "cannot be loaded (No such file or directory: "),
        ("other sizes", "do not fit its config.json (first: "),
        ("quantised", "are quantised (bitsandbytes) and cannot be trained; name the same model in"),
        ("no text", "is a ViT that writes no text; name one that does"),
        ("a new class", "has model type `bart9` but Transformers does not recognize"),
        ("no weights", "cannot be loaded ("),
        ("a torn config", "cannot be loaded ("),
        ("a config of nonsense", "cannot be loaded ("),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(damage, expected, sound, tmp_path):
    folder = shutil.copytree(sound, tmp_path / "model")
    DAMAGES[damage](folder)
    message = refusal(folder)
    assert message.startswith("model.name_or_path: ")
    assert expected in message
    assert str(folder) in message


def test_weights_that_are_missing_are_said_and_follow_the_seed(sound, tmp_path, caplog):
    folder = shutil.copytree(sound, tmp_path / "model")
    edit(folder / "config.json", encoder_layers=2)
    fresh = [
        prepared(folder, f"seed={seed}")[1].model.encoder.layers[1].fc1.weight for seed in (1, 1, 2)
    ]
    assert torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], fresh[2])
    said = [record.getMessage() for record in ours(caplog)]
    assert len(said) == 3
    assert "16 of the " in said[0]
    assert f"weights of {folder} are not in its files and are trained from scratch" in said[0]
    assert "(model.encoder.layers.1.fc1.bias, " in said[0]
    caplog.clear()
    prepared(sound)
    assert not ours(caplog)


@pytest.mark.parametrize(
    ("files", "package"),
    [
        (
            {
                "tokenizer_config.json": {
                    "tokenizer_class": "BertJapaneseTokenizer",
                    "word_tokenizer_type": "mecab",
                },
                "vocab.txt": "[UNK]\n[PAD]\n[CLS]\n[SEP]\n[MASK]\n",
            },
            "fugashi",
        ),
        (
            {
                "tokenizer_config.json": {"tokenizer_class": "XLMTokenizer"},
                "vocab.json": "{}",
                "merges.txt": "#version\n",
            },
            "sacremoses",
        ),
        (
            {
                "tokenizer_config.json": {"tokenizer_class": "T5Tokenizer"},
                "spiece.model": "no model",
            },
            "tiktoken",
        ),
    ],
)
def test_a_package_that_is_missing_is_named(files, package, sound, tmp_path):
    """None of the three is installed here."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(sound / "config.json", folder)
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)
    message = refusal(folder)
    assert f"needs the Python package {package}, which is not installed; pip install" in message


# Languages


def m2m100_tokenizer(folder):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text for row in TEXTS for text in row),
        model_prefix=str(folder / "spm"),
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spm.model"))
    names = ["<s>", "<pad>", "</s>", "<unk>"]
    names += [pieces.id_to_piece(number) for number in range(3, len(pieces))]
    (folder / "pieces.json").write_text(json.dumps({name: at for at, name in enumerate(names)}))
    return transformers.M2M100Tokenizer(
        vocab_file=str(folder / "pieces.json"), spm_file=str(folder / "spm.model")
    )


def multilingual(kind, folder):
    """A multilingual model with its tokenizer; none of the languages is set."""
    match kind:
        case "mBART":
            tokenizer = transformers.MBartTokenizer(vocab=unigram())
        case "mBART-50":
            tokenizer = transformers.MBart50Tokenizer(vocab=unigram())
        case "NLLB":
            tokenizer = transformers.NllbTokenizer(
                vocab={piece: index for index, (piece, _) in enumerate(unigram())}, merges=[]
            )
        case "M2M100":
            tokenizer = m2m100_tokenizer(folder.parent)
    size = max(tokenizer.get_vocab().values(), default=0) + 1
    if kind == "M2M100":
        size = max(tokenizer.lang_code_to_id.values()) + 1
    model = make_model("MBart" if kind.startswith("mBART") else "M2M100", size)
    return save(folder, model, tokenizer)


KOREAN = {"mBART": "ko_KR", "mBART-50": "ko_KR", "NLLB": "kor_Hang", "M2M100": "ko"}
ENGLISH = {"mBART": "en_XX", "mBART-50": "en_XX", "NLLB": "eng_Latn", "M2M100": "en"}


@pytest.mark.parametrize("kind", KOREAN)
def test_languages_mark_the_texts_and_begin_the_summaries(kind, tmp_path, caplog):
    folder, code = multilingual(kind, tmp_path / "model"), KOREAN[kind]
    tokens, model, config = prepared(folder, f"model.source_language={code}")
    number = languages(tokens.tokenizer)[code]
    for row in tokens.train:
        assert number in row["input_ids"]
        assert number in row["labels"]
    made, trained, labels = check_that_it_trains(tokens, model, config)
    if kind == "mBART":  # the language is the first token of the decoder
        assert set(made[:, 0].tolist()) == {number}
        assert model.generation_config.forced_bos_token_id is None
    else:  # it is the first token that is generated
        assert set(made[:, 1].tolist()) == set(labels[:, 0].tolist()) == {number}
    assert trained.shape == labels.shape
    assert not [record for record in caplog.records if "language" in record.getMessage()]


@pytest.mark.parametrize("kind", KOREAN)
def test_the_two_languages_may_differ(kind, tmp_path):
    folder, code = multilingual(kind, tmp_path / "model"), KOREAN[kind]
    english = ENGLISH[kind]
    words = [f"model.source_language={english}", f"model.target_language={code}"]
    tokens, model, config = prepared(folder, *words)
    known = languages(tokens.tokenizer)
    for row in tokens.train:
        assert known[english] in row["input_ids"]
        assert known[code] not in row["input_ids"]
        assert known[code] in row["labels"]
    check_that_it_trains(tokens, model, config)


@pytest.mark.parametrize("kind", KOREAN)
def test_a_language_that_nobody_set_is_said(kind, tmp_path, caplog):
    folder = multilingual(kind, tmp_path / "model")
    check_that_it_trains(*prepared(folder))
    assert f"model.source_language is not set: {folder} takes dialogues for " in caplog.text
    assert f"such as model.source_language={KOREAN[kind]}" in caplog.text


@pytest.mark.parametrize(
    ("kind", "word", "expected"),
    [
        ("mBART-50", "model.source_language=ko", "ko, which {} does not know; did you mean ko_KR?"),
        ("mBART", "model.source_language=korean", "does not know; did you mean ko_KR"),
        ("NLLB", "model.source_language=ko_KR", "does not know; did you mean kor_Hang"),
        ("M2M100", "model.source_language=ko_KR", "does not know; did you mean ko?"),
        ("NLLB", "model.target_language=kor_hang", "does not know; did you mean kor_Hang"),
    ],
)
def test_a_language_that_the_model_does_not_know_is_refused(kind, word, expected, tmp_path):
    folder = multilingual(kind, tmp_path / "model")
    with pytest.raises(RequestError) as caught:
        prepared(folder, word)
    assert expected.format(folder) in str(caught.value)
    assert "it knows " in str(caught.value)


def test_a_model_without_languages_refuses_one(sound):
    message = refusal(sound, "model.source_language=ko_KR")
    assert message.startswith("model.source_language is ko_KR, and the tokenizer of ")
    assert message.endswith("marks no languages; leave model.source_language out")


# Attention


@pytest.mark.parametrize("kind", ["LED", "Longformer"])
def test_the_first_token_is_seen_from_everywhere(kind, tmp_path):
    """What a far token is, beyond every local window, then changes what another one becomes."""
    if kind == "LED":
        model = make_model("LED", 50, encoder_layers=2)
    else:
        model = two_models("Longformer", "Bert", 50)
        model.config.decoder_start_token_id, model.config.pad_token_id = 0, 1
    model.eval()
    tokens = torch.randint(5, 50, (1, 32), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, 0] = tokens[0, 0] % 40 + 6
    states = [
        ENCODER_DECODER.encode(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        ).last_hidden_state[0, -1]
        for ids in (tokens, other)
    ]
    assert not torch.allclose(*states, atol=1e-6)
    plain = [
        model.get_encoder()(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[
            0, -1
        ]
        for ids in (tokens, other)
    ]
    assert torch.allclose(*plain, atol=1e-6)


def test_longt5_makes_its_global_tokens_itself():
    model = make_model("LongT5", 50, encoder_attention_type="transient-global", local_radius=4)
    tokens = torch.randint(5, 50, (1, 64), generator=torch.Generator().manual_seed(0))
    other = tokens.clone()
    other[0, :16] = 7
    model.eval()
    states = [
        ENCODER_DECODER.encode(
            model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        ).last_hidden_state[0, -1]
        for ids in (tokens, other)
    ]
    assert not torch.allclose(*states, atol=1e-6)


# As a person meets it


def test_the_command_that_prepares_refuses_and_says(sound, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(sound, tmp_path / "model")
    words = [
        "data=files",
        f"data.train_file={data_file(tmp_path)}",
        "model=pretrained",
        f"model.name_or_path={folder}",
        f"cache_dir={tmp_path}/cache",
    ]
    monkeypatch.setattr("sys.argv", ["prepare", *words])
    assert answer(prepare.main) == 2
    line = capsys.readouterr().err.splitlines()[-1]  # above it is the bar of the loading
    assert line.startswith("batchopt: data.max_source_length is 512, and ")
    words += LENGTHS
    monkeypatch.setattr("sys.argv", ["prepare", *words])
    assert answer(prepare.main) == 0
    assert "data: data.csv: read as UTF-8, separated by comma" in capsys.readouterr().out
    config = compose_run(words).config
    assert prepare.trainable_parameters(config) > 0
    cut(folder)  # after it was prepared: nothing is remembered of it
    with pytest.raises(TypeError):
        prepare.trainable_parameters(config)


@pytest.mark.parametrize(
    ("code", "said"),
    [(1, "exit code 1; the reason stands above"), (-11, "SIGSEGV"), (-40, "signal 40")],
)
def test_a_preparation_that_dies_is_named(code, said, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare.lifeline, "run", lambda *_: code)
    words = [f"data.train_file={data_file(tmp_path)}", f"cache_dir={tmp_path}/cache"]
    request = compose_run(["data=files", *words])
    with pytest.raises(RequestError, match=f"preparing the data ended with {said}$"):
        prepare.prepare_shared([request])


@pytest.mark.parametrize(
    ("config", "largest"),
    [
        (transformers.BartConfig(dropout=0.1, attention_dropout=0.2, classifier_dropout=0.9), 0.2),
        (transformers.T5Config(dropout_rate=0.3), 0.3),
        (transformers.T5Config(dropout_rate=0.0), 0.0),
        (transformers.MarianConfig(dropout=0.0, encoder_layerdrop=0.4), 0.4),
        (
            transformers.EncoderDecoderConfig.from_encoder_decoder_configs(
                transformers.BertConfig(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0),
                transformers.BertConfig(hidden_dropout_prob=0.5),
            ),
            0.5,
        ),
    ],
)
def test_the_largest_dropout_of_a_model_is_recorded(config, largest):
    model = types.SimpleNamespace(config=config)
    assert largest_dropout(model) == largest
