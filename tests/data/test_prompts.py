"""Prompts of decoder-only models: whole templates, cut dialogues, an end that is learnt."""

import json

import pytest
from support.causal_models import make_causal
from support.models import TEXTS, data_file, plain_tokenizer, save

from batchopt.data import tokenized
from batchopt.data.load import load_corpus
from batchopt.errors import RequestError
from batchopt.request.compose import compose_run
from batchopt.request.words import read_words

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content | trim }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}" + CHATML
)
DROPS_SYSTEM = "{% set messages = messages | rejectattr('role', 'equalto', 'system') %}" + CHATML
DATED = "{% if strftime_now is defined %}\nToday: {{ strftime_now('%A %d %b %Y') }}.{% endif %}\n"


def folder_of(tmp_path, template=None, **names):
    tokenizer = plain_tokenizer(**names)
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]} if template else {}
    )
    tokenizer.chat_template = template
    return save(tmp_path / "model", make_causal("Llama", len(tokenizer)), tokenizer)


def config_of(folder, *words):
    data = data_file(folder.parent)
    named = [f"model.name_or_path={folder}", f"data.train_file={data}"]
    lengths = ["data.max_source_length=90", "data.max_target_length=24"]
    cache = f"cache_dir={folder.parent}/cache"
    typed = ["model=causal", "data=files", *lengths, *named, cache, *words]
    return compose_run(read_words(typed)).config


def read(folder, *words):
    config = config_of(folder, *words)
    return tokenized.load(tokenized.prepare(config, load_corpus(config.data)))


