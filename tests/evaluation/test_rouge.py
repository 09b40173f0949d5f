"""ROUGE with Korean words, against rouge-score and by its own properties."""

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer
from support import TOP

from batchopt.errors import RequestError
from batchopt.evaluation.rouge import (
    RougeScores,
    Scorer,
    choose_tokenizer,
    make_tokenizer,
    mean_scores,
)

KOREAN = "다음 주 화요일 회의는 본사 3층 회의실에서 열립니다."
ENGLISH = [
    ("the quick brown fox jumps over the lazy dog", "the quick brown dog jumps on the log."),
    ("Doctors are treating patients.", "The doctor treated a patient, who's 45 (45.5) years old"),
    ("#Person1# goes\nto the café", "#Person2# went to a café\n#Person1# goes"),
    ("", "nothing was said"),
]
OWN_TOKENIZERS = ["kiwi", "whitespace", "character"]
ALL_TOKENIZERS = [*OWN_TOKENIZERS, "rouge_score"]

# Words of every kind that meet in a corpus, so that examples share tokens often.
WORDS = ["학교에", "갔다", "#Person1#은", "#Person2#이", "the", "Dogs", "größer", "!?", "3.5", "😀"]
texts = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))


def score(name, prediction, *references, use_stemmer=False):
    tokenizer = make_tokenizer(name, use_stemmer=use_stemmer)
    return Scorer(tokenizer).score([prediction], [references])[0]


# What counts as a word


@pytest.mark.parametrize("name", OWN_TOKENIZERS)
def test_identical_korean_scores_one(name):
    assert score(name, KOREAN, KOREAN) == RougeScores(1, 1, 1, 1)


@pytest.mark.parametrize("name", OWN_TOKENIZERS)
def test_unrelated_korean_with_a_common_marker_scores_low(name):
    scores = score(name, "#Person1#은 오늘 저녁에 야구를 봅니다", "#Person1#이 새 직장을 구했다")
    assert 0 < scores.rouge1_f1 < 0.4
    assert scores.rouge2_f1 == 0


@pytest.mark.parametrize("name", OWN_TOKENIZERS)
@pytest.mark.parametrize("particle", ["은", "는", "이", "가", "와", "의", "에게"])
def test_a_marker_and_the_particle_after_it_are_two_tokens(name, particle):
    tokens = make_tokenizer(name).tokenize(f"#Person1#{particle}")
    assert tokens[0].strip("#") == "person1"
    assert "".join(tokens[1:]) == particle


def test_kiwi_sees_a_marker_as_a_noun():
    # Cut off from its noun, 는 would become 늘 + ㄴ, and 가 the verb 가다.
    tokens = make_tokenizer("kiwi").tokenize("😀 #Person1#와 #Person2#는 밥을 먹었다.")
    assert tokens == ["#person1#", "와", "#person2#", "는", "밥", "을", "먹", "었", "다"]


def test_kiwi_drops_punctuation_and_list_numbers_but_no_letters():
    tokens = make_tokenizer("kiwi").tokenize("1. “책”(서울)… ~ 50% ㅋㅋㅋ カナ Привет")
    assert tokens == ["책", "서울", "50", "ㅋㅋㅋ", "カナ", "привет"]


def test_whitespace_strips_the_edges_of_words_only():
    tokens = make_tokenizer("whitespace").tokenize("«Größe», don't - ($5.50)\n회의(오전)는 हिन्दी")
    assert tokens == ["größe", "don't", "5.50", "회의(오전)는", "हिन्दी"]


def test_character_keeps_letters_marks_and_digits():
    assert make_tokenizer("character").tokenize("회의, T5!\nที่") == [*"회의t5", *"ที่"]


@pytest.mark.parametrize("name", ALL_TOKENIZERS)
@pytest.mark.parametrize("text", [KOREAN, "Ein größeres Café"])
def test_decomposed_text_equals_composed_text(name, text):
    tokenize = make_tokenizer(name).tokenize
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    assert tokenize(decomposed) == tokenize(text)


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="'mecab'"):
        make_tokenizer("mecab")


