"""The cost model of ``kfqn scale``: what a step computes, keeps and sends, and how long that takes.

Counts are of float32, of one rank, and means over ``interval`` steps, of which one updates the
curvature; the first step, which forms the first ``A``, is left out. Times are sums of counts over
rates: no phase overlaps another, but for launches on a machine that works while it is told the next
thing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf, log2

from kfqn_ref.experiments.scale.networks import Network, Shape
from kfqn_ref.optim.ownership import balanced, cost

FLOAT = 4
COUNTERS = 5 * 8  # bytes of the counts that KFQN keeps for a layer
METHODS = ("SGD", "KFAC", "dense", "lean", "owned", "input")
"""SGD and KFAC; KF-QN with matrices, with L-BFGS on the input side, and with factor ownership."""


@dataclass(frozen=True)
class Machine:
    """What a rank does a second.

    Args:
        passes, products, inverses: multiply-adds in forward and backward passes, matrix products,
            inversions.
        memory: bytes read or written.   link: bytes sent.   latency: seconds of a message.
        launch: seconds of one operation's overhead.
        overlaps: whether launches hide behind computing.
        cores: the number of ranks that compute at once; more of them take turns.
    """

    passes: float
    products: float
    inverses: float
    memory: float
    link: float
    latency: float
    launch: float
    overlaps: bool = True
    cores: float = inf


@dataclass(frozen=True)
class Work:
    """A step of one rank, the busiest one where layers have owners.

    Args:
        passes, products, inverses: multiply-adds.   memory: bytes read and written by updates.
        messages: pairs (bytes, how often a step) of all-reduces.
        broadcast: bytes of all directions.   owners: ranks that own a layer.
        state: bytes that the optimizer keeps, those of the rank that has most.
    """

    passes: float
    products: float
    inverses: float
    memory: float
    messages: tuple[tuple[float, float], ...]
    broadcast: float
    owners: int
    state: int

    @property
    def sent(self) -> float:
        """Bytes handed to collectives in a step."""
        return sum(size * often for size, often in self.messages) + self.broadcast


def first_pass(network: Network, batch: int) -> int:
    """Return the multiply-adds of forward and backward; the first layer needs no gradient of its
    input.
    """
    return batch * (3 * network.macs - network.layers[0].macs)


def second_pass(network: Network, batch: int) -> int:
    """Return those over frozen weights: forward, and gradients of outputs."""
    return first_pass(network, batch) - batch * sum(layer.macs for layer in network.layers)


def direction(layer: Shape, rows: float, pairs: int | None) -> float:
    """Return the multiply-adds of ``H_g M H_a``, ``rows`` of them by ``H_a``; ``pairs`` if that is
    lean.
    """
    d_g = layer.d_g
    d_a = layer.d_a
    left = d_g * d_g * d_a
    if pairs is None or d_a <= 2 * pairs:  # a matrix is at hand
        return left + rows * d_a * d_a
    return left + rows * by_pairs(d_a, pairs)


def by_pairs(d: int, pairs: int) -> int:
    """Return the multiply-adds of L-BFGS times one vector: four products and two triangular
    solves.
    """
    return 4 * pairs * d + pairs * pairs


def inverse_state(d: int, pairs: int | None) -> int:
    """Return how many numbers an inverse keeps: a matrix, or ``S``, ``Y``, ``R``, gamma."""
    if pairs is None:
        return d * d
    # where few rows make it cheap, the matrix is kept beside the pairs
    matrix = d * d if d <= 2 * pairs else 0
    return 2 * pairs * d + pairs * pairs + 1 + matrix


def inverse_update(d: int, pairs: int | None) -> tuple[float, float]:
    """Return the multiply-adds and the bytes of one update of an inverse.

    A matrix is read for ``H y``, and read and written twice for the rank-two change. Rows of ``S``
    and ``Y`` are shifted in three copies.
    """
    if pairs is None:
        return 3 * d * d, 5 * FLOAT * d * d
    again = d * by_pairs(d, pairs) if d <= 2 * pairs else 0
    return again + pairs * d, 2 * 6 * FLOAT * pairs * d


def work(
    network: Network, method: str, *, batch: int, ranks: int, interval: int = 1, pairs: int = 100
) -> Work:
    """Return the step of one rank with ``batch`` samples of its own.

    Raises:
        ValueError: the method is unknown, or a number is not positive.
    """
    if method not in METHODS:
        raise ValueError(f"the method must be one of {', '.join(METHODS)}, got {method!r}")
    for name, value in (
        ("batch", batch),
        ("ranks", ranks),
        ("interval", interval),
        ("pairs", pairs),
    ):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    gradient = (FLOAT * network.parameters, 1.0)
    momentum = 5 * FLOAT * network.parameters  # read the gradient, read and write M and W
    if method == "SGD":
        passes = first_pass(network, batch)
        state = FLOAT * network.parameters
        return Work(passes, 0, 0, momentum, (gradient,), 0, 0, state)
    if method == "KFAC":
        return _kfac(network, batch, interval, momentum, gradient)
    if method == "input":
        return _input_side(network, batch, interval, momentum, gradient)
    lean = pairs if method == "lean" else None
    owners = ranks if method == "owned" else 1
    return _kfqn(network, batch, owners, interval, lean, momentum, gradient)


def shards(network: Network, method: str, ranks: int) -> dict[str, float]:
    """Return the bytes of weights, gradients and state on the rank under FSDP2 that has most of
    each.

    Each weight is cut by rows. SGD's momentum is cut as the weights are; the method's state is on
    the owner of a layer. Parameters that no layer has are left out.
    """
    cut = FLOAT * sum(-(-layer.d_g // ranks) * layer.d_a for layer in network.layers)
    state = cut
    if method != "SGD":
        state = work(network, "owned", batch=1, ranks=ranks).state
    return {"weights": cut, "gradients": cut, "state": state}


def _input_side(
    network: Network, batch: int, interval: int, momentum: float, gradient: tuple[float, float]
) -> Work:
    """The preset kfqn_input: ``M H_a`` and one pass; of ``H_g`` only its diagonal is kept."""
    often = 1 / interval
    layers = network.layers
    updates = [inverse_update(layer.d_a, None) for layer in layers]
    actions = batch * sum(2 * layer.T * layer.d_a for layer in layers)
    inputs = sum(layer.d_a for layer in layers)
    kept = sum(layer.d_g * layer.d_a + layer.d_a**2 + 3 * layer.d_g for layer in layers)
    return Work(
        passes=first_pass(network, batch),
        products=sum((layer.d_g + often) * layer.d_a**2 for layer in layers)
        + often * (actions + sum(macs for macs, _ in updates)),
        inverses=0,
        memory=momentum + often * sum(touched for _, touched in updates),
        messages=(gradient, (FLOAT * (1 + often * inputs), 1.0), (FLOAT * inputs, often)),
        broadcast=0,
        owners=0,
        state=FLOAT * (network.others + kept) + COUNTERS * len(layers),
    )


def _kfac(
    network: Network, batch: int, interval: int, momentum: float, gradient: tuple[float, float]
) -> Work:
    """KFAC whose ranks reduce the triangles of A and G, and all invert all. Source:
    martens2015kfac.
    """
    often = 1 / interval
    layers = network.layers
    squares = sum(layer.d_a**2 + layer.d_g**2 for layer in layers)
    triangles = sum(n * (n + 1) // 2 for layer in layers for n in (layer.d_a, layer.d_g))
    drawn = (
        second_pass(network, batch) - batch * network.macs
    )  # backward once more, from the same graph
    factors = batch * sum(layer.T * (layer.d_a**2 + layer.d_g**2) for layer in layers)
    inverses = sum(layer.d_a**3 + layer.d_g**3 for layer in layers) / 2  # Cholesky 1/6, inverse 1/3
    return Work(
        passes=first_pass(network, batch) + often * drawn,
        products=sum(direction(layer, layer.d_g, None) for layer in layers) + often * factors,
        inverses=often * inverses,
        memory=momentum + often * 3 * FLOAT * squares,
        messages=(gradient, (FLOAT * triangles, often)),
        broadcast=0,
        owners=0,
        state=FLOAT * (network.parameters + 2 * squares),
    )


def _kfqn(
    network: Network,
    batch: int,
    owners: int,
    interval: int,
    lean: int | None,
    momentum: float,
    gradient: tuple[float, float],
) -> Work:
    often = 1 / interval
    layers = network.layers
    shared = owners > 1
    owner = balanced([cost((1, layer.d_g, layer.d_a)) for layer in layers], owners)
    products = [0.0] * owners
    memory = [0.0] * owners
    state = [FLOAT * network.others] * owners
    for layer, r in zip(layers, owner, strict=True):
        macs, touched = inverse_update(layer.d_a, lean)
        macs_g, touched_g = inverse_update(layer.d_g, None)
        products[r] += direction(layer, layer.d_g + often, lean) + often * (macs + macs_g)
        memory[r] += often * (touched + touched_g)
        state[r] += FLOAT * (layer.d_g * layer.d_a + inverse_state(layer.d_a, lean) + layer.d_g**2)
        state[r] += FLOAT * 2 * layer.d_g + COUNTERS  # s_g, y_g
    actions = batch * sum(2 * layer.T * layer.d_a for layer in layers)
    inputs = sum(layer.d_a for layer in layers)
    outputs = sum(layer.d_g for layer in layers)
    messages = (
        gradient,
        (FLOAT * (1 + often * inputs), 1.0),  # the loss, and where pairs are made the mean inputs
        (FLOAT * (inputs + 2 * outputs), often),
    )
    return Work(
        passes=first_pass(network, batch) + often * second_pass(network, batch),
        products=max(products) + often * actions,
        inverses=0,
        memory=momentum + max(memory),
        messages=messages,
        broadcast=FLOAT * (network.covered + often * inputs) * shared,
        owners=len(set(owner)) * shared,
        state=max(state),
    )


def all_reduce(size: float, ranks: int, machine: Machine) -> float:
    """Return the seconds of an all-reduce (13.2): a ring, or doubling for short messages.

    Source: patarasuk2009 (the ring), thakur2005 (both).
    """
    if ranks == 1:
        return 0.0
    tau = machine.latency
    b = machine.link
    ring = 2 * (ranks - 1) * (tau + size / ranks / b)
    return min(ring, ceil(log2(ranks)) * (tau + size / b))


def broadcasts(size: float, owners: int, ranks: int, machine: Machine) -> float:
    """Return the seconds in which ``owners`` hand out ``size`` bytes in all, side by side.

    The better of chains, in which a rank passes on what it has while more comes (derived here), and
    of binomial trees (thakur2005).
    """
    if ranks == 1 or not owners:
        return 0.0
    tau = machine.latency
    b = machine.link
    chain = (ranks - 2 + owners) * tau + size / b
    return min(chain, ceil(log2(ranks)) * (owners * tau + size / b))


def wire_seconds(work: Work, ranks: int, machine: Machine) -> float:
    """Return the seconds that a step spends in collectives."""
    reduced = sum(often * all_reduce(size, ranks, machine) for size, often in work.messages)
    turns = max(1.0, ranks / machine.cores)
    return turns * (reduced + broadcasts(work.broadcast, work.owners, ranks, machine))


Counts = dict[str, tuple[float, float]]
"""What a step dispatches, by method: operations once, and for every layer."""


def dispatched(counts: Counts, method: str, layers: int) -> float:
    """Return the number of operations in a step of a network with this many layers."""
    once, each = counts[method]
    return once + layers * each


def busy_seconds(work: Work, ranks: int, machine: Machine, operations: float) -> float:
    """Return the seconds that a step computes; ``operations`` are launched."""
    rates = (machine.passes, machine.products, machine.inverses, machine.memory)
    counts = (work.passes, work.products, work.inverses, work.memory)
    computing = sum(count / rate for count, rate in zip(counts, rates, strict=True))
    launching = operations * machine.launch
    turns = max(1.0, ranks / machine.cores)
    if machine.overlaps:
        return turns * max(computing, launching)
    return turns * (computing + launching)


def dear_layers(network: Network, batch: int) -> Sequence[Shape]:
    """Return the layers that call for the lean form, costliest first.

    With a matrix ``H_a`` their ``H_g M H_a`` has more multiply-adds than their own two passes, and
    more than a hundredth of those of the network's first pass.
    """
    least = first_pass(network, batch) / 100
    dear = [x for x in network.layers if direction(x, x.d_g, None) > max(5 * batch * x.macs, least)]
    return sorted(dear, key=lambda layer: -direction(layer, layer.d_g, None))
