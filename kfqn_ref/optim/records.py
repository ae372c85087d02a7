"""What one layer leaves for the curvature over the micro-batches of one pass: inputs, and sums of
outputs and of their gradients.
"""

from math import prod
from typing import NoReturn

import torch
from torch import Tensor

from kfqn_ref.optim.geometry import Geometry, total
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.rows import counts


class Record:
    """What one layer leaves over the micro-batches of one pass; vectors are ``(groups, d)``.

    Args:
        layer: the layer.
        counting: the numbers of the backward passes that count for it.

    Attributes:
        fixed: whether the inputs do not depend on any weight that is trained.
    """

    def __init__(self, layer: Layer, counting: set[int]) -> None:
        self.layer = layer
        self.geometry: Geometry = layer.geometry
        self.dtype: torch.dtype = layer.dtype
        self.counting = counting
        self.a: list[Tensor] = []
        self.versions: list[int] = []  # of the inputs, in their calls
        self.batch_sums: list[tuple[Tensor, int]] = []  # sum of the inputs, rows in it
        self.Dh_sums: list[Tensor] = []  # each divided by the locations T of its micro-batch
        self.pending: list[tuple[int, Tensor]] = []  # backward pass, sum
        self.N = 0
        self.rows: int = 0
        self.T: float = 0  # a whole number, unless samples have unlike numbers of rows
        self.sizes: set[int] = set()  # of the first axis, with rows that do not count
        self.fixed: bool = True
        self.open: bool = False  # calls were made whose gradients have not come yet
        # of the latest micro-batch
        self.samples: int = 0
        self.locations: float = 0

    def see(self, a: Tensor, h: Tensor, keep: Tensor | None, *, keep_input: bool) -> None:
        """Take note of one call.

        Args:
            a, h: input and output.   keep: mask of the rows that count, ``None`` for all.
            keep_input: whether the input is kept.

        Raises:
            ValueError: several uses before one backward pass have different numbers of samples.
        """
        self.settle()
        self.fixed = self.fixed and not a.requires_grad
        a, N, rows, sizes = what_counts(self.layer, a, h, keep)
        self.add(a, a._version, N, rows, sizes, keep_input=keep_input)

    def add(
        self, a: Tensor, version: int, N: int, rows: int, sizes: set[int], *, keep_input: bool
    ) -> None:
        """Add one call to the sums.

        Args:
            a: the input, of the rows that count.   version: its version in the call.
            N, rows: samples and rows that count.
            sizes: numbers of samples and of rows, with those that do not count.
            keep_input: whether the input is kept.

        Raises:
            ValueError: several uses before one backward pass have different numbers of samples.
        """
        self.sizes |= sizes
        if self.open and N != self.samples:
            raise ValueError(
                f"the uses of a layer before a backward pass must have equally many samples, but "
                f"{self.layer.name!r} saw {self.samples} and {N}; "
                f"exclude=[{self.layer.name!r}] gives it AdamW's step"
            )
        if not self.open:
            self.N += N
            self.samples = N
            self.locations = 0
        self.open = True
        self.locations += _ratio(rows, N)
        self.rows += rows
        self.T = self.locations if self.N == self.samples else self.T  # of the first micro-batch
        self.batch_sums.append((self.geometry.batch_sum(a, self.dtype), rows))
        if keep_input:
            self.a.append(a)
            self.versions.append(version)

    def refuse_changed_inputs(self) -> None:
        """Refuse inputs that were changed in place after the call, where they are still needed.

        Raises:
            ValueError: there is one.
        """
        pairs = zip(self.a, self.versions, strict=True)
        if any(a._version != version for a, version in pairs):
            raise ValueError(
                f"the input of a layer must stay as it was until the step, but that of "
                f"{self.layer.name!r} was changed in place after the call: change a clone() of it"
            )

    def see_gradient(self, Dh: Tensor, keep: Tensor | None) -> None:
        """Take note of the gradient with respect to the output of a call, with its mask of rows.

        Raises:
            NotImplementedError: the gradient is to be differentiated itself.
        """
        if Dh.requires_grad:
            refuse_differentiated(self.layer)
        task = torch._C._current_graph_task_id()
        Dh = Dh.detach() if keep is None else Dh.detach()[keep]
        self.pending.append((task, self.geometry.output_sum(Dh)))

    def settle(self) -> None:
        """Count the gradients of the backward passes that are known to count."""
        for task, Dh_sum in self.pending:
            if task in self.counting:
                self.open = False
                T = self.locations
                mean = Dh_sum if T in {0, 1} else Dh_sum / T
                self.Dh_sums.append(mean)
        self.pending = [each for each in self.pending if each[0] not in self.counting]

    def Dh_mean(self, scale: float) -> Tensor:
        """Return the mean of ``Dh`` in wide arithmetic; ``scale`` is 1 for a mean loss, 1/N for a
        sum.
        """
        return total(self.Dh_sums) if scale == 1 else total(self.Dh_sums) * scale

    def a_mean(self) -> Tensor:
        """Return ``ā̄``, ``(groups, d_a)``."""
        return total([self.geometry.input_sum(*each) for each in self.batch_sums]) / max(
            self.rows, 1
        )

    def factor(self) -> Tensor:
        """Return ``A`` of the mini-batch (4.5), ``(groups, d_a, d_a)``."""
        return total([self.geometry.factor_sum(a, self.dtype) for a in self.a]) / max(self.N, 1)

    def diagonal(self) -> Tensor:
        """Return the diagonal of ``A``, ``(groups, d_a)``, from one pass over the squared input.

        The square of a one-hot input is the input itself.
        """
        if self.layer.has_diagonal_A:
            return total([sums for sums, _ in self.batch_sums]) / max(self.N, 1)
        sums = [self.geometry.batch_sum(a.to(self.dtype).square(), self.dtype) for a in self.a]
        calls = zip(sums, self.batch_sums, strict=True)
        return total([self.geometry.input_sum(each, rows) for each, (_, rows) in calls]) / max(
            self.N, 1
        )

    def first_factor(self, form: str) -> Tensor:
        """Return what ``H_a`` starts from: ``A``, or only its diagonal where that is enough."""
        return self.factor() if form == "dense" else self.diagonal()

    def action(self, v: Tensor) -> Tensor:
        """Return ``A v`` without forming ``A``, ``(groups, d_a)``."""
        if not self.rows:  # an empty batch has no A
            return torch.zeros_like(v)
        return total([self.geometry.action(a, v) for a in self.a]) / max(self.N, 1)


