"""Checkpoints: what is packed comes back, and a file is whole, or is refused by name."""

import errno
import os

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kfqn_ref import files
from kfqn_ref.experiments.data import digits
from kfqn_ref.experiments.models import build_network
from kfqn_ref.files import CheckpointError, load, pack, save, unpack, write_atomically
from kfqn_ref.method.baselines import SGD, Adam
from kfqn_ref.method.kfac import KFAC
from kfqn_ref.method.presets import PRESETS, preset

METHODS = {**{name: preset(name) for name in PRESETS}, "sgd": SGD(), "adam": Adam(), "kfac": KFAC()}


def equal(a, b) -> bool:
    """Equality of nested values, arrays bit for bit and in the same memory order."""
    if isinstance(a, np.ndarray):
        return a.tobytes("A") == b.tobytes("A") and a.strides == b.strides and a.dtype == b.dtype
    if hasattr(a, "__dataclass_fields__"):
        return type(a) is type(b) and all(
            equal(getattr(a, n), getattr(b, n)) for n in a.__dataclass_fields__
        )
    if isinstance(a, tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize("name", METHODS)
def test_a_state_comes_back_from_a_file_bit_for_bit(tmp_path, name):
    network, method = build_network("mlp", (8, 8)), METHODS[name]
    params = network.init(np.random.default_rng(0))
    state = method.init(params)
    x, y = digits().first(40).train
    for _ in range(2):
        params, state, _ = method.step(network, params, state, x, y)
    save(tmp_path / "c.pt", {"params": pack(params), "state": pack(state)})
    content = load(tmp_path / "c.pt")
    assert equal(unpack(content["params"]), params)
    assert equal(unpack(content["state"]), state)


def test_the_memory_order_of_an_array_is_kept():
    array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert equal(unpack(pack(array)), array)
    assert not equal(unpack(pack(array)), np.ascontiguousarray(array))


def test_what_cannot_be_restored_is_refused():
    with pytest.raises(TypeError, match="arrays, numbers, tuples and dataclasses"):
        pack({"a": object()})
    for name in (
        "os:system",
        "kfqn_ref.bfgs:bfgs_inverse_update",
        "kfqn_ref.bfgs:Nothing",
        "kfqn_refx:A",
    ):
        with pytest.raises(CheckpointError, match="only hold values of this package"):
            unpack({"type": name, "command": "true"})


@given(st.data())
def test_a_cut_file_is_refused_by_name(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("cut") / "c.pt"
    save(path, {"weights": torch.arange(50.0)})
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(CheckpointError, match=r"c\.pt is not a readable checkpoint"):
        load(path)


def test_absent_foreign_and_other_versions_are_refused(tmp_path, monkeypatch):
    with pytest.raises(CheckpointError, match="there is no checkpoint"):
        load(tmp_path / "c.pt")
    torch.save([1, 2], tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="version 1, got list"):
        load(tmp_path / "c.pt")
    monkeypatch.setattr(files, "VERSION", 2)
    save(tmp_path / "c.pt", {})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="version 1, got 2"):
        load(tmp_path / "c.pt")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch, failing):
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "disk full")

    target = os if failing == "fsync" else type(path)
    monkeypatch.setattr(target, failing, fail)
    with pytest.raises(OSError, match="disk full: .*file") as caught:
        write_atomically(path, b"new, and longer")
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    monkeypatch.undo()
    write_atomically(path, b"new, and longer")
    assert path.read_bytes() == b"new, and longer"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
