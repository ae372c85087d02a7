"""What a result was computed with, as every result file records it."""

import platform
from importlib.metadata import version


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that compute, and the kind of
    machine.
    """
    packages = {name: version(name) for name in ("kfqn_ref", "numpy", "scipy", "torch")}
    return {**packages, "python": platform.python_version(), "machine": platform.machine()}
