"""The command `backstay`: each package's commands, loaded when they are called and not before.

A package offers commands by a module `cli` with an attribute `app`, a `typer.Typer`. Exit codes: 2 misuse,
3 a dependency did not answer, 4 the outcome is unknown, 1 any other error of the library.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from backstay import __version__
from backstay.errors import BackstayError, Misuse, OutcomeUnknown, Unavailable
from backstay.url import mask, require

if TYPE_CHECKING:
    import typer

__all__ = ["exit_code", "main", "program"]

_COMMANDS = {
    "locks": ("locks", "Look at locks, semaphores and elections, and break what a dead holder left."),
    "txn": ("txn", "List, retry and recover transactions."),
    "switches": ("resilience.switch_service", "Run the switch service; read and turn switches."),
    "write-behind": (
        "resilience.write_behind",
        "Bring operations of a cache to its database; give the turn and take it.",
    ),
    "sharding": ("sharding", "Look at layouts and move data between shards."),
}
"""A command's name, the package that has it, and the line that the list of commands shows."""

_HERE = Path(__file__).parent


def main() -> None:
    """Run the command line; the console script `backstay` is this."""
    try:
        program()(standalone_mode=True)
    except BackstayError as error:
        text = " ".join(mask(str(error)).split())  # drivers put several lines into their errors
        print(f"backstay: {text or error.title}", file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: BackstayError) -> int:
    """Return the exit code that says which kind of error it was."""
    if isinstance(error, Misuse):
        return 2
    if isinstance(error, Unavailable):
        return 3
    return 4 if isinstance(error, OutcomeUnknown) else 1


def program() -> typer.Typer:
    """Return the whole command line; packages that have no commands are not in it.

    Raises:
        MissingExtra: typer is not installed.
    """
    require("typer", "cli")
    import typer

    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,  # frames' locals may hold passwords
        help="Backstay: locks, transactions, sharding and resilience.",
    )

    @app.callback()
    def backstay() -> None: ...

    @app.command()
    def version() -> None:
        """Print the version."""
        print(__version__)

    for name, (package, purpose) in _COMMANDS.items():
        folder = _HERE.joinpath(*package.split("."))
        if any((folder / file).exists() for file in ("cli.py", "cli/__init__.py")):
            _add(app, name, f"backstay.{package}.cli", purpose)
    return app


def _add(app: typer.Typer, name: str, module: str, purpose: str) -> None:
    """Add a command that hands its arguments, `--help` included, to the package's own app."""
    import typer

    def hand_over(context: typer.Context) -> None:
        inner: typer.Typer = importlib.import_module(module).app
        typer.main.get_command(inner).main(args=context.args, prog_name=f"backstay {name}")

    # typer evaluates the annotation among this module's names, where typer is there for type checkers only
    hand_over.__annotations__["context"] = typer.Context
    passed_on: dict[str, object] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
    app.command(name, help=purpose, context_settings=passed_on, add_help_option=False)(hand_over)
