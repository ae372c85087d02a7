"""An embedding that is registered as a one-hot linear layer."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.layers import Record
from kfqn_ref.optim import KFQN, PRESETS, kinds, register_layer
from kfqn_ref.optim.geometry import EmbeddingGeometry

from .models import Closure, close, equal, tensors, weights
from .patterns import pattern
from .plain import plain_steps
from .test_training_patterns import EXACT, NAMED

F64 = torch.float64
N, T, TOKENS, D, CLASSES = 4, 5, 7, 3, 2


@pytest.fixture
def one_hot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embeddings are covered inside a test, and not after it."""
    monkeypatch.setattr(kinds, "KINDS", dict(kinds.KINDS))
    register_layer(nn.Embedding, EmbeddingGeometry)


class OneHot(nn.Module):
    """The dense linear layer that an embedding is."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.linear = nn.Linear(TOKENS, D, bias=False, dtype=F64)
        with torch.no_grad():
            self.linear.weight.copy_(weight.T)

    def forward(self, numbers: Tensor) -> Tensor:
        return self.linear(F.one_hot(numbers, TOKENS).to(F64))


class Head(nn.Module):
    """A linear layer on the mean of what comes before a tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, CLASSES, dtype=F64)

    def forward(self, h: Tensor) -> Tensor:
        return self.linear(h.tanh().mean(1))


def net(dense: bool = False, **options: object) -> nn.Sequential:
    """An embedding, or the dense linear layer with the same weights, and a linear layer."""
    torch.manual_seed(0)
    embedding = nn.Embedding(TOKENS, D, dtype=F64, **options)  # type: ignore[arg-type]  # many kinds
    head = Head()
    return nn.Sequential(OneHot(embedding.weight) if dense else embedding, head)


