"""torch's attention as four linear layers: the same outputs, and layers that are covered."""

import copy
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from kfqn_ref.layers import Record
from kfqn_ref.optim import KFQN, split_attention

from .models import weights
from .patterns import pattern
from .plain import plain_steps
from .test_training_patterns import EXACT, REFUSED

F64 = torch.float64
N, T, S, D, HEADS = 3, 5, 4, 6, 2


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def attention(**options: Any) -> nn.MultiheadAttention:
    """torch's attention with weights that all differ from zero."""
    torch.manual_seed(1)
    made = nn.MultiheadAttention(D, HEADS, dtype=F64, **options)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) / 3)
    return made


def inputs(batch_first: bool, *sizes: int) -> list[Tensor]:
    """Queries, keys and values, with ``(T, D)``, ``(S, kdim)`` and ``(S, vdim)`` a sample."""
    shapes = [(T, D), (S, sizes[0]), (S, sizes[1])] if sizes else [(T, D), (S, D), (S, D)]
    found = [random(N, *shape, seed=seed) for seed, shape in enumerate(shapes)]
    return found if batch_first else [x.transpose(0, 1) for x in found]


PADDING = torch.zeros(N, S, dtype=torch.bool)
PADDING[0, 2:] = PADDING[2, 0] = True
SCORES = random(T, S, seed=7)
EACH = random(N * HEADS, T, S, seed=8)
SOME = EACH < -1
FUTURE = torch.ones(T, S, dtype=torch.bool).triu(1)

MASKS: dict[str, dict[str, Any]] = {
    "none": {},
    "padding": {"key_padding_mask": PADDING},
    "padding of numbers": {"key_padding_mask": random(N, S, seed=9)},
    "scores": {"attn_mask": SCORES},
    "boolean": {"attn_mask": FUTURE},
    "each head": {"attn_mask": EACH},
    "each head, boolean": {"attn_mask": SOME},
    "both": {"attn_mask": FUTURE, "key_padding_mask": PADDING},
    "both, numbers": {"attn_mask": EACH, "key_padding_mask": random(N, S, seed=9)},
    "causal": {"attn_mask": FUTURE, "is_causal": True},
    "causal and padding": {
        "attn_mask": FUTURE,
        "is_causal": True,
        "key_padding_mask": PADDING,
    },
}
WANTED: list[dict[str, Any]] = [
    {"need_weights": False},
    {"need_weights": True},
    {"need_weights": True, "average_attn_weights": False},
]


def agree(ours: Any, theirs: Any) -> None:
    """Outputs, and weights of attention where there are any, are equal to rounding.

    Where a query may see no key, both are not numbers.
    """
    for one, other in zip(ours, theirs, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12, equal_nan=True)


@pattern("nn.MultiheadAttention after split_attention: the same outputs", EXACT)
@pytest.mark.parametrize("masks", MASKS)
@pytest.mark.parametrize("batch_first", [False, True])
def test_outputs_are_those_of_torch(masks: str, batch_first: bool) -> None:
    for options in ({}, {"bias": False}, {"kdim": 3, "vdim": 2}):
        packed = attention(batch_first=batch_first, dropout=0.4, **options)
        split = split_attention(copy.deepcopy(packed))
        sizes = (3, 2) if "kdim" in options else ()
        x = inputs(batch_first, *sizes)
        for wanted in WANTED:
            for mode in (packed.train, packed.eval):
                mode()
                split.train(packed.training)
                torch.manual_seed(3)  # of dropout
                theirs = packed(*x, **MASKS[masks], **wanted)
                torch.manual_seed(3)
                agree(split(*x, **MASKS[masks], **wanted), theirs)


