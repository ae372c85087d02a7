"""Kronecker-factored quasi-Newton methods: a NumPy reference, a torch optimizer, and tests that
they agree.

The reference in reading order, one book chapter each; a reader can stop at any line:

==================  ============================================================================
``algorithm``       KF-QN-CNN on one page
``bfgs``            BFGS on an inverse: secant, least change, positive definiteness
``damping``         Powell, Levenberg-Marquardt, and their products DD and D_P D_LM
``lbfgs``           the last p pairs: two loops, compact form, dense form
``kronecker``       vec and the Kronecker product
``patches``         a convolution as a matrix product
``layers``          layers, forward and backward side by side
``pooling``         the largest and the mean entry of each window
``transposed``      a transposed convolution as a layer
``losses``          per-sample losses
``network``         a chain of layers, one forward-backward pass
``hessian``         the exact Hessian block of a layer, and what IAD, SUD and SH make of it
``factors``         the Kronecker factor A, its action without forming it, the curvature pairs
``method``          the full method: options, presets, guards; and the methods to compare with
``theory``          the convergence theorem of the preset ``convergent``, in numbers
==================  ============================================================================

The rest of the package:

==================  ============================================================================
``optim``           the torch optimizer ``KFQN``; it uses nothing of the reference
``bridge``          the one module that knows both: conversion between reference and torch
``testing``         the laws that both obey, as checks for any implementation
``experiments``     the commands: training, verification, races, measurements
``course``          assignments: release, grading in a sandbox, feedback
``files``           atomic writes and checkpoints
``cli``             the command ``kfqn``
==================  ============================================================================

The names below are imported when they are first used, so that ``import kfqn_ref`` loads none of
its modules.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kfqn_ref._typing import InverseEstimate, Pair
    from kfqn_ref.bfgs import bfgs_inverse_update
    from kfqn_ref.damping import dp_dlm_damp, lm_damp, powell_damp, powell_theta
    from kfqn_ref.factors import (
        hessian_action,
        input_factor,
        input_mean,
        input_pair,
        output_pair,
    )
    from kfqn_ref.layers import (
        Conv2d,
        Flatten,
        Linear,
        ReLU,
        Sigmoid,
        Tanh,
    )
    from kfqn_ref.lbfgs import lbfgs_compact, lbfgs_dense, lbfgs_push, lbfgs_two_loop
    from kfqn_ref.losses import BernoulliCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
    from kfqn_ref.method.baselines import SGD, Adam
    from kfqn_ref.method.kfac import KFAC
    from kfqn_ref.method.presets import PRESETS, preset
    from kfqn_ref.method.step import KFQN
    from kfqn_ref.method.train import fit, minibatches
    from kfqn_ref.network import Network, forward_backward
    from kfqn_ref.pooling import AvgPool2d, MaxPool2d

__version__ = "0.1.0"

__all__ = [
    "KFAC",
    "KFQN",
    "PRESETS",
    "SGD",
    "Adam",
    "AvgPool2d",
    "BernoulliCrossEntropy",
    "Conv2d",
    "Flatten",
    "InverseEstimate",
    "Linear",
    "MaxPool2d",
    "MeanSquaredError",
    "Network",
    "Pair",
    "ReLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
    "bfgs_inverse_update",
    "dp_dlm_damp",
    "fit",
    "forward_backward",
    "hessian_action",
    "input_factor",
    "input_mean",
    "input_pair",
    "lbfgs_compact",
    "lbfgs_dense",
    "lbfgs_push",
    "lbfgs_two_loop",
    "lm_damp",
    "minibatches",
    "output_pair",
    "powell_damp",
    "powell_theta",
    "preset",
]

_NAMES_OF = {
    "_typing": "InverseEstimate Pair",
    "bfgs": "bfgs_inverse_update",
    "damping": "dp_dlm_damp lm_damp powell_damp powell_theta",
    "factors": "hessian_action input_factor input_mean input_pair output_pair",
    "layers": "Conv2d Flatten Linear ReLU Sigmoid Tanh",
    "lbfgs": "lbfgs_compact lbfgs_dense lbfgs_push lbfgs_two_loop",
    "losses": "BernoulliCrossEntropy MeanSquaredError SoftmaxCrossEntropy",
    "method.baselines": "Adam SGD",
    "method.kfac": "KFAC",
    "method.presets": "PRESETS preset",
    "method.step": "KFQN",
    "method.train": "fit minibatches",
    "network": "Network forward_backward",
    "pooling": "AvgPool2d MaxPool2d",
}
_HOME = {name: module for module, names in _NAMES_OF.items() for name in names.split()}

_MODULES = (
    "algorithm", "bfgs", "damping", "lbfgs", "kronecker", "patches", "layers",
    "pooling", "transposed", "losses", "network", "hessian", "factors", "method", "theory",
)  # fmt: skip  # as in the table above


def __getattr__(name: str) -> Any:
    """Return a name of the table, or a module of the reference, imported when first used."""
    if name in _MODULES:
        return import_module(f"kfqn_ref.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'kfqn_ref' has no attribute {name!r}")
    # not kept here: what a test has replaced for a moment in its module would stay
    return getattr(import_module(f"kfqn_ref.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """Return the names of the package, those that are not imported yet among them."""
    return sorted({*globals(), *__all__, *_MODULES})
