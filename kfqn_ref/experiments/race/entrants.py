"""Who races: every entrant with its grid of six, and how one of its steps is done.

Six points of a grid for everyone: an entrant with one hyper-parameter gets six values of it, one
with two gets 3 x 2. What is not in the grid keeps its library's default, except where ``note`` says
so.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kfqn_ref._extras import needs
from kfqn_ref.experiments.race.kfac import KFAC
from kfqn_ref.experiments.race.tasks import Task
from kfqn_ref.optim import KFQN

Hyper = Mapping[str, Any]
Stepper = Callable[[Tensor, Tensor], float]
Start = Callable[[Task, nn.Module, Hyper, int], Stepper]
GRID_SIZE = 6


@dataclass(frozen=True)
class Entrant:
    """An optimizer that races.

    Args:
        name: how it is asked for.   label: what the reports call it.
        start: makes the stepper of a run.   grid: the hyper-parameters that are tried, six of them.
        summed: the six where the loss is a sum over pixels, with its longer gradients; empty is the
            grid.
        ours: it is a form of this project's method.   note: what else the reader must know.
        tasks: the only tasks it is sent to; empty is all.   needs: the package it comes from.
    """

    name: str
    label: str
    start: Start
    grid: Sequence[Hyper]
    summed: Sequence[Hyper] = ()
    ours: bool = False
    note: str = ""
    tasks: tuple[str, ...] = ()
    needs: str = "torch"

    def __post_init__(self) -> None:
        for grid in (self.grid, self.summed or self.grid):
            if len(grid) != GRID_SIZE:
                raise ValueError(
                    f"a grid must have {GRID_SIZE} points, got {len(grid)} for {self.name}"
                )

    @property
    def installed(self) -> bool:
        """Whether its package can be imported."""
        return find_spec(self.needs) is not None

    def runs(self, task: Task) -> bool:
        """Whether it can run the task."""
        return self.installed and (not self.tasks or task.name in self.tasks)

    def grid_for(self, task: Task) -> list[dict[str, Any]]:
        """Return the grid for the task's kind of loss."""
        return [dict(hyper) for hyper in (task.autoencoder and self.summed) or self.grid]


def product(**axes: Sequence[Any]) -> list[dict[str, Any]]:
    """Return every combination of the values."""
    points: list[dict[str, Any]] = [{}]
    for name, values in axes.items():
        points = [{**point, name: value} for point in points for value in values]
    return points


def ladder(*values: float) -> list[dict[str, Any]]:
    """Return the grid of some step sizes."""
    return [{"lr": lr} for lr in values]


def stepper(task: Task, model: nn.Module, *optimizers: Any) -> Stepper:
    """Return the step of optimizers that take a closure; the first of them gets it, the others just
    step.
    """

    def step(x: Tensor, y: Tensor) -> float:
        def closure() -> Tensor:
            model.zero_grad()
            loss = task.loss(model(x), y)
            loss.backward()
            return loss

        loss = optimizers[0].step(closure)
        for other in optimizers[1:]:
            other.step()
        return float(loss.detach())

    return step


