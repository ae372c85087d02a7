"""The full method: what the presets have in common, and how they differ.

==============  ================================================================================
``options``     what the presets do differently: damping, split of λ, starts of the inverses
``nadam``       steps scaled as Adam scales them (``kfqn_adam``)
``step``        one iteration: init, direction, update, step
``presets``     the published variants by name
``train``       mini-batches and a loop
``baselines``   SGD with momentum, Adam
``kfac``        KFAC and KFC, the neighbours
==============  ================================================================================
"""
