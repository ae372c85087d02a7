"""Random exact inputs: of a finite field, of the rationals, or small rationals for a reader.

Every number is drawn on its own. Conditions are met by construction and never by choosing among
draws, so that the bound on the probability holds as it stands: a pair with sᵀy > 0 is
``s = τ y + w`` with a positive τ and w across y.
"""

import random
from typing import Any

import numpy as np
from flint import fmpq, nmod

from kfqn_ref.testing.exact.scalars import DRAWN, PRIME, Scalar, array


class Draws:
    """Random numbers of one kind.

    Args:
        kind: "field", "rationals", or "small" for rationals that a person can read.
        seed: of the numbers.
    """

    def __init__(self, kind: str, seed: int):
        self.kind = kind
        self._random = random.Random(seed)
        self.seen: dict[str, Any] = {}

    def _value(self) -> Any:
        if self.kind == "field":
            return nmod(self._random.randrange(PRIME), PRIME)
        limit = 2 if self.kind == "small" else DRAWN // 2
        return fmpq(self._random.randint(-limit, limit))

    def _note(self, name: str, value: Any) -> Any:
        self.seen[name] = value
        return value

    def matrix(self, name: str, *shape: int) -> Any:
        """An array of this shape."""
        values = [self._value() for _ in range(int(np.prod(shape)))]
        return self._note(name, array(values, shape))

    def positive(self, name: str) -> Scalar:
        """A positive number; in the field any number."""
        if self.kind == "field":
            return self._note(name, Scalar(self._value()))
        limit = 2 if self.kind == "small" else DRAWN
        return self._note(name, Scalar(fmpq(self._random.randint(1, limit))))

    def fraction(self, name: str) -> Scalar:
        """A number in (0, 1); in the field any number."""
        if self.kind == "field":
            return self._note(name, Scalar(self._value()))
        parts = 4 if self.kind == "small" else DRAWN
        return self._note(name, Scalar(fmpq(self._random.randint(1, parts - 1), parts)))

    def spd(self, name: str, n: int) -> Any:
        """A symmetric matrix X Xᵀ + D with a positive diagonal D: positive definite."""
        X = self.matrix(name, n, n)
        diagonal = array([self.positive(name).value for _ in range(n)], (n,))
        return self._note(name, X @ X.T + np.diag(diagonal))

    def across(self, y: Any, name: str) -> Any:
        """A vector w with wᵀy = 0."""
        v = self.matrix(name, len(y))
        return v * (y @ y) - y * (v @ y)

    def nonzero(self, name: str, n: int) -> Any:
        """A vector whose first entry is not zero."""
        v = self.matrix(name, n)
        if self.kind != "field":
            v[0] = self.positive(name)
        return self._note(name, v)

    def pair(self, n: int, names: tuple[str, str] = ("s", "y")) -> tuple[Any, Any]:
        """(s, y) with sᵀy > 0; in the field any pair."""
        y = self.nonzero(names[1], n)
        s = self.positive("tau") * y + self.across(y, names[0])
        self.seen.pop("tau")
        return self._note(names[0], s), y

    def pairs(self, m: int, n: int) -> tuple[Any, Any]:
        """Rows (S, Y), (m, n), each with positive curvature."""
        rows = [self.pair(n, (f"s{i}", f"y{i}")) for i in range(m)]
        S, Y = (
            array([x.value for row in side for x in row], (m, n))
            for side in zip(*rows, strict=True)
        )
        for i in range(m):
            self.seen.pop(f"s{i}")
            self.seen.pop(f"y{i}")
        return self._note("S", S), self._note("Y", Y)

    def beside(self, along: Any, normal: Any, mu: Scalar, side: str) -> Any:
        """s with sᵀ normal = t alongᵀ normal, t below mu ("acts"), above it, or on it ("tie")."""
        part = self.fraction("part")
        t = {"acts": mu - 2 * part, "rests": mu + part, "tie": mu}[side]
        self.seen.pop("part")
        return self._note("s", t * along + self.across(normal, "s"))
