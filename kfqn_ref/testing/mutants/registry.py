"""What a mutant is, and the list of all."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kfqn_ref.testing.adapters import reference
from kfqn_ref.testing.implementation import Implementation


@dataclass(frozen=True)
class Mutant:
    """A mistake: its name, what it is in words, the one function it replaces, and what it puts
    there.
    """

    name: str
    mistake: str
    replaces: str
    function: Callable[..., Any]

    def implementation(self) -> Implementation:
        """The reference with this mistake."""
        return Implementation(reference.names() | {self.replaces: self.function}, label=self.name)


MUTANTS: dict[str, Mutant] = {}


def mutant(replaces: str, mistake: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """List the decorated function as a mutant of ``replaces``."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{replaces}:{function.__name__}"
        if name in MUTANTS:
            raise ValueError(f"two mutants are named {name}")
        MUTANTS[name] = Mutant(name, mistake, replaces, function)
        return function

    return register
