"""Who races: every entrant with the six points that its grid begins with, and how one of its
steps is done.

Six points for everyone: an entrant with one hyper-parameter gets six values of it, one with two
gets 3 x 2; how a grid grows is in ``grid``. What is not in it keeps its library's default, except
where ``note`` says so.
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
from kfqn_ref.experiments.race.inputs import InputFactors, hidden_weights
from kfqn_ref.experiments.race.kfac import KFAC
from kfqn_ref.experiments.race.tasks import Task
from kfqn_ref.optim import KFQN

Hyper = Mapping[str, Any]
Stepper = Callable[[Tensor, Tensor], float]
Start = Callable[[Task, nn.Module, Hyper, int], Stepper]
GRID_SIZE = 6
LIBRARY = ("pytorch_optimizer",)
WITH_EINSUM = ("pytorch_optimizer", "opt_einsum")


@dataclass(frozen=True)
class Entrant:
    """An optimizer that races.

    Args:
        name: how it is asked for.   label: what the reports call it.
        start: makes the stepper of a run.   grid: the hyper-parameters that are tried first, six.
        summed: the six where the loss is a sum over pixels, with its longer gradients; empty is the
            grid.
        ours: it is a form of this project's method.   note: what else the reader must know.
        tasks: the only tasks it is sent to; empty is all.   needs: the packages it comes from.
    """

    name: str
    label: str
    start: Start
    grid: Sequence[Hyper]
    summed: Sequence[Hyper] = ()
    ours: bool = False
    note: str = ""
    tasks: tuple[str, ...] = ()
    needs: tuple[str, ...] = ("torch",)

    def __post_init__(self) -> None:
        for grid in (self.grid, self.summed or self.grid):
            if len(grid) != GRID_SIZE:
                raise ValueError(
                    f"a grid must have {GRID_SIZE} points, got {len(grid)} for {self.name}"
                )

    @property
    def installed(self) -> bool:
        """Whether its packages can be imported."""
        return all(find_spec(name) is not None for name in self.needs)

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
            warnings.filterwarnings("ignore", message="covered:")
            opt = KFQN(model, preset, **fixed, **hyper)
        return stepper(task, model, opt)

    return start


def kfac(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of this project's KFAC, every 10 iterations, targets drawn from the model."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="covered:")
        opt = KFAC(model, curvature_interval=10, **hyper)
    generator = torch.Generator().manual_seed(seed)

    def step(x: Tensor, y: Tensor) -> float:
        def closure(draw: bool) -> tuple[Tensor, Tensor | None]:
            outputs = model(x)
            drawn = task.loss(outputs, task.draw(outputs.detach(), generator)) if draw else None
            return task.loss(outputs, y), drawn

        return float(opt.step(closure))

    return step


def muon(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of Muon for the hidden weights, a kernel being a matrix, and AdamW for the
    rest.
    """
    return _muon(task, model, hyper, hidden_weights(model))


