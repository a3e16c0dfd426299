"""The command line. Heavy imports stand inside the commands, so that help and listings come at once."""

from __future__ import annotations

import errno
import io
import os
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from bench.cli.options import store_at
from bench.core.errors import UserError
from bench.core.places import default_root
from bench.core.scrub import hide_secrets
from bench.core.signals import Ending
from bench.core.texts import shown
from bench.core.trouble import explain_trouble

COMMANDS = {
    "run": "run:run",
    "plan": "run:plan",
    "attack": "attack:attack",
    "status": "run:status",
    "tune": "tune:tune",
    "ablate": "studies:ablate",
    "eval": "evaluate:eval_",
    "leaderboard": "results:leaderboard",
    "plot": "results:plot",
    "claims": "studies:claims",
    "reproduce": "studies:reproduce",
    "ls": "look:ls",
    "show": "look:show",
    "doctor": "look:doctor",
    "prune": "prune:prune",
    "publish": "results:publish",
    "import": "results:import_",
    "rescore": "results:rescore",
    "msa": "models:msa",
    "fetch": "models:fetch",
    "continue": "models:continue_",
    "exec": "run:exec_",
}
"""Name -> module of this package and function, in the order of the help."""
HIDDEN = ("exec",)
"""Commands that other commands call."""
LOOK: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}
"""How typer shows help and errors: plainly."""


class PlacedCommand(TyperCommand):
    """A command whose options' folders are known when it fails."""

    places: ClassVar[dict[str, Path]] = {}
    """Option -> folder of the command that was called."""

    def invoke(self, ctx: Any) -> Any:
        """Call the command."""
        options = [(parameter.opts[0], ctx.params.get(parameter.name)) for parameter in self.params]
        self.places.clear()
        for option, given in options:
            for place in given if isinstance(given, list | tuple) else [given]:
                if option.startswith("-") and isinstance(place, Path):
                    self.places[option] = store_at(place) if option == "--store" else place
        return super().invoke(ctx)


class Commands(TyperGroup):
    """The commands, of which only the one that is asked for is imported and built."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = dict.fromkeys(COMMANDS)  # type: ignore[assignment]  # names alone

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of a name, or None."""
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name].partition(":")
        built = typer.Typer(**LOOK)
        register = built.command(cmd_name, cls=PlacedCommand, hidden=cmd_name in HIDDEN)
        register(getattr(import_module(f"bench.cli.{module}"), function))
        return typer.main.get_command(built)


app = typer.Typer(name="bench", cls=Commands, no_args_is_help=True, **LOOK)


@app.callback()
def describe() -> None:
    """Compare unlearning methods with the oracle that never saw the forget set."""


REFUSED, FAILED = 2, 1
"""Exit codes: of what the user can mend, and of a run or a command that failed."""


def main() -> None:
    """Run the command line, and exit with its code."""
    raise SystemExit(call())


def call() -> int:
    """Run the command line; the exit code.

    What the user can mend (a mistake, a full disk) is printed without a traceback and is 2.
    """
    code = run_app()
    try:
        sys.stdout.flush()
    except OSError as error:
        sys.stdout = io.StringIO()  # else Python tries again when it ends
        if code == 0 and error.errno != errno.EPIPE:
            return tell_errors([explain_trouble(error)], REFUSED)
    return code


def run_app() -> int:
    """Run the command line, and say what went wrong; the exit code."""
    try:
        app(prog_name="python -m bench")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILED if end.code else 0
    except UserError as error:
        return tell_errors(error.problems, REFUSED)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        if sentence := explain_trouble(error, places_of_a_command()):
            return tell_errors([sentence], REFUSED)
        if not Ending.signal:
            typer.echo(hide_secrets(traceback.format_exc()), err=True)  # a mistake of ours
        return FAILED
    return 0


def tell_errors(problems: Sequence[str], code: int) -> int:
    """Print sentences about what went wrong, without secrets; the exit code. What came of a signal needs none."""
    with suppress(OSError):  # standard error may be what is full
        for problem in problems if not Ending.signal else ():
            typer.echo(f"error: {hide_secrets(shown(problem))}", err=True)
    return code


def places_of_a_command() -> dict[str, Path]:
    """Where the command that was called reads and writes: its options' places, and those that need no option."""
    return PlacedCommand.places | {
        "the store": default_root(),
        "the folder of temporary files": temporary_root(),
    }


def temporary_root() -> Path:
    """Where temporary files go; the first choice, without trying to write there."""
    return Path(os.environ.get("TMPDIR") or "/tmp")
