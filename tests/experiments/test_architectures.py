"""The table of other people's architectures: nothing in it is silent, and its rows can be made."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kfqn_ref.experiments import architectures
from kfqn_ref.experiments.architectures import Case
from kfqn_ref.experiments.bench import memory

DATA = Path(__file__).parents[2] / "book/data"


def stored(name: str) -> dict[str, Any]:
    return json.loads((DATA / name).read_text(encoding="utf-8"))


ROWS = stored("architectures.json")["rows"]


def test_the_table_has_forty_architectures_of_three_libraries() -> None:
    assert len(ROWS) >= 40
    assert len({(row["library"], row["name"]) for row in ROWS}) == len(ROWS)
    assert {row["library"] for row in ROWS} == {"transformers", "timm", "torch_geometric"}


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_nothing_in_the_table_is_silent(row: dict[str, Any]) -> None:
    said = " ".join(row["warnings"])
    if "message" in row:  # a refusal names the way out
        assert "exclude=" in row["message"]
    if row["outcome"] == "trained":
        assert row["covered"] == 1 or "covered:" in said
        assert all(repr(name) in said for name in row["not_seen"])
        assert all(reason.split(": ")[1] for reason in row["left_out"])


class Small(nn.Module):
    """A model with a norm, and a head whose weight may be that of the first layer."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.first, self.norm, self.head = nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4)
        if tied:
            self.head.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.first(x).tanh()))


def small(*, tied: bool) -> Case:
    x = torch.randn(architectures.BATCH, 4, generator=torch.Generator().manual_seed(0))
    return Case("none", "small", lambda: Small(tied=tied), lambda model: model(x), ("head",))


def test_a_row_tells_what_happened() -> None:
    row = architectures.row_of(small(tied=False))
    assert (row["outcome"], row["layers"]) == ("trained", 2)
    assert row["covered"] == pytest.approx(40 / 48)
    assert row["left_out"] == {"LayerNorm: not a linear or convolution layer": 1}
    assert row["losses_kfqn"][0] == row["losses_adamw"][0]
    assert "excluded" not in row


def test_a_refusal_is_kept_where_the_advice_was_taken() -> None:
    row = architectures.row_of(small(tied=True))
    assert row["outcome"] == "refused"  # the first layer shares its weight as well
    assert "exclude=['first']" in row["message"]
    assert row["excluded"] == ["head"]


@pytest.mark.parametrize("preset", ["kfqn_cnn", "kfqn_cnn_l"])
def test_no_step_leaves_a_tensor_behind(preset: str) -> None:
    early, late = memory.measure(preset, (100, 400))
    assert early["tensors"] == late["tensors"]


def test_memory_was_flat_over_ten_thousand_steps() -> None:
    early, *_, late = stored("memory.json")["rows"]
    assert (early["step"], late["step"]) == (100, 10_000)
    assert early["tensors"] == late["tensors"]
    assert late["traced_bytes"] <= 1.01 * early["traced_bytes"]
    assert late["resident_bytes"] <= 1.01 * early["resident_bytes"]
