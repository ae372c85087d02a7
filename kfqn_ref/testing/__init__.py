"""The laws of the method as checks, for this implementation and for any other.

``run_checks(implementation)`` puts a module, class, object, dict or file through them;
``kfqn check`` does so from the command line, ``parametrize_with_checks`` under pytest. A check
states one theorem; hypothesis searches for the smallest counterexample.

==================  ============================================================================
``law``             what a check is
``tolerances``      how much rounding each equation may show, derived
``strategies``      valid inputs of every kind, as read-only readable numbers
``checks``          the laws, by chapter
``implementation``  what can be put through them: the adapter protocol
``runner``          the search; ``report``: what it found
``thorough``        every law on a hundred thousand cases, drawn in ``bulk``
``mutants``         the known mistakes, each as an implementation that the checks reject
``kill_matrix``     which check rejects which mutant
``adapters``        other people's implementations, made to answer to the names
``oracles``         slow derivations that the laws of layers and steps are checked against
==================  ============================================================================
"""

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
