"""The checks, by chapter; importing this package fills the registry."""

from kfqn_ref.testing.checks import (
    arguments,
    bfgs,
    damping,
    damping_bounds,
    errors,
    factors,
    kronecker,
    lbfgs,
    network,
    optimizer,
    theorems,
)

__all__ = [
    "arguments",
    "bfgs",
    "damping",
    "damping_bounds",
    "errors",
    "factors",
    "kronecker",
    "lbfgs",
    "network",
    "optimizer",
    "theorems",
]