@pytest.mark.parametrize("name", OWN_TOKENIZERS)
def test_a_stemmer_that_would_be_ignored_is_refused(name):
    with pytest.raises(RequestError, match=rf"metric\.use_stemmer \(true\).*{name}"):
        make_tokenizer(name, use_stemmer=True)


def test_the_name_says_that_words_were_stemmed():
    names = {make_tokenizer("rouge_score", use_stemmer=s).name for s in (False, True)}
    assert names == {"rouge_score", "rouge_score+stemmer"}


# What auto chooses


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([KOREAN], "kiwi"),
        ([unicodedata.normalize("NFD", KOREAN)], "kiwi"),
        (["A summary."] * 5000 + [KOREAN], "kiwi"),
        (["#Person1# goes home.", "He paid 50%."], "rouge_score"),
        (["They met for breakfast and talked about work"] * 100 + ["at a café"], "rouge_score"),
        (["“Quotes” – and 😀 are no letters"], "rouge_score"),
        ([], "rouge_score"),
        (["Die Straße ist größer"], "whitespace"),
        ([unicodedata.normalize("NFD", "Les élèves mangent")], "whitespace"),
        (["Они встретились в кафе"], "whitespace"),
        (["वे कल मिलेंगे"], "whitespace"),
        (["彼らは明日会います"], "character"),
        (["他们明天见面"], "character"),
        (["พวกเขาจะพบกันพรุ่งนี้"], "character"),
        (["They meet tomorrow", "他们明天见面"], "character"),
    ],
)
def test_auto_suits_the_script_of_the_references(references, expected):
    assert choose_tokenizer("auto", iter(references)) == expected


@pytest.mark.parametrize("name", ALL_TOKENIZERS)
def test_a_named_tokenizer_is_kept(name):
    assert choose_tokenizer(name, [KOREAN, "English"]) == name


@pytest.mark.parametrize("name", ["auto", "kiwi"])
def test_kiwi_that_is_not_installed_names_the_remedies(monkeypatch, name):
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    with pytest.raises(RequestError) as error:
        choose_tokenizer(name, [KOREAN])
    message = str(error.value)
    assert "\n" not in message
    assert f"metric.tokenizer ({name})" in message
    assert "pip install 'batchopt[ko]'" in message
    assert "metric.tokenizer=character" in message
    assert choose_tokenizer("auto", ["English needs no Kiwi"]) == "rouge_score"


# Scores


@pytest.mark.parametrize("use_stemmer", [False, True])
@pytest.mark.parametrize(("reference", "prediction"), ENGLISH)
def test_english_equals_the_rouge_score_library(reference, prediction, use_stemmer):
    library = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=use_stemmer)
    expected = [s.fmeasure for s in library.score(reference, prediction).values()]
    ours = score("rouge_score", prediction, reference, use_stemmer=use_stemmer)
    assert list(ours[:3]) == expected
    assert ours.rouge_f1 == fmean(expected)


def test_stemming_changes_the_score():
    # Guards the comparison above against an option that does nothing on both sides.
    reference, prediction = ENGLISH[1]
    stemmed = score("rouge_score", prediction, reference, use_stemmer=True)
    assert stemmed.rouge1_f1 > score("rouge_score", prediction, reference).rouge1_f1


def test_each_rouge_type_takes_its_best_reference():
    prediction, words, order = "a b c d", "d c b a", "a b x y z"
    by_words, by_order = (score("whitespace", prediction, r) for r in (words, order))
    assert by_words.rouge1_f1 > by_order.rouge1_f1
    assert by_words.rouge2_f1 < by_order.rouge2_f1
    best = score("whitespace", prediction, words, order)
    assert list(best[:3]) == [max(pair) for pair in zip(by_words[:3], by_order[:3], strict=True)]
    assert best.rouge_f1 == fmean(best[:3])


