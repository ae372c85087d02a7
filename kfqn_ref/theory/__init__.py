"""The convergence variant and its theorem.

==================  ============================================================================
``convergent``      the variant, and the eigenvalue bounds that hold for it
``loss_constants``  L and σ² of a loss, where a bound that holds at all weights can be derived
``theorem``         the one-step inequality and the rate, in numbers
==================  ============================================================================
"""
