"""Vectors of several layers in one tensor: what is joined comes apart again, and changes no
number.
"""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kfqn_ref.experiments.bench.kernels import Kernels
from kfqn_ref.optim import KFQN, joined

from .models import closure_of

SHAPES = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=6)


def vectors(shapes: list[tuple[int, int]]) -> list[Tensor]:
    """Numbers that are all different, and not 0."""
    sizes = [groups * d for groups, d in shapes]
    parts = torch.arange(1.0, sum(sizes) + 1).split(sizes)
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]


@given(SHAPES)
def test_joined_vectors_come_apart_again(shapes: list[tuple[int, int]]) -> None:
    before = vectors(shapes)
    together = joined.join(before)
    assert together.shape == (sum(g for g, _ in shapes), max(d for _, d in shapes))
    assert torch.count_nonzero(together) == sum(
        g * d for g, d in shapes
    )  # zeros behind the shorter ones
    assert all(map(torch.equal, joined.unjoin(together, before), before))
    numbers = joined.unjoin(together[:, 0], before)
    assert all(torch.equal(number, v[:, 0]) for number, v in zip(numbers, before, strict=True))
    kept = [v.clone() for v in before]
    together.zero_()  # new memory
    assert all(map(torch.equal, before, kept))


def test_vectors_that_are_no_copies_are_joined() -> None:
    """The vectors of the next iteration are views of what was joined in the last one."""
    before = vectors([(2, 3), (1, 5), (3, 2)])
    views = joined.unjoin(joined.join(before), before)
    assert not views[0].is_contiguous()
    assert all(map(torch.equal, joined.unjoin(joined.join(views), before), before))


@given(SHAPES, st.data())
def test_every_vector_is_joined_once_with_its_like(
    shapes: list[tuple[int, int]], data: st.DataObject
) -> None:
    kinds = data.draw(st.lists(st.booleans(), min_size=len(shapes), max_size=len(shapes)))
    dtypes = data.draw(
        st.lists(
            st.sampled_from([torch.float32, torch.float64]),
            min_size=len(shapes),
            max_size=len(shapes),
        )
    )
    given = [v.to(dtype) for v, dtype in zip(vectors(shapes), dtypes, strict=True)]
    found = joined.joinable(given, kinds)
    assert sorted(i for some in found for i in some) == list(range(len(shapes)))
    assert len({(kinds[some[0]], dtypes[some[0]]) for some in found}) == len(
        found
    )  # all that may, is
    for some in found:
        assert len({(kinds[i], dtypes[i]) for i in some}) == 1


def test_many_narrow_groups_are_not_padded_beside_a_wide_vector() -> None:
    depthwise, wide, narrow, same = (
        torch.empty(shape) for shape in ((512, 10), (1, 4096), (1, 20), (800, 4096))
    )
    assert joined.joinable([wide, depthwise, narrow], [0, 0, 0]) == [[1, 2], [0]]
    assert joined.joinable([same, wide], [0, 0]) == [[0, 1]]  # nothing to pad
    assert joined.joinable([narrow, same, wide], [0, 0, 0]) == [[0], [1, 2]]
    half = joined.MOST_NUMBERS // 2
    assert joined.joinable([torch.empty(1, half), torch.empty(1, 1)], [0, 0]) == [[1, 0]]
    assert joined.joinable([torch.empty(1, half + 1), torch.empty(1, 1)], [0, 0]) == [[1], [0]]
    assert joined.joinable([torch.empty(1, half - i) for i in range(3)], [0, 0, 0]) == [[2, 1], [0]]


def test_vectors_of_one_group_are_joined_by_one_kernel() -> None:
    """And one for the zeros, whatever the number of layers; a narrow vector of many groups has its
    own.
    """
    for shapes, expected in (([(1, 3), (1, 5), (1, 2), (3, 5)], 2), ([(2, 3), (1, 5)], 3)):
        before = vectors(shapes)
        with Kernels() as kernels:
            joined.join(before)
        assert kernels.count == expected


def mixed() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, bias=False),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 6),
        nn.Tanh(),
        nn.Linear(6, 3),
    ).double()


def trained(**options: Any) -> tuple[KFQN, nn.Module]:
    model = mixed()
    opt = KFQN(model, lr=0.1, memory=3, curvature_interval=1, **options)
    closure = closure_of(model, torch.randn(9, 2, 6, 6).double(), torch.arange(9) % 3)
    for _ in range(6):
        opt.step(closure)
    return opt, model


@pytest.mark.parametrize(
    "options",
    [
        {"preset": "kfqn_cnn"},
        {"preset": "kfqn_cnn_l"},
        {"preset": "kfqn_cnn", "input_inverse": "lbfgs", "lean_above": 20},
        {"preset": "convergent", "damping": 0.5, "step_decay": 0.7},
    ],
    ids=["dense", "pairs", "some lean", "convergent"],
)
def test_layers_updated_together_are_those_updated_alone(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    together, model = trained(**options)
    monkeypatch.setattr(joined, "MOST_NUMBERS", 0)
    alone, other = trained(
        **options
    )  # only the order of sums differs, by the zeros behind the vectors
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-11, atol=1e-13)
    for mine, theirs in zip(together.layers, alone.layers, strict=True):
        a, b = together.state[mine.weight], alone.state[theirs.weight]
        assert torch.equal(a["counts"], b["counts"])
        assert a["counts"][0].min() > 0
        for side in ("H_a", "H_g"):
            for name, tensor in a[side].items():
                torch.testing.assert_close(tensor, b[side][name], rtol=1e-9, atol=1e-11)
    ours, apart = together.diagnostics(), alone.diagnostics()
    assert ours == pytest.approx(apart, rel=1e-8, abs=1e-11)


def test_one_more_layer_costs_few_kernels() -> None:
    """Beside the operations of its own passes; a bound on a count, which no machine changes."""

    def kernels(depth: int) -> int:
        model = nn.Sequential(*(nn.Linear(5, 5) for _ in range(depth)))
        opt, closure = KFQN(model), closure_of(model, torch.randn(3, 5), torch.arange(3))
        opt.step(closure)
        with Kernels() as counted:
            opt.step(closure)
        return counted.count

    assert kernels(7) - kernels(6) == kernels(6) - kernels(5)
    assert kernels(6) - kernels(5) <= 50
