"""What follows beyond the single aims: each decision changes as it should when the numbers do."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.analysis_sweep import make_sweep

from analysis.findings.comparisons import label_settings
from analysis.findings.facts import Comparison, Finding, Findings
from analysis.findings.frame import build_frame
from analysis.findings.judge import Options, find
from analysis.reading.runs import read_sweeps
from analysis.words import en, ko

SPEED = {"05a": 0.46, "05b": 0.52, "05c": 0.41}
NOISE = {"05a": (0.0, 1.0, 2.0), "05b": (2.0, 0.5, 1.0), "05c": (1.0, 2.0, 0.3)}
PEAK = {"05a": 0.61, "05b": 0.74, "05c": 1.32}


def rouge(best: float) -> list[tuple[int, float]]:
    return [(0, 0.02), (50, best * 0.6), (100, best * 0.9), (157, best)]


def jobs(
    quality: dict[str, float] | None = None,
    spread: float = 0.001,
    seeds: tuple[int, ...] = (1, 2, 3),
    **more: Any,
) -> list[dict[str, Any]]:
    """Three presets; their seeds vary a little, and not alike."""
    return [
        {
            "preset": preset,
            "seed": seed,
            "speed": SPEED[preset] * (1 + 0.002 * ((seed + place) % 3)),
            "peak_gib": PEAK[preset] * (1 + 0.001 * ((seed + 2 * place) % 3)),
            "rouge": rouge((quality or {}).get(preset, 0.5) + spread * NOISE[preset][seed - 1]),
            **more,
        }
        for place, preset in enumerate(SPEED)
        for seed in seeds
    ]


def findings(sweep: Path, **options: Any) -> Findings:
    runs = [run for one in read_sweeps([sweep]) for run in one.runs]
    return find(runs, build_frame(runs), label_settings(runs), Options(**options))


def only(sweep: Path, **options: Any) -> Comparison:
    (comparison,) = findings(sweep, **options).comparisons
    return comparison


def aim(comparison: Comparison, key: str) -> Finding:
    return next(one for one in comparison.aims if one.aim.key == key)


def verified(sweep: Path, *, passed: bool) -> Path:
    """Puts a verify.json beside the sweep."""
    checks = [
        {"preset": "8 x 8", "packing": "sorted", "passed": passed, "gradient_difference": 2e-7},
        {"preset": "64 x 1", "packing": "sorted", "passed": None, "gradient_difference": None},
    ]
    (sweep / "verify.json").write_text(json.dumps(checks))
    return sweep


def test_no_difference_in_quality_is_a_check_that_passed(tmp_path: Path) -> None:
    comparison = only(make_sweep(tmp_path, jobs(spread=0.0001)))
    assert comparison.quality.outcome == "same"
    assert "came out the same within 0.5 ROUGE points" in en.quality_check(comparison)
    quality = aim(comparison, "best_quality")
    assert (quality.outcome, quality.choice, quality.certainty) == ("one training", None, "no")
    assert quality.more_seeds is None  # there is nothing to find out


def test_a_narrower_margin_leaves_it_open(tmp_path: Path) -> None:
    comparison = only(make_sweep(tmp_path, jobs(spread=0.001)), equivalence_margin=0.05)
    assert comparison.quality.outcome == "open"
    assert "no gap beyond the noise" in en.quality_check(comparison)


def test_a_gap_that_seeds_do_not_explain_is_a_fault_and_no_choice(tmp_path: Path) -> None:
    comparison = only(make_sweep(tmp_path, jobs({"05c": 0.6}, spread=0.001)))
    assert comparison.quality.outcome == "gap"
    assert comparison.quality.gap is not None
    assert comparison.quality.gap.first == "05c (64 × 1)"
    assert aim(comparison, "best_quality").choice is None
    assert "more than seeds explain" in "".join(en.answer(comparison))
    assert "python -m batchopt.verify" in en.quality_check(comparison)


def test_settings_that_verify_calls_different_are_ranked_by_quality(tmp_path: Path) -> None:
    sweep = verified(make_sweep(tmp_path, jobs({"05c": 0.6}, spread=0.001)), passed=False)
    comparison = only(sweep)
    quality = aim(comparison, "best_quality")
    assert (quality.choice, quality.certainty) == ("05c (64 × 1)", "yes")
    assert "different trainings" in "".join(en.answer(comparison))


@pytest.mark.parametrize(
    ("dropout", "passed", "says"),
    [
        (0.0, True, "the same training up to rounding (verify.json: gradients equal to 2e-07"),
        (0.1, True, "draw other dropout masks (dropout 0.1)"),
        (None, None, "whether the model has dropout was not recorded"),
    ],
)
def test_one_training_is_said_as_far_as_the_files_say_it(
    tmp_path: Path, dropout: float | None, passed: bool | None, says: str
) -> None:
    config = {} if dropout is None else {"model": {"source": "tiny", "dropout": dropout}}
    sweep = make_sweep(tmp_path, [job | {"config": config} for job in jobs()])
    if passed is not None:
        verified(sweep, passed=passed)
    assert says in en.quality_check(only(sweep))


def test_nothing_learnt_says_nothing_of_quality(tmp_path: Path) -> None:
    flat = [job | {"rouge": [(0, 0.003), (157, 0.003)]} for job in jobs()]
    comparison = only(make_sweep(tmp_path, flat))
    assert comparison.quality.outcome == "not learnt"
    assert "did not rise above its start" in en.quality_check(comparison)


def test_trainings_that_differ_are_ranked_by_quality(tmp_path: Path) -> None:
    """Two learning rates are two comparisons, and two trainings."""
    swept = [
        {
            **job,
            "overrides": [
                *(f"batch={job['preset']}", f"training.learning_rate={rate}", f"seed={job['seed']}")
            ],
            "rouge": rouge(score + 0.002 * ((job["seed"] + place) % 3)),
        }
        for place, job in enumerate(jobs())
        for rate, score in (("1e-4", 0.4), ("3e-4", 0.5))
    ]
    found = findings(make_sweep(tmp_path, swept))
    assert found.trainings is not None
    assert found.trainings.choice == "training.learning_rate = 0.0003"
    assert found.trainings.certainty == "yes"
    assert all(one.quality.outcome != "gap" for one in found.comparisons)


def test_a_setting_that_lost_its_bad_seeds_is_not_better(tmp_path: Path) -> None:
    """05b has the better mean of its own and the worse runs wherever both ran."""
    scores = {("05a", 1): 0.5, ("05a", 2): 0.51, ("05a", 3): 0.40, ("05a", 4): 0.405,
              ("05b", 1): 0.49, ("05b", 2): 0.5001}  # fmt: skip
    lost = [
        {"preset": preset, "seed": seed, "speed": SPEED[preset] * (1 + 0.001 * seed)}
        | ({"rouge": rouge(scores[preset, seed])} if (preset, seed) in scores
           else {"status": "failed"})
        for preset in ("05a", "05b") for seed in (1, 2, 3, 4)
    ]  # fmt: skip
    comparison = only(verified(make_sweep(tmp_path, lost), passed=False))
    quality = aim(comparison, "best_quality")
    assert quality.ranking[0].label == "05a (8 × 8)"
    assert quality.ranking[0].mean < quality.ranking[1].mean
    (contrast,) = quality.contrasts
    assert contrast.estimate > 0
    assert (contrast.seeds, contrast.paired) == (2, True)
    assert any("seeds 3 and 4" in line for line in map(en.limit, comparison.limits))


def test_a_difference_too_small_to_matter_is_never_decided(tmp_path: Path) -> None:
    tiny = [
        {**job, "speed": 0.5 * (1.001 if job["preset"] == "05b" else 1), "peak_gib": 0.7}
        for job in jobs()
    ]
    fastest = aim(only(make_sweep(tmp_path, tiny)), "fastest")
    assert fastest.contrasts[0].p_value == 0.0  # nothing varies
    assert fastest.certainty == "no"


def test_what_cannot_be_compared_does_not_block_the_others(tmp_path: Path) -> None:
    mixed = [
        job | ({"environment": {"hostname": "node2"}} if job["preset"] == "05c" else {})
        for job in jobs()
    ]
    comparison = only(make_sweep(tmp_path, mixed))
    fastest = aim(comparison, "fastest")
    assert (fastest.choice, fastest.certainty) == ("05b (16 × 4)", "yes")
    assert (fastest.left_out, fastest.blocks) == (("05c (64 × 1)",), ("machine",))
    assert "05c (64 × 1) is not ranked: the runs differ in machine" in en.reason(fastest)
    row = next(row for row in comparison.rows if row.label.startswith("05c"))
    assert (row.speed, row.memory) == (None, None)
    assert row.quality is not None  # quality does not depend on the machine


def test_the_full_length_is_that_of_the_config_and_not_of_a_short_sweep(tmp_path: Path) -> None:
    config = {"training": {"num_train_epochs": 5, "max_steps": 30},
              "device": {"memory_limit_gib": 2.0}}  # fmt: skip
    energy = {"energy_j": 157 * 36.0}
    sweep = make_sweep(tmp_path, [job | {"config": config, "metrics": energy} for job in jobs()])
    row = next(row for row in only(sweep).rows if row.label.startswith("05b"))
    assert row.full is not None
    assert row.full.steps == 5 * 32  # 2,000 examples in steps of 64
    assert row.full.train_time_s.estimate == pytest.approx(160 / row.speed.mean)
    assert row.full.energy_wh == pytest.approx(160 * 36 / 3600)
    assert row.full.headroom_gib == pytest.approx(2.0 - max(row.memory.values))
    named = only(sweep, full_steps=1000, memory_budget_gib=1.0).rows
    assert {row.full.steps for row in named} == {1000}
    assert min(row.full.headroom_gib for row in named) < 0 < max(
        row.full.headroom_gib for row in named)  # fmt: skip


def test_changes_are_against_the_slowest_or_whom_one_names(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, jobs())
    comparison = only(sweep)
    assert comparison.baseline == "05c (64 × 1)"
    changes = {row.label[:3]: row.speed_change for row in comparison.rows}
    assert changes["05c"] is None
    assert changes["05b"].estimate == pytest.approx(0.52 / 0.41, rel=0.01)
    assert only(sweep, baseline="05a").baseline == "05a (8 × 8)"


def test_the_answer_is_in_numbers_and_has_the_alternative(tmp_path: Path) -> None:
    config = {"model": {"source": "tiny", "dropout": 0.0}}
    sweep = make_sweep(tmp_path, [job | {"config": config} for job in jobs()])
    said = "".join(en.answer(only(sweep)))
    assert said == (
        "Use 05b (16 × 4): 13 % faster than 05a, 0.74 GiB. If memory is short, 05a needs 18 % less "
        "and is 12 % slower. Quality does not separate them: they take the same gradient."
    )
    korean = "".join(ko.answer(only(sweep)))
    assert korean == (
        "05b (16 × 4)를 권합니다. 05a보다 13% 빠르고 메모리는 0.74 GiB입니다. 메모리가 부족하면 "
        "05a를 쓰세요. 메모리는 18% 적게 들고 속도는 12% 느립니다. 같은 그래디언트로 학습하므로 "
        "품질은 선택 기준이 아닙니다."
    )


@pytest.mark.parametrize(
    ("change", "english", "korean"),
    [
        (
            {"status": "missing"},
            "No run has completed: there is nothing to recommend.",
            "완료된 실행이 없어 권할 설정이 없습니다.",
        ),
        (
            {"metrics": {"timing_untrusted": ["x"]}},
            "No setting is recommended for its speed. The timing of all runs was disturbed: run "
            "them again undisturbed. 05a (8 × 8) needs least memory:",
            "속도를 기준으로 권할 설정이 없습니다. 모든 실행의 시간 측정이 방해를 받았습니다.",
        ),
    ],
)
def test_the_first_line_says_why_there_is_no_answer(
    tmp_path: Path, change: dict[str, Any], english: str, korean: str
) -> None:
    comparison = only(make_sweep(tmp_path, [job | change for job in jobs()]))
    assert "".join(en.answer(comparison)).startswith(english)
    assert "".join(ko.answer(comparison)).startswith(korean)


def test_one_setting_that_completed_is_named(tmp_path: Path) -> None:
    left = [job | ({} if job["preset"] == "05a" else {"status": "oom"}) for job in jobs()]
    comparison = only(make_sweep(tmp_path, left))
    assert "".join(en.answer(comparison)) == (
        "Only 05a (8 × 8) completed with 0.461 steps/s, 0.61 GiB: there is nothing to compare it "
        "with."
    )


def test_runs_of_a_setting_are_told_together(tmp_path: Path) -> None:
    fell = [job | {"rouge": [(0, 0.02), (50, 0.5), (157, 0.1)],
                   "metrics": {"timing_untrusted": ["x"]}} for job in jobs()]  # fmt: skip
    said = en.limits(findings(make_sweep(tmp_path, fell)))
    assert sum("was disturbed" in line for line in said) == 3
    assert sum("fell from 0.500 to 0.100" in line for line in said) == 3
    assert any("05a (8 × 8), seeds 1, 2 and 3," in line for line in said)


def test_who_is_slower_and_larger_is_said_by_name(tmp_path: Path) -> None:
    comparison = only(make_sweep(tmp_path, jobs()))
    assert comparison.beaten == (("05c (64 × 1)", "05b (16 × 4)"),)
    assert en.beaten(comparison) == (
        "05c (64 × 1) is slower and needs more memory than 05b (16 × 4). Choose between "
        "05a (8 × 8) and 05b (16 × 4)."
    )
    assert "05c (64 × 1)는 05b (16 × 4)보다 느리고 메모리도 더 씁니다." in ko.beaten(comparison)
    # Single runs show nobody beaten.
    assert only(make_sweep(tmp_path / "one", jobs(seeds=(1,)))).beaten == ()


def test_of_settings_that_may_be_as_fast_the_leanest_is_named(tmp_path: Path) -> None:
    close = [{**job, "speed": 0.5 * (1 + 0.01 * ((job["seed"] * (place // 3 + 2)) % 3))}
             for place, job in enumerate(jobs())]  # fmt: skip
    comparison = only(make_sweep(tmp_path, close))
    assert comparison.answer is not None
    assert comparison.answer.certainty == "no"
    said = "".join(en.answer(comparison))
    assert said.startswith("Nothing shows that another setting is faster than 05a (8 × 8)")
    assert "may be as fast" in said


def test_examples_that_disagree_keep_quality_open(tmp_path: Path) -> None:
    """The seeds agree on a difference, and the validation examples do not carry it."""
    sweep = make_sweep(tmp_path, jobs({"05c": 0.51}, spread=0.0001))
    for run in sweep.iterdir():
        if run.is_dir():
            better = "05c" in run.name
            rows = [
                {
                    "id": f"sample-{place}",
                    # One example in ten is much better, the others are worse.
                    **dict.fromkeys(
                        ("rouge1_f1", "rouge2_f1", "rougeL_f1"),
                        (0.95 if place == 0 else 0.46) if better else 0.5,
                    ),
                }
                for place in range(10)
            ]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (run / "predictions.jsonl").write_text(text)
    quality = aim(only(verified(sweep, passed=False)), "best_quality")
    assert quality.choice is None
    (first, *_) = quality.contrasts
    assert first.p_value is not None
    assert first.p_value < 0.05  # between seeds it looked decided
    assert first.within_runs is not None
    assert not first.within_runs.excludes(0)
    assert quality.more_seeds is not None
    assert quality.more_seeds.examples is not None
    assert quality.more_seeds.examples > 10
    assert "validation set is too small" in en.more_seeds(quality)


@pytest.mark.parametrize(("speed", "knee"), [(0.50, "05a"), (0.46, "05b")])
def test_the_knee_is_the_least_memory_within_five_percent(
    tmp_path: Path, speed: float, knee: str
) -> None:
    changed = [
        {**job, "speed": speed if job["preset"] == "05a" else job["speed"]} for job in jobs()
    ]
    found = only(make_sweep(tmp_path, changed)).knee
    assert found is not None
    assert found.choice.label.startswith(knee)
    assert found.fastest.label.startswith("05b")


@pytest.mark.parametrize(("gib", "choice"), [(2.0, "05b"), (0.7, "05a"), (0.5, None)])
def test_the_budget_takes_the_fastest_that_fits(
    tmp_path: Path, gib: float, choice: str | None
) -> None:
    comparison = only(make_sweep(tmp_path, jobs()), memory_budget_gib=gib)
    budget = comparison.budget
    assert budget is not None
    assert (budget.choice.label[:3] if budget.choice else None) == choice
    assert f"{gib:g} GiB" in en.budget(comparison)
    assert only(make_sweep(tmp_path / "other", jobs())).budget is None


def test_whether_the_sweep_paid_against_a_blind_choice(tmp_path: Path) -> None:
    same = [{"preset": preset, "seed": 1, "speed": 1.0 if preset == "05b" else 0.5}
            for preset in SPEED]  # fmt: skip
    payback = only(make_sweep(tmp_path, same)).payback
    assert payback is not None
    # 2,000 s, 1,000 s and 2,000 s for 1,000 steps: the mean is 5,000/3 s.
    assert payback.saving_s == pytest.approx(2000 / 3)
    assert payback.most_s == pytest.approx(1000)
    cost = (157 / 0.5 + 30) * 2 + 157 + 30
    assert payback.cost_s == pytest.approx(cost)
    assert payback.break_even_steps == pytest.approx(1000 * cost / (2000 / 3))
    level = [{**job, "speed": 0.5} for job in same]
    assert only(make_sweep(tmp_path / "level", level)).payback is None  # nothing was saved


def test_one_seed_asks_for_two_more(tmp_path: Path) -> None:
    sweep = verified(make_sweep(tmp_path, jobs({"05b": 0.6}, seeds=(1,))), passed=False)
    quality = aim(only(sweep), "best_quality")
    assert quality.more_seeds is not None
    assert quality.more_seeds.more == 2
    assert not quality.more_seeds.variance_known
    assert "2 more seeds" in en.more_seeds(quality)


def test_more_noise_asks_for_more_seeds(tmp_path: Path) -> None:
    needed = []
    for name, spread in (("low", 0.003), ("high", 0.005), ("hopeless", 0.2)):
        sweep = verified(make_sweep(tmp_path / name, jobs(spread=spread)), passed=False)
        found = aim(only(sweep), "best_quality")
        assert found.more_seeds is not None
        needed.append(found.more_seeds.need)
    low, high, hopeless = needed
    assert low is not None
    assert high is not None
    assert 3 < low < high
    assert hopeless is None


def test_a_disturbed_run_is_not_ranked_by_time_but_by_memory(tmp_path: Path) -> None:
    disturbed = [
        job | ({"metrics": {"timing_untrusted": ["the device throttled"]}}
               if (job["preset"], job["seed"]) == ("05b", 2) else {})
        for job in jobs()
    ]  # fmt: skip
    sweep = make_sweep(tmp_path, disturbed)
    found = findings(sweep)
    (comparison,) = found.comparisons
    fastest = {one.label: one for one in aim(comparison, "fastest").ranking}
    assert len(fastest["05b (16 × 4)"].values) == 2
    memory = {one.label: one for one in aim(comparison, "least_memory").ranking}
    assert len(memory["05b (16 × 4)"].values) == 3
    assert any("05b (16 × 4), seed 2, was disturbed (the device throttled)" in line
               for line in en.limits(found))  # fmt: skip
    # Where all runs of a setting were disturbed, it is named and left out.
    every = [job | {"metrics": {"timing_untrusted": ["x"]}} if job["preset"] == "05b" else job
             for job in jobs()]  # fmt: skip
    left = aim(only(make_sweep(tmp_path / "every", every)), "fastest")
    assert left.untrusted == ("05b (16 × 4)",)
    assert left.choice == "05a (8 × 8)"


def test_a_row_that_is_not_what_was_asked_for_says_so(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, jobs(seeds=(1,)))
    path = next(sweep.glob("2_*")) / "record.json"
    record = json.loads(path.read_text())
    record["plan"] |= {
        "per_device_train_batch_size": 32,
        "gradient_accumulation_steps": 2,
        "requested": {"per_device_train_batch_size": 64, "gradient_accumulation_steps": 1},
    }
    path.write_text(json.dumps(record))
    said = en.limits(findings(sweep))
    assert any("64 × 1 was asked for and 32 × 2 was run" in line for line in said)


# Comparisons


def rates(*values: str, config: bool) -> list[dict[str, Any]]:
    return [
        job
        | {
            "overrides": [
                f"batch={job['preset']}",
                *([f"training.learning_rate={value}"] if value else []),
                f"seed={job['seed']}",
            ],
            "config": {"training": {"learning_rate": float(value or "2e-3")}} if config else None,
        }
        for value in values
        for job in jobs()
    ]


@pytest.mark.parametrize("config", [True, False], ids=["configs", "overrides alone"])
def test_other_swept_keys_are_facets(tmp_path: Path, config: bool) -> None:
    found = findings(make_sweep(tmp_path, rates("1e-4", "3e-4", config=config)))
    assert [part.facets for part in found.comparisons] == [
        (("training.learning_rate", "0.0001"),),
        (("training.learning_rate", "0.0003"),),
    ]
    for part in found.comparisons:
        assert len(part.places) == 9
        assert len(aim(part, "fastest").ranking) == 3
    assert en.facets(found.comparisons[0]) == "training.learning_rate = 0.0001"


@pytest.mark.parametrize("config", [True, False], ids=["configs", "overrides alone"])
@pytest.mark.parametrize(
    "key",
    [
        "training.optimizer",
        "training.arguments.adam_beta2",
        "training.arguments.lr_scheduler_kwargs.num_cycles",
        "generation.num_beams",
    ],
)
def test_an_argument_of_transformers_that_differs_is_named(
    tmp_path: Path, key: str, config: bool
) -> None:
    """A key of an open table has a plus, and only the runs that were asked for it have the key."""
    plus = "++" if "kwargs" in key else ""
    planned = []
    for value in ("", "3"):
        table: dict[str, Any] = {key.rpartition(".")[2]: 3} if value else {}
        for part in reversed(key.split(".")[:-1]):
            table = {part: table}
        for job in jobs():
            words = [f"batch={job['preset']}", f"seed={job['seed']}"]
            words += [f"{plus}{key}=3"] if value else []
            planned.append(job | {"overrides": words, "config": table if config else None})
    found = findings(make_sweep(tmp_path, planned))
    assert [part.facets for part in found.comparisons] == [((key, "default"),), ((key, "3"),)]
    assert en.facets(found.comparisons[1]) == f"{key} = 3"


def test_a_default_and_the_same_value_named_are_one_comparison(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, rates("2e-3", "", config=True))
    assert len(findings(sweep).comparisons) == 1


def test_a_run_that_never_started_joins_those_asked_for_the_same(tmp_path: Path) -> None:
    planned = rates("1e-4", "3e-4", config=True)
    planned[-1] |= {"status": "missing"}
    found = findings(make_sweep(tmp_path, planned))
    assert [len(part.places) for part in found.comparisons] == [9, 9]


def test_names_of_directories_say_nothing(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, jobs())
    plan = json.loads((sweep / "sweep.json").read_text())
    for number, job in enumerate(plan["jobs"]):
        (sweep / job["run_dir"]).rename(sweep / f"training.learning_rate={number}")
        job["run_dir"] = f"training.learning_rate={number}"
    (sweep / "sweep.json").write_text(json.dumps(plan))
    assert len(findings(sweep).comparisons) == 1
