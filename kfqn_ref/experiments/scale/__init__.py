"""``kfqn scale``: model a step on many GPUs, and check the model on local ranks.

============  ==================================================================================
``command``   the command
``networks``  layer shapes of published networks
``model``     the cost model
``measure``   the measurement that it is compared with
``rank``      what one local rank runs
``show``      tables and figures
============  ==================================================================================
"""
