"""KFQN in the loops of other libraries: exact against the plain loop, or refused in one sentence.

They need the extra ``trainers``: ``make trainers``.
"""

import gc
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from kfqn_ref.optim import KFQN

from . import plain
from .plain import row

EXAMPLES = Path(__file__).parents[2] / "notebooks/trainers"
EXACT, REFUSED = "exact", "refused"
pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries, about their own parts


def example(name: str, library: str) -> Any:
    """Import an example; skip the test where its library is not installed."""
    pytest.importorskip(library, reason="the extra `trainers` is not installed")
    sys.path.insert(0, str(EXAMPLES))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXAMPLES))


def same(net: nn.Module, losses: list[float], **conditions: Any) -> None:
    """State that weights and losses are, to the last bit, those of the plain loop."""
    equal_to(plain.loop(**conditions), net, losses)


def equal_to(loop: tuple[list[Tensor], list[float]], net: nn.Module, losses: list[float]) -> None:
    """State that weights and losses are those of a loop to the last bit."""
    wanted, wanted_losses = loop
    assert all(torch.equal(a, b) for a, b in zip(plain.weights(net), wanted, strict=True))
    assert losses == wanted_losses


def unmoved(net: nn.Module) -> None:
    before = plain.weights(plain.network())
    assert all(torch.equal(a, b) for a, b in zip(plain.weights(net), before, strict=True))


# A trainer without a closure is held to the plain loop with one.
INPUT: dict[str, Any] = {"preset": "kfqn_input"}

# ------------------------------------------------------------------------------------- Lightning

CONDITIONS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, {}),
    ({"precision": "bf16-mixed"}, {"bfloat16": True}),
    ({"gradient_clip_val": 0.05}, {"clip": 0.05}),
]


@row("Lightning", EXACT)
@row("Lightning", EXACT, precision="bf16-mixed")
@row("Lightning", EXACT, clipping="norm")
@pytest.mark.parametrize(("options", "conditions"), CONDITIONS)
def test_lightning(options: dict[str, Any], conditions: dict[str, Any]) -> None:
    net = plain.network()
    losses = example("lightning_trainer", "lightning").train(net, plain.batches(), **options)
    same(net, losses, **conditions)


@row("Lightning", REFUSED, accumulation="the trainer's")
def test_accumulation_by_lightning_is_refused() -> None:
    train = example("lightning_trainer", "lightning").train
    net = plain.network()
    with pytest.raises(ValueError, match="to accumulate, do all backward passes in the closure"):
        train(net, plain.batches(), accumulate_grad_batches=2)
    unmoved(net)


@row("Lightning", REFUSED, precision="bf16-mixed", clipping="norm")
def test_clipping_in_mixed_precision_is_refused_by_lightning() -> None:
    train = example("lightning_trainer", "lightning").train
    net = plain.network()
    with pytest.raises(RuntimeError, match="KFQN, does not allow for gradient clipping"):
        train(net, plain.batches(), precision="bf16-mixed", gradient_clip_val=0.05)
    unmoved(net)


def manual_lightning(net: nn.Module, *, wrapped: bool) -> None:
    """Train by Lightning's manual optimization, by its wrapper of the optimizer or without."""
    lightning = pytest.importorskip("lightning", reason="the extra `trainers` is not installed")

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net
            self.automatic_optimization = False

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> None:
            opt = self.optimizers(use_pl_optimizer=wrapped)
            opt.zero_grad()
            self.manual_backward(F.cross_entropy(self.net(batch[0]), batch[1]))
            opt.step()

        def configure_optimizers(self) -> KFQN:
            return KFQN(self.net, "kfqn_input", lr=0.1)

    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(Module(), DataLoader(plain.batches(), batch_size=None))  # type: ignore[arg-type]  # a list is a data set


@row("Lightning, manual, use_pl_optimizer=False", EXACT, closure="none, kfqn_input")
def test_manual_optimization_by_lightning() -> None:
    net = plain.network()
    manual_lightning(net, wrapped=False)
    wanted, _ = plain.loop(**INPUT)
    assert all(torch.equal(a, b) for a, b in zip(plain.weights(net), wanted, strict=True))


@row("Lightning, manual", REFUSED, closure="none, kfqn_input")
def test_a_closure_of_lightning_that_does_nothing_is_refused() -> None:
    net = plain.network()
    with pytest.raises(ValueError, match="must return the loss, got NoneType"):
        manual_lightning(net, wrapped=True)
    unmoved(net)