def plain(kind: Callable[..., Any], **fixed: Any) -> Start:
    """Return the start of an optimizer ``kind(parameters, ...)``."""

    def start(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
        return stepper(task, model, kind(model.parameters(), **fixed, **hyper))

    return start


def kfqn(preset: str, **fixed: Any) -> Start:
    """Return the start of a preset of this project."""

    def start(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="these parameters take")
            opt = KFQN(model, preset, **fixed, **hyper)
        return stepper(task, model, opt)

    return start


def kfac(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of this project's KFAC, every 10 iterations, targets drawn from the model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="these parameters take")
        opt = KFAC(model, curvature_interval=10, **hyper)
    generator = torch.Generator().manual_seed(seed)

    def step(x: Tensor, y: Tensor) -> float:
        def closure(draw: bool) -> tuple[Tensor, Tensor | None]:
            outputs = model(x)
            drawn = task.loss(outputs, task.draw(outputs.detach(), generator)) if draw else None
            return task.loss(outputs, y), drawn

        return float(opt.step(closure))

    return step


def lbfgs(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of torch's L-BFGS: 4 iterations and at most 8 passes on every mini-batch."""
    options = {"max_iter": 4, "max_eval": 8, "history_size": 10, "line_search_fn": "strong_wolfe"}
    return stepper(task, model, torch.optim.LBFGS(model.parameters(), **options, **hyper))


def muon(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of Muon for the hidden matrices and AdamW for everything else."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    rest = [p for p in model.parameters() if p.ndim != 2]
    adamw = torch.optim.AdamW(rest, lr=hyper["adamw_lr"])
    return stepper(task, model, torch.optim.Muon(matrices, lr=hyper["lr"]), adamw)


def shampoo(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of the library's blocked Shampoo."""
    needs("peers", "the library's Shampoo", "pytorch_optimizer")
    opt = import_module("pytorch_optimizer").ScalableShampoo(
        model.parameters(), start_preconditioning_step=10, preconditioning_compute_steps=10,
        block_size=256, **hyper,
    )  # fmt: skip  # one call
    return stepper(task, model, opt)


def soap(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of the library's SOAP, eigenvectors every 10 steps (its default)."""
    needs("peers", "SOAP", "pytorch_optimizer")
    SOAP = import_module("pytorch_optimizer").SOAP
    return stepper(task, model, SOAP(model.parameters(), weight_decay=0.0, **hyper))


def asdl(maker: str, **options: Any) -> Start:
    """Return the start of one of ASDL's gradient makers with SGD, momentum 0.9, behind it."""

    def start(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
        needs("peers", f"ASDL's {maker}", "asdl")
        precondition = import_module("asdl.precondition")
        if not torch.cuda.is_available():  # its marks for CUDA's profiler fail without CUDA
            torch.cuda.nvtx.range_push = torch.cuda.nvtx.range_pop = lambda *_: 0
        config = precondition.PreconditioningConfig(
            data_size=task.batch,
            damping=hyper["damping"],
            preconditioner_upd_interval=10,
            ema_decay=0.1,
        )
        opt = torch.optim.SGD(model.parameters(), lr=hyper["lr"], momentum=0.9)
        gradients = getattr(precondition, maker)(model, config, **options)

        def step(x: Tensor, y: Tensor) -> float:
            model.zero_grad()
            gradients.setup_loss_call(F.cross_entropy, gradients.setup_model_call(model, x), y)
            try:
                _, loss = gradients.forward_and_backward()
            except ValueError:  # it draws targets from a distribution of NaN: the run has diverged
                return math.nan
            opt.step()
            return float(loss.detach())

        return step

    return start


LADDER = ladder(3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0)
ADAM_LADDER = ladder(3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 3e-2)
KFQN_GRID = [
    {"lr": lr, "damping": damping, "momentum": 0.8}
    for lr, damping in (
        (0.1, 1e-3),
        (0.3, 1e-3),
        (0.3, 3e-3),
        (0.3, 1e-2),
        (1.0, 1e-2),
        (1.0, 3e-2),
    )
]
KFQN_SUMMED = [
    {"lr": lr, "damping": damping, "momentum": 0.9}
    for lr, damping in ((0.3, 0.9), (0.3, 0.3), (0.1, 0.9), (0.1, 0.3), (0.03, 0.1), (0.03, 0.03))
]
NOTE = (
    "momentum 0.8 but for the autoencoder, chosen on one seed of the small CNN, 120 steps; "
    "the grid follows the map of good step sizes of the ablations"
)
OURS: dict[str, Any] = {"grid": KFQN_GRID, "summed": KFQN_SUMMED, "ours": True, "note": NOTE}
OURS_EAGER: dict[str, Any] = {
    **OURS,
    "note": f"{NOTE}; timed on steps 10 to 50, a quarter of them eager",
}
OURS_ADAM: dict[str, Any] = {
    "grid": product(lr=(5e-3, 1e-2, 2e-2), damping=(0.03, 0.3)),
    "summed": product(lr=(1e-3, 2e-3, 4e-3), damping=(0.1, 0.3)),
    "ours": True,
    "note": "form and grid chosen on the tuning seed of all tasks, and on the small CNN with "
    "seeds 0 and 1; interval 3 on the tuning seed of the autoencoder",
}
MLP_ONLY = ("autoencoder",)

ENTRANTS: dict[str, Entrant] = {
    entrant.name: entrant
    for entrant in (
        Entrant("sgd", "SGD, momentum 0.9", plain(torch.optim.SGD, momentum=0.9), LADDER,
                summed=ladder(3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)),
        Entrant("adam", "Adam", plain(torch.optim.Adam), ADAM_LADDER),
        Entrant("adamw", "AdamW", plain(torch.optim.AdamW), ADAM_LADDER, tasks=("cnn",)),
        Entrant("muon", "Muon + AdamW", muon, product(lr=(3e-3, 1e-2, 3e-2), adamw_lr=(3e-3, 1e-2)),
                note="torch's Muon takes matrices only; convolution kernels, biases and norms "
                "go to AdamW",
                tasks=("cnn", "autoencoder")),
        Entrant("lbfgs", "L-BFGS, 4 iterations a step", lbfgs, LADDER, tasks=MLP_ONLY,
                note="strong Wolfe search; a step is up to 8 passes on one mini-batch"),
        Entrant("shampoo", "Shampoo", shampoo, ladder(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3),
                summed=ladder(3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2),
                note="roots every 10 steps, blocks of 256", needs="pytorch_optimizer"),
        Entrant("soap", "SOAP", soap, ladder(1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2),
                note="no weight decay", needs="pytorch_optimizer"),
        Entrant("kfac", "KFAC (ours in torch)", kfac,
                product(lr=(3e-3, 1e-2, 3e-2), damping=(3e-3, 3e-2)),
                summed=product(lr=(0.03, 0.1), damping=(0.03, 0.1, 0.3)),
                note="inverses every 10 steps"),
        Entrant("asdl_kfac", "KFAC of ASDL", asdl("KfacGradientMaker"),
                product(lr=(3e-4, 1e-3, 3e-3), damping=(1e-3, 1e-2)), needs="asdl", tasks=("cnn",),
                note="every 10 steps"),
        Entrant("asdl_kbfgs", "K-BFGS of ASDL",
                asdl("KronBfgsGradientMaker", minibatch_hessian_action=True),
                product(lr=(3e-3, 1e-2, 3e-2), damping=(0.03, 0.3)), needs="asdl", tasks=("cnn",),
                note="every 10 steps; its update does not change H (see the book)"),
        Entrant("kbfgs_2020", "K-BFGS", kfqn("kbfgs_2020"), **OURS, tasks=MLP_ONLY),
        Entrant("kbfgs_l_2020", "K-BFGS(L)", kfqn("kbfgs_l_2020"), **OURS, tasks=MLP_ONLY),
        Entrant("kfqn_cnn", "KF-BFGS-CNN", kfqn("kfqn_cnn"), **OURS),
        Entrant("kfqn_cnn_10", "KF-BFGS-CNN, interval 10",
                kfqn("kfqn_cnn", curvature_interval=10), **OURS),
        Entrant("kfqn_eager", "KF-BFGS-CNN, eager 20 steps, then interval 10", kfqn("kfqn_eager"),
                **OURS_EAGER),
        Entrant("kfqn_adam", "KF-BFGS-CNN, Adam's scaling, interval 10", kfqn("kfqn_adam"),
                **OURS_ADAM),
        Entrant("kfqn_adam_3", "KF-BFGS-CNN, Adam's scaling, interval 3",
                kfqn("kfqn_adam", curvature_interval=3), **OURS_ADAM),
        Entrant("kfqn_cnn_l", "KF-BFGS(L)-CNN", kfqn("kfqn_cnn_l"), **OURS,
                tasks=("cnn", "autoencoder")),
        Entrant("kfqn_lean", "KF-BFGS(L)-CNN, lean, interval 10",
                kfqn("kfqn_cnn_l", input_inverse="lbfgs", memory=20, curvature_interval=10),
                **OURS),
        Entrant("kbfgs_2022", "K-BFGS 2022, interval 10", kfqn("kbfgs_2022"), **OURS),
    )
}  # fmt: skip  # a table
