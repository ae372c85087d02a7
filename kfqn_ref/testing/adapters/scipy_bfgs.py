"""``scipy.optimize.BFGS`` and ``LbfgsInvHessProduct``.

SciPy offers updates of a matrix it owns; the adapter starts one from H. Powell's damping it applies
inside an update (``exception_strategy="damp_update"``), and the secant equation H⁺y = s̃ shows the
damped step.
"""

import numpy as np
from scipy.optimize import BFGS, LbfgsInvHessProduct

_NEVER = np.finfo(
    float
).tiny  # a threshold so small that no pair of positive curvature is an exception


def _updated(
    H: np.ndarray, s: np.ndarray, y: np.ndarray, kind: str, strategy: str, least: float
) -> np.ndarray:
    scale = (
        np.array(H) if len(s) > 1 else float(H[0, 0])
    )  # a (1, 1) matrix it takes for a number, and fails
    update = BFGS(exception_strategy=strategy, min_curvature=least, init_scale=scale)  # type: ignore[reportArgumentType]  # scipy's stub knows float and "auto" only; the documentation adds matrices
    update.initialize(len(s), kind)
    update.update(np.array(s), np.array(y))
    return update.get_matrix()


class ScipyBFGS:
    """BFGS updates of H and of B, Powell's damping, and the dense and applied L-BFGS matrix."""

    def bfgs_inverse_update(self, H: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        """(1.3)."""
        return _updated(H, s, y, "inv_hess", "skip_update", _NEVER)

    def bfgs_direct_update(self, B: np.ndarray, s: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The update of B."""
        return _updated(B, s, y, "hess", "skip_update", _NEVER)

    def powell_damp(
        self, H: np.ndarray, s: np.ndarray, y: np.ndarray, *, mu1: float = 0.2
    ) -> np.ndarray:
        """s̃ = H⁺ y of a damped update."""
        return _updated(H, s, y, "inv_hess", "damp_update", mu1) @ y

    def lbfgs_dense(self, S: np.ndarray, Y: np.ndarray, *, gamma: float = 1.0) -> np.ndarray:
        """From gamma I, which scipy fixes at 1: H(gamma; S, Y) = gamma H(1; S/√gamma, √gamma Y)."""
        if not len(S):
            return gamma * np.eye(S.shape[1])
        root = np.sqrt(float(gamma))  # of a float32 number the root would be rounded to float32
        return gamma * LbfgsInvHessProduct(S / root, Y * root).todense()

    def lbfgs_two_loop(
        self, S: np.ndarray, Y: np.ndarray, q: np.ndarray, *, gamma: float = 1.0
    ) -> np.ndarray:
        """The same, applied."""
        if not len(S):
            return gamma * q
        root = np.sqrt(float(gamma))  # of a float32 number the root would be rounded to float32
        return gamma * LbfgsInvHessProduct(S / root, Y * root).matvec(np.array(q))
