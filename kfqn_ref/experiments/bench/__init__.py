"""``kfqn bench``: measure the time of a step beside SGD and beside the physical limit.

===========  ===================================================================================
``command``  the command
``measure``  interleaved timing of whole steps
``kernels``  how many kernels a step launches
``memory``   what many steps hold
===========  ===================================================================================
"""
