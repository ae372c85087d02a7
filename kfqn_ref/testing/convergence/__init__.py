"""The lemmas and the theorem of the convergence variant as checks, with their mutants.

=================  =============================================================================
``lemmas``         eigenvalue bounds on arbitrary sequences of pairs and of mini-batches
``theorem``        the one-step inequality and the rate, with exact expectations
``state_machine``  the same bounds over arbitrary orders of operations
``checks``         the list of all these checks
``mutants``        mistakes that they reject
=================  =============================================================================
"""
