"""The named methods: each is a ``KFQN`` with other values (book: K-BFGS, KF-QN-CNN)."""

from typing import Any

from kfqn_ref.method.options import dd, lbfgs_output_start, location_split
from kfqn_ref.method.step import KFQN
from kfqn_ref.theory.convergent import Convergent

_KBFGS_2020: dict[str, Any] = {
    "damp": dd,
    "averages_A": True,
    "skip_below": 1e-4,
    "linear_only": True,
}

PRESETS: dict[str, dict[str, Any]] = {
    "kbfgs_2020": _KBFGS_2020,
    "kbfgs_l_2020": _KBFGS_2020 | {"start_H_g": lbfgs_output_start},
    "kfqn_cnn": {},
    "kfqn_cnn_l": {"start_H_g": lbfgs_output_start},
    "kfqn_eager": {"curvature_interval": 10, "eager_steps": 20},
    "kfqn_adam": {"curvature_interval": 10, "square_decay": 0.99, "lr": 0.01, "damping": 0.3},
    "kbfgs_2022": {"split": location_split, "curvature_interval": 10},
    "convergent": {},
}


def preset(name: str, **overrides: Any) -> KFQN:
    """Return the method of that name, with the given fields of :class:`~kfqn_ref.method.step.KFQN`
    changed.

    ======================  ====================================================================
    ``kbfgs_2020``          K-BFGS: linear layers, averaged A, double damping (goldfarb2020kbfgs)
    ``kbfgs_l_2020``        K-BFGS(L): the same with L-BFGS for ``H_g``
    ``kfqn_cnn``            KF-BFGS-CNN: mini-batch A, D_P D_LM damping (ren2021kfqn)
    ``kfqn_cnn_l``          KF-BFGS(L)-CNN: the same with L-BFGS for ``H_g``
    ``kfqn_eager``          KF-BFGS-CNN, every iteration up to the 20th, then every 10 (derived here)
    ``kfqn_adam``           Adam on ``H_g ∇f H_a``, every 10 iterations (derived here, with kingma2015adam)
    ``kbfgs_2022``          ``(√(λ|T|), √(λ/|T|))``, curvature every 10 iterations (ren2022kfqn)
    ``convergent``          the variant with a convergence theorem (derived here): a ``Convergent``
    ======================  ====================================================================

    Raises:
        ValueError: there is no such preset, or a value is outside its range.
        TypeError: an override is not a field of ``KFQN``.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    kind = Convergent if name == "convergent" else KFQN
    return kind(**(PRESETS[name] | overrides))