def numbers_of(seed: int) -> Tensor:
    """Tokens (N, T); the last one never occurs."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, TOKENS - 1, (N, T), generator=rng)


BATCHES = [numbers_of(k) for k in range(4)]


def loss_of(out: Tensor) -> Tensor:
    return (out - 1).pow(4).mean(0).sum()


def closure_of(model: nn.Module, numbers: Tensor) -> Closure:
    def closure() -> Tensor:
        model.zero_grad()
        loss = loss_of(model(numbers))
        loss.backward()
        return loss

    return closure


def run(opt: KFQN, first: int = 0, steps: int = 4) -> list[Tensor]:
    """The weights after a step on each mini-batch."""
    for numbers in BATCHES[first : first + steps]:
        opt.step(closure_of(opt.model, numbers))
    return weights(opt.model)


def plain_pass(Ws: list[np.ndarray], numbers: Tensor) -> list[Record]:
    """Rows, outputs and output gradients of both layers, with one-hot rows written out."""
    W, V = (torch.tensor(each, requires_grad=True) for each in Ws)
    rows = torch.eye(TOKENS, dtype=F64)[numbers]
    h = rows @ W.T
    means = torch.cat((h.tanh().mean(1), torch.ones(N, 1, dtype=F64)), 1)
    out = means @ V.T
    Dh, Dout = torch.autograd.grad(loss_of(out), (h, out))
    found = ((rows, h, Dh), (means, out, Dout))
    return [
        Record(*(x.detach().reshape(N, -1, x.shape[-1]).numpy() for x in (a, h, N * Dh)))
        for a, h, Dh in found
    ]


@pattern("an embedding that is registered as a one-hot linear layer", EXACT)
@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_input"])
def test_the_step_is_the_plain_one_with_the_exact_inverse(preset: str, one_hot: None) -> None:
    opt = KFQN(model := net(), preset, lr=0.3, damping=0.1)
    head = model[1].linear
    Ws = [model[0].weight.T, torch.cat((head.weight, head.bias[:, None]), 1)]
    plain = [W.detach().numpy().copy() for W in Ws]
    batches = [(numbers,) for numbers in BATCHES]
    learns = preset == "kfqn_cnn"
    table, linear = plain_steps(plain_pass, plain, batches, [0, 1], output=learns, exact=[0])
    found, weight, bias = run(opt)
    np.testing.assert_allclose(found.numpy().T, table, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(weight.numpy(), linear[:, :-1], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(bias.numpy(), linear[:, -1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_first_step_is_that_of_the_dense_layer(preset: str, one_hot: None) -> None:
    """Both begin at the exact inverse; with ``convergent`` both keep it for all steps."""
    steps = 4 if preset == "convergent" else 1
    ours, theirs = (run(KFQN(net(dense), preset, lr=0.1), steps=steps) for dense in (False, True))
    assert close([ours[0].T, *ours[1:]], theirs, 1e-11)


def test_its_sums_are_those_of_one_hot_rows() -> None:
    model = nn.Embedding(TOKENS, D, dtype=F64)
    geometry = EmbeddingGeometry(model)
    numbers = BATCHES[0]
    rows = F.one_hot(numbers.flatten(), TOKENS).to(F64)
    v = torch.randn(1, TOKENS, dtype=F64)
    assert torch.equal(geometry.factor_sum(numbers, F64)[0], rows.T @ rows)
    assert torch.equal(geometry.batch_sum(numbers, F64)[0], rows.sum(0))
    torch.testing.assert_close(geometry.action(numbers, v)[0], rows.T @ (rows @ v[0]))
    matrix = geometry.as_matrix(model.weight.detach())
    assert torch.equal((rows @ matrix[0].T).view(N, T, D), model(numbers))
    assert torch.equal(geometry.as_weight(matrix, model.weight.shape), model.weight)


def test_what_is_kept_is_a_vector(one_hot: None) -> None:
    opt = KFQN(net())
    run(opt)
    kept = opt.state[opt.layers[0].weight]
    assert kept["H_a"]["diagonal"].shape == kept["A"].shape == (1, TOKENS)
    exact = torch.diag(1 / (kept["A"][0] + kept["lambda_a"]))
    torch.testing.assert_close(opt.curvature(opt.model[0]).H_a, exact)
    assert opt._factor_bytes[opt.layers[0]] == 8 * (2 * TOKENS + D * D)
    numbers = opt.diagnostics()
    assert "0/norm_y_g" in numbers
    assert "0/norm_y_a" not in numbers  # there is no input pair


def test_a_checkpoint_goes_on_bit_for_bit(one_hot: None) -> None:
    opt = KFQN(net(), lr=0.1)
    run(opt, steps=2)
    twin = KFQN(copy.deepcopy(opt.model), lr=0.1)
    twin.load_state_dict(opt.state_dict())
    assert equal(run(twin, first=2), run(opt, first=2))
    assert equal(tensors(twin.state_dict()), tensors(opt.state_dict()))


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_input"])
def test_rows_of_weight_zero_are_as_if_dropped(preset: str, one_hot: None) -> None:
    """The loss is on each token; those of weight zero have none."""
    dropped, opt = (KFQN(nn.Sequential(net()[0]), preset, lr=0.1) for _ in range(2))
    for k, numbers in enumerate(BATCHES):
        keep = torch.rand(N * T, generator=torch.Generator().manual_seed(k)) < 0.6

        def closure(numbers: Tensor = numbers, keep: Tensor = keep) -> Tensor:
            opt.zero_grad()
            with opt.row_weights(keep):
                out = opt.model(numbers.flatten())
            loss = loss_of(out[keep])
            loss.backward()
            return loss

        opt.step(closure)
        dropped.step(closure_of(dropped.model, numbers.flatten()[keep]))
    assert close(weights(opt.model), weights(dropped.model), 1e-11)


def test_a_step_without_a_closure_is_the_one_with_it(one_hot: None) -> None:
    with_it, without = (KFQN(net(), "kfqn_input", lr=0.1) for _ in range(2))
    run(with_it)
    for numbers in BATCHES:
        without.zero_grad()
        loss_of(without.model(numbers)).backward()
        without.step()
    assert equal(weights(without.model), weights(with_it.model))


def test_the_row_of_padding_stays(one_hot: None) -> None:
    opt = KFQN(net(padding_idx=2), lr=0.1)
    before = opt.model[0].weight.detach().clone()
    moved = (run(opt)[0] != before).any(1)
    assert moved.tolist() == [True, True, False, True, True, True, False]


@pattern("an embedding with max_norm or scale_grad_by_freq, or that is not registered", NAMED)
@pytest.mark.filterwarnings("ignore:covered")
@pytest.mark.parametrize("options", [{"max_norm": 1.0}, {"scale_grad_by_freq": True}])
def test_an_embedding_that_is_no_linear_layer_is_not_covered(
    options: dict[str, object], one_hot: None
) -> None:
    opt = KFQN(net(**options))
    assert [layer.name for layer in opt.layers] == ["1.linear"]
    assert "max_norm, scale_grad_by_freq and sparse make it other than" in opt.describe()


@pytest.mark.filterwarnings("ignore:covered")
def test_an_embedding_takes_the_step_of_AdamW_unless_it_is_registered() -> None:
    assert [layer.name for layer in KFQN(net()).layers] == ["1.linear"]
