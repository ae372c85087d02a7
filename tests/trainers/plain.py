"""The plain loop that every trainer must equal, and the table of what was tried."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref.optim import KFQN

STORED = Path(__file__).parents[2] / "book/data/trainers.json"
TABLE: list[dict[str, Any]] = []


def network(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)


def batches(dtype: torch.dtype = torch.float32) -> list[tuple[Tensor, Tensor]]:
    """Eight mini-batches of 16 samples."""
    drawn = torch.Generator().manual_seed(1)
    return [
        (torch.randn(16, 6, generator=drawn, dtype=dtype), torch.randint(3, (16,), generator=drawn))
        for _ in range(8)
    ]


def weights(net: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in net.parameters()]


def loop(
    *,
    preset: str = "kfqn_cnn",
    clip: float = 0.0,
    bfloat16: bool = False,
    parts: int = 1,
    dtype: torch.dtype = torch.float32,
) -> tuple[list[Tensor], list[float]]:
    """Return the weights and the losses of a loop without a trainer, with a closure."""
    net = network(dtype)
    opt = KFQN(net, preset, lr=0.1)
    losses = []
    for x, target in batches(dtype):

        def closure(x: Tensor = x, target: Tensor = target) -> Tensor:
            opt.zero_grad()
            total = torch.zeros((), dtype=dtype)
            for x_part, target_part in zip(x.chunk(parts), target.chunk(parts), strict=True):
                with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                    loss = F.cross_entropy(net(x_part), target_part) / parts
                loss.backward()
                total = total + loss.detach()
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            return total

        losses.append(float(opt.step(closure)))
    return weights(net), losses


def halved(batches: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    """The micro-batches of a trainer that accumulates two of them."""
    return [half for x, target in batches for half in zip(x.chunk(2), target.chunk(2), strict=True)]


def means_of_two(losses: list[float]) -> list[float]:
    """The losses of steps that accumulate two micro-batches."""
    single = torch.tensor(losses) / 2
    return (single[::2] + single[1::2]).tolist()


def row(
    trainer: str,
    outcome: str,
    *,
    precision: str = "32",
    accumulation: str = "1",
    clipping: str = "no",
    ranks: int = 1,
    closure: str = "the trainer's",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Note what a test shows of a trainer: exact against the plain loop, or refused."""

    def note(test: Callable[..., Any]) -> Callable[..., Any]:
        module = test.__module__.rpartition(".")[2]
        TABLE.append(
            {
                "trainer": trainer,
                "precision": precision,
                "accumulation": accumulation,
                "clipping": clipping,
                "ranks": ranks,
                "closure": closure,
                "outcome": outcome,
                "test": f"tests/trainers/{module}.py::{test.__name__}",
            }
        )
        return test

    return note


def stored() -> list[dict[str, Any]]:
    """Return the committed table."""
    return json.loads(STORED.read_text(encoding="utf-8"))


def write(rows: list[dict[str, Any]]) -> None:
    """Commit what the tests declare."""
    STORED.write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
