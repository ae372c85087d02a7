"""Optional dependencies: which extra brings which module, and the sentence for one that is missing.

The hard dependencies are what the reference and the optimizer need. Everything else comes by an
extra that is named after what people do, and is asked for where it is used.
"""

from importlib.util import find_spec

EXTRAS = {
    "cli": ("typer", "rich", "jinja2", "sklearn", "matplotlib"),
    "check": ("hypothesis", "allpairspy", "rich", "jinja2"),
    "exact": ("flint",),
    "course": ("nbgrader", "nbformat", "jupytext", "psutil", "nh3"),
    "notebooks": ("jupyterlab",),
    "peers": ("pytorch_optimizer", "asdl", "opt_einsum"),
}


OLDEST_TORCH = (2, 9)


class MissingExtra(ImportError):
    """A package of an extra is not installed; the message names the extra that brings it."""


def needs(extra: str, what: str, *modules: str) -> None:
    """Raise ``MissingExtra`` in one sentence unless the modules of an extra can be imported.

    Args:
        extra: a key of ``EXTRAS``.
        what: what needs it, as the sentence's subject: ``kfqn train``.
        modules: those modules of the extra that are used; all of them by default.
    """
    missing = [name for name in modules or EXTRAS[extra] if find_spec(name) is None]
    if missing:
        raise MissingExtra(
            f"{what} needs {', '.join(missing)}, which the extra '{extra}' brings: "
            f"pip install 'kfqn_ref[{extra}]'"
        )


def needs_torch(version: str) -> None:
    """Raise ``ImportError`` in one sentence if this version of torch is older than required."""
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_TORCH:
        oldest = ".".join(map(str, OLDEST_TORCH))
        raise ImportError(
            f"kfqn_ref.optim needs torch {oldest} or newer, got {version}: "
            "pip install --upgrade torch"
        )
