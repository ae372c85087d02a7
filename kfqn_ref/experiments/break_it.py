"""Put a mutant through the laws and say, in a few lines, which one refuses it and with what counterexample."""

from kfqn_ref.testing import Effort, run_check
from kfqn_ref.testing.law import REGISTRY
from kfqn_ref.testing.mutants import MUTANTS
from kfqn_ref.testing.report import explain


def break_it(mutant: str, *laws: str, examples: int = 100) -> str:
    """Return what each law says of a mutant: that it does not see it, or its smallest counterexample.

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
                f"\n{law}: {result.outcome} in all {result.examples} cases. This law does not see it."
            )
            continue
        lines.append(f"\n{law}: FAILED, after shrinking:")
        for label, text in explain(result)[:-1]:
            lines.append(f"    {label:<12} {text}".replace("\n", "\n" + " " * 17))
    return "\n".join(lines)
