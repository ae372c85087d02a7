"""R ranks under FSDP2 equal one process on the whole batch; their checkpoints go anywhere; other
ways to cut a model are refused by name.
"""

import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)

from kfqn_ref.optim import KFQN
from kfqn_ref.optim.guards import leaves
from kfqn_ref.optim.sharded import local

from .. import warm
from . import distributed_checkpoints, elastic, shards, worlds
from .models import close, closure_of, data, equal, mlp, run, tensors
from .patterns import pattern

Trained = Callable[[int], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def folder(made_once: Callable[..., Path]) -> Path:
    """The folder of what the ranks wrote."""
    return made_once("shards", train_all)


@pytest.fixture(scope="session")
def trained(folder: Path) -> Trained:
    """Return what every rank of a world wrote, by the size of the world."""
    return worlds.written(folder)


def train_all(folder: Path) -> None:
    worlds.in_process(shards.main, folder)


@pattern("fully_shard (FSDP2), layer by layer or the model at once, on 2 and 4 ranks", "exact")
@pytest.mark.parametrize(
    ("world", "name"), [(world, name) for world, names in shards.RUNS.items() for name in names]
)
def test_shards_equal_one_process_on_the_batch(trained: Trained, world: int, name: str) -> None:
    (alone,) = trained(1)
    wanted = alone[name]
    for rank in trained(world):
        found = rank[name]
        assert close(found["weights"], wanted["weights"], 1e-10)
        assert found["skipped"] == wanted["skipped"] == 1
        assert found["started"] == wanted["started"] == len(found["owner"])


def test_two_ranks_keep_little_more_than_half_of_the_state_each(trained: Trained) -> None:
    (alone,), found = trained(1), trained(2)
    for rank in found:
        assert rank["memory"] <= 0.6 * alone["memory"]
    assert sum(rank["memory"] for rank in found) == alone["memory"]


@pattern(
    "a checkpoint of 4 ranks under FSDP2 that goes on with 1, 2 or 8, and the reverse", "exact"
)
def test_a_checkpoint_of_four_ranks_goes_on_with_any_number(trained: Trained) -> None:
    (alone,), four = trained(1), trained(4)
    half = four[0]["kfqn_cnn_l"]["half"]
    wanted = alone["kfqn_cnn_l"]["weights"]
    assert close(shards.resume("kfqn_cnn_l", half), wanted, 1e-10)
    for world in (2, 8):
        for rank in trained(world):
            assert close(rank["from 4"], wanted, 1e-10)
    for rank in trained(2):
        assert close(rank["from 1"], alone["kfqn_adam"]["weights"], 1e-10)
    with pytest.raises(ValueError, match="the one of rank 0, which has all layers, got that of r"):
        shards.resume("kfqn_cnn_l", four[1]["kfqn_cnn_l"]["half"])


@pattern(
    "torch.distributed.checkpoint, with or without its get_ and set_optimizer_state_dict, under "
    "DistributedDataParallel, owners or FSDP2, and from 4 ranks on 2 or 1",
    "exact",
)
def test_a_distributed_checkpoint_of_ranks_goes_on_as_the_run(
    trained: Trained, folder: Path
) -> None:
    (alone,) = trained(1)
    wanted = alone[distributed_checkpoints.PRESET]["weights"]
    for rank in trained(2):
        found = rank["distributed"]
        assert len(found) == len(distributed_checkpoints.CASES) + 2
        for name, weights in found.items():
            assert close(weights, wanted, 1e-10), name
    on_one = distributed_checkpoints.resume(folder / "shards-4-names", "one", "names", "file")
    assert close(on_one, wanted, 1e-10)


def test_a_warm_start_on_shards_is_that_of_the_batches(trained: Trained) -> None:
    (alone,), found = trained(1), trained(2)
    kept = {name: H_a for rank in found for name, H_a in rank["warm"].items()}
    assert kept.keys() == alone["warm"].keys()
    for name, H_a in alone["warm"].items():
        assert close([kept[name]], [H_a], 1e-10)


@pytest.mark.parametrize("when", ["first", "half"])
def test_layers_that_start_late_are_whole_in_a_checkpoint_of_owners(
    trained: Trained, when: str
) -> None:
    """The owner has the factors of a layer, the other ranks an empty state."""
    (alone,), found = trained(1), trained(2)
    wanted = alone["late"][when]["opt"]["state"]
    saved = found[0]["late"][when]["opt"]["state"]
    assert {k: sorted(v) for k, v in saved.items()} == {k: sorted(v) for k, v in wanted.items()}
    assert any("H_a" in state for state in saved.values()) is (when == "half")
    for rank in found:
        assert close(rank["late"][when]["model"], alone["late"][when]["model"], 1e-10)
        # AdamW's state is on every rank until a layer starts
        assert rank["late"]["loaded"] == alone["late"]["loaded"] > 0


# -------------------------------------------------------------------------------------- refusals


@pytest.fixture
def one_rank() -> Iterator[None]:
    """A group of this process alone."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def by_columns() -> nn.Module:
    mesh = init_device_mesh("cpu", (1,))
    return parallelize_module(mlp(), mesh, {"1": ColwiseParallel(), "3": RowwiseParallel()})


def tensors_and_shards() -> nn.Module:
    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("data", "tensor"))
    plan = {"1": ColwiseParallel(), "3": RowwiseParallel()}
    model = parallelize_module(mlp(), mesh["tensor"], plan)
    fully_shard(model, mesh=mesh["data"])
    return model


def hybrid() -> nn.Module:
    mesh = init_device_mesh("cpu", (1, 1), mesh_dim_names=("copies", "shards"))
    model = mlp()
    fully_shard(model, mesh=mesh)
    return model


def in_part() -> nn.Module:
    model = mlp()
    fully_shard(model[1], mesh=init_device_mesh("cpu", (1,)))
    return model


def flat() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it is old
        return FullyShardedDataParallel(mlp(), device_id=torch.device("cpu"))


OTHER_CUTS = [
    (by_columns, r"tensor parallelism \(ColwiseParallel, RowwiseParallel\) is not taken.*'1\.weig"),
    (tensors_and_shards, r"tensor parallelism \(ColwiseParallel, RowwiseParallel\) is not taken"),
    (hybrid, r"hybrid sharding \(HSDP\) is not taken.*'1\.weight'.*fully_shard on a mesh of one"),
    (in_part, r"must be sharded, got whole ones \['3\.weight', '3\.bias'\].*give the model itself"),
    (flat, r"FullyShardedDataParallel \(FSDP1\) is not taken.*fully_shard"),
]


@pattern("tensor parallelism, hybrid sharding, FSDP1, or a model sharded in part", "refused")
@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize(("build", "words"), OTHER_CUTS)
def test_other_ways_to_cut_a_model_are_refused(build: Callable[[], Any], words: str) -> None:
    model = build()
    with pytest.raises(ValueError, match=words):
        KFQN(model)


@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("preset", ["kbfgs_2020", "kbfgs_l_2020"])
def test_presets_that_average_A_are_refused_on_shards(preset: str) -> None:
    model = mlp()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ValueError, match=f"the preset must not be {preset} where parameters are s"):
        KFQN(model, preset)


@pattern("fully_shard after the optimizer was made", "refused")
@pytest.mark.usefixtures("one_rank")
def test_shards_that_come_after_the_optimizer_are_refused() -> None:
    model = mlp()
    opt = KFQN(model)
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    with pytest.raises(ValueError, match="'1' has other parameters.*make a new optimizer"):
        opt.step(closure_of(model, *data()))


@pattern("micro-batches without reduction under FSDP2 (set_requires_gradient_sync)", "refused")
@pytest.mark.usefixtures("one_rank")
def test_micro_batches_that_are_not_reduced_are_refused() -> None:
    model: Any = mlp()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    opt = KFQN(model)
    x, target = data()

    def closure() -> Tensor:
        model.zero_grad()
        for part in (0, 1):
            model.set_requires_gradient_sync(part == 1)
            loss = nn.functional.cross_entropy(model(x), target) / 2
            loss.backward()
        return loss

    before = shards.weights(model)
    with pytest.raises(ValueError, match=r"set_requires_gradient_sync\(True\)"):
        opt.step(closure)
    assert equal(shards.weights(model), before)
    assert not any(opt.state.values())
    model.set_requires_gradient_sync(True)
    run(opt, model, 2)  # it goes on
    assert opt.started == {*opt.layers}


@pattern("a step without a closure under FSDP2, where the curvature is updated", "refused")
@pytest.mark.usefixtures("one_rank")
def test_a_step_without_a_closure_is_refused_where_the_curvature_is_updated() -> None:
    model, twin = mlp(), mlp()
    fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    opt = KFQN(model, "kfqn_input", lr=0.1, curvature_interval=3)
    plain = KFQN(twin, "kfqn_input", lr=0.1, curvature_interval=3)
    backward = closure_of(model, *data())
    backward()
    with pytest.raises(TypeError, match="where parameters are sharded, the inputs of this iterat"):
        opt.step()
    assert not any(opt.state.values())
    opt.step(backward)
    for _ in range(2):
        backward()
        opt.step()
    run_on_one_batch(plain, twin, 3)
    assert close(shards.weights(model), shards.weights(twin), 1e-12)


def run_on_one_batch(opt: KFQN, model: nn.Module, steps: int) -> None:
    for _ in range(steps):
        opt.step(closure_of(model, *data()))


@pattern("gradients that are not cleared under FSDP2", "refused")
@pytest.mark.usefixtures("one_rank")
@pytest.mark.parametrize("clips", [False, True])
@pytest.mark.parametrize("sharded", [False, True])
def test_gradients_that_are_added_to_are_refused(sharded: bool, clips: bool) -> None:
    model = mlp()
    if sharded:
        fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
    opt = KFQN(model)
    x, target = data()

    def closure(clears: bool = False) -> Tensor:
        if clears:
            opt.zero_grad(set_to_none=False)
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        if clips and not opt.in_second_pass:
            nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        return loss

    opt.step(closure)
    with pytest.raises(ValueError, match="must clear the gradients of earlier passes"):
        opt.step(closure)
    opt.step(lambda: closure(True))


def rank_with_an_error(rank: int, folder: Path, call: int) -> None:
    """Two ranks; a call of the closure ends with an error on rank 0 alone."""
    warnings.simplefilter("ignore")
    worlds.meet(rank, 2, folder / f"meeting-{call}", timedelta(seconds=60))
    model = mlp()
    shards.shard_(model, each=True)
    opt = KFQN(model, lr=0.1)
    worlds.until_an_error(rank, folder, call, opt, closure_of(model, *data(seed=rank)), own_parts)


def own_parts(opt: KFQN) -> list[Tensor]:
    """This rank's part of all that a step may change, but for what travels to be shown."""
    grads = [p.grad for p in opt.model.parameters() if p.grad is not None]
    kept = [*opt.model.parameters(), *grads, *leaves(list(map(dict, opt.state.values())))]
    return [*(local(x).detach().clone() for x in kept), torch.tensor([opt._k, len(opt.started)])]


@pattern("a closure that fails on one of two ranks under FSDP2: both end, unmoved", "exact")
@pytest.mark.parametrize("call", [3, 4], ids=["first pass", "second pass"])
def test_an_error_of_one_rank_ends_the_others(tmp_path: Path, call: int) -> None:
    worlds.assert_both_end_unmoved(rank_with_an_error, tmp_path, call)


@pattern("a rank under FSDP2 that is killed, and started anew by torchrun's agent", "exact")
def test_a_restart_goes_on_bit_for_bit(tmp_path: Path) -> None:
    code, told = warm.Process(elastic.main, tmp_path).end()
    assert code == 0, told
    whole, restarted = (torch.load(tmp_path / f"{name}.pt") for name in ("whole", "restarted"))
    assert whole["first"] == 0
    assert restarted["first"] == elastic.DEATH  # its second life began from a checkpoint
    assert equal(restarted["model"], whole["model"])
    assert equal(tensors(ordered(restarted["opt"])), tensors(ordered(whole["opt"])))


def ordered(value: Any) -> Any:
    """A state with its keys in one order: a distributed checkpoint keeps none."""
    if not isinstance(value, dict):
        return value
    return {key: ordered(value[key]) for key in sorted(value, key=str)}
