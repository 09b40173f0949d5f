"""A scripted NVML for tests: real pynvml talks to nvml.c, built here with gcc.

    fake = FakeNvml(tmp_path)                       # skips the test where there is no gcc
    fake.set(card(0) | card(1, used=5 * GIB))       # two cards
    with fake.loaded(): ...                         # in this process
    subprocess.run(..., env=os.environ | fake.environ)   # in another, a driver or not

Keys and values are described in nvml.c; `set` takes effect at the next call.
"""

import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest

GIB = 1 << 30


def card_uuid(index: int) -> str:
    return f"GPU-{index}932f937-d72c-4106-c12f-20bd9faed9f6"


def card(index: int, **changes: object) -> dict[str, object]:
    """The keys of one card that can do everything; a value of None takes a reading away."""
    values = {
        "uuid": card_uuid(index),
        "name": "NVIDIA A100-SXM4-40GB",
        "pci_bus_id": f"00000000:{0x10 + index:02X}:00.0",
        "total": 40 * GIB,
        "reserved": GIB // 2,
        "used": 0,
        "compute_capability": "8.0",
        "processes": "",
        "graphics": "",
        "utilization": 0,
        "power_mw": 50_000,
        "energy_mj": 1_000_000,
        "temperature": 30,
        "throttle": 1,
    } | changes
    return {f"gpu{index}.{key}": value for key, value in values.items()}


class FakeNvml:
    """One scripted library in a directory of its own; it begins with a driver and no card."""

    def __init__(self, directory: Path) -> None:
        gcc = shutil.which("gcc")
        if gcc is None:
            pytest.skip("gcc builds the fake NVML; it is not installed")
        self.library = directory / "libnvidia-ml.so.1"
        self.script = directory / "nvml.txt"
        self._values: dict[str, object] = {}
        source = Path(__file__).with_name("nvml.c")
        command = [gcc, "-shared", "-fPIC", f"-Wl,-soname,{self.library.name}"]
        subprocess.run([*command, "-o", self.library, source], check=True)
        self.reset()

    @property
    def environ(self) -> dict[str, str]:
        """What makes another process find this library instead of the driver's."""
        return {"LD_LIBRARY_PATH": str(self.library.parent), "FAKE_NVML": str(self.script)}

    @property
    def hangs(self) -> bool:
        """Whether a call has hung since the last `reset`."""
        return self.script.with_name(f"{self.script.name}.hangs").exists()

    def reset(self) -> None:
        self.script.with_name(f"{self.script.name}.hangs").unlink(missing_ok=True)
        self._values = {"driver": "580.65.06"}
        self._write()

    def set(self, values: Mapping[str, object]) -> None:
        """Adds or replaces values; None removes one."""
        self._values |= values
        self._write()

    def answer_again(self) -> None:
        """Ends every hang of this process, and waits for the threads that it held."""
        self.set({key: None for key in self._values if key.startswith("hang")})
        for thread in threading.enumerate():
            if thread.name == "batchopt-nvml":
                thread.join()

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Makes pynvml in this process call this library, and afterwards what it called before."""
        import pynvml

        with (
            mock.patch.object(pynvml, "nvmlLib", ctypes.CDLL(str(self.library))),
            mock.patch.dict(pynvml._nvmlGetFunctionPointer_cache, clear=True),
            mock.patch.dict(os.environ, {"FAKE_NVML": str(self.script)}),
        ):
            yield

    def _write(self) -> None:
        # Moved into place: another process may be reading.
        lines = [f"{key}={value}\n" for key, value in self._values.items() if value is not None]
        temporary = self.script.with_suffix(".new")
        temporary.write_text("".join(lines))
        temporary.replace(self.script)
