"""The laws of the method as checks, for this implementation and for any other.

``run_checks(implementation)`` puts a module, class, object, dict or file through them;
``kfqn check`` does so from the command line, ``parametrize_with_checks`` under pytest. A check
states one theorem; hypothesis searches for the smallest counterexample.

==================  ============================================================================
``law``             what a check is
``tolerances``      how much rounding each equation may show, derived
``strategies``      valid inputs of every kind, as read-only readable numbers
``checks``          the laws, by chapter
``oracles``         slow derivations that the laws of layers and steps are checked against
``implementation``  what can be put through the checks: the protocol of an adapter
``namespace``       arrays of another library than NumPy
``independence``    draws that depend on the seed alone
``coverage``        a case for every pair of classes of the domain's axes
``region``          where a failure lives: "only for n ≥ 6"
``runner``          the search for a counterexample
``report``          what the checks found, as values, JSON and text
``html``            the same as a page
``junit``           the same as JUnit XML
``exact``           identities decided in a finite field or in exact rationals
``verdict``         what an accepted file was tried with, and how sure that makes
``supervise``       checks in processes of their own, with a time limit
``command``         the command ``kfqn check``
``parametrize``     the checks as pytest tests, one a law
``plugin``          the same from the command line: ``pytest --kfqn-check FILE.py``
``mutants``         the known mistakes, each as an implementation that the checks reject
``kill_matrix``     which check rejects which mutant
``power``           how often the suite finds a mistake
``variants``        wrong variants from the syntax tree, and the share of them that is rejected
``bulk``            many cases at once, drawn by NumPy's generator
``thorough``        every law on a hundred thousand cases
``fuzz``            random networks, data and options until a time budget is used up
``adapters``        other people's implementations, made to answer to the names
``peers``           what the checks find in them
``convergence``     the lemmas and the theorem of the convergence variant
==================  ============================================================================

The names below are imported when they are first used, and say so if the extra ``check`` is
missing; ``tolerances`` needs nothing but NumPy.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kfqn_ref._extras import needs

if TYPE_CHECKING:
    from kfqn_ref.testing.implementation import Implementation, UnusableImplementation
    from kfqn_ref.testing.law import Check, Violation
    from kfqn_ref.testing.report import CheckResult, Failure, Report
    from kfqn_ref.testing.runner import Effort, all_checks, run_check, run_checks

__all__ = [
    "Check",
    "CheckResult",
    "Effort",
    "Failure",
    "Implementation",
    "Report",
    "UnusableImplementation",
    "Violation",
    "all_checks",
    "run_check",
    "run_checks",
]

_MODULES = {
    "Implementation": "implementation",
    "UnusableImplementation": "implementation",
    "Check": "law",
    "Violation": "law",
    "CheckResult": "report",
    "Failure": "report",
    "Report": "report",
    "Effort": "runner",
    "all_checks": "runner",
    "run_check": "runner",
    "run_checks": "runner",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    needs("check", f"kfqn_ref.testing.{name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
