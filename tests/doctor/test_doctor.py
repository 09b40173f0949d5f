"""python -m batchopt.doctor names what is there, what is not, and what keeps a training away."""

import json
import os
import pty
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from support.fake_nvml import GIB, FakeNvml, card, card_uuid

from batchopt.doctor import __main__ as doctor_module
from batchopt.doctor import checks as checks_module
from batchopt.doctor import torch_facts
from batchopt.machine import cgroup
from batchopt.machine.nvml import DeviceInfo

OFFLINE = {"HF_HUB_OFFLINE": "1"}
COMMAND = [sys.executable, "-m", "batchopt.doctor"]
NO_PERMISSION = 4


@pytest.fixture(scope="module", autouse=True)
def answers_at_once(tmp_path_factory):
    """A stand-in for torch, whose import takes a second, and a short look at the cores."""
    folder = tmp_path_factory.mktemp("torch")
    (folder / "torch.py").write_text(
        "class version: cuda = None\n__version__ = '2.13.0+cpu'\n", encoding="utf-8"
    )
    (folder / "sitecustomize.py").write_text(
        "from batchopt.machine import threads; threads.WINDOW_S = 0.05", encoding="utf-8"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        yield


def doctor(*words, cwd, env=None, python=()):
    return subprocess.run(
        [sys.executable, *python, "-m", "batchopt.doctor", *words],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env=os.environ | OFFLINE | (env or {}),
    )


def checks(cwd, env=None, **options):
    done = doctor("--json", cwd=cwd, env=env, **options)
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["ready"] == (done.returncode == 0)
    return document["ready"], {check["name"]: check for check in document["checks"]}


# The command line


def test_help_does_not_import_torch(tmp_path):
    words = [sys.executable, "-X", "importtime", *COMMAND[1:], "--help"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "--json" in done.stdout
    assert not {"torch", "transformers", "pynvml"} & set(done.stderr.replace("|", " ").split())


def test_a_wrong_word_is_one_line_and_exit_2(tmp_path):
    done = doctor("--jsom", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "batchopt: unrecognized arguments: --jsom; --help shows what there is"
    ]


@pytest.mark.slow
def test_with_the_real_torch_a_training_can_run_here(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.environ["PYTHONPATH"].partition(os.pathsep)[2])
    ready, found = checks(tmp_path)
    assert ready
    assert found["torch"]["state"] == "ok"
    assert found["torch"]["found"].startswith(("2.", "3."))
    assert list(tmp_path.iterdir()) == [], "it only looks"


def test_in_a_pipe_each_thing_is_one_plain_line_with_its_remedy(tmp_path):
    done = doctor(cwd=tmp_path, env={"PATH": str(tmp_path)})
    *lines, verdict = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "missing"}
    (slurm,) = (line for line in lines if " SLURM " in line)
    words = " ".join(slurm.split())
    assert words == "missing SLURM no sbatch in PATH; remedy: only hydra/launcher=slurm needs it"
    assert "\x1b" not in done.stdout
    assert verdict == "a training can run here, on the CPU"


def test_a_terminal_gets_colours_and_nothing_is_lost(tmp_path):
    main_end, terminal = pty.openpty()
    env = os.environ | OFFLINE | {"TERM": "xterm-256color", "COLUMNS": "80"}
    process = subprocess.Popen(COMMAND, cwd=tmp_path, stdout=terminal, stderr=terminal, env=env)
    os.close(terminal)
    shown = b""
    while chunk := _read(main_end):
        shown += chunk
    assert process.wait() == 0
    assert b"\x1b[32mok" in shown
    assert b"Kiwi" in shown


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # the other end is closed
        return b""


# What keeps every training from running


def test_a_package_that_is_missing_is_named_with_its_remedy(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(pytest.__file__).parents[1].iterdir():
        if not entry.name.startswith(("scipy", "kiwipiepy", "koreanize")):
            (site / entry.name).symlink_to(entry)
    source = Path(doctor_module.__file__).parents[2]
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(site), str(source)])
    ready, found = checks(tmp_path, env={"PYTHONPATH": path}, python=["-S"])
    assert not ready
    assert found["scipy"]["state"] == "missing"
    assert found["scipy"]["remedy"] == "pip install 'scipy>=1.13'"
    assert found["Kiwi"]["state"] == found["Hangul font"]["state"] == "missing"
    assert not found["Kiwi"]["needed"]


def test_a_version_outside_the_range_is_a_warning(tmp_path):
    info = tmp_path / "old" / "scipy-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: scipy\nVersion: 1.2\n")
    path = f"{info.parent}{os.pathsep}{os.environ['PYTHONPATH']}"
    ready, found = checks(tmp_path, env={"PYTHONPATH": path})
    assert ready
    assert (found["scipy"]["state"], found["scipy"]["found"]) == (
        "warning",
        "1.2; batchopt asks >=1.13",
    )


