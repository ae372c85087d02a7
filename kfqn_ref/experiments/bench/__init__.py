"""``kfqn bench``: measure the time of a step beside SGD and beside the physical limit.

===========  ===================================================================================
``command``  the command
``measure``  interleaved timing of whole steps
``growth``   how time and state grow with the size of a network, beside counts on paper
``kernels``  how many kernels a step launches
``memory``   what many steps hold
===========  ===================================================================================
"""
