"""Mutants: known mistakes, each as a complete implementation, the reference with one function
replaced.

A check that rejects no mutant has never been seen to fail; a mutant that no check rejects is a
mistake the suite would let through. ``tests/test_mutants.py`` refuses both.

=============  =================================================================================
``registry``   what a mutant is, and the list of all
``bfgs``       mistakes in the BFGS updates
``lbfgs``      mistakes in L-BFGS
``damping``    mistakes in the damping formulas
``narrow``     pairs that are almost orthogonal, and skipped
``factors``    mistakes in flattenings, patches, factors and pairs
``optimizer``  mistakes in an iteration
``errors``     functions with the wrong class of error, or none
``in_place``   functions that write into their argument
``protocol``   results that depend on the form of a call, on the layout, or on other calls
=============  =================================================================================
"""

from kfqn_ref.testing.mutants import (
    bfgs,
    damping,
    errors,
    factors,
    in_place,
    lbfgs,
    narrow,
    optimizer,
    protocol,
)
from kfqn_ref.testing.mutants.registry import MUTANTS, Mutant

__all__ = [
    "MUTANTS",
    "Mutant",
    "bfgs",
    "damping",
    "errors",
    "factors",
    "in_place",
    "lbfgs",
    "narrow",
    "optimizer",
    "protocol",
]
