"""R ranks on R shards equal one process on the whole batch: real processes, gloo, every preset."""

import socket
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from kfqn_ref.optim import KFQN

from .models import close
from .ranks import STEPS, VARIANTS, model_for

SCRIPT = Path(__file__).with_name("ranks.py")


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@cache
def trained(world: int) -> list[dict[Any, dict[str, Any]]]:
    """What every rank of a world wrote."""
    port = str(free_port())
    with TemporaryDirectory() as folder:
        outs = [Path(folder) / f"{rank}.pt" for rank in range(world)]
        commands = [
            [sys.executable, str(SCRIPT), str(r), str(world), port, str(out)] for r, out in enumerate(outs)
        ]
        ranks = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        errors = [process.communicate(timeout=280)[1] for process in ranks]
        assert not any(process.returncode for process in ranks), errors
        return [torch.load(out, weights_only=True) for out in outs]


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_ranks_on_shards_equal_one_process_on_the_batch(world: int, variant: tuple[str, str]) -> None:
    (alone,) = trained(1)
    for rank in trained(world):
        assert close(rank[variant]["weights"], alone[variant]["weights"], 1e-10)
        assert rank[variant]["skipped"] == alone[variant]["skipped"] == 1
        assert rank[variant]["keys"] == alone[variant]["keys"]  # a checkpoint goes from one to the other


def test_vectors_travel_where_kfac_reduces_matrices() -> None:
    (alone,), (first, _) = trained(1), trained(2)
    shapes = [layer.shape for layer in KFQN(model_for("kfqn_cnn")).layers]
    updates, loss = STEPS // 2, 8 * STEPS
    vectors = sum(groups * 2 * (d_a + d_g) for groups, d_g, d_a in shapes) * 8 * updates
    start = sum(groups * d_a**2 for groups, _, d_a in shapes) * 8  # A_0, once
    assert first["kfqn_cnn", "dense"]["bytes"] == vectors + start + loss
    assert alone["kfqn_cnn", "dense"]["bytes"] == 0
    kfac = sum(groups * (d_a**2 + d_g**2) for groups, d_g, d_a in shapes) * 8 * updates
    assert vectors < kfac / 4


def test_a_model_under_fsdp2_is_refused_with_the_reason() -> None:
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        mesh = init_device_mesh("cpu", (1,))
        model = nn.Linear(3, 2)
        fully_shard(model, mesh=mesh)
        with pytest.raises(ValueError, match="whole on every rank, got the DTensor 'weight'.*H_g M H_a"):
            KFQN(model)
    finally:
        dist.destroy_process_group()
