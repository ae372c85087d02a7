"""The kill matrix: which check rejects which mutant, computed, as JSON, and as a guess at a
stranger's mistake.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from kfqn_ref.testing.implementation import Implementation
from kfqn_ref.testing.law import Check, Violation
from kfqn_ref.testing.report import CheckResult, Report, readable
from kfqn_ref.testing.runner import Effort, all_checks, run_check

STORED = "kill_matrix.json"
SEEDS = (None, *range(1, 12))


@dataclass(frozen=True)
class KillMatrix:
    """For every mutant: what it is, the function it replaces, and the names of the checks that
    reject it.
    """

    mistakes: dict[str, str]
    replaces: dict[str, str]
    kills: dict[str, tuple[str, ...]]
    checks: tuple[str, ...]

    @property
    def survivors(self) -> tuple[str, ...]:
        """Mutants that no check rejects."""
        return tuple(name for name, killers in self.kills.items() if not killers)

    @property
    def idle(self) -> tuple[str, ...]:
        """Checks that reject no mutant."""
        killing = {killer for killers in self.kills.values() for killer in killers}
        return tuple(name for name in self.checks if name not in killing)

    def to_json(self) -> str:
        """The matrix, one mutant a line."""
        head = json.dumps({"checks": self.checks}, ensure_ascii=False)[1:-1]
        rows = (
            f"  {json.dumps(name)}: "
            + json.dumps(
                {
                    "mistake": self.mistakes[name],
                    "replaces": self.replaces[name],
                    "killed_by": killers,
                },
                ensure_ascii=False,
            )
            for name, killers in self.kills.items()
        )
        return "{" + head + ',\n "mutants": {\n' + ",\n".join(rows) + "\n }}\n"

    @classmethod
    def from_json(cls, text: str) -> "KillMatrix":
        """Read what :meth:`to_json` wrote."""
        data = json.loads(text)
        mutants = data["mutants"]
        return cls(
            {name: entry["mistake"] for name, entry in mutants.items()},
            {name: entry["replaces"] for name, entry in mutants.items()},
            {name: tuple(entry["killed_by"]) for name, entry in mutants.items()},
            tuple(data["checks"]),
        )


def compute(
    names: Iterable[str] | None = None,
    *,
    examples: int = 20,
    progress: Callable[[str], None] | None = None,
) -> KillMatrix:
    """Put every mutant through every check that uses the function it replaces."""
    from kfqn_ref.testing.mutants import MUTANTS

    wanted = MUTANTS if names is None else names
    chosen = [MUTANTS[name] for name in wanted]
    checks = all_checks(errors=True)
    kills: dict[str, tuple[str, ...]] = {}
    for mutant in chosen:
        implementation = mutant.implementation()
        relevant = [check for check in checks if mutant.replaces in check.requires]
        kills[mutant.name] = tuple(
            check.name for check in relevant if _always_rejects(check, implementation, examples)
        )
        if progress is not None:
            progress(mutant.name)
    mistakes = {mutant.name: mutant.mistake for mutant in chosen}
    replaces = {mutant.name: mutant.replaces for mutant in chosen}
    return KillMatrix(mistakes, replaces, kills, tuple(check.name for check in checks))


def _always_rejects(check: Check, implementation: Implementation, examples: int) -> bool:
    """Whether a check rejects a mutant whatever the seed: shown for a few seeds here, and for many
    by :mod:`kfqn_ref.testing.power`.
    """
    efforts = (Effort(examples, seed, shrink=False) for seed in SEEDS)
    return all(run_check(check, implementation, e).outcome == "failed" for e in efforts)


@cache
def stored() -> KillMatrix | None:
    """The matrix shipped with the package, or None where it has not been computed."""
    path = files("kfqn_ref.testing") / STORED
    return KillMatrix.from_json(path.read_text(encoding="utf-8")) if path.is_file() else None


def diagnose(report: Report, matrix: KillMatrix | None = None) -> Report:
    """Add to every failure the mistakes that fail most nearly the same checks."""
    matrix = matrix or stored()
    if matrix is None:
        return report
    tried = {result.check.name for result in report.results if result.outcome != "not provided"}
    failed = {result.check.name for result in report.failed}
    results = [_diagnosed(result, matrix, tried, failed) for result in report.results]
    return replace(report, results=tuple(results))


def _diagnosed(
    result: CheckResult, matrix: KillMatrix, tried: set[str], failed: set[str]
) -> CheckResult:
    if result.failure is None:
        return result
    requires = set(result.check.requires)
    scores: dict[str, float] = {}
    for name, killers in matrix.kills.items():
        kills = set(killers) & tried
        if result.check.name in kills and matrix.replaces[name] in requires:
            concerned = {check for check in failed if shares(check, matrix.replaces[name])}
            scores[name] = len(kills & concerned) / len(kills | concerned)
    best = max(scores.values(), default=0.0)
    tied = [name for name, score in scores.items() if score == best]
    ranked = sorted(scores, key=lambda name: -scores[name])
    same = [name for name in ranked if _same_answer(result, name)]  # says more than the checks do
    likeliest = tuple(matrix.mistakes[name] for name in (same or tied))[:3]
    return replace(result, failure=replace(result.failure, looks_like=likeliest))


def _same_answer(result: CheckResult, name: str) -> bool:
    """Whether the mutant gives on the counterexample what the failing implementation gave."""
    from kfqn_ref.testing.mutants import MUTANTS

    if result.failure is None or result.failure.case is None or name not in MUTANTS:
        return False
    try:
        result.check(MUTANTS[name].implementation(), result.failure.case)
    except Violation as violation:
        return (violation.left, readable(violation.lhs)) == (
            result.failure.left,
            result.failure.lhs,
        )
    except Exception:  # a mutant may fail in any way; then it does not look like this failure
        return False
    return False


def shares(check: str, function: str) -> bool:
    """Whether a check calls this function."""
    from kfqn_ref.testing.law import REGISTRY

    return function in REGISTRY[check].requires if check in REGISTRY else False


def kill_tests(matrix: KillMatrix) -> list[tuple[str, str]]:
    """(check, mutant) so that every mutant and every check occurs: what the full matrix claims, at
    less cost.
    """
    chosen: list[tuple[str, str]] = []
    seen: set[str] = set()
    for mutant, killers in matrix.kills.items():
        check = next((killer for killer in killers if killer not in seen), killers[0])
        chosen.append((check, mutant))
        seen.add(check)
    for check in set(matrix.checks) - seen:
        chosen.append((check, next(m for m, killers in matrix.kills.items() if check in killers)))
    return sorted(chosen)


def write(names: Sequence[str] = (), *, examples: int = 20) -> KillMatrix:
    """Compute the rows of these mutants, of all by default, and write the matrix to where
    :func:`stored` reads it.
    """
    from rich.progress import track

    from kfqn_ref.testing.mutants import MUTANTS

    old = stored() if names else None
    chosen = [
        name for name in MUTANTS if not names or name in names or (old and name not in old.kills)
    ]
    rows = {
        name: compute([name], examples=examples) for name in track(chosen, description="mutants")
    }
    kept = {
        name: old.kills[name] for name in MUTANTS if old and name in old.kills and name not in rows
    }
    kills = kept | {name: row.kills[name] for name, row in rows.items()}
    matrix = KillMatrix(
        {name: mutant.mistake for name, mutant in MUTANTS.items()},
        {name: mutant.replaces for name, mutant in MUTANTS.items()},
        {name: kills[name] for name in MUTANTS},
        tuple(check.name for check in all_checks(errors=True)),
    )
    target = files("kfqn_ref.testing") / STORED
    with open(str(target), "w", encoding="utf-8") as out:
        out.write(matrix.to_json())
    stored.cache_clear()
    return matrix


if __name__ == "__main__":
    computed = write(sys.argv[1:])
    print(f"{len(computed.kills)} mutants, {len(computed.checks)} checks")
    print(f"survivors: {', '.join(computed.survivors) or 'none'}")
    print(f"checks that reject no mutant: {', '.join(computed.idle) or 'none'}")
