"""What torch sees on this machine, asked in a child process.

Torch takes seconds to import and speaks to the driver; a broken driver must not end the doctor.
"""

import json
import subprocess
import sys
from typing import Any

from batchopt.errors import name_ending

TORCH_TIMEOUT_S = 180.0
"""How long torch may take to import and to try the devices; a cold network disk is slow."""


_ASK_TORCH = """
import json
from batchopt.doctor.torch_facts import read
print(json.dumps(read()))
"""


def ask() -> "subprocess.Popen[str]":
    """Starts a process that imports torch and prints `read()`; `answer_of` waits for it."""
    return subprocess.Popen(
        [sys.executable, "-c", _ASK_TORCH],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def read() -> dict[str, Any]:
    """What torch says of itself and of the GPUs it can use; imports torch."""
    import torch

    facts: dict[str, Any] = {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "error": None,
        "devices": [],
    }
    if torch.version.cuda is None:
        return facts
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        facts["error"] = str(error).strip().splitlines()[0]
        return facts
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        facts["devices"].append(
            {
                "uuid": str(properties.uuid),
                "capability": f"{properties.major}.{properties.minor}",
                "precisions": _precisions(index, properties.major),
            }
        )
    return facts


def _precisions(index: int, major: int) -> dict[str, str | None]:
    """Multiplies in each precision; None where that works, else why not."""
    import torch

    def reason(dtype: "torch.dtype") -> str | None:
        try:
            ones = torch.ones(16, 16, dtype=dtype, device=f"cuda:{index}")
            float((ones @ ones).sum())
        except RuntimeError as error:
            return str(error).strip().splitlines()[0]
        return None

    tensor_cores = None if major >= 8 else "only emulated: it needs compute capability 8.0"
    return {
        "fp32": reason(torch.float32),
        "bf16": reason(torch.bfloat16) or tensor_cores,
        "fp16": reason(torch.float16),
        "tf32": tensor_cores,
    }


def answer_of(asking: "subprocess.Popen[str]") -> dict[str, Any]:
    """Parses the child's JSON; {"failed": reason} if it crashed or timed out."""
    try:
        told, complaint = asking.communicate(timeout=TORCH_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        asking.kill()
        asking.communicate()
        return {"failed": f"it did not answer within {TORCH_TIMEOUT_S:.0f} s"}
    try:
        facts: dict[str, Any] = json.loads(told.splitlines()[-1])
    except (IndexError, ValueError):
        lines = complaint.strip().splitlines() or [name_ending(asking.returncode)]
        return {"failed": lines[-1]}
    return facts
