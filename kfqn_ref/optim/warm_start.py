"""The mean of the input factors over forward passes, from which a run may begin."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from kfqn_ref.optim.coverage import plain_arithmetic
from kfqn_ref.optim.layer import Layer
from kfqn_ref.optim.options import Method
from kfqn_ref.optim.passes import Capture, Replay
from kfqn_ref.optim.records import Record
from kfqn_ref.optim.rows import Rows


def mean_factors(
    model: nn.Module,
    layers: Sequence[Layer],
    rows: Rows,
    method: Method,
    batches: Iterable[Any],
    forward: Callable,
) -> list[tuple[Record, Tensor]]:
    """Return a record of each layer, and the mean of its ``A``, or of its diagonal for the lean
    form.

    Buffers and the random state are left as they were.

    Raises:
        ValueError: there is no batch.
    """
    sums: dict[Layer, tuple[Record, Tensor]] = {}
    count = 0
    replay = Replay(model)
    for batch in batches:
        count += 1
        capture = Capture(layers, rows, keep_input=True)
        with replay.again(), capture.watching(), torch.enable_grad():
            forward(batch)
        with plain_arithmetic(layers):
            for layer, record in capture.records.items():
                A = record.first_factor(method.form_of(layer))
                if layer in sums:
                    A = A + sums[layer][1]
                sums[layer] = (record, A)
                record.a.clear()
    replay.rewind()
    if not count:
        raise ValueError("warm_start needs at least one mini-batch, got none")
    return [(record, A / count) for record, A in sums.values()]
