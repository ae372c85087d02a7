"""The checks, by chapter; importing this package fills the registry.

==================  ============================================================================
``bfgs``            one BFGS update (1.3): secant, definiteness, invariances
``theorems``        theorems on BFGS: least change, termination, interlacing
``lbfgs``           the three forms of L-BFGS, and its memory
``damping``         the damping formulas (2.1) to (2.3)
``damping_bounds``  double damping, D_P D_LM, and their bounds (2.4) to (2.8)
``narrow``          pairs that are almost orthogonal
``kronecker``       flattenings, the Kronecker product, patches
``factors``         factors, Hessian action, curvature pairs
``network``         loss, gradients and records of a pass
``optimizer``       whole steps
``replayed_run``    a run beside what the equations say of each step, for these laws
``arguments``       arguments come back as they were
``forms``           the forms in which each function may be called
``protocol``        results depend on the values of the arguments alone
``errors``          the classes of errors
==================  ============================================================================
"""

from kfqn_ref.testing.checks import (
    arguments,
    bfgs,
    damping,
    damping_bounds,
    errors,
    factors,
    kronecker,
    lbfgs,
    narrow,
    network,
    optimizer,
    protocol,
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
    "narrow",
    "network",
    "optimizer",
    "protocol",
    "theorems",
]
