"""For every kernel the mistake of writing into its first argument: a correct result, a broken
caller.
"""

from typing import Any

from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.implementation import KERNELS
from kfqn_ref.testing.mutants.registry import mutant


def _register(name: str) -> None:
    original = reference.names()[name]

    def writes(first: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(first, *args, **kwargs)
        first.setflags(write=True)  # what an array of the caller's allows anyway
        if first.size:
            first.flat[0] += 1.0
        return result

    mutant(name, "writes into its argument")(writes)


for _name in KERNELS:
    _register(_name)
