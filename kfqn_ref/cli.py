"""The command ``kfqn``: a table of commands, each imported only when it is called.

A new command is one line of ``COMMANDS``: its name, the function that typer turns into the command,
and the sentence that ``kfqn --help`` shows (the first line of that function's docstring; a test
compares them). A command reports wrong use by ``typer.BadParameter`` (exit code 2), a broken claim
by ``typer.Exit(1)``, and writes only into its ``--out`` directory.
"""

import errno
from importlib import import_module
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from kfqn_ref._extras import needs

COMMANDS = {
    "verify": (
        "experiments.verify.command:command",
        "Train reference and torch side by side, and compare.",
    ),
    "train": (
        "experiments.train.command:command",
        "Train a network on real images, with checkpoints.",
    ),
    "first-look": (
        "experiments.first_look.command:command",
        "Compare KF-QN-CNN with SGD and Adam, tuned.",
    ),
    "bench": (
        "experiments.bench.command:command",
        "Measure a step beside SGD and the physical limit.",
    ),
    "check": (
        "testing.command:command",
        "Check an implementation of the method against its laws.",
    ),
    "race": (
        "experiments.race.command:command",
        "Race all optimizers on real images, tuned by one rule.",
    ),
    "course": (
        "course.command:app",
        "Hand out, grade in a sandbox and give back assignments.",
    ),
    "scale": (
        "experiments.scale.command:command",
        "Model a step on many GPUs; check it on local ranks.",
    ),
    "converge": (
        "experiments.converge.command:command",
        "Hold the convergence theorem to runs on digits.",
    ),
}


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


class LazyGroup(TyperGroup):
    """A group whose commands are stand-ins with a help line until one of them is called."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; a disk that has no room is wrong use, said in one sentence."""
        try:
            return super().invoke(ctx)
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            what = error.filename or "a file"
            raise typer.BadParameter(
                f"{what} cannot be written: {error.strerror}; the files before it are whole"
            ) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the real command in place of its stand-in, then resolve as usual."""
        if args and args[0] in COMMANDS:
            self.add_command(_load(args[0]), args[0])
        return super().resolve_command(ctx, args)


# commands that need more than the extra 'cli'
EXTRA_OF = {"check": "check", "converge": "check", "course": "course"}


def _load(name: str) -> Any:
    if name in EXTRA_OF:
        needs(EXTRA_OF[name], f"kfqn {name}")
    module, function = COMMANDS[name][0].split(":")
    found = getattr(import_module(f"kfqn_ref.{module}"), function)
    if isinstance(found, typer.Typer):  # a command with commands of its own
        return typer.main.get_command(found)
    single = typer.Typer(
        add_completion=False, rich_markup_mode="markdown", pretty_exceptions_show_locals=False
    )
    single.command(name)(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _name, (_target, _summary) in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kfqn_ref {version('kfqn_ref')}")
        raise typer.Exit


@app.callback()
def _main(
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Kronecker-factored quasi-Newton training: NumPy reference, torch optimizer, proof that they
    agree.

    Start with `kfqn verify --out DIR`, then `kfqn train --data digits --out DIR`.
    """
