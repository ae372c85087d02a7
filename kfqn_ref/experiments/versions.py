"""What a result was computed with, as every result file records it."""

import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that compute, and the kind of
    machine.
    """
    packages = {name: version(name) for name in ("kfqn_ref", "numpy", "scipy", "torch")}
    return {**packages, "python": platform.python_version(), "machine": platform.machine()}


def machine() -> dict[str, Any]:
    """Return the kind of machine: processor, cores, threads used. No name that tells whose it
    is.
    """
    import torch

    processor = platform.processor() or platform.machine()
    if sys.platform == "linux":
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = models[0] if models else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
    }
