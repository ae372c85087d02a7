"""``kfqn verify``: train reference and torch side by side, and compare.

================  ==============================================================================
``command``       the command
``side_by_side``  both runs, and how far apart they are
``secant``        the secant equation after every update
================  ==============================================================================
"""
