"""The torch optimizer: Kronecker-factored quasi-Newton training of linear and convolution layers.

In reading order:

================  ==================================================================================
``optimizer``     the class ``KFQN``: options, errors, checkpoints
``closures``      the closure of a model, a loss function and one mini-batch
``iteration``     the order of the steps: passes, momentum, step, pairs, updates
``passes``        how a pass is watched, and how the second pass repeats the first
``records``       what one layer leaves for the curvature over a pass
``standing``      hooks that stand from the beginning, where a step needs no closure
``move``          steps 2 and 3: averaged gradients, directions, the step
``update``        steps 4.1 to 4.5: the pairs of the layers, and the updates of their factors
``kernels``       the formulas, in place and masked on the device
``inverses``      ``H_a`` and ``H_g`` as matrices or as pairs
``joined``        vectors of several layers in one tensor
``presets``       what the published variants do differently
``options``       hyper-parameters, parameter groups, and what they may hold
``layer``         a covered layer: weights and gradients as matrices
``geometry``      sums over samples and locations of linear layers and convolutions
``kinds``         which modules are covered, and how another kind is added
``attention``     torch's attention as linear layers that are covered
``coverage``      which parameters of a model are covered, and what the others are
``warm_start``    a start from the mean of several mini-batches
``distributed``   means over the ranks of DistributedDataParallel
``sharded``       parameters that FSDP2 has cut into one shard a rank
``ownership``     factors that live on one rank each
``guards``        what a step refuses before anything moves, and how an error is undone
``rows``          the rows of a mini-batch that count
``reduction``     how a loss reduces its samples, as far as its graph shows it
``checkpoint``    what is saved, and what must agree when it is loaded
``diagnostics``   matrices and numbers to look at
================  ==================================================================================
"""

import torch

from kfqn_ref._extras import needs_torch

needs_torch(torch.__version__)

from kfqn_ref.optim.attention import split_attention
from kfqn_ref.optim.closures import closure
from kfqn_ref.optim.diagnostics import Counts, Curvature
from kfqn_ref.optim.kinds import register_layer
from kfqn_ref.optim.optimizer import KFQN
from kfqn_ref.optim.presets import PRESETS

__all__ = ["KFQN", "PRESETS", "Counts", "Curvature", "closure", "register_layer", "split_attention"]
