"""What an accepted file was tried with, how sure that makes, and what was not tried."""

from collections.abc import Iterable

from kfqn_ref.testing.coverage import Visited
from kfqn_ref.testing.report import EXACT_OUTCOMES, CheckResult, Report
from kfqn_ref.testing.strategies.axes import AXES

SHARE = 0.01  # of the domain: the width of a mistake for which the power is stated


def power(cases: int, share: float = SHARE) -> float:
    """Return the probability that at least one of ``cases`` independent cases falls into a part of
    the domain that one case meets with probability ``share``.
    """
    return 1 - (1 - share) ** cases


def strongest(results: Iterable[CheckResult]) -> dict[str, CheckResult]:
    """For every function the law that was stated on the most cases of this function alone."""
    best: dict[str, CheckResult] = {}
    for result in results:
        if result.check.group != "laws" or len(result.check.requires) != 1 or not result.examples:
            continue
        (name,) = result.check.requires
        if name not in best or result.examples > best[name].examples:
            best[name] = result
    return best


def lines(report: Report) -> list[str]:
    """The verdict on an accepted implementation, a sentence a line."""
    tried = [result for result in report.results if result.outcome == "passed"]
    visited = Visited()
    for result in tried:
        visited.join(result.visited)
    found = [f"tried: {sum(r.examples for r in tried):,} cases of {len(tried)} laws"]
    found.append(f"  pairs of classes of the domain visited: {len(visited.pairs):,}")
    for axis in AXES:
        if axis in visited.classes:
            found.append(f"  {AXES[axis].words}: {_classes(list(visited.classes[axis]))}")
    chapters = {result.check.chapter for result in tried}
    if "calls" in chapters:
        found.append("  calls: by keyword and position, defaults, int, float32, no axes")
    if "layout" in chapters:
        found.append(_layouts_line(report))
    if "state" in chapters:
        found.append("  state: 1,100 calls in a row, two threads, kept results, changed arguments")
    found += _exact_lines(report)
    found += [_power_line(name, result) for name, result in strongest(tried).items()]
    found.append(
        "not tried: vectors of more than 200 entries, other types than "
        f"{report.precision}, NaN and infinities" + _missing(report)
    )
    return found


def _layouts_line(report: Report) -> str:
    if report.namespace == "numpy":
        return "  layouts: C, Fortran, strided, reversed, views, read-only"
    missing = ", ".join(report.missing_layouts)
    ending = f", but for those that they cannot have: {missing}" if missing else ""
    return f"  layouts: those of NumPy, as arrays of {report.namespace}{ending}"


def _exact_lines(report: Report) -> list[str]:
    """What was proved, what was only not refuted, and what could not be tried exactly."""
    lines = []
    for outcome in EXACT_OUTCOMES:
        by_note: dict[str, list[str]] = {}
        for result in report.results:
            if result.outcome == outcome:
                by_note.setdefault(result.note, []).append(result.check.name)
        lines += [f"{outcome} {note}: {', '.join(names)}" for note, names in by_note.items()]
    return lines


def _classes(values: list[object]) -> str:
    numbers = sorted(value for value in values if isinstance(value, int))
    if numbers and len(numbers) == len(values):
        return _ranges(numbers)
    return ", ".join(map(_class, values))


def _class(value: object) -> str:
    return "×".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _ranges(numbers: list[int]) -> str:
    """1, 2, 3, 5 as "1-3, 5"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(map(_range, runs))


def _range(run: list[int]) -> str:
    return f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0])


def _power_line(name: str, result: CheckResult) -> str:
    # rounded down: the sentence says "at least"
    percent = int(power(result.examples) * 10_000) / 100
    return (
        f"power: a mistake of {name} that is active on 1 % of the cases is met with ≥ "
        f"{percent:g} % "
        f"({result.examples} cases of {result.check.name})"
    )


def _missing(report: Report) -> str:
    absent = {
        name
        for result in report.results
        if result.outcome == "not provided"
        for name in result.check.requires
    }
    present = {
        name
        for result in report.results
        if result.outcome != "not provided"
        for name in result.check.requires
    }
    names = sorted(absent - present)
    return f"; functions that are not there: {', '.join(names)}" if names else ""
