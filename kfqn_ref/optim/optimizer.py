"""The optimizer: options, errors, checkpoints. An iteration has its own module; here is no
formula.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from kfqn_ref.optim import checkpoint, diagnostics
from kfqn_ref.optim.coverage import (
    covered_layers,
    plain_arithmetic,
    refuse_large_factors,
    set_sample_axes,
    survey,
    table,
    warn_of_others,
)
from kfqn_ref.optim.diagnostics import Curvature, curvature_of
from kfqn_ref.optim.distributed import Reducer, without_wrapper
from kfqn_ref.optim.guards import (
    OWNERS,
    Room,
    Snapshot,
    refuse_changed_damping,
    refuse_changed_layers,
    refuse_new_parameters,
    refuse_skipped_closures,
)
from kfqn_ref.optim.iteration import Core, Iteration, Scaled, start, updates_curvature
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.options import (
    OPTIONS,
    Method,
    check_compile,
    check_group,
    check_groups,
    check_values,
    complete_groups,
    factor_bytes,
    other_group,
    plain_parameters,
    refuse_betas,
    refuse_group,
    refuse_keys,
)
from kfqn_ref.optim.ownership import Ownership
from kfqn_ref.optim.presets import PRESETS
from kfqn_ref.optim.rows import Rows
from kfqn_ref.optim.sharded import reshard_, resharding, sharded_states
from kfqn_ref.optim.standing import Standing
from kfqn_ref.optim.update import Seen, update_
from kfqn_ref.optim.warm_start import mean_factors

Loss = TypeVar("Loss")  # what the closure returns; torch's own signature says float
_numbers = itertools.count()


class KFQN(torch.optim.Optimizer):
    r"""Kronecker-factored quasi-Newton training of linear and convolution layers.

    A layer's weights, as a matrix ``W`` with the bias as its last column, move along
    :math:`H_g M H_a`, where ``M`` is the moving average of the gradient and the two factors are
    BFGS or L-BFGS estimates of damped inverse Kronecker factors of the Hessian. All other
    parameters take AdamW's step with ``other_lr`` (with ``convergent`` the momentum step), and so
    does a covered layer before its first curvature update. :meth:`describe` lists what is covered.

    ``loss = opt.step(closure)``; the closure clears the gradients, runs the model on one
    mini-batch, calls ``backward`` and returns the loss. Every ``curvature_interval`` iterations it
    is called a second time, at the new weights, with the same random state and frozen weights: it
    must use the same mini-batch, and there the gradients are ``None``. A preset without that second
    pass (``kfqn_input``, ``kfqn_muon``) needs no closure: ``loss.backward(); opt.step()``.

    Args:
        model: the model; its modules whose forward pass is that of Linear, Conv or ConvTranspose
            (1d, 2d, 3d) or of a kind given to ``register_layer`` are covered.
            Wrapped in DistributedDataParallel or given to ``fully_shard`` (FSDP2) before, the ranks
            must have equally many samples each.
        preset: ``kbfgs_2020``, ``kbfgs_l_2020`` (linear layers only), ``kfqn_cnn``, ``kfqn_cnn_l``,
            ``kfqn_input`` (ours: the input side alone, without a second pass),
            ``kfqn_muon`` (ours: the same, then Muon's orthogonal step),
            ``kfqn_eager`` (ours: eager at the first 20 iterations), ``kfqn_adam`` (ours: Adam on
            ``H_g ∇f H_a``), ``kbfgs_2022``, ``convergent``
            (the one with a theorem).
        lr, damping: step size, not negative; λ = λ_A λ_G, positive; ``None`` is the preset's.
        momentum: decay of the gradient's moving average, in [0, 1); ``None`` is the preset's.
        weight_decay: factor of the L2 term, not negative; it enters the step, never a pair.
        pair_decay: decay of the averaged output pair, in [0, 1).
        mu1: threshold of Powell's damping, in (0, 1).
        memory: pairs that L-BFGS keeps, at least 1.
        curvature_interval: iterations from one curvature update to the next; ``None`` is the
            preset's.
        loss_reduction: ``"mean"`` or ``"sum"``: how the closure's loss reduces its samples.
        input_inverse: ``"dense"``, or ``"lbfgs"``, the lean form: ``H_a`` as the last ``memory``
            pairs.
        lean_above: layers with more than this many inputs ``d_a`` take the lean form; the others
            stay dense.
        decoupled: take weight decay out of the gradient: ``W ← (1 − lr · weight_decay) W − lr P``.
        exclude: names of modules whose parameters are to be among those others.
        groups: dictionaries with ``params`` and any of lr, damping, momentum, weight_decay,
            decoupled, step_decay, other_lr, other_betas, other_weight_decay; all other parameters
            of the model form last groups with the values given here. A group with covered
            parameters and others becomes two, the second with ``other_lr`` as its ``lr``.
        step_decay: b of the step sizes ``lr (k + 1)^(−b)``; ``None`` is the preset's.
        gamma: ``H_g`` starts as ``gamma I``; positive.
        factor_ownership: under DistributedDataParallel each layer's state lives on one rank, which
            hands its direction to the others; not for the presets of 2020. Under FSDP2 it is always
            so. ``state_dict`` is then
            for all ranks to call, and whole on rank 0; ``curvature`` and ``diagnostics`` show the
            layers of the rank.
        compile: fuse the updates of the factors by ``torch.compile``, which takes its time at the
            first one.
        other_lr, other_betas, other_weight_decay: step size, decays of both moments and weight
            decay of AdamW's step for parameters that no layer covers; those with one axis (biases,
            norms) do not decay.
        max_factor_bytes: memory that all factors together may take; ``None`` is a quarter of the
            device's.
        sample_axis: names of modules, with the axis of the samples in the inputs of the linear
            layers inside: ``{"encoder": 1}`` where these are ``(T, N, d)``. It is 0 for all others,
            but 1 in torch's Transformer layers that have ``batch_first=False``.

    Attributes:
        model, method: the model without wrappers, and its preset with hyper-parameters.
        layers: the covered layers.   started: those that have factors.
        in_second_pass: whether the closure is running for the second time in this step.

    Raises:
        TypeError: ``model`` is not a module.
        ValueError: a value is outside its range, no layer is covered, a covered weight is shared,
            the preset refuses a layer, weight and bias of a layer are in different groups, a group
            has an unknown key, or ``compile`` finds no compiler, or a folder with a space.

    Source: ren2021kfqn, goldfarb2020kbfgs, ren2022kfqn.
    """

    def __init__(
        self,
        model: nn.Module,
        preset: str = "kfqn_cnn",
        *,
        lr: float | None = None,
        damping: float | None = None,
        momentum: float | None = None,
        weight_decay: float = 0.0,
        pair_decay: float = 0.9,
        mu1: float = 0.2,
        memory: int = 100,
        curvature_interval: int | None = None,
        loss_reduction: str = "mean",
        input_inverse: str = "dense",
        lean_above: int = 0,
        decoupled: bool = False,
        exclude: Collection[str] = (),
        groups: Iterable[dict[str, Any]] = (),
        step_decay: float | None = None,
        gamma: float = 1.0,
        factor_ownership: bool = False,
        compile: bool = False,
        other_lr: float = 1e-3,
        other_betas: tuple[float, float] = (0.9, 0.999),
        other_weight_decay: float = 0.01,
        max_factor_bytes: int | None = None,
        sample_axis: Mapping[str, int] | None = None,
    ) -> None:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"model must be a torch.nn.Module, got {type(model).__name__}: "
                f"call KFQN(model, lr=...), not KFQN(model.parameters())"
            )
        if preset not in PRESETS:
            raise ValueError(f"preset must be one of {sorted(PRESETS)}, got {preset!r}")
        chosen = PRESETS[preset]
        interval = chosen.curvature_interval if curvature_interval is None else curvature_interval
        self.method: Method = Method(
            chosen,
            pair_decay,
            mu1,
            memory,
            interval,
            loss_reduction,
            input_inverse,
            gamma,
            lean_above,
        )
        refuse_betas(other_betas)
        self._reducer = Reducer(model)
        self.model: nn.Module = without_wrapper(model)
        self._found = survey(self.model, exclude)
        self.layers: list[Layer] = covered_layers(self._found, self.model, chosen)
        set_sample_axes(self.model, self.layers, sample_axis or {})
        self._factor_bytes = {layer: factor_bytes(layer, self.method) for layer in self.layers}
        refuse_large_factors(self._factor_bytes, max_factor_bytes)
        self._ownership = Ownership(self._reducer, self.layers, factor_ownership, chosen)
        check_compile(compile, self.layers[0].weight.device)
        self._compile = compile
        self._update_ = updating(compile)
        self.started: set[Layer] = set()
        given = {"lr": lr, "damping": damping, "momentum": momentum, "step_decay": step_decay}
        own = {key: getattr(chosen, key) for key, value in given.items() if value is None}
        defaults = {
            **given,
            **own,
            "weight_decay": weight_decay,
            "decoupled": decoupled,
            "other_lr": other_lr,
            "other_betas": other_betas,
            "other_weight_decay": other_weight_decay,
            "beta2": other_betas[-1],
            "other": False,
        }
        self._dtypes: dict[nn.Parameter, torch.dtype] = {}
        self._layer_of = {p: layer for layer in self.layers for p in layer.parameters}
        covered = dict.fromkeys(self.model.parameters()) if chosen.convergent else self._layer_of
        super().__init__(complete_groups(self.model, groups, defaults, covered), defaults)
        self._group_of = {
            p: i for i, group in enumerate(self.param_groups) for p in group["params"]
        }
        check_groups(self.layers, self._group_of)
        self._unseen: list[Layer] = []
        self._rows = Rows()
        self._standing = self._stand()
        self._room = Room()
        self._other_step = "momentum" if chosen.convergent else "AdamW"
        warn_of_others(self._found, self._other_step)
        self._latest: dict[Layer, Seen] = {}
        self._k = 0
        self._number = next(_numbers)
        self._claims: int = OWNERS.claims
        self.in_second_pass: bool = False
        self._skipped_steps = torch.zeros(
            (), dtype=torch.int64, device=self.layers[0].weight.device
        )
        self._expect(self._k)

    # an enabled GradScaler then says what it did to the gradients
    _step_supports_amp_scaling = True

    def __getstate__(self) -> dict[str, Any]:
        """Return all but hooks, spare memory and compiled code: a copy goes on as this one."""
        left_out = ("_update_", "_zero_grad_profile_name", "_standing", "_room")
        return {
            key: value
            for key, value in self.__dict__.items()
            if key not in left_out and not key.startswith("_optimizer_")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "_compile" in state:  # a copy, not a state that load_state_dict brings
            self._update_ = updating(self._compile)
            self._number = next(_numbers)
            self._room = Room()
            self._standing = self._stand()
            self._expect(self._k)
            self._claim()

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group after checking its values.

        Raises:
            TypeError: it is not a dictionary with ``params``, or these are not parameters.
            ValueError: a key is unknown, an option is outside its range, or a parameter is in a
                group already.
        """
        refuse_group(param_group)
        if not self.method.preset.convergent and "other" not in param_group:
            param_group = other_group(param_group, self.defaults)
        param_group = {**param_group, "params": plain_parameters(param_group["params"])}
        check_group({**self.defaults, **param_group}, self.method.preset)
        super().add_param_group(param_group)
        added = self.param_groups[-1]["params"]
        self._dtypes |= {p: p.dtype for p in added}
        # a state that is empty yet: torch.distributed.checkpoint would take a step to get one
        self.state.update({p: {} for p in added})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], Loss]) -> Loss: ...

    def step(self, closure: Callable[[], Loss] | None = None) -> Loss | None:
        """Do one iteration on the mini-batch of ``closure``; return its loss.

        Without a closure the step takes the gradients as they are, and returns None:
        ``opt.zero_grad(); loss.backward(); opt.step()``. That works in every iteration of a preset
        without a second pass (``kfqn_input``, ``kfqn_muon``), and with the others where no
        curvature update is due. The inputs are those of the calls whose backward passes left these
        gradients: several backward passes are micro-batches, and clearing the gradients lets go of
        their inputs. There gradients may be clipped, and scaled by an enabled ``GradScaler``.

        An iteration whose loss or gradient is not finite, or that is to begin from an empty
        mini-batch, changes nothing, and is counted in ``skipped_steps``.

        Raises:
            TypeError: there is no closure, and the iteration needs one.
            ValueError: the closure did not call ``backward`` or did not return the loss, or used a
                layer twice before a backward pass, or an input was changed in place. The weights
                and the state are then as they were.
        """
        try:
            return self._step(closure)
        except BaseException:
            for name in ("grad_scale", "found_inf"):  # an enabled GradScaler clears what is done
                self.__dict__.pop(name, None)
            raise

    def _step(self, closure: Callable[[], Loss] | None) -> Loss | None:
        reshard_(self._reducer.shards)  # an evaluation may have left whole parameters
        iteration = Iteration(self._core(), closure, self._k, self._scaled())
        self._refuse_closure(closure, iteration)
        self._refuse(closure)
        parameters = self._parameters()
        before = Snapshot(iteration.replay, parameters, self.state, iteration.updates, self._room)
        started = set(self.started)
        unseen = list(self._unseen)
        try:
            loss = self._iterate(iteration)
            if self._k == 0:
                self._claim()
            self._expect(self._k + 1)
            self._forget()
        except BaseException:
            before.restore()
            self.started = started
            self._unseen = unseen
            self._expect(self._k)
            if closure is not None:
                self._forget()
            raise
        self._skipped_steps += ~iteration.ok
        self._k += 1
        if iteration.updates:
            self._latest |= iteration.seen
        return None if closure is None else loss

    def _stand(self) -> Standing | None:
        """Set up the hooks that stand from now on, where no iteration has a second pass.

        Where parameters are sharded there are none: a call does not see the weight that has the
        gradient.
        """
        if self.method.preset.learns_output or self._reducer.sharded:
            return None
        return Standing(self.layers, self._rows)

    def _expect(self, k: int) -> None:
        """Let the standing hooks note the calls that iteration ``k`` needs."""
        if self._standing is not None:
            is_sum = self.method.loss_reduction == "sum"
            self._standing.watches = is_sum or updates_curvature(self._core(), k)

    def _forget(self) -> None:
        if self._standing is not None:
            self._standing.forget()

    def _scaled(self) -> Scaled | None:
        """Return what an enabled ``torch.amp.GradScaler`` says, which calls the step itself."""
        found_inf = self.__dict__.get("found_inf")
        return None if found_inf is None else Scaled(self.__dict__["grad_scale"], found_inf)

    def _refuse_closure(self, closure: Any, iteration: Iteration) -> None:
        """Refuse what cannot be called, and a step without a closure that needs one."""
        needed = ""
        if iteration.compares:
            needed = "the curvature needs a second pass at the new weights in this iteration"
        elif iteration.updates and self._standing is None:
            needed = "where parameters are sharded, the inputs of this iteration must be seen"
        elif self.method.loss_reduction == "sum" and self._standing is None:
            needed = "with loss_reduction='sum' the number of samples must be seen"
        if callable(closure) or (closure is None and not needed):
            return
        raise TypeError(
            f"step needs a closure that calls backward and returns the loss, got "
            f"{type(closure).__name__}{needed and ': '}{needed}; "
            f"kfqn_ref.optim.closure(model, loss_fn, batch) makes one. Without one a step works "
            f"where no curvature update is due (curvature_interval="
            f"{self.method.curvature_interval}, and this is iteration {self._k}), and with the "
            f"presets 'kfqn_input' and 'kfqn_muon' always, unless parameters are sharded"
        )

    def _iterate(self, iteration: Iteration) -> Any:
        loss = iteration.first_pass()
        iteration.move_()
        if iteration.updates and not iteration.compares:
            iteration.update_inputs_()
        if iteration.compares:
            self.in_second_pass = True
            try:
                iteration.second_pass()
            finally:
                self.in_second_pass = False
        return loss

    def _refuse(self, closure: Any) -> None:
        """Refuse what a step cannot be exact with, before anything moves."""
        if torch.is_inference_mode_enabled():
            raise ValueError(
                "a step must run outside of torch.inference_mode(), as it changes weights"
            )
        if closure is not None:
            self._refuse_in_closure()
        preset = self.method.preset
        for group in self.param_groups:  # a scheduler or a user may have changed a value
            check_values(group, preset)
            if preset.name == "convergent":
                check_group(group, preset)
        refuse_changed_layers(self.model, self.layers)
        refuse_new_parameters(self.model, self._dtypes)
        if self._k and self._claims != OWNERS.claims:
            OWNERS.refuse_second(self.model.named_parameters(), self._number)
            self._claims = OWNERS.claims
        refuse_changed_damping(
            self.param_groups, self._group_of, self.state, self.started, self.method.preset
        )

    def _refuse_in_closure(self) -> None:
        """Refuse what would leave a pass of the closure scaled, or one of its passes out."""
        if self._scaled() is not None:
            raise ValueError(
                "the gradients must not be scaled, but step was called by an enabled GradScaler: "
                "the closure's backward() would leave scaled pairs; train in bfloat16 without a "
                "scaler, or make it with GradScaler(enabled=False), or use the preset "
                "'kfqn_input', which needs no closure"
            )
        refuse_skipped_closures()

    def warm_start(
        self, batches: Iterable[Any], forward: Callable[[Any], Any] | None = None
    ) -> None:
        """Begin from the mean of ``A`` over forward passes at the present weights, before iteration
        0.

        Buffers and the random state are left as they were. Each rank gives its own shards.

        Args:
            batches: what ``forward`` takes, one after the other.
            forward: runs the model on one of them; ``None`` is the model itself.

        Raises:
            ValueError: there is no batch, or an iteration was done already.

        Source: goldfarb2020kbfgs.
        """
        if self._k:
            raise ValueError(f"warm_start must come before the first iteration, got k = {self._k}")
        reshard_(self._reducer.shards)
        run = resharding(self._reducer.shards, forward or self.model)
        factors = mean_factors(self.model, self.layers, self._rows, self.method, batches, run)
        with plain_arithmetic(self.layers):
            for record, A in factors:
                start(self._core(), record, A, torch.ones((), dtype=torch.bool, device=A.device))

    def row_weights(self, weights: Tensor) -> AbstractContextManager[None]:
        """Leave rows of weight 0 out of the curvature, in the calls of the model made inside.

        For rows that the loss ignores: padding, ``ignore_index``, masks. In the closure::

            with opt.row_weights(target != -100):
                logits = model(x)

        The step is then the one of a mini-batch without these rows. Their outputs must not enter
        the loss; the gradient is left as it is.

        Args:
            weights: 0 or 1 (or a mask), in the shape of the rows of the layers that are called:
                ``(N,)``, or for linear layers on ``(N, T, d)`` also ``(N, T)``.

        Raises:
            TypeError: not a tensor.
            ValueError: another value, or a shape that does not fit a layer.
        """
        return self._rows.only(weights)

    def describe(self) -> str:
        """Return a table: which modules are covered, what their factors take, and why not."""
        return table(self._found, self._factor_bytes, self._unseen, self._other_step)

    def curvature(self, module: nn.Module) -> Curvature:
        """Return what the method knows of one layer, as dense matrices and numbers on the host.

        Raises:
            ValueError: the module is not covered, no iteration has reached it yet, or another rank
                owns it.
        """
        layer = next((layer for layer in self.layers if layer.module is module), None)
        if layer is None:
            names = [layer.name for layer in self.layers]
            raise ValueError(f"module must be one of {names}, got {type(module).__name__}")
        self._ownership.refuse_foreign(layer)
        if layer not in self.started:
            raise ValueError(f"{layer.name!r} must have been through one iteration, got none")
        return curvature_of(self.state[layer.weight])

    def diagnostics(self, *, eigenvalues: bool = False) -> dict[str, float]:
        """Return numbers by name, ``layer/quantity``: counts, θ, sᵀy and norms of the latest pairs.

        A line of JSON as it is; for TensorBoard, one scalar a name. Reads the device.

        Args:
            eigenvalues: also extreme eigenvalues and asymmetry of ``H_a`` and ``H_g``: O(d³) a
                layer.
        """
        numbers: dict[str, Tensor] = {"skipped_steps": self._skipped_steps}
        for layer in self.layers:
            state = self.state.get(layer.weight, {})
            if "H_a" in state:
                seen = diagnostics.of_layer(state, self._latest.get(layer), eigenvalues=eigenvalues)
                numbers |= {f"{layer.name}/{name}": value for name, value in seen.items()}
        return {"k": float(self._k), **diagnostics.on_host(numbers)}

    @property
    def skipped_steps(self) -> int:
        """How many iterations a non-finite loss or gradient skipped; reads the device."""
        return int(self._skipped_steps)

    def state_dict(self) -> dict[str, Any]:
        """Return what a run needs to go on: plain types and tensors, loadable with
        ``weights_only=True``.

        Under factor ownership all ranks must call it; rank 0 returns the whole, the others what
        they keep. What rank 0 returns loads anywhere, with ownership or without.
        """
        saved = super().state_dict()
        saved["kfqn"] = {**self._identity(), "k": self._k, "skipped_steps": self._skipped_steps}
        saved["kfqn"] |= self._kept()
        for index, p in enumerate(self._parameters()):
            layer = self._layer_of.get(p)
            if layer is not None and p is layer.bias and not saved["state"].get(index):
                # torch.distributed.checkpoint drops a state that is empty, and then misses it
                saved["state"][index] = {"layer": layer.name}
        if self._ownership.active:
            ordered = dict(sorted(saved["state"].items()))  # the ranks collect in one order
            own = checkpoint.copied(ordered, torch.device("cpu"))
            parts = self._reducer.gathered(own)
            if parts is None:
                saved["kfqn"]["part_of_rank"] = self._reducer.rank
            saved["state"] = checkpoint.merged(parts or [own])
        saved["param_groups"][0]["kfqn"] = saved["kfqn"]
        return saved

    def _kept(self) -> dict[str, list[int]]:
        """Return the numbers of the weights whose layers have factors, and of the parameters that
        have moments; the same on all ranks.
        """
        parameters = self._parameters()
        started = {layer.weight for layer in self.started}
        return {
            "started": [i for i, p in enumerate(parameters) if p in started],
            "moments": [i for i, p in enumerate(parameters) if "other" in self.state.get(p, {})],
        }

    def _parameters(self) -> list[nn.Parameter]:
        return [p for group in self.param_groups for p in group["params"]]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a saved state, bit for bit; one that does not fit is refused before anything
        is touched.

        Raises:
            TypeError: not a dictionary.
            ValueError: of another version, preset or model, not of KFQN, or without states that
                this rank keeps, or a parameter group lacks an option or has an unknown one.
        """
        if not isinstance(state_dict, dict):
            raise TypeError(f"a checkpoint must be a dictionary, got {type(state_dict).__name__}")
        taken: list[dict[str, Any]] = []

        def take(opt: torch.optim.Optimizer, given: dict[str, Any]) -> dict[str, Any]:
            given = checkpoint.with_record(given)  # after the hooks of the user
            checkpoint.check(given, self._identity())
            self._refuse_loaded_groups(given["param_groups"])
            taken.append({**given, "state": checkpoint.numbered(given)})
            self._refuse_missing(taken[0])
            return {**given, "state": {}}  # torch would cast it

        def put(opt: torch.optim.Optimizer) -> None:  # before the hooks of the user
            self._put(taken[0])

        hooks = [
            self.register_load_state_dict_pre_hook(take),
            self.register_load_state_dict_post_hook(put, prepend=True),
        ]
        try:
            super().load_state_dict(state_dict)
        finally:
            for hook in hooks:
                hook.remove()

    def _refuse_loaded_groups(self, groups: Sequence[dict[str, Any]]) -> None:
        """Refuse groups of a checkpoint whose keys are not those of a group."""
        own = {key for group in self.param_groups for key in group}
        for group in groups:
            refuse_keys(group, own)
            missing = [key for key in OPTIONS if key not in group]
            if missing:
                raise ValueError(
                    f"the groups of a checkpoint must have all options, got no {missing}"
                )

    def _refuse_missing(self, state_dict: dict[str, Any]) -> None:
        """Refuse a checkpoint without states that this rank keeps."""
        parameters = self._parameters()
        names = {p: name for name, p in self.model.named_parameters()}

        def keeps(number: int) -> bool:
            return self._ownership.keeps(self._layer_of.get(parameters[number]))

        called = [names.get(p, "a parameter") for p in parameters]
        checkpoint.refuse_missing(state_dict["kfqn"], state_dict["state"], called, keeps)

    def _put(self, state_dict: dict[str, Any]) -> None:
        """Take over the states of a checkpoint that was found to fit."""
        saved = state_dict["kfqn"]
        elsewhere = saved.get("started", ())  # what other ranks keep may be missing here
        self.started = set()
        for index, p in enumerate(self._parameters()):
            state = state_dict["state"].get(index, {})
            layer = self._layer_of.get(p)
            if layer is not None and ("H_a" in state or index in elsewhere):
                self.started.add(layer)
            if "H_a" not in state or self._ownership.keeps(layer):
                self.state[p] = sharded_states(checkpoint.copied(state, p.device), p)
            else:
                self.state[p] = {}
        self._k = saved["k"]
        self._skipped_steps = checkpoint.copied(saved["skipped_steps"], self._skipped_steps.device)
        self._expect(self._k)
        self._claim()

    def _claim(self) -> None:
        OWNERS.claim(self._dtypes, self._number)
        self._claims = OWNERS.claims

    def _core(self) -> Core:
        return Core(
            model=self.model,
            method=self.method,
            layers=self.layers,
            layer_of=self._layer_of,
            groups=self.param_groups,
            group_of=self._group_of,
            state=self.state,
            started=self.started,
            unseen=self._unseen,
            rows=self._rows,
            standing=self._standing,
            reducer=self._reducer,
            ownership=self._ownership,
            update_=self._update_,
            other_step=self._other_step,
        )

    def _identity(self) -> dict[str, Any]:
        sizes = [len(group["params"]) for group in self.param_groups]
        return checkpoint.identity(self.model, self.method, self.layers, sizes)


def updating(compiled: bool) -> Callable[..., Any]:
    """Return the update of the factors, compiled or not."""
    return torch.compile(update_, dynamic=False) if compiled else update_
