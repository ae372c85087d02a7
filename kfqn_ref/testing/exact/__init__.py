"""Identities decided without a tolerance, in a finite field or in exact rationals.

The kernels are rational functions of their inputs. A wrong identity between two of them is a
polynomial that is not zero; at a random point of a large field it is zero with a probability of at
most its degree over the number of points to choose from (Schwartz 1980, Zippel 1979). Arithmetic
is that of python-flint, from the extra ``exact``.

=========== ==================================================================================
``scalars`` numbers of a finite field or of the rationals, in NumPy arrays
``draws``   random inputs, with conditions that are met by construction
``laws``    the identities and the inequalities
``prove``   states one of them for an implementation, and says how sure the answer is
=========== ==================================================================================
"""