# ------------------------------------------------------------------------------------ Accelerate


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process."""
    state = pytest.importorskip("accelerate.state", reason="the extra `trainers` is not installed")
    state.AcceleratorState._reset_state(reset_partial_state=True)
    state.GradientState._reset_state()
    yield
    state.AcceleratorState._reset_state(reset_partial_state=True)
    state.GradientState._reset_state()
    gc.collect()


@row("Accelerate", EXACT)
@row("Accelerate", EXACT, precision="bf16")
@row("Accelerate", EXACT, clipping="norm")
@row("Accelerate", EXACT, accumulation="in the closure")
@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("options", "conditions"),
    [
        ({}, {}),
        ({"mixed_precision": "bf16"}, {"bfloat16": True}),
        ({"clip": 0.05}, {"clip": 0.05}),
        ({"parts": 2}, {"parts": 2}),
    ],
)
def test_accelerate(options: dict[str, Any], conditions: dict[str, Any]) -> None:
    net = plain.network()
    losses = example("accelerate_loop", "accelerate").train(net, plain.batches(), **options)
    same(net, losses, **conditions)


@row("Accelerate", REFUSED, accumulation="the trainer's")
@pytest.mark.usefixtures("_fresh")
def test_accumulation_by_accelerate_is_refused() -> None:
    train = example("accelerate_loop", "accelerate").train
    net = plain.network()
    with pytest.raises(ValueError, match="gradient_accumulation_steps must be 1"):
        train(net, plain.batches(), gradient_accumulation_steps=2)
    unmoved(net)


# ---------------------------------------------------------------------------------------- skorch


@row("skorch", EXACT)
def test_skorch() -> None:
    net = plain.network()
    losses = example("skorch_net", "skorch").train(net, plain.batches())
    same(net, losses)


@row("skorch", REFUSED, closure="the trainer's; optimizer=KFQN, from a list of parameters")
def test_skorch_with_a_list_of_parameters_is_refused() -> None:
    skorch = pytest.importorskip("skorch", reason="the extra `trainers` is not installed")
    classifier = skorch.NeuralNetClassifier(plain.network(), optimizer=KFQN, verbose=0)
    with pytest.raises(TypeError, match=r"call KFQN\(model, lr=...\)"):
        classifier.initialize()


# --------------------------------------------------------------------------- transformers.Trainer


WITHOUT_CLOSURE: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({}, INPUT),
    ({"bf16": True}, {**INPUT, "bfloat16": True}),
    ({"max_grad_norm": 0.05}, {**INPUT, "clip": 0.05}),
    ({"gradient_accumulation_steps": 2}, {**INPUT, "parts": 2}),
]


@row("transformers.Trainer", EXACT, closure="none, kfqn_input")
@row("transformers.Trainer", EXACT, closure="none, kfqn_input", precision="bf16")
@row("transformers.Trainer", EXACT, closure="none, kfqn_input", clipping="norm")
@row("transformers.Trainer", EXACT, closure="none, kfqn_input", accumulation="the trainer's")
@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(("options", "conditions"), WITHOUT_CLOSURE)
def test_transformers(options: dict[str, Any], conditions: dict[str, Any]) -> None:
    train = example("transformers_trainer", "transformers").train
    net = plain.network()
    if "parts" in conditions:
        losses = plain.means_of_two(train(net, plain.halved(plain.batches()), **options))
    else:
        losses = train(net, plain.batches(), **options)
    same(net, losses, **conditions)


@row("transformers.Trainer", REFUSED, closure="none")
@pytest.mark.usefixtures("_fresh")
def test_a_trainer_without_a_closure_is_refused() -> None:
    train = example("transformers_trainer", "transformers").train
    net = plain.network()
    with pytest.raises(
        TypeError, match="step needs a closure.* presets 'kfqn_input' and 'kfqn_muon' always"
    ):
        train(net, plain.batches(), preset="kfqn_cnn")
    unmoved(net)


@row("Accelerate", EXACT, closure="none, kfqn_input")
@row("Accelerate", EXACT, closure="none, kfqn_input", precision="bf16")
@row("Accelerate", EXACT, closure="none, kfqn_input", clipping="norm")
@row("Accelerate", EXACT, closure="none, kfqn_input", accumulation="the trainer's")
@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize(
    ("options", "conditions"),
    [
        ({}, INPUT),
        ({"mixed_precision": "bf16"}, {**INPUT, "bfloat16": True}),
        ({"clip": 0.05}, {**INPUT, "clip": 0.05}),
        ({"gradient_accumulation_steps": 2}, {**INPUT, "parts": 2}),
    ],
)
def test_accelerate_without_a_closure(options: dict[str, Any], conditions: dict[str, Any]) -> None:
    train = example("accelerate_loop", "accelerate").train_without_closure
    net = plain.network()
    loop = plain.loop(**conditions)  # before Accelerate is told to accumulate
    if "parts" in conditions:
        losses = plain.means_of_two(train(net, plain.halved(plain.batches()), **options))
    else:
        losses = train(net, plain.batches(), **options)
    equal_to(loop, net, losses)


# ------------------------------------------------------------------------------------------ ranks


@row("Lightning, strategy ddp", EXACT, precision="64-true", ranks=2)
@row("Accelerate, torchrun", EXACT, precision="64", ranks=2)
@row("transformers.Trainer, torchrun", EXACT, precision="64", ranks=2, closure="none, kfqn_input")
@pytest.mark.parametrize(
    ("library", "conditions"), [("lightning", {}), ("accelerate", {}), ("transformers", INPUT)]
)
def test_two_ranks_equal_the_plain_loop_on_the_whole_batch(
    library: str, conditions: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip(library, reason="the extra `trainers` is not installed")
    script = Path(__file__).with_name("ranks.py")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*launch, str(script), library, str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted, _ = plain.loop(dtype=torch.float64, **conditions)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for a, b in zip(found, wanted, strict=True):
            assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)


def test_the_table_is_what_the_tests_say() -> None:
    rows = sorted(plain.TABLE, key=lambda each: tuple(map(str, each.values())))
    if os.environ.get("KFQN_WRITE_PATTERNS"):
        plain.write(rows)
    assert plain.stored() == rows
