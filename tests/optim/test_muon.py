"""``kfqn_muon`` in torch: with ``H_a = I`` it is torch's Muon, else Newton-Muon's step by BFGS."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

from .models import closure_of, data, weights

F64 = torch.float64
LR = 0.02
ATOL = 1e-11
"""Roundoff, 2e-16, times the slope of the polynomial at 0 over five steps, 3.4445⁵ = 485, times 12
steps of training, times 8 for the products.
"""


def linear_layers() -> nn.Sequential:
    """Wide and tall matrices, without biases, which Muon of torch does not take."""
    torch.manual_seed(1)
    sizes = (72, 6, 14, 5)
    layers: list[nn.Module] = [nn.Flatten()]
    for d_a, d_g in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(d_a, d_g, bias=False, dtype=F64), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


@pytest.fixture
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Muon of torch computes the orthogonal factor in bfloat16; here it keeps its dtype."""
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)


def run(
    model: nn.Module, inverse: Callable[[Tensor], Tensor], steps: int, **options: float
) -> tuple[KFQN, list[list[Tensor]]]:
    """Do steps with every ``H_a`` set to ``inverse(A)`` before; return all weights."""
    opt = KFQN(model, "kfqn_muon", lr=LR, decoupled=True, **options)  # type: ignore[arg-type]  # numbers
    opt.warm_start([data(seed=0)[0]])
    moments = []
    for k in range(steps):
        a = data(seed=k)[0].flatten(1)
        with torch.no_grad():
            for layer in opt.layers:
                H = opt.state[layer.weight]["H_a"]["H"]
                H.copy_(inverse(a.mT @ a / len(a)))
                a = layer.module(a).tanh()
        opt.step(closure_of(model, *data(seed=k)))
        moments.append(weights(model))
    return opt, moments


@pytest.mark.usefixtures("_wide")
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_with_the_identity_it_is_muon_of_torch(decay: float) -> None:
    _, moments = run(
        linear_layers(), lambda A: torch.eye(len(A), dtype=F64)[None], 12, weight_decay=decay
    )
    other = linear_layers()
    muon = torch.optim.Muon(other.parameters(), lr=LR, momentum=0.95, weight_decay=decay)
    for k, ours in enumerate(moments):
        muon.zero_grad()
        closure_of(other, *data(seed=k))()
        muon.step()
        for a, b in zip(ours, other.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=ATOL)


@pytest.mark.usefixtures("_wide")
def test_with_the_exact_inverse_it_is_newton_muon() -> None:
    """Muon of torch on gradients that are multiplied by ``(A + λ I)⁻¹``, without momentum."""
    lam = 0.3

    def inverse(A: Tensor) -> Tensor:
        return torch.linalg.inv(A + lam * torch.eye(len(A), dtype=F64))

    _, moments = run(linear_layers(), lambda A: inverse(A)[None], 12, momentum=0.0)
    other = linear_layers()
    muon = torch.optim.Muon(other.parameters(), lr=LR, momentum=0.0, weight_decay=0.0)
    for k, ours in enumerate(moments):
        x, target = data(seed=k)
        muon.zero_grad()
        F.cross_entropy(other(x), target).backward()
        a = x.flatten(1)
        with torch.no_grad():
            for module in other:
                if isinstance(module, nn.Linear):
                    assert module.weight.grad is not None
                    module.weight.grad @= inverse(a.mT @ a / len(a))
                a = module(a)
        muon.step()
        for a, b in zip(ours, other.parameters(), strict=True):
            assert torch.allclose(a, b, rtol=0, atol=ATOL)


def test_every_group_of_a_convolution_is_a_matrix_of_its_own() -> None:
    """Two groups are two convolutions on halves of the channels."""
    torch.manual_seed(2)
    whole = nn.Conv2d(2, 8, 3, groups=2, dtype=F64)
    halves = [nn.Conv2d(1, 4, 3, dtype=F64) for _ in range(2)]
    values = {name: p.detach().chunk(2) for name, p in whole.named_parameters()}
    for i, half in enumerate(halves):
        half.load_state_dict({name: parts[i] for name, parts in values.items()})
    opts = [KFQN(model, "kfqn_muon", lr=LR) for model in (whole, *halves)]
    for k in range(3):
        x = data(seed=k)[0]
        for opt in opts:
            opt.zero_grad()
        whole(x).pow(2).mean().backward()
        for half, channel in zip(halves, x.chunk(2, 1), strict=True):
            (half(channel).pow(2).mean() / 2).backward()
        for opt in opts:
            opt.step()
    joined = torch.cat([half.weight for half in halves])
    assert torch.allclose(whole.weight, joined, rtol=0, atol=ATOL)


def test_a_bad_batch_moves_nothing_and_the_average_stays() -> None:
    model = linear_layers()
    opt = KFQN(model, "kfqn_muon", lr=LR)
    opt.step(closure_of(model, *data(seed=0)))
    before = weights(model)
    M = [opt.state[layer.weight]["M"].clone() for layer in opt.layers]
    x, target = data(seed=1)
    opt.step(closure_of(model, x * float("inf"), target))
    assert opt.skipped_steps == 1
    assert all(torch.equal(a, b) for a, b in zip(before, weights(model), strict=True))
    after = [opt.state[layer.weight]["M"] for layer in opt.layers]
    assert all(torch.equal(a, b) for a, b in zip(M, after, strict=True))
