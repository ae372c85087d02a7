"""``kfqn train``: train a network on real images, with checkpoints.

====================  ==========================================================================
``command``           the command
``settings``          what a run was asked to do
``engine``            what an engine offers, and what both share
``reference_engine``  the NumPy reference and its baselines
``torch_engine``      the torch optimizer and its baselines
``engines``           the engine that the settings name
``run``               epochs, logs and checkpoints
====================  ==========================================================================
"""