def test_a_torch_that_cannot_be_imported_is_found_out(tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: no such file')")
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    ready, found = checks(tmp_path, env={"PYTHONPATH": path})
    assert not ready
    assert "libcudart.so.12" in found["torch"]["found"]


def test_a_working_directory_that_cannot_be_written(tmp_path):
    ready, found = checks(Path("/proc"))
    assert not ready
    assert found["working directory"]["state"] == "missing"


# Devices


def test_gpus_are_described_with_what_nvml_does_not_read_and_why(library: FakeNvml, tmp_path):
    library.reset()
    library.set(card(0) | card(1, total=80 * GIB, energy_mj=None, processes=f"4242:{GIB}"))
    library.set({"gpu1.error.nvmlDeviceGetUtilizationRates": NO_PERMISSION})
    ready, found = checks(tmp_path, env=library.environ)
    assert ready
    first, second = found["GPU 0"], found["GPU 1"]
    assert first["state"] == "ok"
    assert first["values"]["uuid"] == card_uuid(0)
    assert "40.0 GiB, driver 580.65.06" in first["found"]
    assert second["state"] == "warning"
    assert second["values"]["total_memory_bytes"] == 80 * GIB
    assert second["values"]["energy_source"] == "integrated_power"
    assert set(second["values"]["unavailable_readings"]) == {"energy_counter", "utilization"}
    assert "forbids it" in second["values"]["unavailable_readings"]["utilization"]
    assert "in use by process 4242" in second["found"]
    assert found["torch"]["state"] == "warning", "its build has no CUDA, and here are GPUs"
    assert found["torch"]["values"]["device"] == "cpu"


def test_a_torch_for_cuda_tells_what_each_gpu_computes(library: FakeNvml, tmp_path):
    library.reset()
    library.set(card(0) | card(1))
    facts = {
        "version": "2.13.0+cu126",
        "cuda": "12.6",
        "error": None,
        "devices": [
            {
                "uuid": card_uuid(0).removeprefix("GPU-"),
                "capability": "8.0",
                "precisions": dict.fromkeys(("fp32", "bf16", "fp16", "tf32")),
            },
            {
                "uuid": card_uuid(1).removeprefix("GPU-"),
                "capability": "7.0",
                "precisions": {"fp32": None, "bf16": "only emulated", "fp16": None, "tf32": "no"},
            },
        ],
    }
    # The child that asks torch is told what to answer; there is no GPU to ask here.
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if sys.argv[0] == '-c':\n"
        "    from batchopt.doctor import torch_facts\n"
        f"    torch_facts.read = lambda: {facts!r}\n"
    )
    path = f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"
    _, found = checks(tmp_path, env=library.environ | {"PYTHONPATH": path})
    assert found["torch"]["state"] == "ok"
    assert "CUDA 12.6" in found["torch"]["found"]
    assert "fp32 bf16 fp16 tf32" in found["GPU 0"]["found"]
    assert found["GPU 1"]["state"] == "warning"
    assert "no bf16: only emulated" in found["GPU 1"]["found"]
    assert "training.precision" in found["GPU 1"]["remedy"]


def test_a_torch_for_cuda_without_a_driver_says_why(monkeypatch):
    """It asks torch by public names alone: torch 2.11 for CUDA lacks what 2.13 keeps to itself."""
    import torch

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    facts = torch_facts.read()
    assert facts["cuda"] == "13.0"
    assert facts["error"]
    assert facts["devices"] == []


INDEX = "make setup TORCH_INDEX=https://download.pytorch.org/whl/"


@pytest.mark.parametrize(
    ("driver", "capability", "remedy"),
    [
        ("535.183.01", "8.0", f"{INDEX}cu126"),
        ("570.86.10", "9.0", f"{INDEX}cu126"),
        ("525.60.13", None, f"{INDEX}cu126"),
        ("580.65.06", "8.0", f"{INDEX}cu130"),
        ("580.65.06", "7.0", f"{INDEX}cu126"),  # CUDA 13 has no kernels for Volta
        ("570.86.10", "12.0", "update the driver (570) to 580 or newer: "),
        ("470.57.02", "8.0", "update the driver (470) to 580 or newer"),
    ],
)
def test_the_build_of_torch_for_this_driver_is_a_command(
    library, tmp_path, driver, capability, remedy
):
    library.reset()
    library.set(card(0, compute_capability=capability) | {"driver": driver})
    _, found = checks(tmp_path, env=library.environ)
    assert found["torch"]["state"] == "warning"
    assert found["torch"]["remedy"].startswith(remedy)


def test_a_wheel_has_no_make(monkeypatch):
    monkeypatch.setattr(checks_module, "_pyproject", lambda: Path("/nowhere"))
    old = DeviceInfo(card_uuid(0), "a card", 0, "", None, "550.54.15", compute_capability="8.0")
    assert checks_module._torch_for([old], {"version": "2.13.0+cpu", "cuda": None}) == (
        "pip install --force-reinstall torch==2.13.0 "
        "--index-url https://download.pytorch.org/whl/cu126"
    )


