"""The pytest plugin: ``pytest --kfqn-check FILE.py`` runs every law that applies as a test.

Without other arguments only the laws are collected. Exit codes are pytest's: 0, every law holds;
1, one is broken; 4, the file cannot be used. The file is loaded into pytest's own process;
``kfqn check`` runs it in another one, with a time limit.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kfqn_ref._extras import MissingExtra, needs


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of the plugin."""
    group = parser.getgroup("kfqn", "laws of Kronecker-factored quasi-Newton methods")
    group.addoption(
        "--kfqn-check",
        action="append",
        default=[],
        metavar="FILE.py",
        help="run the laws on this file, or on module:Object, as tests; its code runs as yours",
    )
    group.addoption(
        "--kfqn-examples", type=int, default=100, metavar="N", help="random examples a law"
    )


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    """Collect no files where only laws were asked for."""
    asked = config.args_source is pytest.Config.ArgsSource.ARGS
    if config.getoption("kfqn_check") and not asked:
        return True
    return None


def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Add a test for every law that applies to each target."""
    targets: Any = config.getoption("kfqn_check", default=[])
    examples: Any = config.getoption("kfqn_examples", default=100)
    for target in targets:
        items.extend(_laws_of(session, target, examples))


def _laws_of(session: pytest.Session, target: str, examples: int) -> Iterator[pytest.Item]:
    try:
        needs("check", "pytest --kfqn-check")
        from kfqn_ref.testing.implementation import UnusableImplementation, load
    except MissingExtra as error:
        raise pytest.UsageError(str(error)) from error
    from kfqn_ref.testing.parametrize import as_test
    from kfqn_ref.testing.runner import Effort, all_checks

    try:
        loaded = load(target)
    except UnusableImplementation as error:
        raise pytest.UsageError(f"--kfqn-check: {error}") from error
    for check in all_checks():
        if loaded.provides(check.requires):
            test = as_test(check, loaded, Effort(examples))
            name = f"{target}::{check.name}"
            yield Law.from_parent(session, name=name, nodeid=name, test=test)


class Law(pytest.Item):
    """One law of one target."""

    def __init__(self, *, test: Callable[[], None], **kwargs: Any):
        super().__init__(**kwargs)
        self._test = test

    def runtest(self) -> None:
        """State the law; a failure says what it teaches."""
        self._test()

    def reportinfo(self) -> tuple[Any, None, str]:
        """The target and the law."""
        return self.path, None, self.name
