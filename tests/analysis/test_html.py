"""The page in a real browser: it asks for nothing, sorts, filters, and can be read on a phone."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.analysis_sweep import make_sweep

from analysis.findings.comparisons import label_settings
from analysis.findings.frame import build_frame
from analysis.findings.judge import find
from analysis.reading.runs import read_sweeps
from analysis.report import html
from analysis.report.build import build_document
from analysis.report.figures import PAGE_POINTS, draw_page

EVIL = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def page_of(sweep: Path, language: Any = "en") -> str:
    sweeps = read_sweeps([sweep])
    runs = [run for sweep in sweeps for run in sweep.runs]
    frame, names = build_frame(runs), label_settings(runs)
    report = build_document(sweeps, runs, frame, names, find(runs, frame, names), language=language)
    return html.render(report, draw_page(report))


def nine() -> list[dict[str, Any]]:
    speeds = {"05a": 0.46, "05b": 0.52, "05c": 0.41}
    parts = {"data_wait_s": 0.01, "forward_s": 0.3, "backward_s": 0.6, "optimizer_s": 0.1}
    jobs = [
        {
            "preset": preset,
            "seed": seed,
            "speed": speed + 0.003 * seed,
            "peak_gib": 0.6 + 0.3 * place + 0.01 * seed,
            "rouge": [(0, 0.02), (50, 0.3), (100, 0.45), (157, 0.5 + 0.004 * (seed + place))],
            "metrics": parts,
        }
        for place, (preset, speed) in enumerate(speeds.items())
        for seed in (1, 2, 3)
    ]
    jobs[8] |= {"status": "oom", "cause": f"out of memory {EVIL}"}
    jobs[5] |= {"status": "missing"}
    return jobs


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    with api.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(scope="module", params=["en", "ko"])
def report_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    sweep = make_sweep(root, nine())
    log = sweep / "8_batch=05c,seed=3" / "train.log"
    log.write_text(f"{EVIL}\nlast line of the log")
    path = root / "report.html"
    path.write_text(page_of(sweep, request.param), encoding="utf-8")
    return path


class Opened:
    """A page and everything that it complained of or asked for."""

    def __init__(self, browser: Any, path: Path, width: int = 1400, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_function("[...document.images].every((one) => one.complete)")

    def cells(self, column: int) -> list[str]:
        """Of the rows of the results that are seen."""
        self.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        rows = self.page.locator("table.sortable tbody tr:visible")
        return [row.locator("td").nth(column).inner_text() for row in rows.all()]


@pytest.fixture
def opened(browser: Any, report_file: Path) -> Iterator[Opened]:
    one = Opened(browser, report_file)
    yield one
    one.page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_renders_in_peace_and_can_be_read(
    browser: Any, report_file: Path, width: int, scheme: str
) -> None:
    opened = Opened(browser, report_file, width, scheme)
    page = opened.page
    assert opened.complaints == []
    assert opened.requests == [report_file.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('p, li, td, th, code, text, button, figcaption')]
             .filter((one) => one.textContent.trim() && one.getClientRects().length)
             .map((one) => parseFloat(getComputedStyle(one).fontSize))"""
    )
    assert len(sizes) > 200
    assert min(sizes) >= 12
    # WCAG's contrast of plain text: 4.5 to 1, in both schemes.
    colours = page.evaluate(
        """() => ['body', 'figcaption', '.muted td', '.best', 'a'].map((name) => {
             const one = document.querySelector(name);
             let behind = one;
             const clear = (c) => c === 'rgba(0, 0, 0, 0)';
             while (clear(getComputedStyle(behind).backgroundColor)) behind = behind.parentElement;
             const style = getComputedStyle(one);
             return [name, one instanceof SVGElement ? style.fill : style.color,
                     getComputedStyle(behind).backgroundColor];
           })"""
    )
    for name, text, behind in colours:
        assert contrast(text, behind) >= 4.5, (name, text, behind)
    dark = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.2
    assert dark == (scheme == "dark")
    page.click("#theme")
    dark_now = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor")) < 0.2
    assert dark_now != dark
    page.close()


def luminance(colour: str) -> float:
    channels = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(first: str, second: str) -> float:
    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


def test_nothing_that_a_run_wrote_is_run(opened: Opened) -> None:
    assert opened.page.evaluate("window.hacked") is None
    opened.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
    runs = opened.page.locator("#runs").inner_text()
    assert "window.hacked" in runs or opened.page.locator("html").get_attribute("lang") == "ko"
    assert "last line of the log" in runs
    assert opened.page.locator("img[src=x]").count() == 0


