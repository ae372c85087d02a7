"""The convergence theorem in numbers, for :class:`~kfqn_ref.method.convergent.Convergent`.

==================  ============================================================================
``bounds``          Lemmas A and B: eigenvalue bounds of the estimates, and all constants of a net
``loss_constants``  L and σ² of a loss, where a bound that holds at all weights can be derived
``theorem``         the one-step inequality and the rate
==================  ============================================================================
"""

from kfqn_ref.theory.bounds import Bounds, Constants, LayerConstants, constants
from kfqn_ref.theory.loss_constants import Smoothness, smoothness
from kfqn_ref.theory.theorem import Rate, largest_step, sampling_variance

__all__ = [
    "Bounds",
    "Constants",
    "LayerConstants",
    "Rate",
    "Smoothness",
    "constants",
    "largest_step",
    "sampling_variance",
    "smoothness",
]
