"""``kfqn race``: compare optimizers on real images, all tuned by one rule.

==================  ============================================================================
``command``         the command
``tasks``           networks and data
``entrants``        the optimizers, and their grids
``kfac``            KFAC for torch, one of the entrants
``run``             one training run
``timing``          step times, measured side by side
``suite``           tuning, then the final seeds
``store``           results as lines of JSON, so that a stopped race goes on
``report``          verdicts from the stored lines
``show``            the report as tables and figures
``ablations``       variants of our own entrant
``ablations_show``  their tables and figures
``sides``           which half of the method helps
==================  ============================================================================
"""