def test_the_table_sorts_both_ways_with_what_was_not_measured_last(opened: Opened) -> None:
    opened.cells(0)  # unfolds the table
    heads = opened.page.locator("table.sortable thead th")
    names = heads.all_inner_texts()
    column = next(place for place, name in enumerate(names) if re.search("steps/s|스텝/초", name))
    heads.nth(column).locator("button").click()
    up = opened.cells(column)
    assert heads.nth(column).get_attribute("aria-sort") == "ascending"
    heads.nth(column).locator("button").click()
    down = opened.cells(column)
    measured = [float(text) for text in up if text]
    assert len(measured) == 7
    assert measured == sorted(measured)
    assert [float(text) for text in down if text] == measured[::-1]
    assert up[7:] == down[7:] == ["", ""]
    heads.nth(0).locator("button").click()
    assert opened.cells(0) == sorted(opened.cells(0))
    assert opened.page.locator("[aria-sort]").count() == 1


def test_the_table_filters_by_every_word(opened: Opened) -> None:
    opened.cells(0)
    opened.page.fill(".filter input", "05B 16")
    assert len(opened.cells(0)) == 3
    assert opened.page.locator(".count").inner_text().startswith("3 / 9")
    opened.page.fill(".filter input", "nothing of the kind")
    assert opened.cells(0) == []
    opened.page.fill(".filter input", "")
    assert len(opened.cells(0)) == 9


def test_every_chart_is_a_picture_within_the_page(opened: Opened) -> None:
    figures = opened.page.locator("figure")
    assert figures.count() == 4
    assert opened.page.locator("#training_curves img").count() == 4
    drawn = opened.page.evaluate(
        "[...document.images].map((one) => [one.complete, one.naturalWidth, one.alt])"
    )
    assert all(complete and width > 100 and alt for complete, width, alt in drawn)


@pytest.mark.parametrize("width", [390, 1280])
def test_charts_follow_the_width_and_keep_their_letters_large(
    browser: Any, report_file: Path, width: int
) -> None:
    opened = Opened(browser, report_file, width)
    widths = opened.page.evaluate(
        "[...document.images].map((one) => [one.clientWidth, one.naturalWidth])"
    )
    opened.page.close()
    for shown, natural in widths:
        assert shown <= width
        # Points of print to pixels of a screen, as much as the picture is scaled.
        assert (PAGE_POINTS - 0.5) * 4 / 3 * shown / natural >= 11


def test_a_table_that_goes_on_shows_a_shade_and_keeps_its_pairs_whole(
    browser: Any, report_file: Path
) -> None:
    opened = Opened(browser, report_file, 390)
    scroll = opened.page.locator(".scroll").first
    assert scroll.evaluate("(one) => one.scrollWidth > one.clientWidth + 20")
    assert "gradient" in scroll.evaluate("(one) => getComputedStyle(one).backgroundImage")
    # "(16 × 4)" stands on one line: the text of the cell has one height of line for it.
    broken = opened.page.evaluate(
        """() => [...document.querySelectorAll('td, th, li, p')].filter((one) => {
             const text = document.createTreeWalker(one, NodeFilter.SHOW_TEXT);
             for (let node = text.nextNode(); node; node = text.nextNode()) {
               for (const found of node.data.matchAll(/\\(\\d+\\s×\\s\\d+\\)/g)) {
                 const range = document.createRange();
                 range.setStart(node, found.index);
                 range.setEnd(node, found.index + found[0].length);
                 if (range.getClientRects().length > 1) return true;
               }
             }
             return false;
           }).length"""
    )
    assert broken == 0
    opened.page.close()


def test_the_page_names_no_other_host(tmp_path: Path) -> None:
    page = page_of(make_sweep(tmp_path, nine()))
    assert set(re.findall(r"https?://[\w./]+", page)) <= {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in page


def test_the_same_runs_give_the_same_page(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, nine())
    assert page_of(sweep) == page_of(sweep)


def test_what_data_says_cannot_leave_the_page(tmp_path: Path) -> None:
    page = page_of(make_sweep(tmp_path, [{"preset": EVIL.replace("/", "_")}, *nine()]))
    assert "<img src=x" not in page
    assert page.count("<script") == 2
