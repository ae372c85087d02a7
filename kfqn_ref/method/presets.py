"""The named methods: each is a ``KFQN`` with other values (book: K-BFGS, KF-QN-CNN)."""

from dataclasses import fields, replace
from typing import Any

from kfqn_ref.method.convergent import Convergent
from kfqn_ref.method.options import (
    DoubleDamp,
    FixedOutput,
    LbfgsOutput,
    Options,
    Orthogonal,
    location_split,
)
from kfqn_ref.method.step import KFQN

_OF_2020 = Options(damp=DoubleDamp(), averages_A=True, skip_below=1e-4, linear_only=True)
_INPUT = Options(output_inverse=FixedOutput())
_MUON = Options(output_inverse=FixedOutput(), direction=Orthogonal())
_EAGER = Options(eager_steps=20)
_NADAM = Options(square_decay=0.99)
_BY_LOCATIONS = Options(split=location_split)

PRESETS: dict[str, KFQN] = {
    "kbfgs_2020": KFQN(options=_OF_2020),
    "kbfgs_l_2020": KFQN(options=replace(_OF_2020, output_inverse=LbfgsOutput())),
    "kfqn_cnn": KFQN(),
    "kfqn_cnn_l": KFQN(options=Options(output_inverse=LbfgsOutput())),
    "kfqn_input": KFQN(options=_INPUT),
    "kfqn_muon": KFQN(lr=0.02, momentum=0.95, options=_MUON),
    "kfqn_eager": KFQN(curvature_interval=10, options=_EAGER),
    "kfqn_adam": KFQN(lr=0.01, damping=0.3, curvature_interval=10, options=_NADAM),
    "kbfgs_2022": KFQN(curvature_interval=10, options=_BY_LOCATIONS),
    "convergent": Convergent(),
}


def preset(name: str, **overrides: Any) -> KFQN:
    """Return the method of that name, with the given values changed.

    ======================  ====================================================================
    ``kbfgs_2020``          K-BFGS: linear layers, averaged A, double damping (goldfarb2020kbfgs)
    ``kbfgs_l_2020``        K-BFGS(L): the same with L-BFGS for ``H_g``
    ``kfqn_cnn``            KF-BFGS-CNN: mini-batch A, D_P D_LM damping (ren2021kfqn)
    ``kfqn_cnn_l``          KF-BFGS(L)-CNN: the same with L-BFGS for ``H_g``
    ``kfqn_input``          the input side alone: ``H_g = I``, no second pass (derived here)
    ``kfqn_muon``           the input side, then an orthogonal step (derived here, jordan2024muon)
    ``kfqn_eager``          KF-BFGS-CNN, in 20 eager iterations, then every 10 (derived here)
    ``kfqn_adam``           Adam on ``H_g ∇f H_a``, curvature every 10 iterations (derived here)
    ``kbfgs_2022``          ``(√(λ|T|), √(λ/|T|))``, curvature every 10 iterations (ren2022kfqn)
    ``convergent``          the variant with a convergence theorem (derived here): a ``Convergent``
    ======================  ====================================================================

    Args:
        name: one of the table.
        overrides: fields of :class:`~kfqn_ref.method.step.KFQN`, or of the
            :class:`~kfqn_ref.method.options.Options` that it has.

    Raises:
        ValueError: there is no such preset, or a value is outside its range.
        TypeError: an override is a field of neither.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    method = PRESETS[name]
    own = {field.name for field in fields(KFQN)}
    of_options = {field.name for field in fields(Options)}
    unknown = overrides.keys() - own - of_options
    if unknown:
        raise TypeError(
            f"an option must be one of {', '.join(sorted(own | of_options))}, got {min(unknown)!r}"
        )
    chosen = overrides.pop("options", method.options)
    inner = {key: overrides.pop(key) for key in of_options & overrides.keys()}
    return replace(method, **overrides, options=replace(chosen, **inner))
