"""The generated sample: the same for the same seed, learnable, and without leaks between splits."""

import os
import re
import subprocess
import sys
from itertools import chain
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchopt.data.sample import attach_particles, generate
from batchopt.data.sample_texts import TEXTS
from batchopt.errors import RequestError

DOMAINS = [(language, name) for language, texts in TEXTS.items() for name in texts.domains]
ALTERNATIVES = re.compile(r"\[[^]]*]")
SLOT = re.compile(r"\{(\w+)}")
SPEAKERS = {"asker", "helper"}


@pytest.fixture(scope="module")
def corpus():
    return generate(language="mixed", train_examples=2000, validation_examples=200, seed=0)


def examples_of(corpus):
    return corpus.train + corpus.validation


def of_language(corpus, language):
    return [example for example in examples_of(corpus) if example.id.startswith(language)]


# Determinism


def test_the_same_seed_gives_the_same_corpus_in_a_process_with_another_hash_seed(corpus):
    program = (
        "from batchopt.data.sample import generate\n"
        "print(generate("
        "language='mixed', train_examples=2000, validation_examples=200, seed=0).fingerprint)"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert printed == {corpus.fingerprint}


@pytest.mark.parametrize("seed", [1, -1])
def test_another_seed_gives_another_corpus(seed):
    def dialogues(seed):
        corpus = generate(language="mixed", train_examples=100, validation_examples=10, seed=seed)
        return {example.dialogue for example in examples_of(corpus)}

    assert len(dialogues(seed) & dialogues(0)) < 5
    assert dialogues(seed) != dialogues(-seed)


# Sizes and the split


@pytest.mark.parametrize(
    ("language", "train", "validation"), [("ko", 1, 1), ("en", 17, 5), ("mixed", 20_000, 1000)]
)
def test_the_splits_have_the_sizes_asked_for_and_share_nothing(language, train, validation):
    corpus = generate(
        language=language, train_examples=train, validation_examples=validation, seed=5
    )
    assert (len(corpus.train), len(corpus.validation)) == (train, validation)
    assert corpus.skipped_rows == 0
    everything = examples_of(corpus)
    assert len({example.dialogue for example in everything}) == len(everything)
    assert len({example.id for example in everything}) == len(everything)
    assert all(example.id for example in everything)


@pytest.mark.parametrize("language", ["ko", "en"])
def test_one_language_alone_is_enough_for_20_000_examples(language):
    corpus = generate(language=language, train_examples=20_000, validation_examples=1, seed=0)
    assert len({example.dialogue for example in examples_of(corpus)}) == 20_001


@pytest.mark.parametrize("language", ["ko", "en", "mixed"])
def test_the_most_examples_there_are_can_be_asked_for_and_not_one_more(language):
    with pytest.raises(RequestError, match=r"^data\.train_examples is 10000000; ") as refusal:
        generate(language=language, train_examples=10_000_000, validation_examples=7, seed=0)
    most = int(re.search(r"must be (\d+) or less", str(refusal.value))[1])
    assert "\n" not in str(refusal.value)
    with pytest.raises(RequestError):
        generate(language=language, train_examples=most, validation_examples=1, seed=0)
    if language == "ko":  # One language shows it; each takes seconds.
        corpus = generate(language=language, train_examples=most - 1, validation_examples=1, seed=0)
        assert len({example.dialogue for example in examples_of(corpus)}) == most


# What the examples look like


def test_every_language_and_domain_has_its_share_of_both_splits(corpus):
    assert len(TEXTS["ko"].domains) >= 6
    assert list(TEXTS["ko"].domains) == list(TEXTS["en"].domains)
    for split in (corpus.train, corpus.validation):
        kinds = [tuple(example.id.split("-")[:2]) for example in split]
        counts = [kinds.count(kind) for kind in DOMAINS]
        assert sum(counts) == len(split)
        assert max(counts) - min(counts) <= 1


def test_a_language_asked_for_is_the_only_one():
    for language, script in (("ko", r"[가-힣]"), ("en", r"^[\x00-\x7f]*$")):
        alone = generate(language=language, train_examples=200, validation_examples=20, seed=0)
        for example in examples_of(alone):
            for text in (example.dialogue, *example.summaries):
                assert re.search(script, text)


def test_the_speakers_take_turns_one_line_each(corpus):
    for example in examples_of(corpus):
        lines = example.dialogue.split("\n")
        assert len(lines) >= 4
        for number, line in enumerate(lines):
            assert re.match(rf"#Person{number % 2 + 1}#: \S", line), line


def test_nothing_of_the_notation_is_left_in_a_text(corpus):
    for example in examples_of(corpus):
        for text in (example.dialogue, *example.summaries):
            assert not re.search(r"[\[\]{}|()]|  |\s$", text, re.MULTILINE), text
            assert not re.search(r"(?:^|: |[.?!] )[a-z]", text), text
            assert re.search(r"[.?!]$", text), text


@pytest.mark.parametrize("language", ["ko", "en"])
def test_lengths_have_a_long_tail(corpus, language):
    lengths = [len(example.dialogue) for example in of_language(corpus, language)]
    assert 3 <= max(lengths) / median(lengths) <= 6
    # Skewed to the right, as a log-normal number is: the mean lies well above the median.
    assert sum(lengths) / len(lengths) > 1.08 * median(lengths)


def test_summaries_of_one_domain_differ_in_more_than_their_slots(corpus):
    for language, name in DOMAINS:
        values = sorted(
            chain.from_iterable(TEXTS[language].domains[name].slots.values()), key=len, reverse=True
        )
        frames = set()
        for example in corpus.train:
            if example.id.startswith(f"{language}-{name}-"):
                frame = re.sub(r"#Person\d#", "_", example.summaries[0])
                for value in values:
                    frame = frame.replace(value, "_")
                frames.add(frame)
        assert len(frames) >= 3, (language, name)


# That a summary says what was said


def test_slot_values_of_a_summary_stand_in_its_dialogue(corpus):
    for example in examples_of(corpus):
        language, name, _ = example.id.split("-")
        summary, dialogue = example.summaries[0].lower(), example.dialogue.lower()
        slots = TEXTS[language].domains[name].slots
        named = [
            value.lower()
            for value in chain.from_iterable(slots.values())
            if re.search(rf"(?<!\w){re.escape(value.lower())}", summary)
        ]
        assert len(named) >= 3, example
        assert all(value in dialogue for value in named), example


@pytest.mark.parametrize(("language", "name"), DOMAINS)
def test_whatever_phrasings_are_drawn_a_request_names_every_slot(language, name):
    domain = TEXTS[language].domains[name]

    def surely(phrasings):
        # What stands in alternatives may be left out, so it does not count.
        return set.intersection(*(set(SLOT.findall(ALTERNATIVES.sub("", p))) for p in phrasings))

    assert set.union(*map(surely, domain.request)) == set(domain.slots)
    for summary in domain.summaries:
        assert set(SLOT.findall(summary)) <= set(domain.slots) | SPEAKERS


def test_the_asker_of_a_summary_is_who_makes_the_request(corpus):
    """The reason of a request, the second slot of every domain, is first told by the asker."""
    for example in examples_of(corpus):
        language, name, _ = example.id.split("-")
        domain = TEXTS[language].domains[name]
        reasons = list(domain.slots.values())[1]
        line = next(
            line
            for line in example.dialogue.split("\n")
            if any(reason.lower() in line.lower() for reason in reasons)
        )
        asker = re.match(r"#Person\d#", line)[0]
        assert example.summaries[0].startswith(asker), example


@pytest.mark.parametrize("language", ["ko", "en"])
def test_the_data_keeps_its_own_rules(language):
    """Exchanges are pairs of turns, and no text is written twice among the phrasings of a turn."""
    texts = TEXTS[language]
    exchanges = [*texts.small_talk, *texts.interruptions, *texts.afterthoughts, texts.goodbye]
    for domain in texts.domains.values():
        exchanges += [domain.request, *domain.questions]
        assert len(domain.request) == 4
        for values in domain.slots.values():
            assert len(set(values)) == len(values)
    for exchange in exchanges:
        assert len(exchange) % 2 == 0
        assert all(len(set(turn)) == len(turn) >= 2 for turn in exchange)


def test_the_texts_hold_plain_characters_only():
    plain = re.compile(r"[\x20-\x7e가-힣]*")
    written = chain.from_iterable(
        (*example.summaries, example.dialogue.replace("\n", " "))
        for example in examples_of(
            generate(language="mixed", train_examples=500, validation_examples=1, seed=9)
        )
    )
    for text in written:
        assert plain.fullmatch(text), text


# Korean particles


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("병원이(가) 학교이(가)", "병원이 학교가"),
        ("오늘은(는) 어제은(는)", "오늘은 어제는"),
        ("책을(를) 숙제을(를)", "책을 숙제를"),
        ("책과(와) 숙제과(와)", "책과 숙제와"),
        ("부산(으)로 서울(으)로 제주(으)로", "부산으로 서울로 제주로"),
        ("회식이에요(예요) 동창회이에요(예요)", "회식이에요 동창회예요"),
        ("저녁이면(면) 오후이면(면)", "저녁이면 오후면"),
        ("#Person1#은(는) #Person2#은(는)", "#Person1#은 #Person2#는"),
        ("#Person1#이(가) #Person2#이(가)", "#Person1#이 #Person2#가"),
        ("1(으)로 2(으)로 3(으)로 7(으)로 8(으)로 10(으)로", "1로 2로 3으로 7로 8로 10으로"),
    ],
)
def test_particles_follow_the_sound_before(text, expected):
    assert attach_particles(text) == expected


