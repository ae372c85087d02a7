"""The full method: one iteration, how the presets differ, and the methods to compare with.

==============  ================================================================================
``step``        one iteration: start, direction, step, update, in the order of the algorithm
``options``     what the presets do differently, one small type a concern
``presets``     the published variants by name
``muon``        the direction of ``kfqn_muon``: the orthogonal factor
``nadam``       the direction of ``kfqn_adam``: steps scaled as Adam scales them
``convergent``  the variant with a convergence theorem
``guards``      numbers that cannot be used: what is skipped, and the counters
``state``       what is remembered from one iteration to the next
``train``       mini-batches and a loop
``baselines``   SGD with momentum, Adam
``kfac``        KFAC and KFC, the neighbours
==============  ================================================================================
"""
