"""In a terminal of 80 or 120 columns no word is cut, and no line is wider."""

import itertools
import re
from pathlib import Path

import pytest
from rich.console import Console

from batchopt import resume, status
from batchopt.doctor import __main__ as doctor
from batchopt.doctor.checks import Check as Found
from batchopt.doctor.checks import State
from batchopt.errors import RequestError
from batchopt.probe import __main__ as probe
from batchopt.probe.choose import MemoryLine
from batchopt.probe.measure import Probe
from batchopt.record.documents import Record
from batchopt.record.read import read_planned_run
from batchopt.record.write import write_record
from batchopt.request import help
from batchopt.request.batch_plan import divisor_pairs
from batchopt.request.compose import compose_run
from batchopt.request.config import PADDED
from batchopt.sweeps import tables
from batchopt.sweeps.progress import RunStatus, SweepStatus
from batchopt.sweeps.screen import Place, Screen
from batchopt.verify import __main__ as verify
from batchopt.verify.proof import Check
from batchopt.verify.stock_trainer import Stock

NAMES = [
    "0_batch=05a,seed=1",
    "1_batch=05a,seed=1,training.learning_rate=0.0001",
    "11_batch=custom,batch.per_device_train_batch_size=16,seed=3,training.learning_rate=0.0003",
]
PARTS = {part for name in NAMES for part in tables.words_of(name)}
"""Where a name may be broken: after a comma or, if a part is too long by itself, after a word."""


@pytest.fixture
def console(monkeypatch):
    console = Console(width=80, force_terminal=True, no_color=True, record=True)
    monkeypatch.setattr(tables, "_console", lambda: console)
    return console


def test_the_plan_keeps_the_names_of_runs_whole(console, capsys):
    names = ["0_batch=05a,seed=1", "1_batch=05a,seed=2"]
    tables.print_plan([compose_run(["batch=05a", f"seed={seed}"]) for seed in (1, 2)], names)
    shown = console.export_text().splitlines()
    assert [
        name for name in names if not any(line.strip().startswith(name) for line in shown)
    ] == []
    assert max(map(len, shown)) <= 80


@pytest.mark.parametrize("phase", ["training", "evaluating"])
def test_the_bar_shrinks_before_a_figure_wraps(console, capsys, monkeypatch, phase):
    monkeypatch.setattr(Screen, "left_s", 43.0)
    screen = Screen("0_batch=05a", Place(1, 3, ()))
    screen.phase, screen.step, screen.steps = phase, 128, 160
    screen.figures = {"ROUGE": "0.452", "loss": "0.721"}
    console.print(screen)
    first, *_ = console.export_text().splitlines()
    assert "ROUGE 0.452" in first
    assert "loss 0.721" in first
    assert len(first) <= 80


@pytest.fixture(params=[80, 120])
def wide(request, monkeypatch):
    """A terminal of that width; every command prints into it."""
    console = Console(width=request.param, force_terminal=True, no_color=True, record=True)
    for module, name in ((tables, "_console"), (verify, "screen"), (probe, "screen")):
        monkeypatch.setattr(module, name, lambda: console)
    monkeypatch.setattr(doctor, "screen", lambda: console)
    return console


def shown(console, *words):
    """What was printed; each of the words stands whole in one line, and each line fits."""
    text = console.export_text()
    assert [line for line in text.splitlines() if len(line.rstrip()) > console.width] == []
    assert "…" not in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert [word for word in words if not any(word in line for line in lines)] == []
    return text


def left_column(text):
    """The runs' names of a table put together again."""
    return "".join(line.split(" ")[0] for line in text.splitlines())


def test_the_plan_fits(wide, capsys):
    requests = [compose_run(["batch=05a", f"seed={seed}"]) for seed in (1, 2, 3)]
    tables.print_plan(requests, NAMES)
    tables.print_order([2, 0, 1])
    text = shown(
        wide, "packing", "8 x 8 = 64", "balanced", "5 epochs", "sweep.order=as_given", *PARTS
    )
    assert all(name in left_column(text) for name in NAMES)
    assert " ".join(text.split()).endswith("runs 1 2 0")


def recorded(folder, status, **metrics):
    write_record(
        folder,
        Record(
            status=status,
            cause="the process was killed by signal 9 while it trained",
            plan={"per_device_train_batch_size": 16, "gradient_accumulation_steps": 4},
            metrics=metrics,
        ),
    )
    return read_planned_run(folder)


def test_the_summary_fits_marks_what_was_disturbed_and_names_the_remedy(wide, capsys, tmp_path):
    speed = {"steps_per_second": 12.345, "total_time_s": 6000.0, "rouge_f1": 0.4567}
    busy = {"timing_untrusted": ["another process used the GPU"]}
    runs = [
        recorded(tmp_path / NAMES[0], "completed", **speed),
        recorded(tmp_path / NAMES[1], "completed", **speed | {"steps_per_second": 99.0}, **busy),
        recorded(tmp_path / NAMES[2], "interrupted"),
    ]
    tables.print_summary(runs)
    text = shown(wide, "peak GiB", "steps/s", "16 x 4", "interrupted", "99.00*", "100.0", *PARTS)
    assert all(name in left_column(text) for name in NAMES)
    assert "12.35 " in text, "the other speed has no mark"
    assert "another process used the GPU" in " ".join(text.split())
    capsys.readouterr()
    tables.print_best(runs, "steps_per_second")
    assert capsys.readouterr().out.startswith(f"best: {NAMES[0]}: ")
    tables.print_remedy(runs, Path("multirun/a b"))
    assert "1 run is not finished; to finish: python -m batchopt.resume 'multirun/a b'" in (
        capsys.readouterr().out
    )
    tables.print_remedy(runs[:2], Path("multirun"))
    assert capsys.readouterr().out == ""


