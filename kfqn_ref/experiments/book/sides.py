"""Which side of the method helps, on digits: what H_a and H_g learn is taken away, one at a time.

``python -m kfqn_ref.experiments.book.sides book/data/sides.json`` computes the file that the
chapter on races reads.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import kfqn_ref as kf
from kfqn_ref.bfgs import DenseInverse
from kfqn_ref.experiments.data import digits
from kfqn_ref.method.options import BfgsInput, DpDlm
from kfqn_ref.method.step import KFQN

EPOCHS = 3
DAMPING = 0.01
RATES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
TUNING_SEEDS = (0, 1)
SEEDS = (2, 3, 4, 5, 6)


class Fixed(DenseInverse):
    """An estimate that no pair changes."""

    def update(self, s: Any, y: Any) -> "Fixed":
        """Return the estimate itself."""
        return self


@dataclass(frozen=True)
class FixedInput(BfgsInput):
    """``H_a`` stays the inverse of the first mini-batch's factor."""

    def start(self, A: Any, lam: float, memory: int) -> Fixed:
        """Return ``(A + lam I)⁻¹``, which is kept."""
        return Fixed(np.linalg.inv(A + lam * np.eye(len(A))))


@dataclass(frozen=True)
class Refuse(DpDlm):
    """A pair that is always skipped: ``H_g`` stays at its start."""

    def __call__(self, H: Any, s: Any, y: Any, mu1: float, lam: float) -> tuple[kf.Pair, bool]:
        """Return a pair without curvature."""
        return kf.Pair(s, -s), False


VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "both sides learn": {},
    "both learn, H_g starts from 1/λ_G": {"gamma": 1 / float(np.sqrt(DAMPING))},
    "H_a learns, H_g = I": {"damp": Refuse()},
    "H_g learns, H_a stays at its start": {"input_inverse": FixedInput()},
    "neither learns": {"damp": Refuse(), "input_inverse": FixedInput()},
}


def network() -> kf.Network:
    """Return the network of two convolutions and a linear layer."""
    convolutions = (
        kf.Conv2d(1, 4, 3, stride=2, padding=1),
        kf.ReLU(),
        kf.Conv2d(4, 8, 3, stride=2, padding=1),
        kf.ReLU(),
    )
    return kf.Network((*convolutions, kf.Flatten(), kf.Linear(32, 10)), kf.SoftmaxCrossEntropy())


def final_loss(method: KFQN, seed: int) -> float:
    """Return the training loss after all epochs; infinity if it is not finite."""
    net = network()
    data = digits().train
    W = net.init(np.random.default_rng(seed))
    state = None
    order = np.random.default_rng(100 + seed)
    with np.errstate(all="ignore"):
        for _ in range(EPOCHS):
            for step in kf.fit(method, net, W, kf.minibatches(*data, 100, order), state):
                W = step.params
                state = step.state
        loss = net.value(W, *data)
    return float(loss) if np.isfinite(loss) else float("inf")


def output_side(seed: int) -> list[dict[str, float]]:
    """Return, for each layer, what the output side did in a run of KF-BFGS-CNN.

    ``negative`` and ``damped`` are the shares of the steps whose averaged pair had negative
    curvature, and whose pair was damped; ``smallest``, ``median`` and ``largest`` are eigenvalues
    of the last ``H_g``, and ``unseen`` is ``1/λ_G``, the inverse of the damped ``G = 0``.
    """
    net = network()
    data = digits().train
    method = kf.preset("kfqn_cnn", lr=1.0, damping=DAMPING)
    W = net.init(np.random.default_rng(seed))
    state = None
    order = np.random.default_rng(100 + seed)
    signs = []
    for _ in range(EPOCHS):
        for step in kf.fit(method, net, W, kf.minibatches(*data, 100, order), state):
            W = step.params
            state = step.state
            signs.append([block.s_g @ block.y_g < 0 for block in state.blocks])
    assert state is not None, "there is at least one mini-batch"
    shares = np.mean(signs, axis=0)
    return [_of_block(*each, steps=len(signs)) for each in zip(state.blocks, shares, strict=True)]


def _of_block(block: Any, negative: float, *, steps: int) -> dict[str, float]:
    values = np.linalg.eigvalsh(block.H_g.dense())
    return {
        "negative": float(negative),
        "damped": block.counts.damped_g / steps,
        "smallest": float(values[0]),
        "median": float(np.median(values)),
        "largest": float(values[-1]),
        "unseen": 1 / block.lambda_g,
    }


def row(options: Mapping[str, Any]) -> dict[str, Any]:
    """Tune the step size on its own seeds; return the chosen one and the losses of the others."""
    methods = {lr: kf.preset("kfqn_cnn", lr=lr, damping=DAMPING, **options) for lr in RATES}
    tuning = {
        lr: [final_loss(method, seed) for seed in TUNING_SEEDS] for lr, method in methods.items()
    }
    chosen = min(RATES, key=lambda lr: float(np.mean(tuning[lr])))
    losses = [final_loss(methods[chosen], seed) for seed in SEEDS]
    return {"lr": chosen, "tuning": tuning, "loss": losses}


def main() -> None:
    """Compute all variants and write the file."""
    parser = argparse.ArgumentParser(description="Ablation of the two sides on digits.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    rows = {}
    for name, options in VARIANTS.items():
        rows[name] = row(options)
        print(f"{name:36} lr {rows[name]['lr']:<5} loss {np.mean(rows[name]['loss']):.3f}")
    report = {
        "epochs": EPOCHS,
        "damping": DAMPING,
        "rates": RATES,
        "seeds": SEEDS,
        "tuning_seeds": TUNING_SEEDS,
        "versions": {"kfqn_ref": kf.__version__, "numpy": np.__version__},
        "rows": rows,
    }
    out.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