def test_a_desktop_on_the_card_is_no_drawback(library, tmp_path):
    library.reset()
    library.set(card(0, processes=f"900:{GIB}", graphics=f"900:{GIB}"))
    _, found = checks(tmp_path, env=library.environ)
    assert "in use by" not in found["GPU 0"]["found"]


@pytest.mark.parametrize(
    ("value", "expected"), [("", "leaves no GPU"), ("7", "leaves no GPU"), ("1", None)]
)
def test_cuda_visible_devices_decides_which_are_seen(library, value, expected, tmp_path):
    library.reset()
    library.set(card(0) | card(1))
    _, found = checks(tmp_path, env=library.environ | {"CUDA_VISIBLE_DEVICES": value})
    if expected is None:
        assert [name for name in found if name.startswith("GPU")] == ["GPU 1"]
    else:
        assert expected in found["GPU"]["found"]


def test_without_a_driver_the_cpu_is_left(library: FakeNvml, tmp_path):
    library.reset()
    library.set({"error.nvmlInitWithFlags": 9})  # NVML_ERROR_DRIVER_NOT_LOADED
    ready, found = checks(tmp_path, env=library.environ)
    assert ready
    assert found["GPU"]["state"] == "missing"
    assert "install the NVIDIA driver" in found["GPU"]["remedy"]


# What the machine's owner allows


@pytest.mark.parametrize(
    ("files", "memory", "cpus"),
    [
        ({"/proc/self/cgroup": "0::/job/step\n"}, None, None),
        (
            {
                "/proc/self/cgroup": "0::/job/step\n",
                "/sys/fs/cgroup/job/step/memory.max": "max\n",
                "/sys/fs/cgroup/job/memory.max": f"{24 * GIB}\n",
                "/sys/fs/cgroup/memory.max": f"{64 * GIB}\n",
                "/sys/fs/cgroup/job/step/cpu.max": "150000 100000\n",
            },
            24 * GIB,
            1.5,
        ),
        (  # version 1, in a container that sees its own group as the root
            {
                "/proc/self/cgroup": "4:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n",
                "/sys/fs/cgroup/memory/docker/1f/memory.limit_in_bytes": "9223372036854771712\n",
                "/sys/fs/cgroup/memory/memory.limit_in_bytes": f"{8 * GIB}\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "400000\n",
                "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            8 * GIB,
            4.0,
        ),
    ],
)
def test_the_tightest_limit_of_all_cgroups_above_counts(files, memory, cpus, monkeypatch):
    monkeypatch.setattr(cgroup, "read_text", lambda path: files.get(str(path), ""))
    assert cgroup.memory_limit() == memory
    assert cgroup.cpu_quota() == cpus


# SLURM, hub


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("sinfo", "state", "expected"),
    [
        ("printf 'gpu\\ncpu\\n'", "ok", "slurm 24.05.2, partitions: cpu, gpu"),
        ("exit 1", "warning", "slurm 24.05.2, and no cluster answers"),
    ],
)
def test_slurm_is_asked_for_its_version_and_its_cluster(sinfo, state, expected, tmp_path):
    program(tmp_path, "sbatch", "echo slurm 24.05.2")
    program(tmp_path, "sinfo", sinfo)
    _, found = checks(tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    assert (found["SLURM"]["state"], found["SLURM"]["found"]) == (state, expected)


class _Hub(BaseHTTPRequestHandler):
    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self):
        self.asked.append(self.path)
        self.send_response(503 if self.path == "/down" else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def hub():
    with HTTPServer(("127.0.0.1", 0), _Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://name:secret@127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_hub_is_asked_unless_it_is_not_wanted(hub, tmp_path):
    plain = hub.replace("name:secret@", "")
    online = {"HF_HUB_OFFLINE": "0", "no_proxy": "127.0.0.1"}
    _, found = checks(tmp_path, env=online | {"HF_ENDPOINT": plain})
    assert (found["hub"]["state"], found["hub"]["found"].split()[1]) == ("ok", "answers")
    _, found = checks(tmp_path, env=online | {"HF_ENDPOINT": f"{plain}/down"})
    assert (found["hub"]["state"], found["hub"]["found"][-8:]) == ("warning", "HTTP 503")
    asked = len(_Hub.asked)
    _, found = checks(tmp_path, env=online | {"HF_ENDPOINT": plain, "HF_HUB_OFFLINE": "1"})
    assert found["hub"]["state"] == "ok"
    assert len(_Hub.asked) == asked


def test_a_hub_that_is_not_there_is_a_warning_without_its_password(tmp_path):
    env = {"HF_HUB_OFFLINE": "0", "no_proxy": "*", "HF_ENDPOINT": "http://name:secret@127.0.0.1:9"}
    ready, found = checks(tmp_path, env=env)
    assert ready
    assert found["hub"]["state"] == "warning"
    assert "HF_HUB_OFFLINE=1" in found["hub"]["remedy"]
    assert "secret" not in json.dumps(found)
