"""What a checkpoint carries cannot make an evaluation fail; what counts in it is taken over."""

import contextlib
import copy
import shutil

import pytest
from support.pretrained import SIZES, TEXTS, edit, make_tokenizer, save
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
)

from batchopt.data.pretrained import generation_settings
from batchopt.errors import RequestError
from batchopt.evaluation.evaluator import Evaluator
from batchopt.evaluation.generation import (
    TAKEN_OVER,
    TAKEN_OVER_WITH_BEAMS,
    decode,
    plan_generation,
)
from batchopt.evaluation.rouge_process import RougeProcess
from batchopt.request.compose import compose_run
from batchopt.request.config import GenerationSettings
from batchopt.training.model import build_model

LEFT_OUT = [
    {"num_return_sequences": 2},
    {"num_beams": 4, "num_return_sequences": 3},
    {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
    {"num_beams": 4, "num_beam_groups": 2, "diversity_penalty": 0.5},
    {"penalty_alpha": 0.6, "top_k": 4},
    {"min_new_tokens": 7, "min_length": 90},
    {"max_length": 3},
    {"max_time": 0.0},
    {"do_sample": True, "temperature": 0.0, "top_p": 0.0},
    {"temperature": 0.7},
    {"constraints": [{"type": "phrasal", "token_ids": [5]}]},
    {"force_words_ids": [[5, 6]]},
    {"stop_strings": ["."]},
    {"prompt_lookup_num_tokens": 3},
    {"assistant_early_exit": 1},
    {"watermarking_config": {"bias": -1, "greenlist_ratio": 7}},
    {"cache_implementation": "static"},
    {"cache_implementation": "nonsense"},
    {"compile_config": {"mode": "nonsense"}},
    {"guidance_scale": 2.0},
    {"sequence_bias": [[[5], 1.0]]},
    {"exponential_decay_length_penalty": [1, 1.5]},
    {"dola_layers": "high"},
    {"forced_decoder_ids": [[1, 5]]},
    {"token_healing": True},
    {"use_cache": False},
    {"logits_processor": "mine", "streamer": True},
    {"a_setting_of_tomorrow": {"x": 1}},
]
DO_NOT_FIT = [
    {"bad_words_ids": [[99999]]},
    {"bad_words_ids": []},
    {"suppress_tokens": [-1]},
    {"begin_suppress_tokens": [99999]},
    {"forced_bos_token_id": 99999},
    {"forced_eos_token_id": "</s>"},
    {"eos_token_id": 99999},
    {"eos_token_id": [2, 99999]},
    {"bos_token_id": "<s>"},
    {"repetition_penalty": 0.0},
    {"repetition_penalty": "high"},
    {"encoder_repetition_penalty": -1.0},
    {"no_repeat_ngram_size": -1},
    {"no_repeat_ngram_size": 2.5},
    {"early_stopping": "soon"},
    {"length_penalty": "long"},
    {"suppress_tokens": [2, 7], "forced_eos_token_id": 2},
]


@pytest.fixture(scope="module")
def rouge():
    return RougeProcess("whitespace")


def evaluate(folder, rouge, num_beams, longest=6, **asked):
    """Builds the model as a run does, evaluates it, and saves it as a checkpoint does."""
    config = compose_run(["model=pretrained", f"model.name_or_path={folder}"]).config
    tokenizer = make_tokenizer()
    model = build_model(config, tokenizer)
    plan = plan_generation(
        model,
        generation_settings(config.model),
        max_new_tokens=longest,
        asked=GenerationSettings(num_beams=num_beams, **asked),
        end_token_id=2,
    )
    model.generation_config = copy.deepcopy(plan.config)
    rows = [
        {"id": text, "references": [text], "input_ids": tokens, "labels": tokens}
        for text in TEXTS
        for tokens in [tokenizer(text)["input_ids"]]
    ]
    evaluator = Evaluator(rows, tokenizer, rouge, plan.config, batch_size=3, sliced=True)
    found = evaluator.evaluate(model, contextlib.nullcontext)
    model.save_pretrained(folder / "checkpoint")
    return plan, [row["prediction"] for row in found.predictions]


def fixed():
    ids = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return BartConfig(vocab_size=len(make_tokenizer()), **SIZES, **ids)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, rouge):
    """A checkpoint with no settings of its own, and its predictions by the number of beams."""
    folder = save(tmp_path_factory.mktemp("plain"), make_tokenizer(), fixed())
    edit(folder / "generation_config.json", forced_eos_token_id=None)
    found = {num_beams: evaluate(folder, rouge, num_beams)[1] for num_beams in (1, 3)}
    shutil.rmtree(folder / "checkpoint")
    return folder, found


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("settings", LEFT_OUT + DO_NOT_FIT, ids=str)
def test_no_setting_of_a_checkpoint_changes_or_ends_an_evaluation(
    tmp_path, rouge, plain, settings, num_beams
):
    folder = tmp_path / "model"
    shutil.copytree(plain[0], folder)
    edit(folder / "generation_config.json", **settings)
    plan, predictions = evaluate(folder, rouge, num_beams)
    if "forced_eos_token_id" in plan.taken:
        assert len(predictions) == len(TEXTS)
    else:
        assert predictions == plain[1][num_beams]