@given(
    st.integers(0, 18),
    st.integers(0, 20),
    st.sampled_from(["이(가)", "을(를)", "은(는)", "과(와)"]),
)
def test_every_syllable_gets_the_form_of_its_final_consonant(initial, vowel, particle):
    with_final, without_final = particle[0], particle[2]
    for final in range(28):
        syllable = chr(0xAC00 + (initial * 21 + vowel) * 28 + final)
        expected = with_final if final else without_final
        assert attach_particles(syllable + particle) == syllable + expected
        # ㄹ, the eighth final consonant, takes 로 like a vowel.
        direction = "로" if final in (0, 8) else "으로"
        assert attach_particles(f"{syllable}(으)로") == syllable + direction


@given(st.text(alphabet="가나다 abc#().,1", max_size=20))
def test_text_without_particles_to_choose_stays_as_it_is(text):
    assert attach_particles(text) == text


def test_no_particle_of_the_corpus_is_wrong(corpus):
    """Speaker markers stand before most particles; 1 ends in a consonant, 2 in a vowel."""
    for example in of_language(corpus, "ko"):
        text = example.dialogue + example.summaries[0]
        assert not re.search(r"#Person1#(는|가|를|와)|#Person2#(은|이|을|과)", text)
        assert not re.search(r"시으로|일으로|[가-힣]실으로", text)
