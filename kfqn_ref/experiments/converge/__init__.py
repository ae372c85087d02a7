"""``kfqn converge``: compare the bound of the convergence theorem with runs on digits.

===========  ===================================================================================
``command``  the command
``run``      the runs, and both sides of the theorem
``plot``     their figures
===========  ===================================================================================
"""
