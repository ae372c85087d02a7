"""What the layers do in an iteration: start, direction, input pair, output pair, in the order and
with the step numbers of the algorithm; the formulas are kernels.

Start, direction and Hessian action are of one layer; the updates take several layers, their vectors
joined. ``state`` is what the optimizer keeps for the layer's weight: ``M`` ``(groups, d_g, d_a)``,
the tensors of ``H_a`` and ``H_g``, ``s_g`` and ``y_g`` ``(groups, d_g)``, ``A`` where a moving
average is kept, λ_A, λ_G, ``T``, and ``counts`` ``(5, groups)``. ``ok`` is a mask without axes: the
iteration is sound.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kfqn_ref.optim.inverses import Stack, Tensors, inverse_of, is_diagonal, is_lean
from kfqn_ref.optim.joined import join, joinable, unjoin
from kfqn_ref.optim.kernels import average_, damped_inverse, dot
from kfqn_ref.optim.options import Method
from kfqn_ref.optim.presets import FORMS, Preset
from kfqn_ref.optim.records import Record

State = dict[str, Any]

UPDATES_A, SKIPPED_A, UPDATES_G, DAMPED_G, SKIPPED_G = range(5)
"""Rows of ``counts``."""


def start_(
    state: State, record: Record, method: Method, damping: float, A: Tensor, ok: Tensor
) -> None:
    """Set λ_A, λ_G, T and the first ``H_a`` and ``H_g``; with ``A = 0`` where not ``ok``."""
    groups, d_g, _ = record.layer.shape
    lambda_a, lambda_g = method.preset.split(damping, record.T)
    H_a = FORMS[method.form_of(record.layer)](A, lambda_a, method.memory, ok)
    H_g = method.preset.output_inverse(A.new_full((groups,), method.gamma), d_g, method.memory)
    state.update(H_a=H_a.tensors, H_g=H_g.tensors, lambda_a=lambda_a, lambda_g=lambda_g, T=record.T)
    state.update(s_g=A.new_zeros(groups, d_g), y_g=A.new_zeros(groups, d_g))
    state["counts"] = torch.zeros(5, groups, dtype=torch.int64, device=A.device)
    if method.preset.averages_A or record.layer.has_diagonal_A:
        state["A"] = torch.where(ok & torch.isfinite(A).all(), A, 0.0)


class Means(NamedTuple):
    """What the first pass says of one layer: its record, and means in (groups, d).

    Args:
        record: inputs, and sums over the pass.   a_mean: ``ā̄``.   h_mean: mean of ``h``.
    """

    record: Record
    a_mean: Tensor
    h_mean: Tensor


class InputPair(NamedTuple):
    """The input pair (6.2) of one layer without λ_A, (groups, d_a) each.

    Args:
        a_mean: ``ā̄``.   s: ``H_a ā̄``.
        As: ``A s``, or where ``H_a`` is made exact, so that there is no pair, the matrix ``A``, or
            its diagonal as a row, (groups, 1, d_a).
    """

    a_mean: Tensor
    s: Tensor
    As: Tensor


class OutputPair(NamedTuple):
    """The output pair (7.1) of one layer, (groups, d_g) each.

    Args:
        s, y: changes of the means of ``h`` and ``Dh``.   g: mean of ``Dh`` of the first pass.
    """

    s: Tensor
    y: Tensor
    g: Tensor


class Damped(NamedTuple):
    """The averaged and damped output pair of one layer, and the weight that damping gave to s."""

    theta: Tensor
    s: Tensor
    y: Tensor


class Seen(NamedTuple):
    """All pairs of one layer in its latest curvature update; None where no second pass came."""

    input: InputPair
    output: OutputPair | None
    damped: Damped | None


def to_reduce(input: InputPair, output: OutputPair | None, preset: Preset) -> list[Tensor]:
    """Return what must be averaged over the ranks before the updates."""
    if output is None:
        return [input.As]
    needed = [input.As, output.s, output.y]
    return [*needed, output.g] if preset.skip_below else needed


def direction(state: State, X: Tensor, a_mean: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return step 3's ``H_g X H_a``, (groups, d_g, d_a), and step 4.1's ``s_a = H_a ā̄``.

    ``H_a`` is read once: ``s_a`` comes out of the same product; without ``a_mean`` it is None.
    """
    H_a = inverse_of(state["H_a"])
    rows = inverse_of(state["H_g"]).left(X)
    if a_mean is None:
        return H_a.right(rows), None
    product = H_a.right(torch.cat((rows, a_mean[:, None]), 1))  # (groups, d_g + 1, d_a)
    return product[:, :-1], product[:, -1]


