"""Kronecker-factored quasi-Newton methods: a NumPy reference, a torch twin, and the proof that they
agree.

The reference in reading order, one book chapter each; a reader can stop at any line:

==================  ============================================================================
``bfgs``            BFGS on an inverse: secant, least change, positive definiteness
``damping``         Powell, Levenberg-Marquardt, and their products DD and D_P D_LM
``lbfgs``           the last p pairs: two loops, compact form, dense form
``kron``            vec and the Kronecker product
``patches``         a convolution as a matrix product
``layers``          layers, forward and backward side by side
``losses``          per-sample losses
``network``         a chain of layers, one forward-backward pass
``hessian``         the exact Hessian block of a layer, and what IAD, SUD and SH make of it
``factors``         the Kronecker factor A, its action without forming it, the curvature pairs
``strategies``      what the presets do differently
``scaling``         steps scaled as Adam scales them, and the box that they stay in
``kfqn``            the method: init, direction, update, step
``convergent``      the variant with a theorem: damping against H_0, and every eigenvalue constant
``smoothness``      L and σ² of the loss, where a bound at all weights can be derived
``theorem``         the one-step inequality and the rate, in numbers
``presets``         K-BFGS (2020), KF-QN-CNN (2021), K-BFGS (2022), convergent by name
``baselines``       SGD with momentum, Adam
``kfac``            KFAC and KFC
``train``           mini-batches and a loop
==================  ============================================================================

The fast twin is ``kfqn_ref.optim.KFQN``; the checks that hold both to the theorems are
``kfqn_ref.testing``.
"""

from kfqn_ref._typing import InverseEstimate, Pair
from kfqn_ref.bfgs import DenseInverse, bfgs_direct_update, bfgs_inverse_update
from kfqn_ref.damping import (
    double_damp,
    dp_dlm_damp,
    h0_damp,
    identity_damp,
    identity_theta,
    lm_damp,
    powell_damp,
    powell_theta,
)
from kfqn_ref.factors import (
    average_pair,
    conv_hessian_action,
    hessian_action,
    input_factor,
    input_mean,
    input_pair,
    output_pair,
)
from kfqn_ref.hessian import LayerBlocks, exact_blocks, layer_blocks, output_factor, output_hessian
from kfqn_ref.kronecker import cvec, cvec_inverse, kron, kron_matvec, rvec, rvec_inverse
from kfqn_ref.layers import (
    AvgPool2d,
    Conv2d,
    Flatten,
    Linear,
    MaxPool2d,
    Record,
    ReLU,
    Sigmoid,
    Tanh,
)
from kfqn_ref.lbfgs import LBFGSInverse, lbfgs_compact, lbfgs_dense, lbfgs_push, lbfgs_two_loop
from kfqn_ref.losses import BernoulliCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
from kfqn_ref.method.baselines import SGD, Adam
from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.kfac import KFAC, factored_damping, fisher_output_factor
from kfqn_ref.method.presets import PRESETS, preset
from kfqn_ref.method.state import BlockState, Counts, State, Step
from kfqn_ref.method.step import KFQN
from kfqn_ref.method.train import fit, minibatches
from kfqn_ref.network import Network, Pass, forward_backward, gradient
from kfqn_ref.patches import append_one, col2im, im2col
from kfqn_ref.theory.bounds import Bounds, Constants, constants
from kfqn_ref.theory.loss_constants import Smoothness, smoothness
from kfqn_ref.theory.theorem import Rate, largest_step, sampling_variance

__version__ = "0.1.0"

__all__ = [
    "KFAC",
    "KFQN",
    "PRESETS",
    "SGD",
    "Adam",
    "AvgPool2d",
    "BernoulliCrossEntropy",
    "BlockState",
    "Bounds",
    "Constants",
    "Conv2d",
    "Convergent",
    "Counts",
    "DenseInverse",
    "Flatten",
    "InverseEstimate",
    "LBFGSInverse",
    "LayerBlocks",
    "Linear",
    "MaxPool2d",
    "MeanSquaredError",
    "Network",
    "Pair",
    "Pass",
    "Rate",
    "ReLU",
    "Record",
    "Sigmoid",
    "Smoothness",
    "SoftmaxCrossEntropy",
    "State",
    "Step",
    "Tanh",
    "append_one",
    "average_pair",
    "bfgs_direct_update",
    "bfgs_inverse_update",
    "col2im",
    "constants",
    "conv_hessian_action",
    "cvec",
    "cvec_inverse",
    "double_damp",
    "dp_dlm_damp",
    "exact_blocks",
    "factored_damping",
    "fisher_output_factor",
    "fit",
    "forward_backward",
    "gradient",
    "h0_damp",
    "hessian_action",
    "identity_damp",
    "identity_theta",
    "im2col",
    "input_factor",
    "input_mean",
    "input_pair",
    "kron",
    "kron_matvec",
    "largest_step",
    "layer_blocks",
    "lbfgs_compact",
    "lbfgs_dense",
    "lbfgs_push",
    "lbfgs_two_loop",
    "lm_damp",
    "minibatches",
    "output_factor",
    "output_hessian",
    "output_pair",
    "powell_damp",
    "powell_theta",
    "preset",
    "rvec",
    "rvec_inverse",
    "sampling_variance",
    "smoothness",
]