def test_what_is_left_out_and_what_is_taken_over_is_said(tmp_path, rouge):
    settings = {"no_repeat_ngram_size": 3, "num_beams": 4, "length_penalty": 2.0, "max_length": 99}
    folder = save(tmp_path / "model", make_tokenizer(), fixed(), settings)
    greedy, _ = evaluate(folder, rouge, 1)
    assert greedy.taken == {"no_repeat_ngram_size": 3, "forced_eos_token_id": 2}
    assert greedy.left == {"num_beams": 4, "length_penalty": 2.0, "max_length": 99}
    beams, _ = evaluate(folder, rouge, 2)
    assert beams.taken["length_penalty"] == 2.0 == beams.config.length_penalty
    assert "takes over forced_eos_token_id=2, length_penalty=2.0" in str(beams)
    assert "leaves out max_length=99, num_beams=4" in str(beams)


OF_A_CHECKPOINT = {"no_repeat_ngram_size": 3, "num_beams": 4, "length_penalty": 2.0}


def test_what_the_request_names_goes_before_the_checkpoint(tmp_path, rouge):
    folder = save(tmp_path / "model", make_tokenizer(), fixed(), OF_A_CHECKPOINT)
    asked = {"no_repeat_ngram_size": 0, "min_length": 5, "forced_eos_token_id": 2}
    plan, predictions = evaluate(folder, rouge, 3, 9, **asked)
    assert plan.facts() == {
        "settings": {"max_new_tokens": 9, "num_beams": 3, "length_penalty": 2.0, **asked},
        "taken_over": ["length_penalty"],
        "left_out": {"no_repeat_ngram_size": 3, "num_beams": 4},
    }
    again = BartForConditionalGeneration.from_pretrained(folder / "checkpoint")
    kept = again.generation_config.to_dict()
    assert kept.items() >= plan.facts()["settings"].items()
    rows = [make_tokenizer()(text, return_tensors="pt")["input_ids"] for text in TEXTS]
    alone = [decode(make_tokenizer(), again.generate(row), plan.config)[0] for row in rows]
    assert alone == predictions, "a kept model generates as it was evaluated"


def test_a_recipe_of_a_checkpoint_is_taken_over_as_a_whole(tmp_path, rouge):
    settings = {**OF_A_CHECKPOINT, "min_length": 4, "max_length": 99, "do_sample": True}
    folder = save(tmp_path / "model", make_tokenizer(), fixed(), settings)
    plan, _ = evaluate(folder, rouge, None, 9, checkpoint=True)
    assert plan.config.num_beams == 4
    assert plan.config.min_length == 4
    assert plan.left == {"max_length": 99, "do_sample": True}
    assert "takes over forced_eos_token_id=2, length_penalty=2.0, min_length=4" in str(plan)
    short, _ = evaluate(folder, rouge, 1, 3, checkpoint=True)
    assert short.config.num_beams == 1
    assert short.config.length_penalty is None
    assert not short.config.min_length, "longer than a summary may be"
    named, _ = evaluate(folder, rouge, None, 9, checkpoint=True, min_new_tokens=2)
    assert (named.config.min_length, named.config.min_new_tokens) == (None, 2)


@pytest.mark.parametrize(
    "asked", [{"suppress_tokens": [5, 99999]}, {"forced_bos_token_id": 99999}], ids=str
)
def test_a_token_beyond_the_vocabulary_is_refused_with_its_key(asked):
    model = BartForConditionalGeneration(fixed())
    settings = GenerationSettings(**asked)
    with pytest.raises(RequestError, match=f"generation.{next(iter(asked))} is .*99999"):
        plan_generation(model, {}, max_new_tokens=9, asked=settings)


