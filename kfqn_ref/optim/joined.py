"""Vectors of several layers as rows of one tensor, so that one kernel serves all these layers.

A layer's vectors are ``(groups, d)``. Joined they are ``(sum of groups, largest d)``, with zeros
behind the shorter ones: inner products, norms and sums of vectors do not see them.
"""

from collections.abc import Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_NUMBERS = 1 << 16
"""Layers of unlike widths are joined while their padded vectors have at most this many numbers
(256 KiB).
"""


def join(vectors: Sequence[Tensor]) -> Tensor:
    """Return the vectors of several layers in one new tensor, made by one kernel where groups allow
    it.
    """
    width = max(v.shape[-1] for v in vectors)
    zeros = vectors[0].new_zeros(width)
    pieces: list[Tensor] = []
    for v in vectors:
        groups, d = v.shape
        if d < width and groups > 1:
            v = F.pad(v, (0, width - d))
        if v.shape[-1] == width:
            pieces.append(v.reshape(-1))
        else:
            pieces += [v[0], zeros[d:]]
    return torch.cat(pieces).view(-1, width)


def unjoin(rows: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return each layer's part of joined vectors, or of one number a row: views.

    Args:
        rows: ``(sum of groups, largest d)``, or ``(sum of groups,)``.
        like: a tensor ``(groups, ..., d)`` of each layer.
    """
    parts = rows.split([len(x) for x in like])
    if rows.ndim == 1:
        return list(parts)
    return [part[:, : x.shape[-1]] for part, x in zip(parts, like, strict=True)]


def joinable(vectors: Sequence[Tensor], kinds: Sequence[Hashable]) -> list[list[int]]:
    """Return the positions of the vectors that may be joined: of one kind, dtype and device, not
    too unlike.

    Narrow vectors of many groups would be mostly padding beside a wide one.
    """
    alike: dict[Hashable, list[int]] = {}
    for i, (v, kind) in enumerate(zip(vectors, kinds, strict=True)):
        alike.setdefault((kind, v.dtype, v.device), []).append(i)
    return [some for every in alike.values() for some in _narrow_enough(every, vectors)]


def _narrow_enough(positions: Sequence[int], vectors: Sequence[Tensor]) -> list[list[int]]:
    found: list[list[int]] = []
    rows = 0
    first = 0
    for i in sorted(positions, key=lambda i: vectors[i].shape[-1]):
        groups, d = vectors[i].shape
        if found and (d == first or (rows + groups) * d <= MOST_NUMBERS):
            found[-1].append(i)
            rows += groups
        else:
            found.append([i])
            rows = groups
            first = d
    return found
