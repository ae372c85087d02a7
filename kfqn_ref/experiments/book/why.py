"""Why the output side helps or not: what H_a and H_g are, against what they stand for, along a run.

``python -m kfqn_ref.experiments.book.why book/data/why.json`` computes the file that the chapter on
races reads. At some steps of a run on digits the exact factors of every layer are formed on fixed
images, and the estimates are held against their damped inverses. One thing is changed at a time:
the start of H_g, the averaging of the pairs, the size of the mini-batch, Powell's damping.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import kfqn_ref as kf
from kfqn_ref import hessian
from kfqn_ref.experiments.book.sides import DAMPING, network
from kfqn_ref.experiments.data import digits
from kfqn_ref.files import write_atomically
from kfqn_ref.kronecker import cvec
from kfqn_ref.method.options import DpDlm

SEEDS = (2, 3, 4, 5, 6)
STEPS = 45
EVERY = 9
IMAGES = 120
"""The exact factors are means over so many training images."""

LAYERS = ("first convolution", "second convolution", "last layer")


@dataclass(frozen=True)
class Change:
    """One run differs from KF-BFGS-CNN in this.

    Args:
        options: of the preset.   batch: size of the mini-batches.   lr: the step size.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 100
    lr: float = 1.0


@dataclass(frozen=True)
class SkipNegative(DpDlm):
    """D_P D_LM, but a pair of negative curvature is skipped instead of bent."""

    def __call__(self, H: Any, s: Any, y: Any, mu1: float, lam: float) -> tuple[kf.Pair, bool]:
        """Return the damped pair; one without curvature, which is skipped, where sᵀy <= 0."""
        if s @ y <= 0:
            return kf.Pair(s, -s), False
        return super().__call__(H, s, y, mu1, lam)


SCALED = {"gamma": 1 / float(np.sqrt(DAMPING))}
RATE = 0.1  # with SCALED: ten times the start, a tenth of the step size

CHANGES: Mapping[str, Change] = {
    "as published": Change(),
    "H_g starts from 1/λ_G": Change(SCALED, lr=RATE),
    "pairs are not averaged": Change({"pair_decay": 0.0}),
    "mini-batches of 1,000": Change(batch=1000),
    "from 1/λ_G, negative pairs skipped": Change({**SCALED, "damp": SkipNegative()}, lr=RATE),
}


def positive(M: np.ndarray) -> np.ndarray:
    """Return the positive semidefinite part of a symmetric matrix."""
    values, vectors = np.linalg.eigh((M + M.T) / 2)
    return vectors @ (np.maximum(values, 0)[:, None] * vectors.T)


def cosine(H: np.ndarray, exact: np.ndarray) -> float:
    """Return the cosine of the angle between two matrices: 1 if one is a multiple of the other."""
    return float(np.sum(H * exact) / (np.linalg.norm(H) * np.linalg.norm(exact)))


def captured(P: np.ndarray, g: np.ndarray, B: np.ndarray) -> float:
    """Return what the best step along ``P`` gains of what the Newton step of ``B`` gains.

    Args:
        P, g: direction and gradient of a layer, (d_g, d_a).   B: positive definite, of cvec(W).
    """
    p, v = (cvec(M) for M in (P, g))
    best = (p @ v) ** 2 / (p @ B @ p)
    return float(best / (v @ np.linalg.solve(B, v)))


def measured(net: kf.Network, W: Any, state: Any) -> list[dict[str, float]]:
    """Return, for each layer, the estimates against the exact factors at these weights."""
    x, target = (part[:IMAGES] for part in digits().train)
    full = kf.forward_backward(net, W, x, target)
    found = []
    for i, (block, record, g) in enumerate(
        zip(state.blocks, full.records, full.grads, strict=True)
    ):
        Hh = hessian.output_hessian(net, W, x, target, i)
        A = kf.input_factor(record.a_bar)
        G = positive(hessian.output_factor(Hh))
        A_inv = np.linalg.inv(A + block.lambda_a * np.eye(len(A)))
        G_inv = np.linalg.inv(G + block.lambda_g * np.eye(len(G)))
        B = positive(hessian.layer_blocks(record.a_bar, Hh).exact)
        B = B + DAMPING * np.eye(len(B))
        H_a, H_g = block.H_a.dense(), block.H_g.dense()
        found.append(
            {
                "cosine_a": cosine(H_a, A_inv),
                "cosine_g": cosine(H_g, G_inv),
                "error_a": float(np.linalg.norm(H_a - A_inv) / np.linalg.norm(A_inv)),
                "error_g": float(np.linalg.norm(H_g - G_inv) / np.linalg.norm(G_inv)),
                "cosine_g_identity": cosine(np.eye(len(G)), G_inv),
                "gain_gradient": captured(g, g, B),
                "gain_input": captured(g @ H_a, g, B),
                "gain_both": captured(H_g @ g @ H_a, g, B),
                "gain_exact": captured(G_inv @ g @ A_inv, g, B),
            }
        )
    return found


def run(change: Change, seed: int) -> dict[str, Any]:
    """Return the means of what is measured along a run, layer by layer, and its last loss."""
    net = network()
    x, target = digits().train
    method = kf.preset("kfqn_cnn", lr=change.lr, damping=DAMPING, **change.options)
    W = net.init(np.random.default_rng(seed))
    state = None
    order = np.random.default_rng(100 + seed)
    seen = []
    negative = []
    while len(negative) < STEPS:
        for step in kf.fit(method, net, W, kf.minibatches(x, target, change.batch, order), state):
            W, state = step.params, step.state
            negative.append([block.s_g @ block.y_g < 0 for block in state.blocks])
            if len(negative) % EVERY == 0:
                seen.append(measured(net, W, state))
            if len(negative) == STEPS:
                break
    assert state is not None, "there is at least one mini-batch"
    layers = []
    for i, block in enumerate(state.blocks):
        means = {key: float(np.mean([each[i][key] for each in seen])) for key in seen[0][i]}
        shares = {
            "negative": float(np.mean([signs[i] for signs in negative])),
            "damped": block.counts.damped_g / STEPS,
        }
        layers.append({**means, **shares})
    return {"layers": layers, "loss": float(net.value(W, x, target))}


def short(value: float) -> float:
    """Return four significant digits: seeds differ in the second."""
    return float(f"{value:.4g}")


def main() -> None:
    """Compute all changes and write the file."""
    parser = argparse.ArgumentParser(description="What H_a and H_g are along a run on digits.")
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    found = {}
    for name, change in CHANGES.items():
        runs = [run(change, seed) for seed in SEEDS]
        found[name] = {
            "lr": change.lr,
            "batch": change.batch,
            "loss": [short(each["loss"]) for each in runs],
            "layers": {},
        }
        for i, layer in enumerate(LAYERS):
            keys = runs[0]["layers"][i]
            values = {key: [short(each["layers"][i][key]) for each in runs] for key in keys}
            found[name]["layers"][layer] = values
            means = {key: round(float(np.mean(v)), 3) for key, v in values.items()}
            print(name, "|", layer, means)
    report = {
        "command": "python -m kfqn_ref.experiments.book.why",
        "steps": STEPS, "every": EVERY, "images": IMAGES, "damping": DAMPING,
        "seeds": SEEDS,
        "versions": {"kfqn_ref": kf.__version__, "numpy": np.__version__},
        "changes": found,
    }  # fmt: skip  # one record
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    write_atomically(out, text.encode())


if __name__ == "__main__":
    main()
