"""``kfqn first-look``: compare KF-QN-CNN with tuned SGD and Adam on one data set.

===========  ===================================================================================
``command``  the command, its trials and its plot
===========  ===================================================================================
"""