@pytest.mark.parametrize("batch_first", [False, True])
def test_one_sample_without_its_axis_is_that_of_torch(batch_first: bool) -> None:
    packed = attention(batch_first=batch_first)
    split = split_attention(copy.deepcopy(packed))
    for wanted in WANTED:
        x = random(T, D), random(S, D, seed=1), random(S, D, seed=2)
        agree(split(*x, **wanted), packed(*x, **wanted))
        agree(
            split(*x, key_padding_mask=PADDING[0], **wanted),
            packed(*x, key_padding_mask=PADDING[0], **wanted),
        )


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")
@pytest.mark.parametrize("norm_first", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_transformers_of_torch_give_the_same_outputs(batch_first: bool, norm_first: bool) -> None:
    torch.manual_seed(4)
    model = nn.Transformer(D, HEADS, 2, 2, 7, 0.0, batch_first=batch_first, norm_first=norm_first)
    model = model.double()
    split = split_attention(copy.deepcopy(model))
    assert not any(isinstance(x, nn.MultiheadAttention) for x in split.modules())
    source = random(N, S, D)
    target = random(N, T, D, seed=1)
    if not batch_first:
        source, target = source.transpose(0, 1), target.transpose(0, 1)
    causal = nn.Transformer.generate_square_subsequent_mask(T, dtype=F64)
    for mode in (True, False):
        model.train(mode)
        split.train(mode)
        with torch.set_grad_enabled(mode):  # without gradients torch takes its fast path
            theirs = model(source, target, tgt_mask=causal, tgt_is_causal=True)
            ours = split(source, target, tgt_mask=causal, tgt_is_causal=True)
            agree([ours], [theirs])
            padding = {"src_key_padding_mask": PADDING, "memory_key_padding_mask": PADDING}
            agree([split(source, target, **padding)], [model(source, target, **padding)])


def test_gradients_states_copies_and_modes_are_those_of_torch() -> None:
    packed = attention(batch_first=True)
    before = torch.get_rng_state()
    split = split_attention(copy.deepcopy(packed).eval())
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in split.modules())
    packed.in_proj_weight.requires_grad_(False)
    half = split_attention(copy.deepcopy(packed))
    trained = [name for name, p in half.named_parameters() if p.requires_grad]
    projections = ["q_proj.bias", "k_proj.bias", "v_proj.bias"]
    assert trained == [*projections, "out_proj.weight", "out_proj.bias"]
    x = inputs(True)
    other = split_attention(attention(batch_first=True))
    with torch.no_grad():
        for p in other.parameters():
            p.zero_()
    other.load_state_dict(packed.state_dict())
    for twin in (other, copy.deepcopy(other), pickle.loads(pickle.dumps(other))):
        agree(twin(*x), packed(*x))
        twin.load_state_dict(other.state_dict())
    wide = attention(kdim=3, vdim=2)
    split_attention(attention(kdim=3, vdim=2)).load_state_dict(wide.state_dict())


class Attending(nn.Module):
    """Attention with queries of one input and keys of another, and a linear layer behind it."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.attention: nn.Module = attention(batch_first=batch_first)
        torch.manual_seed(2)
        self.head = nn.Linear(D, 2, dtype=F64)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        h, _ = self.attention(x, y, y, need_weights=False)
        axis = 1 if self.attention.batch_first else 0
        return self.head(h.tanh().mean(axis))


def loss_of(h: Tensor) -> Tensor:
    return (h - 1).pow(4).mean(0).sum()


NAMES = ("q_proj", "k_proj", "v_proj", "out_proj", "head")


def plain_pass(Ws: list[np.ndarray], x: Tensor, y: Tensor) -> list[Record]:
    """Every layer's rows, outputs and output gradients, of attention in plain formulas."""
    leaves = [torch.tensor(W, requires_grad=True) for W in Ws]
    rows: list[Tensor] = []
    outputs: list[Tensor] = []

    def linear(W: Tensor, a: Tensor) -> Tensor:
        rows.append(torch.cat((a, torch.ones(*a.shape[:-1], 1, dtype=F64)), -1))
        outputs.append(rows[-1] @ W.T)
        return outputs[-1]

    q, k, v = (linear(W, a) for W, a in zip(leaves[:3], (x, y, y), strict=True))
    heads = []
    for part in torch.arange(D).chunk(HEADS):
        scores = torch.einsum("ntd,nsd->nts", q[..., part], k[..., part]) / len(part) ** 0.5
        heads.append(torch.einsum("nts,nsd->ntd", scores.softmax(-1), v[..., part]))
    h = linear(leaves[3], torch.cat(heads, -1)).tanh().mean(1)
    loss = loss_of(linear(leaves[4], h))
    Dhs = torch.autograd.grad(loss, outputs)
    records = []
    for triple in zip(rows, outputs, Dhs, strict=True):
        a, out, Dh = (value.detach().reshape(N, -1, value.shape[-1]).numpy() for value in triple)
        records.append(Record(a, out, Dh * N))  # of the loss of each sample, which has no 1/N
    return records


def matrices(model: nn.Module) -> list[np.ndarray]:
    """``(W, b)`` of the layers of a split model, in the order of ``NAMES``."""
    linear = [x for x in model.modules() if isinstance(x, nn.Linear)]
    return [torch.cat((x.weight, x.bias[:, None]), 1).detach().numpy().copy() for x in linear]


