"""The torch KFAC is the reference's, step after step, on the same drawn targets; what it is in the
limit.
"""

import warnings
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref import bridge
from kfqn_ref.experiments.race.kfac import KFAC, as_matrix, as_parameters
from kfqn_ref.method.kfac import KFAC as Reference
from kfqn_ref.network import Network

from ..trajectories import CNN, MLP, batches

STEPS = 12


def closure_of(
    model: nn.Module, network: Network, batch: tuple[np.ndarray, np.ndarray], key: tuple[int, int]
) -> Any:
    """The closure that draws the targets of the reference at iteration ``key[1]`` with seed
    ``key[0]``.
    """
    x, target = batch
    loss = bridge.loss_of(network)

    def closure(draw: bool) -> tuple[Tensor, Tensor | None]:
        outputs = model(torch.from_numpy(np.array(x)))
        sampled = network.loss.sample(outputs.detach().numpy(), np.random.default_rng(key))
        return loss(outputs, torch.from_numpy(target)), loss(
            outputs, torch.from_numpy(sampled)
        ) if draw else None

    return closure


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("network", [CNN, MLP], ids=["cnn", "mlp"])
def test_every_step_is_the_references(network: Network, interval: int) -> None:
    options = {"lr": 0.02, "damping": 0.05, "weight_decay": 1e-2, "curvature_interval": interval}
    reference = Reference(seed=5, **options)
    params = network.init(np.random.default_rng(3))
    state, model = reference.init(params), bridge.build(network, params)
    opt = KFAC(model, **options)
    for k, batch in enumerate(batches(network, STEPS)):
        params, state, expected = reference.step(network, params, state, *batch)
        loss = opt.step(closure_of(model, network, batch, (5, k)))
        assert float(loss) == pytest.approx(expected, rel=1e-9)
        for ours, theirs in zip(bridge.read_params(model, network), params, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9 * np.linalg.norm(theirs))


def test_an_activation_in_place_changes_nothing() -> None:
    weights = []
    for in_place in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=in_place), nn.Linear(5, 3)).double()
        opt = KFAC(model, lr=0.1)
        x, y = torch.randn(6, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])

        def closure(
            draw: bool, model: nn.Module = model, x: Tensor = x, y: Tensor = y
        ) -> tuple[Tensor, Tensor]:
            outputs = model(x)
            return F.cross_entropy(outputs, y), F.cross_entropy(outputs, y.flip(0))

        opt.step(closure)
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(*weights, rtol=0, atol=0)


def test_with_overwhelming_damping_it_is_momentum_at_lr_over_damping() -> None:
    """(A + π√λ I)⁻¹ ⊗ (G + √λ/π I)⁻¹ tends to I/λ; BatchNorm takes the momentum step at lr
    itself.
    """
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, bias=False), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)
    ).double()
    before = [p.detach().clone() for p in model.parameters()]
    x, y = torch.randn(5, 1, 4, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # BatchNorm is not covered, which is the point here
        opt = KFAC(model, lr=0.5, damping=1e14, momentum=0.8)

    def closure(draw: bool) -> tuple[Tensor, Tensor]:
        outputs = model(x)
        return F.cross_entropy(outputs, y), F.cross_entropy(outputs, y)

    opt.step(closure)
    for i, (p, old) in enumerate(zip(model.parameters(), before, strict=True)):
        assert p.grad is not None
        lr = 0.5 if i in (1, 2) else 0.5e-14
        moved, wanted = (p - old).detach(), -lr * 0.2 * p.grad
        if i in (1, 2):
            torch.testing.assert_close(moved, wanted, rtol=0, atol=2.0**-52)  # a rounding of p <= 1
        else:  # the move itself is below the rounding of p: compare the direction that was taken
            layer = next(layer for layer in opt.layers if any(q is p for q in layer.parameters))
            state = opt.state[layer.weight]
            P = as_parameters(layer, state["H_g"] @ state["M"] @ state["H_a"])
            mine = next(P for q, P in zip(layer.parameters, P, strict=True) if q is p)
            torch.testing.assert_close(mine * 0.5, -wanted, rtol=1e-5, atol=0)


def test_matrix_and_parameters_are_inverse() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), nn.Flatten(), nn.Linear(6, 2, bias=False))
    for layer in KFAC(model).layers:
        W = as_matrix(layer, layer.parameters)
        assert W.shape == layer.shape
        for p, q in zip(layer.parameters, as_parameters(layer, W), strict=True):
            assert torch.equal(p, q)


@pytest.mark.parametrize(
    ("option", "value"),
    [("lr", -1.0), ("damping", 0.0), ("momentum", 1.0), ("weight_decay", -1.0),
     ("factor_decay", 1.0), ("curvature_interval", 0), ("damping", float("nan"))],
)  # fmt: skip  # a table
def test_a_value_outside_its_range_is_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{option} must"):
        KFAC(nn.Linear(2, 2), **{option: value})


def test_a_closure_is_needed_and_must_draw() -> None:
    model = nn.Linear(2, 2)
    opt = KFAC(model)
    with pytest.raises(TypeError, match="needs a closure"):
        opt.step()
    with pytest.raises(ValueError, match="drawn targets"):
        opt.step(lambda draw: (model(torch.ones(1, 2)).sum(), None))
