"""The command line. Heavy imports stand inside the commands, so that help and listings come at once."""

from __future__ import annotations

import errno
import inspect
import io
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, ClassVar

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
    "report": "results:report",
    "table": "results:table",
    "plot": "results:plot",
    "claims": "studies:claims",
    "reproduce": "studies:reproduce",
    "ls": "look:ls",
    "show": "look:show",
    "compare": "look:compare",
    "doctor": "look:doctor",
    "prune": "prune:prune",
    "new": "new:new",
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
HELP: dict[str, Any] = {"help_option_names": ["-h", "--help"]}
PLUGGED = ("run", "plan", "attack", "tune", "ls", "rescore", "exec")
"""Commands that take methods, tasks and metrics from files."""


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
        """The command of a name or of how only one begins, or None."""
        meant = [name for name in COMMANDS if name.startswith(cmd_name) and name not in HIDDEN]
        if cmd_name not in COMMANDS:
            if len(meant) != 1:
                return None
            [cmd_name] = meant
        module, _, function = COMMANDS[cmd_name].partition(":")
        built = typer.Typer(**LOOK)
        register = built.command(cmd_name, cls=PlacedCommand, hidden=cmd_name in HIDDEN, context_settings=HELP)
        command = getattr(import_module(f"bench.cli.{module}"), function)
        register(with_plugins(command) if cmd_name in PLUGGED else command)
        return typer.main.get_command(built)


Plugin = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="A Python file with methods, tasks or metrics of your own; can be repeated."
    ),
]


def with_plugins(command: Callable[..., None]) -> Callable[..., None]:
    """A command that takes ``--plugin`` as well, and knows what is in these files when it begins."""

    def wrapped(plugin: Plugin = None, **given: Any) -> None:
        from bench.core import registry

        for file in plugin or ():
            registry.use_file(file)
        command(**given)

    own = inspect.signature(command, eval_str=True).parameters
    option = inspect.Parameter("plugin", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Plugin)
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own.values()]
    wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
    wrapped.__signature__ = inspect.Signature([*parameters, option])  # type: ignore[attr-defined]
    wrapped.__annotations__ = {each.name: each.annotation for each in (*parameters, option)}
    return wrapped


app = typer.Typer(name="bench", cls=Commands, no_args_is_help=True, context_settings=HELP, **LOOK)


def tell_version(asked: bool) -> None:
    """Print the versions that make a result, and end."""
    if asked:
        from bench.core.provenance import commit_of_checkout, installed_version

        commit, dirty = commit_of_checkout()
        state = f", commit {commit[:10]}{' with changes' if dirty else ''}" if commit else ""
        typer.echo(f"msa-bench {installed_version('msa-bench') or '(not installed)'}{state}")
        names = ("torch", "transformers")
        versions = [f"{name} {installed_version(name) or 'not installed'}" for name in names]
        typer.echo(f"Python {platform.python_version()}, {', '.join(versions)}")
        raise typer.Exit(0)


@app.callback()
def describe(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=tell_version, help="Say the versions and end.")
    ] = False,
) -> None:
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