@pattern("queries, keys, values and output of attention, after split_attention", EXACT)
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize(("preset", "frozen"), [("kfqn_input", []), ("kfqn_cnn", ["k_proj"])])
def test_the_step_is_the_plain_one_of_four_layers(
    batch_first: bool, preset: str, frozen: list[str]
) -> None:
    """The keys are frozen where ``H_g`` learns, because theirs would learn rounding errors."""
    model = split_attention(Attending(batch_first))
    for name in frozen:
        model.attention.get_submodule(name).requires_grad_(False)
    batches = [(random(N, T, D, seed=k), random(N, S, D, seed=9 + k)) for k in range(3)]
    trained = [i for i, name in enumerate(NAMES) if name not in frozen]
    wanted = plain_steps(plain_pass, matrices(model), batches, trained, output=preset == "kfqn_cnn")
    opt = KFQN(model, preset, lr=0.3, damping=0.1)
    assert len(opt.layers) == len(NAMES)
    for batch in batches:
        x, y = batch if batch_first else (each.transpose(0, 1) for each in batch)

        def closure(x: Tensor = x, y: Tensor = y) -> Tensor:
            opt.zero_grad()
            loss = loss_of(model(x, y))
            loss.backward()
            return loss

        opt.step(closure)
    for ours, plain in zip(matrices(model), wanted, strict=True):
        np.testing.assert_allclose(ours, plain, rtol=1e-9, atol=1e-10)


def test_keys_have_no_output_pair() -> None:
    """Equal shifts of all keys shift the scores of a query alike, which softmax does not see."""
    records = plain_pass(
        matrices(split_attention(Attending(True))), random(N, T, D), random(N, S, D)
    )
    sums = {
        name: (abs(seen.Dh.sum(1)).max(), abs(seen.Dh).max())
        for name, seen in zip(NAMES, records, strict=True)
    }
    eps = np.finfo(float).eps
    assert sums.pop("k_proj")[0] < 8 * S * T * eps * abs(records[1].Dh).max()
    assert all(total > size / 100 for total, size in sums.values())


def wrong_models() -> Iterator[tuple[Callable[[], nn.Module], str]]:
    """What cannot be split, and the words that say so."""
    yield lambda: nn.Linear(2, 2), "must have an nn.MultiheadAttention to split, got none"
    yield lambda: nn.Sequential(attention(add_bias_kv=True)), "'0' has bias_k, bias_v or add_zero"
    yield lambda: attention(add_zero_attn=True), "'' has bias_k, bias_v or add_zero_attn"

    def pruned(name: str) -> nn.Module:
        model = attention()
        prune.random_unstructured(model, name, 0.5)
        return model

    yield lambda: pruned("in_proj_weight"), "weights that are computed from others"
    yield lambda: pruned("in_proj_bias"), "weights that are computed from others"

    def tied() -> nn.Module:
        model = nn.Sequential(attention(), attention())
        model[1].out_proj.weight = model[0].out_proj.weight  # type: ignore[union-attr]  # they have it
        return model

    yield tied, "'0' has weights that another module has, too; '1' has"

    def hooked() -> nn.Module:
        model = attention()
        model.register_forward_hook(lambda *args: None)
        return model

    yield hooked, "hooks: set them after the split"

    class Own(nn.MultiheadAttention):
        def forward(self, *args: Any, **options: Any) -> Any:
            return super().forward(*args, **options)

    yield lambda: Own(D, HEADS), "a forward pass of its own"


@pattern("attention that cannot be split: bias_k, add_zero_attn, hooks, pruned or tied", REFUSED)
@pytest.mark.parametrize(("build", "words"), [*wrong_models()])
def test_what_cannot_be_split_is_refused(build: Callable[[], nn.Module], words: str) -> None:
    model = build()
    modules = list(model.modules())
    before = weights(model)
    with pytest.raises(ValueError, match=words):
        split_attention(model)
    assert list(model.modules()) == modules
    for one, other in zip(weights(model), before, strict=True):
        assert torch.equal(one, other)


def test_wrong_calls_are_refused() -> None:
    split = split_attention(attention(batch_first=True))
    x = inputs(True)
    rows = [random(2, D), random(3, D)]
    nested = torch.nested.nested_tensor(rows, layout=torch.jagged)
    for error, given, options, words in (
        (ValueError, x, {"is_causal": True}, "is_causal must come with attn_mask"),
        (ValueError, x, {"attn_mask": FUTURE[:, :1]}, r"shape \(5, 4\) or \(6, 5, 4\), got \(5, 1"),
        (
            ValueError,
            x,
            {"key_padding_mask": PADDING[:1]},
            r"must have the shape \(3, 4\), got \(1",
        ),
        (
            TypeError,
            x,
            {"attn_mask": FUTURE.int()},
            "boolean or of floating point, got torch.int32",
        ),
        (ValueError, [nested] * 3, {}, "must be plain tensors, got a nested one"),
    ):
        with pytest.raises(error, match=words):
            split(*given, **options)


def test_a_class_is_no_model() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got <class"):
        split_attention(nn.MultiheadAttention)  # type: ignore[arg-type]  # the wrong kind


def test_a_module_used_at_two_places_is_split_once() -> None:
    shared = attention()
    model = split_attention(nn.ModuleDict({"one": shared, "other": nn.Sequential(shared)}))
    assert isinstance(model, nn.ModuleDict)
    assert model["one"] is model["other"][0]  # type: ignore[index]  # it is a Sequential
