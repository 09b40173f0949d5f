"""The figures on paper: sizes, colours, marks, and texts that do not lie on each other."""

import io
import itertools
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest
from matplotlib.text import Text
from support.analysis_sweep import make_sweep

from analysis.__main__ import Request, analyse
from analysis.findings.comparisons import label_settings
from analysis.findings.frame import build_frame
from analysis.reading.runs import read_sweeps
from analysis.report import charts, figures, fonts
from analysis.report.charts import Setting


def settings_of(sweep: Path) -> tuple[Setting, ...]:
    runs = read_sweeps([sweep])[0].runs
    return charts.group_settings(runs, build_frame(runs), label_settings(runs))


def artifacts_of(sweep: Path, **request: Any) -> dict[str, bytes]:
    return analyse([sweep], Request(**request))


def grid(presets: int, rates: int, seeds: int, **more: Any) -> list[dict[str, Any]]:
    """Jobs whose peak and speed follow from their place."""
    return [
        {
            "preset": f"05{chr(97 + preset)}",
            "seed": seed,
            "overrides": [
                f"batch=05{chr(97 + preset)}",
                *([f"training.learning_rate={rate + 1}e-4"] if rates > 1 else []),
                f"seed={seed}",
            ],
            "speed": 0.4 + 0.05 * preset + 0.01 * seed,
            "peak_gib": 0.6 + 0.3 * preset + 0.02 * rate,
            "metrics": {
                "data_wait_s": 0.01,
                "forward_s": 0.3,
                "backward_s": 0.6,
                "optimizer_s": 0.1,
            },
            **more,
        }
        for preset, rate, seed in itertools.product(
            range(presets), range(rates), range(1, seeds + 1)
        )
    ]