def refusal(folder, *words):
    with pytest.raises(RequestError) as caught:
        read(folder, *words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_chat_template_gives_the_prompt_and_the_end(tmp_path):
    data = read(folder_of(tmp_path, CHATML), "data.max_source_length=250")
    prompt, target = data.first_example()
    texts = dict(TEXTS)
    dialogue = next(text for text in texts if text in prompt)
    assert prompt == (
        "<|im_start|>system\n당신은 대화를 요약하는 조수입니다.<|im_end|>\n"
        f"<|im_start|>user\n다음 대화를 요약하세요.\n\n{dialogue}<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
    assert target == f"{texts[dialogue]}<|im_end|>"
    assert data.summary.end_token == "<|im_end|>"
    assert "a prompt from the model's chat template" in data.summary.additions()[-1]


def test_prompt_and_answer_are_the_tokens_of_the_whole_conversation(tmp_path):
    """As the template has them in one text, up to the end token."""
    data = read(folder_of(tmp_path, CHATML), "data.max_source_length=250")
    row, tokenizer = data.train[0], data.tokenizer
    text = "".join(data.first_example())
    assert (
        row["input_ids"] + row["labels"] == tokenizer(text, add_special_tokens=False)["input_ids"]
    )


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_the_user_says_what_a_template_lets_no_system_say(template, tmp_path):
    words = [
        "data.max_source_length=250",
        r"data.system_prompt=Be brief.\nAlways.",
        "data.instruction=Go:",
    ]
    prompt, _ = read(folder_of(tmp_path, template), *words).first_example()
    assert prompt.startswith("<|im_start|>user\nBe brief.\nAlways.\n\nGo:\n\n#Person1#")


def test_without_a_chat_template_the_prompt_is_plain_and_begins_as_the_tokenizer_does(tmp_path):
    data = read(folder_of(tmp_path), "data.max_source_length=150")
    prompt, target = data.first_example()
    assert prompt.startswith("<s>다음 대화를 요약하세요.\n\n#Person1#: ")
    assert prompt.endswith("\n\n요약:\n")
    assert target.endswith("다 " + target.split(" ")[-1])
    assert target.endswith("</s>")
    assert data.train[0]["labels"][0] != data.tokenizer.bos_token_id


def test_a_template_of_ones_own_is_the_whole_prompt(tmp_path):
    words = [r"data.prompt_template=대화 {x}:\n{dialogue}\n=>"]
    prompt, target = read(folder_of(tmp_path, CHATML), *words).first_example()
    assert prompt.startswith("<s>대화 {x}:\n#Person1#: ")
    assert prompt.endswith(" 있어.\n=>")
    assert target.endswith("</s>")


@pytest.mark.parametrize("template", [CHATML, None])
def test_what_is_too_long_loses_the_end_of_its_dialogue_and_nothing_else(template, tmp_path):
    folder = folder_of(tmp_path, template)
    words = ["data.system_prompt=S", "data.instruction=I"]
    whole = read(folder, "data.max_source_length=250", *words)
    longest = whole.summary.longest_source
    limit = longest - 9
    cut = read(folder, f"data.max_source_length={limit}", *words)
    assert cut.summary.truncated_sources == sum(
        len(row["input_ids"]) > limit for row in [*whole.train, *whole.validation]
    )
    assert cut.summary.truncated_sources > 0
    assert limit - 4 <= cut.summary.longest_source <= limit
    for short, long in zip(cut.train, whole.train, strict=True):
        one, other = cut.tokenizer.batch_decode([short["input_ids"], long["input_ids"]])
        head, _, tail = other.partition("#Person1#")
        end = tail[tail.rindex("있어.") + len("있어.") :]
        assert one.startswith(head + "#Person1#")
        assert one.endswith(end)
        dialogue = one[len(head) : len(one) - len(end)]
        assert other[len(head) :].startswith(dialogue.rstrip("\ufffd"))


def test_labels_end_where_they_are_cut(tmp_path):
    data = read(folder_of(tmp_path), "data.max_target_length=6", "data.max_source_length=150")
    assert all(row["labels"][-1] == 2 for row in data.train)
    assert max(len(row["labels"]) for row in data.train) == 6
    assert data.summary.truncated_targets > 0


def test_no_room_for_a_dialogue_is_refused(tmp_path):
    message = refusal(folder_of(tmp_path), "data.max_source_length=20")
    assert message.startswith("data.max_source_length is 20, and the prompt without a dialogue has")
    needed = int(message.split("data.max_source_length=")[1].split()[0])
    read(tmp_path / "model", f"data.max_source_length={needed}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ raise_exception('only for tools') }}", "fails (only for tools); set data.prompt_temp"),
        ("{{ messages[0].content | length }}", "shows a dialogue 0 times, not once"),
        ("{% for", "fails ("),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_refused(template, expected, tmp_path):
    folder = folder_of(tmp_path, template)
    message = refusal(folder)
    assert message.startswith(f"model.name_or_path: the chat template of {folder} ")
    assert expected in message
    read(folder, "data.prompt_template={dialogue}=")


@pytest.mark.parametrize("text", ["no place", "{dialogue} and {dialogue}", "{dialog}", ""])
def test_a_template_has_its_placeholder_once(text, tmp_path):
    with pytest.raises(RequestError) as caught:
        config_of(tmp_path / "model", f"data.prompt_template={text}")
    assert "it must be a text with {dialogue} in it exactly once" in str(caught.value)


def test_keys_of_the_other_kind_are_refused(tmp_path):
    folder = folder_of(tmp_path)
    assert "is a decoder-only model; use data.instruction" in refusal(
        folder, "model.source_prefix=sum: "
    )
    tiny = compose_run([f"cache_dir={tmp_path}/cache", "data.instruction=Go"]).config
    with pytest.raises(RequestError, match=r"data\.instruction is for decoder-only models, and"):
        tokenized.prepare(tiny)
    with pytest.raises(RequestError, match=r"data\.instruction is Go; it must be null with"):
        config_of(folder, "data.instruction=Go", "data.prompt_template={dialogue}")


def test_today_is_the_same_every_day(tmp_path):
    folder = folder_of(tmp_path, "\n" + DATED + CHATML)
    prompt, _ = read(folder, "data.max_source_length=250").first_example()
    assert prompt.startswith("\nToday: Friday 26 Jul 2024.<|im_start|>system\n")


def test_the_cache_knows_the_template_and_the_words(tmp_path):
    folder = folder_of(tmp_path, CHATML)

    def cache(*words):
        config = config_of(folder, *words)
        return tokenized.cache_folder(config, load_corpus(config.data))

    found = {
        cache(),
        cache("data.instruction=I"),
        cache("data.system_prompt=I"),
        cache("data.prompt_template={dialogue}"),
    }
    assert len(found) == 4
    place = folder / "chat_template.jinja"
    place.write_text(place.read_text() + " ")
    assert cache() not in found


def test_a_tokenizer_without_padding_pads_with_its_end(tmp_path):
    folder = folder_of(tmp_path, pad_token=None)
    config = json.loads((folder / "config.json").read_text())
    config["pad_token_id"] = None
    (folder / "config.json").write_text(json.dumps(config))
    data = read(folder, "data.max_source_length=150")
    assert data.tokenizer.pad_token_id == data.tokenizer.eos_token_id == 2
