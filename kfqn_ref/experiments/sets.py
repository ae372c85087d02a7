"""What a data set is: two splits of inputs and classes."""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from kfqn_ref.experiments.idx import DataError


class Split(NamedTuple):
    """Images ``x`` (N, 1, height, width) in [0, 1] and their classes ``y`` (N,), integers from
    0.
    """

    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Data:
    """A data set: what is trained on, what is only looked at, and how it was read."""

    train: Split
    test: Split
    notes: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Split]:
        return iter((self.train, self.test))

    @property
    def classes(self) -> int:
        """Number of classes, from both splits."""
        return 1 + max(int(split.y.max(initial=0)) for split in self)

    @property
    def fingerprint(self) -> int:
        """CRC-32 of all arrays, by which a resumed run knows its data again."""
        crc = 0
        for array in (*self.train, *self.test):
            crc = zlib.crc32(np.ascontiguousarray(array).data, crc)
        return crc

    def first(self, size: int) -> "Data":
        """Return the same data with only the first ``size`` training images."""
        if not 1 <= size <= len(self.train.y):
            raise DataError(f"the training size must be in 1..{len(self.train.y)}, got {size}")
        return replace(self, train=Split(self.train.x[:size], self.train.y[:size]))

    def describe(self) -> list[str]:
        """Return one line a split (size, shape, classes, images a class, range), and the notes."""
        lines = []
        for name, (x, y) in zip(("train", "test"), self, strict=True):
            counts = np.bincount(y, minlength=self.classes)
            shape = " x ".join(str(n) for n in x.shape)
            lines.append(
                f"{name}: {shape}, {self.classes} classes of {counts.min()} to {counts.max()}, "
                f"values {x.min():.3g} to {x.max():.3g}"
            )
        return [*lines, *self.notes]