def act(
    state: State, means: Means, s_a: Tensor, method: Method, ok: Tensor, *, keep_A: bool
) -> InputPair:
    """Return step 4.1's pair, by the Hessian action on the inputs of the first pass (6.2)."""
    record = means.record
    if record.layer.has_diagonal_A:
        As = record.diagonal()[:, None]
    elif method.renews_H_a:
        As = record.factor()
    elif "A" in state:
        if not keep_A:
            A = record.factor()  # it may overflow though the gradient is finite
            average_(state["A"], A, method.pair_decay, ok & torch.isfinite(A).all())
        As = (state["A"] @ s_a[..., None])[..., 0]
    else:
        As = record.action(s_a)
    record.a.clear()
    return InputPair(means.a_mean, s_a, As)


def compare(firsts: Sequence[Means], seconds: Sequence[Record], scale: float) -> list[OutputPair]:
    """Return step 4.3's pairs (7.1) of several layers, from both passes."""
    Dh_means = [first.record.Dh_mean(scale) for first in firsts]
    h_means = [second.layer.output_mean(second.a_mean()) for second in seconds]
    found: dict[int, OutputPair] = {}
    for some in joinable(h_means, [first.a_mean.dtype for first in firsts]):
        before = [firsts[i].h_mean for i in some]
        g = join([Dh_means[i] for i in some])
        s = join([h_means[i] for i in some]) - join(before)
        y = join([seconds[i].Dh_mean(scale) for i in some]) - g
        dtype = firsts[some[0]].a_mean.dtype
        parts = [unjoin(x.to(dtype), before) for x in (s, y, g)]
        found |= zip(some, map(OutputPair, *parts), strict=True)
    return [found[i] for i in range(len(firsts))]


def update_(
    states: Sequence[State],
    inputs: Sequence[InputPair],
    outputs: Sequence[OutputPair | None],
    method: Method,
    ok: Tensor,
) -> list[Damped | None]:
    """Do steps 4.1, 4.4 and 4.5 for several layers; return the damped output pairs.

    One function, for ``torch.compile`` to fuse its kernels.
    """
    a_means = [pair.a_mean for pair in inputs]
    for some in _together(range(len(states)), a_means, [state["H_a"] for state in states]):
        update_input_([states[i] for i in some], [inputs[i] for i in some], method, ok)
    damped: list[Damped | None] = [None] * len(states)
    compared = {i: pair for i, pair in enumerate(outputs) if pair is not None}
    averages = [state["s_g"] for state in states]
    for some in _together([*compared], averages, [state["H_g"] for state in states]):
        pairs = [compared[i] for i in some]
        found = update_output_([states[i] for i in some], pairs, method, ok)
        for i, pair in zip(some, found, strict=True):
            damped[i] = pair
    return damped


def _together(
    among: Sequence[int], like: Sequence[Tensor], Hs: Sequence[Tensors]
) -> list[list[int]]:
    """Return which layers ``among`` all are updated by the same kernels."""
    forms = [(is_lean(Hs[i]), is_diagonal(Hs[i])) for i in among]
    joined = joinable([like[i] for i in among], forms)
    return [[among[j] for j in some] for some in joined]


