"""R ranks on R shards equal one process on the whole batch: real processes, gloo, every preset."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from torch._C._distributed_c10d import HashStore
from torch.nn.parallel import DistributedDataParallel

from kfqn_ref.optim import KFQN, PRESETS
from kfqn_ref.optim.ownership import balanced
from kfqn_ref.optim.update import InputPair, OutputPair, to_reduce

from . import ranks, worlds
from .models import close
from .patterns import pattern

Trained = Callable[[int], list[dict[Any, dict[str, Any]]]]


@pytest.fixture(scope="session")
def trained(made_once: Callable[..., Path]) -> Trained:
    """Return what every rank of a world wrote, by the size of the world."""
    return worlds.written(made_once("ranks", train_all))


def train_all(folder: Path) -> None:
    worlds.in_process(ranks.main, folder)


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize(
    "variant", [*ranks.PLAIN, *ranks.OWNED], ids=lambda v: "-".join(map(str, v))
)
def test_ranks_on_shards_equal_one_process_on_the_batch(
    trained: Trained, world: int, variant: ranks.Variant
) -> None:
    (alone,) = trained(1)
    one = alone[(*variant[:2], False)]
    for rank in trained(world):
        assert close(rank[variant]["weights"], one["weights"], 1e-10)
        assert rank[variant]["skipped"] == one["skipped"] == 1
        assert rank[variant]["keys"] == one["keys"]  # a checkpoint goes from one to the other


@pattern(
    "DistributedDataParallel made after the optimizer, around the model or what holds it", "exact"
)
@pytest.mark.parametrize("world", [2, 4])
def test_a_wrapper_that_comes_later_is_found(trained: Trained, world: int) -> None:
    (alone,) = trained(1)
    for rank in trained(world):
        for place in ("model", "holder"):
            assert close(rank["late"][place], alone["late"]["model"], 1e-10)


def test_vectors_travel_where_kfac_reduces_matrices(trained: Trained) -> None:
    (alone,), (first, _) = trained(1), trained(2)
    shapes = [layer.shape for layer in KFQN(ranks.model_for("kfqn_cnn")).layers]
    updates, loss = ranks.STEPS // 2, 8 * ranks.STEPS
    vectors = sum(groups * 2 * (d_a + d_g) for groups, d_g, d_a in shapes) * 8 * updates
    start = sum(groups * d_a**2 for groups, _, d_a in shapes) * 8  # A_0, once
    assert first["kfqn_cnn", "dense", False]["bytes"] == vectors + start + loss
    assert alone["kfqn_cnn", "dense", False]["bytes"] == 0
    kfac = sum(groups * (d_a**2 + d_g**2) for groups, d_g, d_a in shapes) * 8 * updates
    assert vectors < kfac / 4
    directions = sum(groups * d_g * d_a for groups, d_g, d_a in shapes) * 8 * ranks.STEPS
    actions = sum(groups * d_a for groups, _, d_a in shapes) * 8 * updates  # s_a
    assert (
        first["kfqn_cnn", "dense", True]["bytes"] == vectors + start + loss + directions + actions
    )


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("variant", ranks.OWNED, ids=lambda v: "-".join(v[:2]))
def test_the_states_of_the_owners_make_up_the_state_of_one_process(
    trained: Trained, world: int, variant: ranks.Variant
) -> None:
    (alone,), found = trained(1), [rank[variant] for rank in trained(world)]
    assert sum(rank["state_bytes"] for rank in found) == alone[(*variant[:2], False)]["state_bytes"]
    owner = found[0]["owner"]
    assert set(owner.values()) == set(
        range(min(world, len(owner)))
    )  # a fourth rank has nothing to keep
    for r, rank in enumerate(found):
        assert rank["owner"] == owner
        assert rank["shown"] == sorted(name for name in owner if owner[name] == r)
        for name, said in rank["refused"].items():
            assert said == (
                ""
                if owner[name] == r
                else f"'{name}' must be asked for on rank {owner[name]}, got {r}"
            )


@pytest.mark.parametrize("variant", ranks.OWNED, ids=lambda v: "-".join(v[:2]))
def test_a_checkpoint_goes_from_owners_to_one_process_and_back(
    trained: Trained, variant: ranks.Variant
) -> None:
    (alone,), found = trained(1), trained(2)
    plain = (*variant[:2], False)
    wanted = alone[plain]["weights"]
    for rank in found:
        assert close(rank["resumed"][variant], wanted, 1e-10)
    assert close(ranks.resume(plain, found[0][variant]["half"]), wanted, 1e-10)
    with pytest.raises(
        ValueError, match="must be the one of rank 0, which has all layers, got that of rank 1"
    ):
        ranks.resume(plain, found[1][variant]["half"])
    for rank in found:  # a part has all that its own rank keeps
        assert rank[variant]["own checkpoint refused"] == ""


def test_what_the_updates_read_travels_and_nothing_else() -> None:
    As, s, y, g = torch.arange(4.0).split(1)
    for compared, preset, wanted in (
        (False, "kbfgs_2020", [As]),  # the second pass did not reach the layer
        (False, "kfqn_cnn", [As]),
        (True, "kfqn_cnn", [As, s, y]),
        (True, "kbfgs_2020", [As, s, y, g]),  # ‖ḡ‖ decides what is skipped
    ):
        output = OutputPair(s, y, g) if compared else None
        found = to_reduce(InputPair(As + 9, As + 9, As), output, PRESETS[preset])
        assert [*map(float, found)] == [*map(float, wanted)]


def test_a_warm_start_on_shards_is_that_of_the_batches(trained: Trained) -> None:
    (alone,), found = trained(1), trained(2)
    kept = {name: H_a for rank in found for name, H_a in rank["warm"].items()}
    assert kept.keys() == alone["warm"].keys()
    for name, H_a in alone["warm"].items():
        assert close([kept[name]], [H_a], 1e-10)


def test_ownership_is_refused_where_there_is_nothing_to_share() -> None:
    with pytest.raises(ValueError, match="needs a model in DistributedDataParallel"):
        KFQN(ranks.model_for("kfqn_cnn"), factor_ownership=True)
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        for preset in ("kbfgs_2020", "kbfgs_l_2020"):
            model = DistributedDataParallel(ranks.model_for(preset))
            with pytest.raises(ValueError, match=f"factor_ownership must be False for {preset}"):
                KFQN(model, preset, factor_ownership=True)
    finally:
        dist.destroy_process_group()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=7), st.integers(1, 4))
def test_owners_are_balanced_to_four_thirds_of_the_best(costs: list[int], count: int) -> None:
    def largest(owners: Sequence[int]) -> int:
        return max(
            sum(c for c, owner in zip(costs, owners, strict=True) if owner == r)
            for r in range(count)
        )

    best = min(map(largest, product(range(count), repeat=len(costs))))
    assert 3 * count * largest(balanced(costs, count)) <= (4 * count - 1) * best
