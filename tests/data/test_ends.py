"""Every label ends as the model ends a generation, whatever the tokenizer does by itself."""

import pytest
from support.pretrained import IDS, SIZES, edit, make_tokenizer, save
from transformers import BartConfig, BertConfig, EncoderDecoderConfig, T5Config

from batchopt.data import Corpus, Example, tokenized
from batchopt.errors import RequestError
from batchopt.request.compose import compose_run

BOS, PAD, EOS, UNK, KO = range(5)
TEMPLATES = {
    "none": None,
    "begin only": "<s> $A",
    "end only": "$A </s>",
    "both": "<s> $A </s>",
    "the end in front": "</s> $A",
    "a language after the end": "$A </s> ko_KR",
    "a language in front": "ko_KR $A </s>",
}
WHAT_ENDS = {name: [EOS] for name in TEMPLATES} | {"a language after the end": [EOS, KO]}


def corpus():
    def example(number):
        summary = "우산을 가져간다 " * (1 + number % 7)
        return Example(str(number), f"#Person1#: 비 {number}. " * (number + 1), (summary.strip(),))

    return Corpus(tuple(map(example, range(20))), tuple(map(example, range(20, 24))))


def config(tmp_path, folder, *words):
    name = [f"cache_dir={tmp_path}/cache", "model=pretrained", f"model.name_or_path={folder}"]
    return compose_run([*name, *words]).config


def rows_of(tmp_path, folder, *words):
    data = tokenized.load(tokenized.prepare(config(tmp_path, folder, *words), corpus()))
    return data.summary, [*data.train, *data.validation]


@pytest.mark.parametrize("habit", TEMPLATES)
def test_every_label_ends_with_the_end_token_once_also_where_it_is_cut(tmp_path, habit):
    folder = save(tmp_path / "model", make_tokenizer(TEMPLATES[habit]), weights=False)
    end = WHAT_ENDS[habit]
    for limit in (128, 24):
        summary, rows = rows_of(tmp_path, folder, f"data.max_target_length={limit}")
        labels = [row["labels"] for row in rows]
        assert all(label[-len(end) :] == end for label in labels)
        assert {label.count(EOS) for label in labels} == {2 if habit == "the end in front" else 1}
        assert max(map(len, labels)) <= limit
    assert summary.longest_target == 24
    assert 0 < summary.truncated_targets < 24
    own = "$A </s>" in (TEMPLATES[habit] or "")
    assert summary.ended_labels == (24 if own else 0)
    said = f"{summary.ended_labels} of 24 summaries ended with </s>; added"
    assert (said in summary.additions()) == (not own)


@pytest.mark.parametrize("habit", TEMPLATES)
def test_sources_of_bart_stand_between_its_marks_or_as_its_own_tokenizer_has_them(tmp_path, habit):
    folder = save(tmp_path / "model", make_tokenizer(TEMPLATES[habit]), weights=False)
    for limit in (512, 24):
        summary, rows = rows_of(tmp_path, folder, f"data.max_source_length={limit}")
        sources = [row["input_ids"] for row in rows]
        assert max(map(len, sources)) <= limit
        begins, ends = ({source[at] for source in sources} for at in (0, -1))
        own = {"the end in front": EOS, "a language in front": KO}
        assert begins == {own.get(habit, BOS)}
        assert ends == {KO if habit == "a language after the end" else EOS}
    assert summary.truncated_sources > 0


def test_a_t5_without_a_post_processor_gets_the_end_and_no_beginning(tmp_path):
    model = T5Config(vocab_size=300, d_model=16, eos_token_id=EOS, pad_token_id=PAD)
    folder = save(tmp_path / "model", make_tokenizer(None), model, weights=False)
    summary, rows = rows_of(tmp_path, folder)
    assert summary.source_ends == "… </s>"
    assert {row["input_ids"][-1] for row in rows} == {EOS}
    assert BOS not in {token for row in rows for token in row["input_ids"]}


def test_two_parts_of_bert_end_with_its_separator(tmp_path):
    """Neither part names a token that ends a text; the tokenizer does."""
    part = BertConfig(vocab_size=300, hidden_size=16, num_attention_heads=2)
    model = EncoderDecoderConfig.from_encoder_decoder_configs(part, part)
    names = {"bos_token": None, "eos_token": None, "cls_token": "<s>", "sep_token": "</s>"}
    folder = save(tmp_path / "model", make_tokenizer(None, **names), model, weights=False)
    summary, rows = rows_of(tmp_path, folder)
    assert (summary.end_token, summary.end_token_id) == ("</s>", EOS)
    assert {(row["input_ids"][0], row["input_ids"][-1]) for row in rows} == {(BOS, EOS)}
    assert {row["labels"][-1] for row in rows} == {EOS}


def test_the_end_is_the_one_that_the_model_generates_and_not_that_of_the_tokenizer(tmp_path):
    """The tokenizer says `<unk>` ends a text, and the settings of the model list two ends."""
    tokenizer = make_tokenizer(None, eos_token="<unk>", unk_token=None)
    tokenizer.add_special_tokens({"additional_special_tokens": ["</s>"]})
    folder = save(tmp_path / "model", tokenizer, weights=False)
    edit(folder / "generation_config.json", eos_token_id=[EOS, KO])
    summary, rows = rows_of(tmp_path, folder)
    assert {row["labels"][-1] for row in rows} == {EOS}
    assert summary.end_token == "</s>"


def test_an_id_that_is_some_other_token_of_this_tokenizer_ends_nothing(tmp_path):
    """The config still has the id of its class; the tokenizer has its end elsewhere."""
    model = BartConfig(vocab_size=400, **SIZES, **IDS | {"eos_token_id": 40})
    folder = save(tmp_path / "model", make_tokenizer("$A </s>"), model, weights=False)
    assert rows_of(tmp_path, folder)[0].ended_labels == 24
    edit(folder / "config.json", eos_token_id=9999)
    assert rows_of(tmp_path, folder)[0].end_token_id == EOS


def test_an_end_that_only_the_model_names_is_taken(tmp_path):
    folder = save(tmp_path / "model", make_tokenizer(None, eos_token=None), weights=False)
    _, rows = rows_of(tmp_path, folder)
    assert {row["labels"][-1] for row in rows} == {EOS}


def test_a_model_that_could_not_learn_to_stop_is_refused_in_one_line(tmp_path):
    model = BartConfig(vocab_size=300, **SIZES, **IDS | {"eos_token_id": None})
    folder = save(tmp_path / "model", make_tokenizer(None, eos_token=None), model, weights=False)
    with pytest.raises(RequestError, match=r"model\.name_or_path.*eos_token") as refusal:
        rows_of(tmp_path, folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "chat_template.jinja", "vocab.txt", "config.json", "merges.txt"]
)
def test_tokens_follow_every_file_that_a_tokenizer_may_read(tmp_path, name):
    folder = save(tmp_path / "model", make_tokenizer(), weights=False)
    asked = config(tmp_path, folder)
    before = tokenized.cache_folder(asked, corpus())
    (folder / "model.safetensors").write_text("weights")
    assert tokenized.cache_folder(asked, corpus()) == before
    with (folder / name).open("a") as file:
        file.write(" ")
    assert tokenized.cache_folder(asked, corpus()) != before


def test_the_sample_needs_no_addition(tmp_path):
    words = [f"cache_dir={tmp_path}", "data.train_examples=8", "data.validation_examples=2"]
    data = tokenized.load(tokenized.prepare(compose_run(words).config))
    assert data.summary.additions() == []
