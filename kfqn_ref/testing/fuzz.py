"""``make fuzz``: random networks, data and options on reference and torch, until a time budget is
used up.

Every law of a pass and of an optimizer step is tried on both implementations with new seeds, round
after round. A failure is made small and written as a test file, which from then on is part of the
suite.
"""

import hashlib
import itertools
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import Case, Check
from kfqn_ref.testing.runner import Effort, all_checks, search

TARGETS = (
    "kfqn_ref.testing.adapters.reference:REFERENCE",
    "kfqn_ref.testing.adapters.torch_kfqn:TorchKFQN",
)

TEMPLATE = '''"""Found by `make fuzz`: {check} on {target}; the smallest case.

{message}
"""

import numpy as np

from kfqn_ref import *  # noqa: F403  # the names in the printed network
from kfqn_ref.testing.checks import optimizer  # noqa: F401  # fills the registry
from kfqn_ref.testing.implementation import load
from kfqn_ref.testing.law import REGISTRY

CASE = {case}


def test_{name}() -> None:
    REGISTRY["{check}"](load("{target}"), CASE)
'''


def literal(value: Any) -> str:
    """Python source for a case: arrays with all digits, networks as they print."""
    if isinstance(value, np.ndarray):
        return f"np.array({value.tolist()!r}).reshape({value.shape!r})"
    if isinstance(value, tuple) and type(value) is tuple:
        return "(" + "".join(literal(entry) + ", " for entry in value) + ")"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(entry)}" for key, entry in value.items()) + "}"
    return repr(value)


def save(out: Path, check: str, target: str, case: Case, error: Exception) -> Path:
    """Write the case as a test file; its name follows from its content."""
    source = literal(dict(case)).replace("nan", "np.nan").replace("inf", "np.inf")
    name = (
        check.replace(".", "_") + "_" + hashlib.sha256(f"{target}{source}".encode()).hexdigest()[:8]
    )
    path = out / f"test_{name}.py"
    out.mkdir(parents=True, exist_ok=True)
    message = f"{type(error).__name__}: {error}"
    path.write_text(
        TEMPLATE.format(check=check, target=target, case=source, message=message, name=name),
        encoding="utf-8",
    )
    return path


def fuzz(
    seconds: float, out: Path, *, first_seed: int = 0, targets: Any = TARGETS
) -> tuple[int, list[Path]]:
    """Try the laws with new seeds until the time is used up.

    Returns:
        How many cases were tried, and the files of those that failed, at most one a law and target.
    """
    end = time.monotonic() + seconds
    tried = 0
    failed = {}
    checks = [check for check in all_checks() if check.chapter in ("network", "optimizer")]
    loaded = {target: load(target) for target in targets}
    for seed in itertools.count(first_seed):
        for check, target in ((c, t) for c in checks for t in targets):
            if time.monotonic() >= end:
                return tried, list(failed.values())
            if (check, target) in failed or not loaded[target].provides(check.requires):
                continue
            found = _try(check, loaded[target], seed)
            tried += found.tried
            if found.case is not None and found.error is not None:
                failed[check, target] = save(out, check.name, target, found.case, found.error)
    raise AssertionError("unreachable: seeds do not end")


def _try(check: Check, implementation: Any, seed: int) -> Any:
    return search(check, implementation, Effort(20 * check.cost, seed))


def command(
    seconds: Annotated[float, typer.Option(min=0.0, help="Time budget.")] = 300.0,
    out: Annotated[
        Path, typer.Option(help="Where failing cases are written, as tests.", file_okay=False)
    ] = Path("tests/regressions"),
    seed: Annotated[
        int, typer.Option(help="First seed; a later run with another one tries other cases.")
    ] = 0,
) -> None:
    """Try random networks on reference and torch; exit code 1 and a test file where a law is
    broken.
    """
    console = Console(highlight=False)
    tried, files = fuzz(seconds, out, first_seed=seed)
    console.print(f"{tried} cases tried, {len(files)} laws broken")
    for path in files:
        console.print(f"  {path}")
    if files:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(command)