def what_counts(
    layer: Layer, a: Tensor, h: Tensor, keep: Tensor | None
) -> tuple[Tensor, int, int, set[int]]:
    """Return the input of a call in the rows that count, without gradients, and its sizes.

    The sizes are the numbers of samples and of rows that count, and a set of these two and of
    those of all samples and rows.

    Args:
        a, h: input and output.   keep: mask of the rows that count, ``None`` for all.
    """
    N, rows = counts(layer, h, keep)
    in_all = layer.geometry.counts(h)
    counted = a.detach() if keep is None else a.detach()[keep]
    return counted, N, rows, {N, rows, in_all[0], prod(in_all)}


def refuse_differentiated(layer: Layer) -> NoReturn:
    """Refuse a gradient that is to be differentiated itself.

    Raises:
        NotImplementedError: always.
    """
    raise NotImplementedError(
        f"the closure must not differentiate a gradient (create_graph=True, gradient "
        f"penalties, losses on derivatives): the loss then depends on the weights of "
        f"{layer.name!r} not only through its outputs, and the recorded pairs would "
        f"be wrong; train such a model with another optimizer"
    )


def _ratio(rows: int, samples: int) -> float:
    """Return the mean number of locations of a sample, a whole number where they are all alike."""
    if not samples or rows % samples:
        return rows / max(samples, 1)
    return rows // samples
