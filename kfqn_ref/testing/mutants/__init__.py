"""Mutants: known mistakes, each as a complete implementation, the reference with one function
replaced.

A check that rejects no mutant has never been seen to fail; a mutant that no check rejects is a
mistake the suite would let through. ``tests/test_mutants.py`` refuses both.
"""

from kfqn_ref.testing.mutants import bfgs, damping, errors, factors, in_place, lbfgs, optimizer
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
    "optimizer",
]
