"""`bench tune`: choose each method's hyperparameters on validation rows by the stated rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from typer import Exit, Option

from bench.cli.options import asking
from bench.core.boxes import SETTINGS


@asking(
    seeds="100,101,102,103",
    without=("limit", "lm_eval", "lm_eval_data", "study", "then", "probes", "track", "trace", "order"),
)
def tune(
    asked: Any,
    machine: Any,
    settings: Annotated[
        int, Option(help="Settings tried for each method and variant, a power of two; all on the first seed.")
    ] = SETTINGS,
    write: Annotated[
        bool,
        Option(
            "--write", help="Make what was chosen the preset there of the method or variant, in their settings files."
        ),
    ] = False,
) -> None:
    """Choose each method's hyperparameters on validation rows by the stated rule, without the oracle, on other seeds."""
    from bench.runs.search import tune_command

    raise Exit(1 if tune_command(replace(asked, study="tune"), machine, settings, write) else 0)
