"""Sessions for the matrix of versions. Each calls the Makefile's commands in an environment of its
own: ``nox --list`` names them, ``nox --session lint`` runs one.
"""

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"  # the Makefile makes the environment
nox.options.sessions = ["lint"]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")


def make(session: nox.Session, target: str, name: str, *variables: str) -> None:
    """Run a target of the Makefile in the environment ``.venv-name``."""
    session.run("make", target, f"VENV=.venv-{name}", *variables, external=True)


@nox.session
def lint(session: nox.Session) -> None:
    """Rules, format and types."""
    make(session, "lint", "lint")


def tests_on(python: str) -> None:
    """Add the session that runs the suite on one version of Python."""

    @nox.session(name=f"tests-{python}")
    def tests(session: nox.Session) -> None:
        make(session, "test", python, f"PYTHON=python{python}")


for each in PYTHONS:
    tests_on(each)


@nox.session
def newest(session: nox.Session) -> None:
    """The suite with the newest versions that the ranges allow, and the package from outside."""
    make(session, "test", "newest", "CONSTRAINTS=/dev/null")
    make(session, "wheel", "newest", "CONSTRAINTS=/dev/null", "ARGS=--versions newest")


@nox.session
def lowest(session: nox.Session) -> None:
    """The package from outside, with the lowest versions that the ranges allow."""
    make(session, "wheel", "lowest", "ARGS=--versions lowest")


@nox.session
def wheel(session: nox.Session) -> None:
    """Wheel and sdist, used outside of the checkout."""
    make(session, "wheel", "wheel")


@nox.session
def trainers(session: nox.Session) -> None:
    """KFQN in the loops of other libraries."""
    make(session, "trainers", "trainers")


@nox.session
def docs(session: nox.Session) -> None:
    """The book, and the tests of its pages."""
    make(session, "book-test", "docs")


@nox.session
def constraints(session: nox.Session) -> None:
    """Whether constraints.txt pins exactly what is needed."""
    make(session, "constraints", "constraints")


@nox.session
def findings(session: nox.Session) -> None:
    """Whether the surprises of ``findings`` still happen."""
    for script in sorted(Path("findings").glob("*.sh")):
        session.run("bash", str(script), external=True)