@pytest.mark.parametrize("name", ALL_TOKENIZERS)
@pytest.mark.parametrize("text", ["", " \n", "?! …"])
def test_a_text_without_tokens_scores_zero_even_against_itself(name, text):
    assert score(name, text, text) == RougeScores(0, 0, 0, 0)
    assert score(name, text, "three more words") == RougeScores(0, 0, 0, 0)


def test_a_one_token_text_has_no_bigrams():
    assert score("whitespace", "네", "네") == RougeScores(1, 0, 1, 2 / 3)


def test_a_newline_is_a_space():
    assert score("whitespace", "a b\nc d", "c d\na b") == score("whitespace", "a b c d", "c d a b")


def test_references_are_tokenised_once_and_predictions_are_not_kept():
    seen = []
    tokenizer = make_tokenizer("whitespace")

    def split(text, masks):
        seen.append(text)
        return tokenizer.split(text, masks)

    counting = type(tokenizer)("counting", split)
    scorer = Scorer(counting)
    first = scorer.score(["x y", "z"], [["x y z"], ["z", "z z"]])
    assert scorer.score(["x y", "z"], [["x y z"], ["z", "z z"]]) == first
    assert [seen.count(text) for text in ("x y z", "z z", "x y")] == [1, 1, 2]


def test_unequal_numbers_of_texts_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        Scorer(make_tokenizer("whitespace")).score(["a", "b"], [["a"]])


