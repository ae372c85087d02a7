"""Draws that depend on the seed alone, whatever modules are loaded.

Hypothesis collects the literal constants of every *local* module that happens to be imported, mixes
them into the draws (one integer in twenty), also under ``derandomize=True``, and stores them in
``.hypothesis/constants``, also with ``database=None``. Under a test runner with several workers the
set of imported modules depends on timing; for ``kfqn check`` it depends on the user's own modules.
A verdict must depend on neither.

Hypothesis has no setting for this, and its table of backends, which is documented, does not serve:
the engine draws new prefixes with its own provider whatever the table says. So the one method that
draws a constant, ``HypothesisProvider._maybe_draw_constant`` (present from 6.135 to 6.170), is
replaced while checks run. The project bounds the version; :func:`switch_off_constants` refuses a
Hypothesis without this method; ``tests/testing/test_draws.py`` shows that draws are independent.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hypothesis
from hypothesis.internal.conjecture.providers import HypothesisProvider

_METHOD = "_maybe_draw_constant"


def _no_constant(*_: Any, **__: Any) -> None:
    """Say, in the place of Hypothesis' method, that this draw is no constant."""


def switch_off_constants() -> None:
    """Draw without constants from now on: for the whole process of a test suite.

    Raises:
        RuntimeError: this Hypothesis draws its constants in another way.
    """
    if not hasattr(HypothesisProvider, _METHOD):
        raise RuntimeError(
            f"draws must not depend on the modules that are loaded, but Hypothesis "
            f"{hypothesis.__version__} has no {_METHOD} to replace; install "
            "hypothesis>=6.135,<6.171"
        )
    setattr(HypothesisProvider, _METHOD, _no_constant)


@contextmanager
def independent_draws() -> Iterator[None]:
    """Draw without constants inside the block: other tests of the same process keep theirs."""
    before = getattr(HypothesisProvider, _METHOD, None)
    switch_off_constants()
    try:
        yield
    finally:
        setattr(HypothesisProvider, _METHOD, before)
