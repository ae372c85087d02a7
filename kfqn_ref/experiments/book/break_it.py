"""Put a mutant through the laws and say which one refuses it, with what counterexample, in a few
lines.
"""

from textwrap import fill

from kfqn_ref.testing import Effort, run_check
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.report import explain

WIDTH = 60  # columns of text beside the labels


def break_it(mutant: str, *laws: str, examples: int = 100) -> str:
    """Return what each law says of a mutant: that it does not see it, or its smallest
    counterexample.

    Args:
        mutant: a name of ``MUTANTS``, "function:mistake".
        laws: names of checks, "chapter.law".
        examples: how many cases to try, for each law.

    Raises:
        KeyError: there is no such mutant or law.
    """
    broken = MUTANTS[mutant]
    lines = [f"mutant: {broken.mistake}"]
    for law in laws:
        result = run_check(REGISTRY[law], broken.implementation(), Effort(examples))
        if result.failure is None:
            lines.append(
                f"\n{law}: {result.outcome} in all {result.examples} cases, it does not see it."
            )
            continue
        lines.append(f"\n{law}: FAILED, after shrinking:")
        for label, text in explain(result)[:-1]:
            wrapped = "\n".join(fill(line, WIDTH) for line in text.splitlines())
            lines.append(f"    {label:<12} {wrapped}".replace("\n", "\n" + " " * 17))
    return "\n".join(lines)
