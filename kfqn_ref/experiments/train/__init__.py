"""``kfqn train``: train a network on real images, with checkpoints.

============  ==================================================================================
``command``   the command
``settings``  what a run was asked to do
``engines``   the reference, the torch optimizer and the baselines behind one interface
``run``       epochs, logs and checkpoints
============  ==================================================================================
"""