def test_the_screen_of_status_fits(wide, capsys):
    facts = {"step": 1280, "steps": 16000, "steps_per_second": 12.34, "loss": 10.123}
    facts |= {"rouge_f1": 0.4567, "peak_memory_bytes": 70 << 30, "left_s": 11000.0}
    for devices in (["CPU"] * 3, [f"GPU-1234567{number} H100 80GB HBM3" for number in range(3)]):
        runs = [
            RunStatus(name, preset, "evaluating", **facts, runs_on=on)
            for name, preset, on in zip(NAMES, ("05a", "05a", "custom"), devices, strict=True)
        ]
        sweep = SweepStatus(Path("multirun/2026-11-25/10-30-00"), (*runs,))
        wide.print(status._screen(sweep, wide.width))
        text = shown(wide, "evaluating", "1280/16000", "12.34", "10.123", "0.457", "70.00", "3h03")
        assert ("all on CPU" in text) == (devices[0] == "CPU")


def test_the_tables_of_verify_fit_and_close_with_a_verdict(wide, capsys):
    figures = {"micro_batches": 64, "loss": 17.123456, "gradient_norm": 123.456789}
    figures |= {"loss_difference": 2.1e-7, "gradient_difference": 3e-7, "weight_difference": 1e-6}
    checks = [
        Check(preset, "16 x 4", packing.value, precision, **figures, passed=True)
        for preset, packing, precision in itertools.product(
            ("05a", "64x1"), PADDED, ("fp32", "bf16")
        )
    ]
    checks[-1] = Check("64x1", "64 x 1", "packed", "bf16", passed=None)
    stock = [Stock("05a", "8 x 8", 63.0123, 8.12, 0.0412)]
    verify.print_tables(checks, stock)
    text = shown(wide, "same", "no memory", "in fp32", "in bf16", "weights", "8.12 x the exact one")
    assert text.count(" same") == len(checks) - 1
    assert verify.verdict(checks) == (
        "verdict: all presets and packings are one training up to rounding; the gradient differs "
        "by at most 3e-07 in fp32, 3e-07 in bf16; 1 did not fit into memory and were not compared"
    )
    checks[0] = Check("05a", "8 x 8", "none", "fp32", **figures, passed=False)
    assert verify.verdict(checks).startswith("verdict: 1 of 16 differ")


def test_the_table_of_probe_fits(wide, capsys):
    plans = divisor_pairs(64)
    probes = [
        Probe(plan, fits, "", 70 << 30, 1 << 30, 12.345, 123456)
        for plan, fits in zip(plans, itertools.cycle([True, False, None]))
    ]
    errors = {str(plan): 0.0123 for plan in plans}
    line = MemoryLine(70e9, 1e5, 0, errors)
    probe._print(probes, {plans[0]: "custom"}, line, 80 << 30)
    shown(wide, "peak GiB", "predicted", "no, implied", "fits cards (GiB)", "micro-batch;", "80")


def test_the_doctor_alarms_for_nothing_that_no_training_needs(monkeypatch, capsys):
    console = Console(width=80, force_terminal=True, record=True)
    monkeypatch.setattr(doctor, "screen", lambda: console)
    remedy = "only hydra/launcher=slurm needs it"
    checks = [
        Found("SLURM", State.missing, "no sbatch in PATH", remedy),
        Found("torch", State.missing, "cannot be imported: no module", "install it", needed=True),
        Found("working directory", State.ok, "/a/rather/long/path, 12.3 GiB free and so on, words"),
    ]
    doctor._print(checks)
    red = "\x1b[31m"
    text = console.export_text(styles=True)
    (slurm,) = (line for line in text.splitlines() if "SLURM" in line)
    (torch,) = (line for line in text.splitlines() if "torch" in line)
    assert red not in slurm
    assert "optional" in slurm
    assert red in torch
    assert (
        max(len(re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()) for line in text.splitlines()) <= 80
    )


def test_help_opens_with_every_command_and_fits():
    text = help.help_text()
    opening = text.split("\n\n")[1]
    for command in ("train", "verify", "probe", "status", "resume", "doctor"):
        assert f"python -m batchopt.{command} " in opening
    assert "python -m analysis" in opening
    lines = [*text.splitlines(), *status.HELP.splitlines(), *resume.HELP.splitlines()]
    assert [line for line in lines if len(line) > 80] == []


def test_a_mistyped_key_of_status_is_answered_as_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="wtch: no such key; the keys are sweep and watch"):
        status.main(["wtch=true"])
    with pytest.raises(RequestError, match="multirun/x=1 is not a directory"):
        status.main(["multirun/x=1"])
