"""What the method remembers from one iteration to the next, all of it as frozen values."""

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from kfqn_ref._typing import Array, InverseEstimate
from kfqn_ref.layers import Blocks


@dataclass(frozen=True)
class Counts:
    """What happened to the pairs of one block: accepted, skipped, damped."""

    updates_a: int = 0
    skipped_a: int = 0
    updates_g: int = 0
    damped_g: int = 0
    skipped_g: int = 0


@dataclass(frozen=True)
class BlockState:
    """What the method remembers of one block.

    Args:
        M: moving average of the gradient, or of U with ``square_decay``, (d_g, d_a).
        H_a, H_g: inverse estimates; ``H_a`` is None until a first mini-batch was seen.
        s_g, y_g: averaged output-side pair, (d_g,).
        A: factor of the input side, (d_a, d_a), where a moving average is kept, or None.
        V: moving average of the squares of U, (d_g, d_a), with ``square_decay``, or None.
        lambda_a, lambda_g: damping of the two sides, fixed at the first mini-batch.
        T: number of locations of the first mini-batch.
        counts: events.
    """

    M: Array
    H_a: InverseEstimate | None
    H_g: InverseEstimate
    s_g: Array
    y_g: Array
    A: Array | None = None
    V: Array | None = None
    lambda_a: float = 0.0
    lambda_g: float = 0.0
    T: int = 0
    counts: Counts = field(default_factory=Counts)

    def along(self, X: Array) -> Array:
        """Return ``H_g X H_a`` for ``X`` (d_g, d_a), as (4.7) wants it."""
        assert self.H_a is not None, "step and warm_start set H_a first"
        return (self.H_a @ (self.H_g @ X).T).T  # H_a is symmetric


@dataclass(frozen=True)
class State:
    """Iteration number k, the blocks' states, and how many iterations a non-finite gradient
    skipped.
    """

    k: int
    blocks: tuple[BlockState, ...]
    skipped_steps: int = 0

    @property
    def started(self) -> bool:
        """Whether step 0 was made: every block has its ``H_a``."""
        return all(block.H_a is not None for block in self.blocks)


class Step(NamedTuple):
    """Result of one iteration: new parameters, new state, and the loss before the step."""

    params: Blocks
    state: Any
    loss: float
