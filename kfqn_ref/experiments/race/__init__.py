"""``kfqn race``: compare optimizers on real images, all tuned by one rule.

==================  ============================================================================
``command``         the command
``tasks``           networks and data
``entrants``        the optimizers, and their grids
``grid``            how a grid grows until its best point is interior
``inputs``          the inverse second moment of inputs that Newton-Muon needs
``kfac``            KFAC for torch, one of the entrants
``run``             one training run
``timing``          step times, measured side by side
``suite``           tuning, then the final seeds
``store``           results as lines of JSON, so that a stopped race goes on
``intervals``       means and differences over seeds, with Student's interval
``report``          verdicts from the stored lines
``show``            the report as tables and figures
``ablations``       variants of our own entrant
``ablations_show``  their tables and figures
``sides``           which half of the method helps
==================  ============================================================================
"""
