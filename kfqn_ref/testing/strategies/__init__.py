"""Hypothesis strategies: valid inputs of every kind, as read-only readable numbers.

============  ==================================================================================
``axes``      what every strategy has to visit, as axes with named classes
``kernels``   vectors, positive definite matrices and curvature pairs
``narrow``    pairs that are almost orthogonal
``layers``    layers and their inputs
``networks``  networks, weights and mini-batches
============  ==================================================================================
"""
