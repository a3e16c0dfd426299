"""The command line. Heavy imports stand inside the commands, so that help and listings come at once."""

from __future__ import annotations

import os
import sys

import typer

from bench.cli import evaluate, look, models, results, run, studies, tune
from bench.core.errors import UserError
from bench.core.texts import shown

app = typer.Typer(
    name="bench",
    help="Compare unlearning methods with the oracle that never saw the forget set.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
COMMANDS = (
    ("run", run.run),
    ("plan", run.plan),
    ("tune", tune.tune),
    ("ablate", studies.ablate),
    ("eval", evaluate.eval_),
    ("leaderboard", results.leaderboard),
    ("plot", results.plot),
    ("claims", studies.claims),
    ("reproduce", studies.reproduce),
    ("ls", look.ls),
    ("show", look.show),
    ("doctor", look.doctor),
    ("publish", results.publish),
    ("import", results.import_),
    ("rescore", results.rescore),
    ("msa", models.msa),
    ("fetch", models.fetch),
    ("continue", models.continue_),
)
"""Name -> function, in the order of the help."""
for name, command in COMMANDS:
    app.command(name)(command)
app.command("exec", hidden=True)(run.exec_)

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def main() -> None:
    """Run the command line; a user's mistake is printed without a traceback and exits 2."""
    try:
        app(prog_name="python -m bench")
    except UserError as error:
        for problem in error.problems:
            typer.echo(f"error: {shown(problem)}", err=True)
        sys.exit(2)
    except (KeyboardInterrupt, SystemExit) as end:
        if isinstance(end, SystemExit) and end.code != INTERRUPTED:  # typer makes an exit of an interruption
            raise
        typer.echo("\nInterrupted. What was finished is kept; the same command goes on from there.", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os._exit(0)