def update_input_(
    states: Sequence[State], pairs: Sequence[InputPair], method: Method, ok: Tensor
) -> None:
    """Update every ``H_a`` from its pair (6.2), or make it exact."""
    if method.renews_H_a or is_diagonal(states[0]["H_a"]):
        return _renew_(states, pairs, method, ok)
    H_a = Stack([state["H_a"] for state in states], [pair.a_mean for pair in pairs])
    s = join([pair.s for pair in pairs])
    y = torch.addcmul(join([pair.As for pair in pairs]), s, _column(states, "lambda_a", H_a.like))
    g = join(H_a.like) if method.preset.skip_below else s
    accepted = H_a.update_(s, y, _curved(s, y, g, method.preset, ok.expand(len(s))))
    _count(states, UPDATES_A, accepted, ok & ~accepted)


def _renew_(
    states: Sequence[State], pairs: Sequence[InputPair], method: Method, ok: Tensor
) -> None:
    """Make every ``H_a`` the exact inverse ``(A + λ_A I)⁻¹``.

    A diagonal ``A`` is averaged over the mini-batches, but for the theorem, where ``A`` is the
    latest one's.
    """
    decay = 0.0 if method.preset.convergent else method.pair_decay
    for state, pair in zip(states, pairs, strict=True):
        if is_diagonal(state["H_a"]):
            H = state["H_a"]["diagonal"]
            average_(state["A"], pair.As[:, 0], decay, ok)
            H.copy_(torch.where(ok, 1 / (state["A"] + state["lambda_a"]), H))
        else:
            H = state["H_a"]["H"]
            H.copy_(torch.where(ok, damped_inverse(pair.As, state["lambda_a"], ok), H))
        _count([state], UPDATES_A, ok.expand(len(H)))


def update_output_(
    states: Sequence[State], pairs: Sequence[OutputPair], method: Method, ok: Tensor
) -> list[Damped]:
    """Average every output pair (7.2), damp it (step 4.4), update ``H_g`` (step 4.5)."""
    H_g = Stack([state["H_g"] for state in states], [state["s_g"] for state in states])
    new = [join([pair.s for pair in pairs]), join([pair.y for pair in pairs])]
    finite = ok & (torch.cat(new, -1).abs().amax(-1) < torch.inf)
    means = [join([state[name] for state in states]) for name in ("s_g", "y_g")]
    for name, mean, latest in zip(("s_g", "y_g"), means, new, strict=True):
        average_(mean, latest, method.pair_decay, finite[:, None])
        for state, part in zip(states, unjoin(mean, H_g.like), strict=True):
            state[name] = part
    s, y = (mean.clone() for mean in means)
    curved = finite & (y != 0).any(-1)
    theta = method.preset.damp(H_g, s, y, method.mu1, _column(states, "lambda_g", H_g.like))
    g = join([pair.g for pair in pairs]) if method.preset.skip_below else s
    accepted = H_g.update_(s, y, _curved(s, y, g, method.preset, curved))
    _count(states, UPDATES_G, accepted, accepted & (theta < 1), ok & ~accepted)
    return [*map(Damped, *(unjoin(x, H_g.like) for x in (theta, s, y)))]


def _column(states: Sequence[State], name: str, like: Sequence[Tensor]) -> Tensor:
    """Return a number of each layer, one a row of the joined vectors, ``(groups, 1)``."""
    return torch.cat(
        [v.new_full((len(v), 1), state[name]) for state, v in zip(states, like, strict=True)]
    )


def _curved(s: Tensor, y: Tensor, g: Tensor, preset: Preset, among: Tensor) -> Tensor:
    """Return where, ``among`` the groups, ``sᵀy > skip_below ‖s‖² ‖ḡ‖``; the update itself asks for
    > 0.
    """
    if not preset.skip_below:
        return among
    return among & (dot(s, y) > preset.skip_below * dot(s, s) * torch.linalg.vector_norm(g, dim=-1))


def _count(states: Sequence[State], first: int, *events: Tensor) -> None:
    """Add events to rows of ``counts`` that follow each other, the groups where each happened."""
    counts = torch.cat([state["counts"] for state in states], 1)
    counts[first : first + len(events)] += torch.stack(events)
    for state, part in zip(
        states, counts.split([state["counts"].shape[1] for state in states], 1), strict=True
    ):
        state["counts"] = part