NAMES = ("아주_긴_이름을_가진_배치_설정_가", "x" * 60, "05c")
LONG = [
    job | {"preset": name, "overrides": [f"batch={name}", "seed=1"]}
    for name, job in zip(NAMES, grid(3, 1, 1), strict=True)
]
TWELVE = [
    job
    | {"preset": f"{size}x{60 // size}", "pair": (size, 60 // size), "seed": 1,
       "overrides": [f"batch={size}x{60 // size}", "seed=1"],
       "speed": 0.3 + 0.02 * place - 0.0012 * place * place, "peak_gib": 0.5 + size / 50}
    for place, (size, job) in enumerate(
        zip((1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60), grid(12, 1, 1), strict=True)
    )
]  # fmt: skip
COUNTS = {
    "three": grid(3, 1, 1),
    "nine": grid(3, 1, 3),
    "twelve": TWELVE,
    "long names": LONG,
    "thirty": grid(3, 10, 1),
}


@pytest.mark.parametrize(
    "jobs",
    [
        [{"preset": preset, "status": "failed"} for preset in ("05a", "05b", "05c")],
        [{"preset": "05a", "status": "missing"}],
        [{"preset": name, "speed": 0.4} for name in ("작은 배치", "큰 배치", "$x_1^2$")],
        [{**job, "status": "oom"} if job["preset"] == "05c" else job for job in grid(3, 5, 2)],
    ],
    ids=["all failed", "none started", "Hangul", "thirty runs"],
)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_figures_are_drawn_without_a_warning(
    tmp_path: Path, jobs: list[dict[str, Any]], language: Any
) -> None:
    sweep = make_sweep(tmp_path, jobs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        artifacts = analyse([sweep], Request(language=language))
    for name in ("memory_vs_speed.png", "training_curves.png", "summary_table.png"):
        image = matplotlib.image.imread(io.BytesIO(artifacts[name]))
        height, width, _ = image.shape
        assert 300 <= width <= 4000
        assert 200 <= height <= 4000
        assert image[..., :3].std() > 0.01  # something is drawn on the white


def drawn(sweep: Path, language: Any) -> dict[str, Any]:
    settings = settings_of(sweep)
    plans: dict[str, tuple[Any, ...]] = {
        "memory_vs_speed": (charts.memory_vs_speed(settings, language),),
        "training_curves": charts.training_curves(settings, 0.4, language),
        "step_time": (charts.step_time(settings, language),),
        "padding": (charts.padding(settings, language),),
    }
    return {name: figures.draw_figure(parts, language) for name, parts in plans.items()}


def texts_of(figure: Any) -> list[Text]:
    """Every text that is drawn; the ticks beyond the limits of an axis are there and are not."""
    beyond = [
        label
        for ax in figure.axes
        for side, labels, limits in (
            (0, ax.get_xticklabels(), sorted(ax.get_xlim())),
            (1, ax.get_yticklabels(), sorted(ax.get_ylim())),
        )
        for label in labels
        if not limits[0] <= label.get_position()[side] <= limits[1]
    ]
    return [
        text
        for text in figure.findobj(Text)
        if text.get_text() and text.get_visible() and text not in beyond
    ]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("language", ["en", "ko"])
def test_no_two_texts_lie_on_each_other(tmp_path: Path, count: str, language: Any) -> None:
    sweep = make_sweep(tmp_path, COUNTS[count])
    with figures.style():
        for name, figure in drawn(sweep, language).items():
            figure.draw_without_rendering()
            inside = [(text.get_text(), text.get_window_extent()) for text in texts_of(figure)]
            assert len(inside) > 5
            page = figure.bbox
            for text, box in inside:
                assert page.x0 <= box.x0 and box.x1 <= page.x1 + 1, (name, text)
                assert page.y0 <= box.y0 and box.y1 <= page.y1 + 1, (name, text)
            # A long name is broken, and nothing of it is cut.
            shown = {re.sub(r"\s", "", text) for text, _ in inside}
            for setting in settings_of(sweep):
                assert re.sub(r"\s", "", setting.name) in shown, name
            for (first, a), (second, b) in itertools.combinations(inside, 2):
                across = min(a.x1, b.x1) - max(a.x0, b.x0)
                along = min(a.y1, b.y1) - max(a.y0, b.y0)
                assert not (across > 1 and along > 1), (name, first, second)


def test_one_chart_is_one_column_wide_and_its_texts_can_be_read(tmp_path: Path) -> None:
    with figures.style():
        for name, figure in drawn(make_sweep(tmp_path, COUNTS["nine"]), "en").items():
            columns = 2 if name == "training_curves" else 1
            assert figure.get_figwidth() == pytest.approx(figures.COLUMN_INCHES * columns)
            sizes = [text.get_fontsize() for text in figure.findobj(Text) if text.get_text()]
            assert min(sizes) >= 6.5  # points, as it is printed


def test_a_preset_keeps_its_colour_whatever_else_was_run(tmp_path: Path) -> None:
    def looks(name: str, jobs: list[dict[str, Any]]) -> dict[str, str]:
        found = settings_of(make_sweep(tmp_path, jobs, name=name))
        return {str(setting.runs[0].preset): setting.look.colour for setting in found}

    jobs = grid(3, 1, 1)
    planned, reversed_ = looks("a", jobs), looks("b", jobs[::-1])
    assert planned == reversed_
    assert len(set(planned.values())) == 3


def test_settings_of_a_preset_share_its_colour_and_can_be_told_apart(tmp_path: Path) -> None:
    settings = settings_of(make_sweep(tmp_path, grid(3, 4, 1)))
    assert len(settings) == 12
    assert len({setting.look.colour for setting in settings}) == 3
    assert len({(one.look.colour, one.look.line) for one in settings}) == 12


def test_twelve_batches_have_twelve_colours_in_their_order(tmp_path: Path) -> None:
    sizes = (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60)
    jobs = [
        {"preset": f"{size}x{60 // size}", "pair": (size, 60 // size), "speed": 0.3 + size / 100}
        for size in sorted(sizes, key=str)
    ]
    settings = settings_of(make_sweep(tmp_path, jobs))
    assert [setting.size for setting in settings] == list(sizes)
    assert len({setting.look.colour for setting in settings}) == 12
    chart = charts.memory_vs_speed(settings, "en")
    assert [series.points[-1].x for series in chart.series] == pytest.approx(
        [0.3 + size / 100 for size in sizes]
    )


def test_each_run_is_drawn_thin_behind_the_mean(tmp_path: Path) -> None:
    chart = charts.training_curves(settings_of(make_sweep(tmp_path, grid(2, 1, 3))), None, "en")[0]
    assert [len(series.runs) for series in chart.series] == [3, 3]
    with figures.style():
        axes = figures.draw_figure([chart], "en").axes[0]
        thin = [line for line in axes.lines if line.get_linewidth() == 0.4]
    assert len(thin) == 6


def test_pairs_are_never_broken_and_long_words_are() -> None:
    lines = figures._wrap("05b (16 × 4), learning_rate=0.0001", 18).replace("\xa0", " ").split("\n")
    assert lines == ["05b (16 × 4),", "learning_rate=0.00", "01"]
    # A syllable of Hangul takes two columns.
    assert figures._wrap("가나다라마바사아자차", 10) == "가나다라마\n바사아자차"


def test_repeated_runs_are_drawn_as_their_mean_and_range(tmp_path: Path) -> None:
    chart = charts.memory_vs_speed(settings_of(make_sweep(tmp_path, grid(1, 1, 3))), "en")
    *behind, mean = chart.series[0].points
    assert [point.faint for point in behind] == [True] * 3
    assert mean.x == pytest.approx(0.42)
    assert mean.x_range == pytest.approx((0.41, 0.43))
    assert not mean.faint


def test_a_single_run_has_the_quartiles_of_its_steps(tmp_path: Path) -> None:
    metrics = {"step_time_q1_s": 2.0, "step_time_median_s": 2.2, "step_time_q3_s": 2.5}
    sweep = make_sweep(tmp_path, [{"preset": "05a", "metrics": metrics}])
    chart = charts.memory_vs_speed(settings_of(sweep), "en")
    assert chart.series[0].points[0].x_range == pytest.approx((0.4, 0.5))


def test_an_oom_run_is_marked_named_and_bends_no_mean(tmp_path: Path) -> None:
    jobs = grid(2, 1, 2)
    whole = charts.training_curves(settings_of(make_sweep(tmp_path / "a", jobs)), None, "en")[0]
    jobs.append({"preset": "05b", "seed": 3, "status": "oom"})
    settings = settings_of(make_sweep(tmp_path / "b", jobs))
    chart = charts.memory_vs_speed(settings, "en")
    assert chart.failed == ("05b (16 × 4)",)
    loss = charts.training_curves(settings, None, "en")[0]
    assert [series.points for series in loss.series] == [series.points for series in whole.series]
    assert len(loss.series[1].ends) == 1
    with figures.style():
        figure = figures.draw_figure([chart], "en")
        names = [text.get_text().replace("\xa0", " ") for text in figure.findobj(Text)]
        # Two crosses or points more would be a speed that nobody measured.
        marks = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    assert any("× out of memory: 05b (16 × 4)" in name for name in names)
    assert marks == []


def test_a_run_with_untrusted_timing_is_hollow_and_named(tmp_path: Path) -> None:
    jobs = grid(2, 1, 1)
    jobs[1]["metrics"] = {"timing_untrusted": ["another process used the GPU"]}
    chart = charts.memory_vs_speed(settings_of(make_sweep(tmp_path, jobs)), "en")
    assert [series.points[0].hollow for series in chart.series] == [False, True]
    with figures.style():
        names = [text.get_text() for text in figures.draw_figure([chart], "en").findobj(Text)]
    assert "hollow: timing not trusted" in names


def test_disturbed_runs_do_not_count_where_others_do(tmp_path: Path) -> None:
    jobs = grid(1, 1, 3)
    jobs[0] |= {"speed": 0.1, "metrics": {"timing_untrusted": ["another process"]}}
    chart = charts.memory_vs_speed(settings_of(make_sweep(tmp_path, jobs)), "en")
    mean = chart.series[0].points[-1]
    assert mean.x == pytest.approx(0.425)
    assert not mean.hollow


def test_a_long_course_is_thinned_and_keeps_its_peak_and_its_end() -> None:
    points = tuple((float(x), 0.0) for x in range(1001))
    thin = charts._thin_out(points)
    assert len(thin) <= charts.MAX_POINTS + 1
    assert (thin[0], thin[-1]) == (points[0], points[-1])


@pytest.mark.parametrize(
    ("ending", "head"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("png", b"\x89PNG")]
)
def test_each_format_is_the_same_bytes_again(tmp_path: Path, ending: str, head: bytes) -> None:
    sweep = make_sweep(tmp_path, grid(2, 1, 1))
    first, second = (analyse([sweep], Request(figures=(ending,))) for _ in range(2))
    assert first == second
    assert first[f"memory_vs_speed.{ending}"].startswith(head)


def test_labels_are_english_where_no_font_has_hangul(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = make_sweep(tmp_path, grid(2, 1, 1))
    korean = analyse([sweep], Request(language="ko"))["memory_vs_speed.png"]
    monkeypatch.setattr(fonts.importlib.util, "find_spec", lambda name: None)
    assert fonts.families() == [fonts.FALLBACK]
    without = analyse([sweep], Request(language="ko"))["memory_vs_speed.png"]
    assert without != korean
    assert without == analyse([sweep], Request(language="en"))["memory_vs_speed.png"]


def test_a_table_too_long_to_draw_says_so(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, grid(3, 1, 25))
    image = matplotlib.image.imread(io.BytesIO(artifacts_of(sweep)["summary_table.png"]))
    assert image.shape[0] < 0.25 * figures.DPI * (figures.MAX_ROWS + 4)
