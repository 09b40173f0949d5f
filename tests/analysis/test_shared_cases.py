"""Sweeps that once misled, beside this project where they are there: each gives what it should.

Generated relatives of them are in test_decisions and test_report.
"""

import csv
import io
import json
from typing import Any

import pytest
from support import TOP

from analysis.__main__ import Request, analyse

CASES = TOP.parent / "shared" / "cases-analysis"


def artifacts(name: str, **request: Any) -> dict[str, bytes]:
    folder = CASES / name
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    return analyse([folder], Request(**request))


def recommendation(name: str) -> Any:
    return json.loads(artifacts(name)["recommendation.json"])


def first_table(report: str) -> dict[str, list[str]]:
    """The rows of the first table, by setting."""
    lines = report.splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("| ---"))
    rows = {}
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        rows[name] = cells
    return rows


def test_nothing_is_decided_against_the_sign_of_the_paired_difference() -> None:
    found = recommendation("wrong-sign")["comparisons"][0]
    for name, aim in found["recommendations"].items():
        for contrast in aim["against_others"]:
            if not contrast["beyond_noise"]:
                continue
            better = contrast["estimate"] > (1 if contrast["scale"] == "ratio" else 0)
            assert better is (name not in ("least_memory", "least_energy")), name
    quality = found["recommendations"]["best_quality"]
    assert quality["choice"] is None
    assert found["quality_differences"][0]["first"].startswith("05a")


def test_a_third_machine_blocks_only_itself() -> None:
    found = recommendation("two-machines")["recommendations"]
    assert (found["fastest"]["preset"], found["fastest"]["certainty"]) == ("05b", "yes")
    assert found["fastest"]["left_out"] == ["05c (64 × 1)"]
    assert "05c (64 × 1)" not in found["fastest"]["values"]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_out_of_memory_stands_in_the_first_table_and_has_no_quality(language: Any) -> None:
    made = artifacts("out-of-memory", language=language)
    row = first_table(made["batch_optimization_report.md"].decode())["05c (64 × 1)"]
    assert row[0].startswith("0; ")
    assert row[0].endswith(" 3")
    assert set(row[1:]) == {""}
    check = json.loads(made["recommendation.json"])["comparisons"][0]["quality_check"]
    assert check["not_measured"] == ["05c (64 × 1)"]
    report = made["batch_optimization_report.md"].decode()
    assert ("Tried to allocate" in report) is (language == "en")


def test_twelve_settings_are_rows_and_points() -> None:
    made = artifacts("twelve-settings")
    assert len(first_table(made["batch_optimization_report.md"].decode())) == 12


def test_a_disturbed_run_is_marked_everywhere_and_best_nowhere() -> None:
    made = artifacts("shared-gpu")
    report = made["batch_optimization_report.md"].decode()
    assert "disturbed" in first_table(report)["05a (8 × 8)"][0]
    assert "completed; timing not trusted" in report
    rows = list(csv.DictReader(io.StringIO(made["batch_optimization_results.csv"].decode())))
    (disturbed,) = [row for row in rows if row["timing_untrusted"]]
    speeds = json.loads(made["recommendation.json"])["recommendations"]["fastest"]["values"]
    counted = [value for one in speeds.values() for value in one["values"]]
    assert float(disturbed["steps_per_second"]) not in counted
    assert len(counted) == 8
