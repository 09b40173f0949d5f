"""The machine-readable artifacts keep to their schemas, whatever the runs were like."""

import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pytest
from support import TOP
from support.analysis_sweep import make_sweep

from analysis.__main__ import Request, draw, find
from analysis.findings.frame import COLUMNS
from analysis.reading.runs import read_sweeps
from analysis.words.en import limits

SCHEMAS = TOP / "analysis" / "schemas"
PRESETS = ("05a", "05b", "05c")

CASES: dict[str, list[dict[str, Any]]] = {
    "one seed": [
        {"preset": preset, "speed": 0.4 + 0.1 * place, "peak_gib": 1.0 + place}
        for place, preset in enumerate(PRESETS)
    ],
    "three seeds": [
        {
            "preset": preset,
            "seed": seed,
            "speed": 0.4 + 0.1 * place + 0.001 * seed,
            "peak_gib": 1.0 + place + 0.01 * seed,
            "rouge": [(0, 0.01), (157, 0.4 + 0.001 * ((seed * (place + 1)) % 4))],
            "metrics": {
                "gradient_noise_scale": 90.0,
                "energy_j": 500.0 + seed,
                "timing_untrusted": ["another process used the device"] if seed == 3 else [],
                "energy_source": "nvml",
            },
        }
        for place, preset in enumerate(PRESETS)
        for seed in (1, 2, 3)
    ],
    "facets": [
        {"preset": preset, "overrides": [f"batch={preset}", f"data.seed={rate}"]}
        for preset in PRESETS
        for rate in (1, 2)
    ],
    "all failed": [{"preset": preset, "status": "oom"} for preset in PRESETS],
    "none started": [{"preset": "05a", "status": "missing"}],
    "different machines": [
        {"preset": "05a"},
        {"preset": "05b", "environment": {"device_name": "Other CPU"}},
    ],
}


def schema(name: str) -> jsonschema.Draft202012Validator:
    document = json.loads((SCHEMAS / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(document)
    return jsonschema.Draft202012Validator(document)


@pytest.mark.parametrize("jobs", CASES.values(), ids=CASES.keys())
def test_what_is_written_keeps_to_its_schema(tmp_path: Path, jobs: list[dict[str, Any]]) -> None:
    sweep = make_sweep(tmp_path, jobs)
    request = Request(memory_budget_gib=1.5)
    artifacts = draw(find([sweep], request), request)
    schema("recommendation").validate(json.loads(artifacts["recommendation.json"]))
    frame = pd.read_csv(
        io.BytesIO(artifacts["batch_optimization_results.csv"]),
        dtype={"preset": str},
        dtype_backend="numpy_nullable",
    )
    rows = json.loads(frame.to_json(orient="records"))
    assert len(rows) == len(jobs)
    for row in rows:
        schema("results").validate(row)


def test_a_schema_can_fail() -> None:
    recommendation = schema("recommendation")
    assert list(recommendation.iter_errors({"schema_version": 1}))
    assert list(schema("results").iter_errors({"status": "splendid"}))


def test_every_column_has_a_schema_and_the_order_is_that_of_the_file() -> None:
    document = json.loads((SCHEMAS / "results.schema.json").read_text(encoding="utf-8"))
    assert tuple(document["properties"]) == COLUMNS == tuple(document["required"])


# Records of other versions


def test_a_newer_record_is_read_as_far_as_it_is_known(tmp_path: Path) -> None:
    sweep = make_sweep(tmp_path, CASES["one seed"])
    path = next(sweep.glob("1_*")) / "record.json"
    record = json.loads(path.read_text())
    record |= {"schema_version": 7, "phase_of_the_moon": "full"}
    record["metrics"]["steps_per_second_histogram"] = [1, 2, 3]
    path.write_text(json.dumps(record))
    analysis = find([sweep], Request())
    assert analysis.frame["status"].tolist() == ["completed"] * 3
    assert analysis.frame["steps_per_second"][1] == pytest.approx(0.5)
    (said,) = [line for line in limits(analysis.findings) if "newer batchopt" in line]
    assert "1 record is of a newer batchopt (schema_version 7" in said


def test_a_record_that_knows_less_is_read(tmp_path: Path) -> None:
    """As the first batchopt wrote them: fewer metrics, no attempts, no quartiles."""
    sweep = make_sweep(tmp_path, CASES["one seed"])
    path = next(sweep.glob("0_*")) / "record.json"
    record = json.loads(path.read_text())
    record["metrics"] = {
        key: record["metrics"][key] for key in ("steps_per_second", "peak_memory_bytes")
    }
    del record["model"], record["data"], record["config_hash"]
    path.write_text(json.dumps(record))
    (sweep_read,) = read_sweeps([sweep])
    assert sweep_read.runs[0].status == "completed"
    assert sweep_read.runs[0].metrics["steps_per_second"] == pytest.approx(0.4)
