"""Adapters: other implementations, made to answer to the names that the checks know.

===============  ===============================================================================
``reference``    the NumPy reference
``torch_kfqn``   the torch optimizer
``scipy_bfgs``   SciPy's BFGS
``torch_lbfgs``  torch's L-BFGS
``asdl``         ASDL's K-BFGS (extra ``peers``)
===============  ===============================================================================

An adapter is a class whose methods or attributes have some of the names
of ``kfqn_ref.testing.implementation.NAMES``.
"""
