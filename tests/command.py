"""The command ``kfqn`` as the tests call it."""

from typing import Any

from typer.testing import CliRunner

from kfqn_ref.cli import app


def kfqn(*arguments: object) -> Any:
    """Run ``kfqn`` in this process; output and exit code."""
    return CliRunner().invoke(
        app, [str(argument) for argument in arguments], env={"COLUMNS": "200"}
    )


def words(result: Any) -> str:
    """The output in one line, without the frame around errors."""
    return " ".join(result.output.replace("│", " ").split())
