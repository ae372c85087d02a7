"""Hypothesis strategies: valid inputs of every kind, as read-only readable numbers.

============  ==================================================================================
``kernels``   vectors, positive definite matrices and curvature pairs
``layers``    layers and their inputs
``networks``  networks, weights and mini-batches
============  ==================================================================================
"""