def newton_muon(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of Newton-Muon: Muon on gradients times ``(A + λI)⁻¹``, every 10 steps.

    Source: du2026newtonmuon; λ is here a fraction of the mean eigenvalue of ``A``.
    """
    hidden = hidden_weights(model)
    inputs = InputFactors(model, hidden, damping=hyper["damping"], interval=10)
    return _muon(task, model, hyper, hidden, inputs)


def _muon(
    task: Task,
    model: nn.Module,
    hyper: Hyper,
    hidden: Sequence[nn.Parameter],
    inputs: InputFactors | None = None,
) -> Stepper:
    matrices = [nn.Parameter(p.detach().flatten(1)) for p in hidden]  # they share their memory
    rest = [p for p in model.parameters() if all(p is not other for other in hidden)]
    opt = torch.optim.Muon(matrices, lr=hyper["lr"], weight_decay=0.0)
    adamw = torch.optim.AdamW(rest, lr=hyper.get("adamw_lr", 3e-3))

    def step(x: Tensor, y: Tensor) -> float:
        model.zero_grad()
        loss = task.loss(model(x), y)
        loss.backward()
        for matrix, p in zip(matrices, hidden, strict=True):
            assert p.grad is not None, "every hidden weight is used"
            matrix.grad = p.grad.flatten(1)
            if inputs:
                matrix.grad = matrix.grad @ inputs.inverse(p)
        opt.step()
        adamw.step()
        return float(loss.detach())

    return step


def adahessian(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
    """Return the step of the library's AdaHessian, which differentiates the gradient."""
    needs("peers", "AdaHessian", "pytorch_optimizer")
    opt = import_module("pytorch_optimizer").AdaHessian(model.parameters(), **hyper)

    def step(x: Tensor, y: Tensor) -> float:
        model.zero_grad()
        loss = task.loss(model(x), y)
        with warnings.catch_warnings():  # torch's on a cycle of references; zero_grad breaks it
            warnings.filterwarnings("ignore", message="Using backward.. with create_graph")
            loss.backward(create_graph=True)
        opt.step()
        return float(loss.detach())

    return step


def of_library(name: str, modules: Sequence[str] = LIBRARY, **fixed: Any) -> Start:
    """Return the start of an optimizer of pytorch-optimizer; ``modules`` must be there."""

    def start(task: Task, model: nn.Module, hyper: Hyper, seed: int) -> Stepper:
        needs("peers", name, *modules)
        kind = getattr(import_module("pytorch_optimizer"), name)
        return stepper(task, model, kind(model.parameters(), **fixed, **hyper))

    return start


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
SUMMED = ladder(3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
SOAP_LADDER = ladder(1e-3, 3e-3, 6e-3, 1e-2, 2e-2, 4e-2)
ADAM_LADDER = ladder(3e-4, 1e-3, 3e-3, 6e-3, 1e-2, 3e-2)
OURS: dict[str, Any] = {
    "grid": product(lr=(0.1, 0.3, 1.0), damping=(0.01, 0.1)),
    "summed": product(lr=(0.03, 0.1, 0.3), damping=(0.1, 1.0)),
    "ours": True,
}
OURS_EAGER: dict[str, Any] = {**OURS, "note": "timed on steps 10 to 50, a quarter of them eager"}
OURS_ADAM: dict[str, Any] = {
    "grid": product(lr=(5e-3, 1e-2, 2e-2), damping=(0.03, 0.3)),
    "summed": product(lr=(1e-3, 2e-3, 4e-3), damping=(0.1, 0.3)),
    "ours": True,
    "note": "form and grid were chosen on the tuning seed of all tasks, and on the small CNN with "
    "seeds 0 and 1",
}
MLP_ONLY = ("autoencoder",)

ENTRANTS: dict[str, Entrant] = {
    entrant.name: entrant
    for entrant in (
        Entrant("sgd", "SGD, momentum 0.9", plain(torch.optim.SGD, momentum=0.9), LADDER,
                summed=SUMMED),
        Entrant("adam", "Adam", plain(torch.optim.Adam), ADAM_LADDER),
        Entrant("nesterov", "SGD, Nesterov's momentum 0.9",
                plain(torch.optim.SGD, momentum=0.9, nesterov=True), LADDER, summed=SUMMED),
        Entrant("adamw", "AdamW", plain(torch.optim.AdamW), ADAM_LADDER),
        Entrant("muon", "Muon + AdamW", muon, product(lr=(3e-3, 1e-2, 3e-2), adamw_lr=(3e-3, 1e-2)),
                note="Muon for hidden weights, kernels as matrices; AdamW for first, last, biases "
                "and norms"),
        Entrant("newton_muon", "Newton-Muon (ours in torch) + AdamW", newton_muon,
                product(lr=(3e-3, 1e-2, 3e-2), damping=(0.03, 0.3)),
                note="as Muon, on gradients times the inverse of the inputs' second moment, "
                "renewed every 10 steps; AdamW's step size is 0.003"),
        Entrant("shampoo", "Shampoo",
                of_library("ScalableShampoo", start_preconditioning_step=10,
                           preconditioning_compute_steps=10, block_size=256),
                ladder(1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3), summed=SUMMED,
                note="roots every 10 steps, blocks of 256", needs=LIBRARY),
        Entrant("soap", "SOAP", of_library("SOAP", weight_decay=0.0), SOAP_LADDER,
                note="eigenvectors every 10 steps (its default), no weight decay",
                needs=LIBRARY),
        Entrant("soap_1", "SOAP, every step",
                of_library("SOAP", weight_decay=0.0, precondition_frequency=1), SOAP_LADDER,
                note="no weight decay", needs=LIBRARY),
        Entrant("kron", "PSGD, Kron", of_library("Kron", WITH_EINSUM),
                ladder(3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1),
                note="with opt_einsum, without which its products take memory by the square",
                needs=WITH_EINSUM),
        Entrant("adahessian", "AdaHessian", adahessian, ladder(3e-3, 1e-2, 3e-2, 0.1, 0.2, 0.3),
                needs=LIBRARY),
        Entrant("kfac", "KFAC (ours in torch)", kfac,
                product(lr=(3e-3, 1e-2, 3e-2), damping=(3e-3, 3e-2)),
                summed=product(lr=(0.03, 0.1), damping=(0.03, 0.1, 0.3)),
                note="inverses every 10 steps"),
        Entrant("asdl_kfac", "KFAC of ASDL", asdl("KfacGradientMaker"),
                product(lr=(3e-4, 1e-3, 3e-3), damping=(1e-3, 1e-2)), needs=("asdl",),
                tasks=("cnn",), note="every 10 steps"),
        Entrant("asdl_kbfgs", "K-BFGS of ASDL",
                asdl("KronBfgsGradientMaker", minibatch_hessian_action=True),
                product(lr=(3e-3, 1e-2, 3e-2), damping=(0.03, 0.3)), needs=("asdl",),
                tasks=("cnn",), note="every 10 steps; its update does not change H (see the book)"),
        Entrant("kbfgs_2020", "K-BFGS", kfqn("kbfgs_2020"), **OURS, tasks=MLP_ONLY),
        Entrant("kbfgs_l_2020", "K-BFGS(L)", kfqn("kbfgs_l_2020"), **OURS, tasks=MLP_ONLY),
        Entrant("kfqn_cnn", "KF-BFGS-CNN", kfqn("kfqn_cnn"), **OURS),
        Entrant("kfqn_cnn_10", "KF-BFGS-CNN, interval 10",
                kfqn("kfqn_cnn", curvature_interval=10), **OURS),
        Entrant("kfqn_input", "input side only", kfqn("kfqn_input"), **OURS),
        Entrant("kfqn_input_10", "input side only, interval 10",
                kfqn("kfqn_input", curvature_interval=10), **OURS),
        Entrant("kfqn_eager", "KF-BFGS-CNN, eager 20 steps, then interval 10", kfqn("kfqn_eager"),
                **OURS_EAGER),
        Entrant("kfqn_adam", "KF-BFGS-CNN, Adam's scaling, interval 10", kfqn("kfqn_adam"),
                **OURS_ADAM),
        Entrant("kfqn_cnn_l", "KF-BFGS(L)-CNN", kfqn("kfqn_cnn_l"), **OURS,
                tasks=("cnn", "autoencoder")),
        Entrant("kfqn_lean", "KF-BFGS(L)-CNN, lean, interval 10",
                kfqn("kfqn_cnn_l", input_inverse="lbfgs", memory=20, curvature_interval=10),
                **OURS),
        Entrant("kbfgs_2022", "K-BFGS 2022, interval 10", kfqn("kbfgs_2022"), **OURS),
    )
}  # fmt: skip  # a table
