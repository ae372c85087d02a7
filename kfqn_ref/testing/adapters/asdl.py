"""ASDL's K-BFGS (package ``asdfghjkl``, extra ``peers``): its damping and its update, which write
into their arguments.
"""

import warnings
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kfqn_ref._extras import needs


class ASDL:
    """``powell_lm_damping_`` and ``bfgs_inv_update_``, each on copies that are then returned."""

    precision = "float64"

    def __init__(self) -> None:
        needs("peers", "the adapter of ASDL", "asdl")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # it compiles itself with torch.jit.script
            self._kbfgs: Any = import_module(
                "asdl.precondition.kbfgs"
            )  # the optional extra `peers`

    def to_native(self, X: np.ndarray) -> Tensor:
        """A tensor that shares nothing with the array."""
        return torch.tensor(X)

    def dp_dlm_damp(
        self, H: Tensor, s: Tensor, y: Tensor, *, mu1: float = 0.2, lam: float
    ) -> tuple[Tensor, Tensor]:
        """D_P D_LM damping."""
        s = s.clone()
        y = y.clone()
        self._kbfgs.powell_lm_damping_(H, s, y, mu1=mu1, mu2=lam)
        return s, y

    def bfgs_inverse_update(self, H: Tensor, s: Tensor, y: Tensor) -> Tensor:
        """The update of H, in place by its name."""
        H = H.clone()
        self._kbfgs.bfgs_inv_update_(H, s, y)
        return H
