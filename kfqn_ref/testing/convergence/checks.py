"""All checks of the convergence theorem, in the order of the proof."""

from collections.abc import Callable

from kfqn_ref.testing.convergence.lemmas import (
    LEMMAS,
    Variant,
    bounds_of_pairs_are_attained,
    exponent_of_kappa_is_attained,
    input_radius_bounds_every_factor,
    negative_curvature_leaves_B_bounded,
    number_of_M_is_attained,
    pairs_of_h0_damping_are_bounded,
)
from kfqn_ref.testing.convergence.state_machine import eigenvalues_stay_bounded
from kfqn_ref.testing.convergence.theorem import (
    THEOREM,
    bound_is_the_worst_that_one_step_allows,
    constants_of_the_loss_are_attained,
    constants_of_the_loss_hold,
    direction_is_unbiased,
    one_step_inequality_holds,
    theorem_holds_along_runs,
    variance_of_a_mini_batch_is_exact,
)

CHECKS: tuple[Callable[[Variant], None], ...] = (*LEMMAS, eigenvalues_stay_bounded, *THEOREM)

__all__ = [
    "CHECKS",
    "bound_is_the_worst_that_one_step_allows",
    "bounds_of_pairs_are_attained",
    "constants_of_the_loss_are_attained",
    "constants_of_the_loss_hold",
    "direction_is_unbiased",
    "eigenvalues_stay_bounded",
    "exponent_of_kappa_is_attained",
    "input_radius_bounds_every_factor",
    "negative_curvature_leaves_B_bounded",
    "number_of_M_is_attained",
    "one_step_inequality_holds",
    "pairs_of_h0_damping_are_bounded",
    "theorem_holds_along_runs",
    "variance_of_a_mini_batch_is_exact",
]
