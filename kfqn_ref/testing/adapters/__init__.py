"""Adapters: other implementations, made to answer to the names that the checks know.

``reference`` (this package), ``torch_kfqn`` (its torch optimizer), ``scipy_bfgs``, ``torch_lbfgs``,
``asdl`` (extra ``peers``). An adapter is a class whose methods or attributes have some of the names
of ``kfqn_ref.testing.implementation.NAMES``.
"""
