"""model.extra_tokens=auto: the speakers and masked names of the data, and what each would cost."""

import csv

from support.models import plain_tokenizer

from batchopt.data import Example, tokenized
from batchopt.data.markers import MOST, find_markers
from batchopt.request.compose import compose_run


def examples(*dialogues):
    return [Example(str(at), text, ("요약",)) for at, text in enumerate(dialogues)]


def texts(found):
    return [marker.text for marker in found]


def test_the_markers_of_each_corpus_are_found_the_most_frequent_first():
    one = "#Person1#: #@이름# 씨, #@시스템#사진# &name1& [NAME] <PERSON> {이름} 봤어요?"
    found = find_markers(examples(one, one, one.replace("[NAME]", "")), list, ())
    assert set(texts(found)) == {
        *("#Person1#", "#@이름#", "#@시스템#사진#", "&name1&", "[NAME]", "<PERSON>", "{이름}")
    }
    assert texts(found)[-1] == "[NAME]"
    assert (found[-1].examples, found[-1].pieces) == (2, 6)


def test_what_is_no_marker_stays_text():
    one = "그는 [웃음] <기생충>을 봤다 # 1 #hashtag R&D & 50% [laughs] #Once#"
    assert find_markers(examples(one, one.replace("#Once#", "")), list, ()) == []


def test_a_token_that_the_vocabulary_has_is_not_added():
    found = find_markers(examples(*["#A# [B]"] * 2), list, {"#A#"})
    assert texts(found) == ["[B]"]


def test_numbered_names_without_end_are_cut_at_the_most_frequent():
    many = [f"#Name{number}#" for number in range(2 * MOST)]
    found = find_markers(examples(" ".join(many), " ".join(many[:MOST]), " ".join(many)), list, ())
    assert set(texts(found)) == set(many[:MOST])


def test_each_becomes_one_token_and_the_plan_says_which(tmp_path):
    rows = [(f"#Person1#: 안녕 {n}. #Person2#: 응, [NAME].", f"#Person1# {n}") for n in range(6)]
    with (tmp_path / "data.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("dialogue", "summary"), *rows])
    words = [
        *("data=files", f"data.train_file={tmp_path}/data.csv", f"cache_dir={tmp_path}/cache"),
        *("data.validation_fraction=0.2", "model.vocab_size=300"),
    ]
    with_markers = compose_run([*words, "model.extra_tokens=auto"]).config
    without = compose_run([*words, "model.extra_tokens=[]"]).config
    data, plain = (tokenized.load(tokenized.prepare(one)) for one in (with_markers, without))
    found = sorted(data.summary.extra_tokens)
    assert found == ["#Person1#", "#Person2#", "[NAME]"]
    pieces = len(plain.tokenizer.tokenize("#Person1#"))
    assert pieces > 1
    assert data.tokenizer.tokenize("#Person1#") == ["#Person1#"]
    (line,) = [line for line in data.summary.additions() if "extra_tokens" in line]
    assert f"#Person1# (in 5 examples, else {pieces} tokens)" in line
    assert plain.summary.extra_tokens == []
    assert not any("extra_tokens" in line for line in plain.summary.additions())


def test_where_there_are_none_the_plan_says_so(tmp_path):
    tokenizer = plain_tokenizer()
    assert find_markers(examples("안녕", "그래"), tokenizer.tokenize, ()) == []