@pytest.mark.parametrize("name", ALL_TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(one=texts, other=texts)
def test_f1_is_a_fraction_and_symmetric(name, one, other):
    scores = score(name, one, other)
    assert all(0 <= value <= 1 for value in scores)
    assert scores == score(name, other, one)


@pytest.mark.parametrize("name", ALL_TOKENIZERS)
@settings(max_examples=100, deadline=None)
@given(text=texts)
def test_identical_texts_score_one_where_they_have_the_n_grams(name, text):
    length = len(make_tokenizer(name).tokenize(text))
    assert score(name, text, text)[:3] == (length >= 1, length >= 2, length >= 1)


@given(st.lists(st.tuples(*[st.floats(0, 1)] * 4), min_size=1))
def test_the_mean_is_taken_score_by_score(rows):
    mean = mean_scores([RougeScores(*row) for row in rows])
    assert mean == tuple(fmean(column) for column in zip(*rows, strict=True))


# The metric

PREDICTIONS = ["#Person1#은 회의를 취소했다", "내일 비가 온다", ""]
REFERENCES = [["#Person1#이 회의를 취소했다", "회의가 취소됐다"], ["내일은 비가 옵니다"], ["네"]]
METRIC_IN_A_FRESH_PROCESS = """
import json, sys
from batchopt import Rouge
texts = json.load(sys.stdin)
rouge = Rouge("kiwi")
print(json.dumps([rouge.compute(**texts), rouge.compute(**texts, use_aggregator=False)]))
"""


def start_metric(folder: Path, hash_seed: str) -> subprocess.Popen[str]:
    source = TOP / "src"
    offline = {"HF_HOME": f"{folder}/home", "HF_HUB_OFFLINE": "1", "TMPDIR": f"{folder}/tmp"}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", METRIC_IN_A_FRESH_PROCESS],
        cwd=folder / "here",
        env={**os.environ, **offline, "PYTHONPATH": str(source), "PYTHONHASHSEED": hash_seed},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_metric_is_deterministic_offline_silent_and_leaves_no_files(tmp_path):
    for name in ("home", "here", "tmp"):
        (tmp_path / name).mkdir()
    # Two at once, as in a parallel sweep: they share every folder.
    processes = [start_metric(tmp_path, hash_seed) for hash_seed in ("1", "2")]
    request = json.dumps({"predictions": PREDICTIONS, "references": REFERENCES})
    outputs = [process.communicate(request, timeout=120) for process in processes]

    assert [errors for _, errors in outputs] == ["", ""]
    rows = Scorer(make_tokenizer("kiwi")).score(PREDICTIONS, REFERENCES)
    means = mean_scores(rows)._asdict()
    columns = {name: [getattr(row, name) for row in rows] for name in RougeScores._fields}
    assert [json.loads(output) for output, _ in outputs] == [[means, columns]] * 2
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert list((tmp_path / "here").iterdir()) == []
    assert not (tmp_path / "home" / "metrics").exists()  # evaluate's own place


@pytest.mark.slow
def test_metric_takes_one_reference_or_several():
    from batchopt.evaluation.rouge_metric import Rouge

    rouge = Rouge("whitespace")
    single = ["a b c", "d e f"]
    one = rouge.compute(predictions=["a b", "d x"], references=single)
    assert one == rouge.compute(predictions=["a b", "d x"], references=[[r] for r in single])
    assert rouge.compute(predictions=["a b"], references=[["z", "a b"]])["rouge_f1"] == 1


@pytest.mark.slow
def test_metric_chooses_the_words_that_suit_the_references():
    from batchopt import Rouge

    rouge = Rouge()
    for name, text in (("kiwi", "비가 온다"), ("rouge_score", "It rains."), ("character", "下雨")):
        other = {"kiwi": "비는 온다", "rouge_score": "It rained.", "character": "下雪"}[name]
        found = rouge.compute(predictions=[other], references=[text])
        assert found == mean_scores(Scorer(make_tokenizer(name)).score([other], [[text]]))._asdict()


def test_metric_refuses_a_stemmer_that_would_do_nothing():
    from batchopt import Rouge

    with pytest.raises(RequestError, match=r"metric\.use_stemmer"):
        Rouge("kiwi", use_stemmer=True)


# Masks

MASKS = [
    *("#Person1#", "#@이름#", "#@시스템#사진#", "#@URL#", "&name1&", "&company-name2&"),
    *("[NAME]", "[FIRST_NAME]", "[LAST NAME]", "<PERSON>", "<PERSON-1>", "{이름}", "{name_1}"),
]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ALL_TOKENIZERS)
def test_a_mask_is_one_word_of_every_tokenizer(name, mask):
    tokenizer = make_tokenizer(name)
    assert tokenizer.tokenize(mask) == [mask.lower()]
    tokens = tokenizer.tokenize(f"go {mask}, {mask}{mask}. ran")
    assert tokens.count(mask.lower()) == 3
    assert tokens[0] in ("go", "g")
    assert tokens[-1] in ("ran", "n")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", ["kiwi", "whitespace", "character"])
def test_the_particle_after_a_mask_is_a_word_of_its_own(name, mask):
    assert make_tokenizer(name).tokenize(f"{mask}은 학교에 간다")[:2] == [mask.lower(), "은"]


def test_two_masks_with_a_particle_between_are_two():
    tokens = make_tokenizer("kiwi").tokenize("#Person1#과 #@이름#과#@이름2#이 왔다")
    assert [token for token in tokens if "#" in token] == ["#person1#", "#@이름#", "#@이름2#"]


@pytest.mark.parametrize("text", ["[laughs]", "<b>", "<기생충>", "R&D&I", "{ }", "[12]"])
def test_brackets_alone_make_no_mask(text):
    tokens = make_tokenizer("whitespace").tokenize(f"x {text} y")
    assert not {"[", "<", "{"} & set("".join(tokens))


def test_english_without_masks_is_as_rouge_score_has_it():
    from rouge_score.tokenizers import DefaultTokenizer

    text = "The café's [sic] R&D team, e.g. <b>Ann</b>, re-signed #1 at 5%."
    assert make_tokenizer("rouge_score").tokenize(text) == DefaultTokenizer(False).tokenize(text)
