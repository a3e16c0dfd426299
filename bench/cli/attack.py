"""`bench attack`: what a method has left is tried by relearning, rounding, sampling and prompts, and so is the oracle."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from typer import Exit, Option

from bench.cli.options import asking, split_words

Attacks = Annotated[
    str,
    Option("--attacks", "-a", help="Comma-separated; `ls attacks` lists them: relearn, int4, nf4, leak, prefill ..."),
]


@asking(without=("then", "lm_eval", "lm_eval_data", "probes", "trace", "order"))
def attack(asked: Any, machine: Any, attacks: Attacks = "relearn,int4,nf4,leak,prefill") -> None:
    """Attack the methods that were run, and always target, oracle and the model before exposure; exit 1 where one failed."""
    from bench.runs.launch import run_command

    names = tuple(split_words(attacks))
    problems = () if names else ("--attacks needs at least one name (`python -m bench ls attacks` lists them).",)
    raise Exit(1 if run_command(replace(asked, attacks=names, problems=(*asked.problems, *problems)), machine) else 0)