def test_a_setting_of_a_beam_search_is_refused_where_the_checkpoint_has_one_beam():
    model = BartForConditionalGeneration(fixed())
    settings = GenerationSettings(checkpoint=True, length_penalty=2.0)
    plan = plan_generation(model, {"num_beams": 2}, max_new_tokens=9, asked=settings)
    assert plan.config.length_penalty == 2.0
    with pytest.raises(RequestError, match=r"length_penalty is 2.0, and the checkpoint has one"):
        plan_generation(model, {}, max_new_tokens=9, asked=settings)


def test_a_decoder_only_model_takes_nothing_over_that_looks_at_the_prompt():
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=8, n_layer=1, n_head=1))
    settings = {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2, "suppress_tokens": [7]}
    plan = plan_generation(model, settings, max_new_tokens=9, asked=GenerationSettings())
    assert plan.taken == {"suppress_tokens": [7]}
    assert plan.left == {"no_repeat_ngram_size": 3, "repetition_penalty": 1.2}
    asked = GenerationSettings(no_repeat_ngram_size=3)
    with pytest.raises(RequestError, match=r"no_repeat_ngram_size is 3; with a decoder-only model"):
        plan_generation(model, {}, max_new_tokens=9, asked=asked)


def test_settings_of_an_older_checkpoint_are_in_its_config(tmp_path, rouge):
    folder = save(tmp_path / "model", make_tokenizer(), fixed())
    (folder / "generation_config.json").unlink()
    text = (folder / "config.json").read_text().rstrip().removesuffix("}").rstrip()
    added = '"no_repeat_ngram_size": 2, "num_return_sequences": 5, "min_length": 50'
    (folder / "config.json").write_text(f"{text},\n{added}}}")
    plan, _ = evaluate(folder, rouge, 1)
    assert plan.config.no_repeat_ngram_size == 2
    assert plan.left == {"num_return_sequences": 5, "min_length": 50}


def test_every_setting_on_the_list_is_one_of_transformers():
    known = vars(GenerationConfig())
    assert set(TAKEN_OVER) | set(TAKEN_OVER_WITH_BEAMS) <= set(known)


def test_the_end_of_the_labels_ends_a_generation_too(tmp_path):
    model = BartForConditionalGeneration(fixed())
    own = {"eos_token_id": 9}
    plan = plan_generation(model, own, max_new_tokens=9, asked=GenerationSettings(), end_token_id=2)
    assert plan.config.eos_token_id == [9, 2]
    model.final_logits_bias[:, 2] = 100.0
    model.generation_config = copy.deepcopy(plan.config)
    generated = model.generate(input_ids=model.dummy_inputs["input_ids"] * 0 + 5)
    assert generated.shape[1] == 2, "the start and the end"


KEPT = ["#Person1#", "#@이름#", "[NAME]", "<PERSON>", "{이름}", "<turn>"]
CODES = ["ko_KR", "kor_Hang", "__ko__"]


def test_predictions_keep_every_token_that_a_reference_can_hold():
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": [*KEPT, *CODES]})
    number = tokenizer.convert_tokens_to_ids
    text = tokenizer("우산", add_special_tokens=False)["input_ids"]
    words = [[number(kept), *text] for kept in KEPT]
    framed = [
        [2, 0, number(code), *row, 2, 1, 1] for code, row in zip(CODES * 2, words, strict=True)
    ]
    config = GenerationConfig(eos_token_id=2, decoder_start_token_id=2)
    assert decode(tokenizer, framed, config) == [f"{kept}우산" for kept in KEPT]
    assert decode(tokenizer, [[2, 0, 2, 1], []], config) == ["", ""]


def test_a_text_without_such_tokens_decodes_as_ever():
    tokenizer = make_tokenizer()
    rows = [[2, *tokenizer(text)["input_ids"], 1] for text in TEXTS]
    plain = [text.strip() for text in tokenizer.batch_decode(rows, skip_special_tokens=True)]
    assert decode(tokenizer, rows, GenerationConfig(eos_token_id=2)) == plain == TEXTS


def test_a_begin_that_is_no_special_token_of_the_tokenizer_goes_too():
    tokenizer = make_tokenizer(eos_token=None)
    config = GenerationConfig(eos_token_id=[2, 9], decoder_start_token_id=2)
    row = tokenizer("우산", add_special_tokens=False)["input_ids"]
    assert decode(tokenizer, [[2, *row, 2]], config) == ["우산"]
