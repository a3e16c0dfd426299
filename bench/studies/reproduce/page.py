"""The page of a table that was run, and `docs/reproduce.md`: both from result files and recipes alone."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.core.errors import UNUSABLE, UserError, shorten_reason
from bench.core.types import Json
from bench.records.markdown import as_cell
from bench.records.plain import MOST_STUDY, read_plain
from bench.studies.reproduce.asking import models_of
from bench.studies.reproduce.gate import measured_text
from bench.studies.reproduce.needs import estimate_needs
from bench.studies.reproduce.published import NR, TAGS, PublishedTable
from bench.studies.reproduce.recipe import Recipe
from bench.studies.reproduce.recipes import RECIPES

SMOKE = "A random model on generated rows: this reproduces nothing. It shows that the recipe runs from end to end."
NO = "NOT A REPRODUCTION"
COLUMNS = 80
CODE, GLUE = re.compile(r"`[^`]*`"), "\0"
PUBLISHED = "reproduce"
"""Folder of published results, below `results`."""


def render_result(result: Json) -> str:
    """The page of one table."""
    smoke = result["scale"] == "smoke"
    parts = [
        SMOKE if smoke else "",
        f"# {result['name']}: {result['title']}",
        f"Published: {result['source']}." + (f" Note: {result['note']}." if result["note"] else ""),
        f"Made by `{result['command']}`, seeds {', '.join(map(str, result['seeds']))}"
        f"{made_by(result['provenance'])}. Each cell: the published number with its tag, then what came out here (mean over "
        "seeds) and the difference; of p-values the difference is in powers of ten.",
        "Tags: " + "; ".join(f"[{tag}] {meaning}" for tag, meaning in TAGS.items()) + ".",
        *(text for panel in result["panels"] for text in panel_parts(result, panel)),
        *columns_part(result),
        *(["## Replaced at smoke scale", bullets(result["replaced"])] if smoke else []),
        "## Assumptions",
        assumptions(result),
        "Published and not run here: " + "; ".join(result["others"]) + "." if result["others"] else "",
    ]
    return lay_out(parts)


def made_by(provenance: Json) -> str:
    """The commit, and whether it was changed."""
    commit = str(provenance.get("commit") or "")[:12]
    return f", commit {commit}{' with changes' if provenance.get('dirty') else ''}" if commit else ""


def verdict_text(panel: Json) -> str:
    """The gate's verdict in one line."""
    outcome, reasons = panel["gate"]["outcome"], "; ".join(panel["gate"]["reasons"])
    caveat = f", {panel['gate']['caveat']}" if panel["gate"]["caveat"] else ""
    if outcome == "failed":
        return f"**{NO}{caveat}: {reasons}**"
    if outcome == "passed":
        others = [row["row"] for row in panel["rows"] if row["changed"]]
        but = f", but {', '.join(others)}, changed by the user" if others else ""
        return f"Calibration gate passed{caveat}: {reasons}. The rows of methods count as a reproduction{caveat}{but}."
    if outcome == "can't be passed":
        return f"**{NO}{caveat}: the calibration gate can't be passed, as {reasons}.** Read the rows side by side, no more."
    return f"Calibration gate not applicable: {reasons}."


def panel_parts(result: Json, panel: Json) -> list[str]:
    """Heading, verdict, table and notes of one scenario."""
    names = [column["published"] for column in result["columns"]]
    lines = []
    for row in panel["rows"]:
        cells = [cell_text(row["cells"][name], result["scale"] == "full") for name in names]
        here = (row["method"] or row["status"]) + (", changed by the user" if row["changed"] else "")
        lines.append([row["row"], here, *cells])
    undone = [f"{row['row']}: {row['status']}." for row in panel["rows"] if row["method"] and row["status"] != "done"]
    return [
        f"## {panel['name']}",
        verdict_text(panel),
        f"{panel['source']}. Model here: {panel['model']}."
        + (f" Data here: {panel['label']}." if panel["label"] else ""),
        plain_table(["row", "here", *names], lines),
        bullets(panel["gate"]["checks"]),
        bullets(undone),
        panel["note"],
    ]


def cell_text(cell: Json, compared: bool) -> str:
    """``.43 [A] / 0.44 (+0.01)``; without the difference where it means nothing."""
    published = NR if cell["published"] == NR else f"{cell['published']} [{cell['tag']}]"
    if "measured" not in cell:
        return f"{published} / -"
    value = measured_text(cell["measured"]["value"])
    if "difference" not in cell or not compared:
        return f"{published} / {value}"
    return f"{published} / {value} ({cell['difference']:+.2f}{'' if cell['within'] else ', outside'})"


def columns_part(result: Json) -> list[str]:
    """A line for each column: the score it stands for, and how far two measurements of it may lie apart."""
    lines = []
    for column in result["columns"]:
        score = f"`{column['score']}`" if column["score"] else "not measured here"
        lines.append([column["published"], score, column["tolerance"], column["note"]])
    return ["## Columns", plain_table(["column", "score here", "tolerance", "note"], lines)]


def plain_table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown, its columns to the left; whatever stands in a cell stays in it."""
    rule = "|" + "---|" * len(head)
    head, *rows = (f"| {' | '.join(map(as_cell, cells))} |" for cells in (head, *lines))
    return "\n".join([head, rule, *rows])


def assumptions(result: Json) -> str:
    """A list of what the source doesn't report, each with our choice and the flag that changes it."""
    given = "".join(f"\n- changed by the user: `--set {text}`" for text in result["sets"])
    return bullets(assumption_line(a["about"], a["choice"], a["flag"]) for a in result["assumptions"]) + given


def assumption_line(about: str, choice: str, flag: str) -> str:
    """An assumption as a line of the page: the choice, its reason, and the flag that changes it."""
    return f"{about}: {choice} ({f'`{flag}`' if flag else 'nothing here changes it'})"


def bullets(lines: Iterable[str]) -> str:
    """The lines as a bulleted Markdown list."""
    return "\n".join(wrap_text(line, "- ", "  ") for line in lines)


def wrap_text(text: str, first: str = "", others: str = "") -> str:
    """A paragraph in lines that a terminal holds; what stands between backticks stays whole, as it is typed."""
    whole = CODE.sub(lambda found: found[0].replace(" ", GLUE), text)
    lines = textwrap.wrap(
        whole, COLUMNS, initial_indent=first, subsequent_indent=others, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(lines).replace(GLUE, " ")


def lay_out(parts: Iterable[str]) -> str:
    """Parts of a page but the empty ones, its paragraphs wrapped; headings, tables and lists are as they are."""
    made = [part if part.startswith(("#", "|", "- ")) else wrap_text(part) for part in parts if part]
    return "\n\n".join(made) + "\n"


def summary_lines(result: Json) -> list[str]:
    """Lines for the terminal about a finished reproduction."""
    if result["scale"] == "smoke":
        return [SMOKE]
    return [f"{panel['name']}: {verdict_text(panel).replace('**', '')}" for panel in result["panels"]]


# docs/reproduce.md


def list_recipes(as_json: bool) -> str:
    """The text of `bench reproduce --list`: a line for each table."""
    if as_json:
        return json.dumps([recipe.row() for recipe in RECIPES], indent=1)
    wide = max(len(recipe.name) for recipe in RECIPES) + 2
    texts = {r.name: f"{r.title}: {r.status}" + (f" ({r.note})" if r.note else "") for r in RECIPES}
    return "\n".join(wrap_text(text, f"{name:{wide}}", " " * wide) for name, text in texts.items())


def overview_page(results: Path) -> str:
    """Every recipe: status, hardware, command, published rows that we lack, and what was measured here."""
    measured = {recipe.name: published_result(results, recipe) for recipe in RECIPES}
    lines = [[f"`{r.name}`", r.title, r.status, _short_status(r, measured[r.name])] for r in RECIPES]
    parts = [
        "# Published tables as one command each",
        "Written by `python -m bench reproduce --page`; do not edit. `python -m bench reproduce NAME` runs a table, "
        "`--dry-run` says what that takes, `--scale smoke` runs it with a random tiny model in under a minute. A run shows "
        "the published rows beside its own, and counts as a reproduction only where target and oracle came out as "
        "published.",
        plain_table(["name", "table", "status", "measured here"], lines),
        *(text for recipe in RECIPES for text in overview_section(recipe, measured[recipe.name])),
    ]
    return lay_out(parts)


def published_result(results: Path, recipe: Recipe) -> Json | None:
    """The published result of a recipe, if there is one; `UserError` where its file is no such result."""
    file = results / PUBLISHED / f"{recipe.name}.json"
    if not os.path.lexists(file):
        return None
    try:
        result = dict(read_plain(file, MOST_STUDY))
        if result["name"] != recipe.name:
            raise ValueError(f"it is the result of {result['name']!r}")
        render_result(result)
    except UNUSABLE as error:
        said = (
            shorten_reason(error) if type(error) is ValueError else f"{type(error).__name__}: {shorten_reason(error)}"
        )
        raise UserError(
            f"{PUBLISHED}/{file.name} is not a readable result ({said}): delete it and run `python -m bench reproduce "
            f"{recipe.name}` again."
        ) from error
    return result


def _short_status(recipe: Recipe, result: Json | None) -> str:
    if not recipe.panels:
        return recipe.status
    if result is None:
        return "not run"
    return "; ".join(f"{panel['name']}: gate {panel['gate']['outcome']}" for panel in result["panels"])


def overview_section(recipe: Recipe, result: Json | None) -> list[str]:
    """A recipe's part of the overview."""
    heading = [f"## {recipe.name}", f"{recipe.title}. Published: {recipe.source}. Status: {recipe.status}."]
    heading[1] += f" {recipe.note[0].upper()}{recipe.note[1:]}." if recipe.note else ""
    if not recipe.panels:
        return [*heading, *(published_table(table) for table in recipe.tables)]
    missing = dict.fromkeys(arm.published for panel in recipe.panels for arm in panel.arms if not arm.method)
    facts = [
        f"command: `python -m bench reproduce {recipe.name}`",
        f"needs: {estimate_needs(recipe)}",
        f"models: {', '.join(dict.fromkeys(name for panel in recipe.panels for name in models_of(panel)))}",
        *([f"published rows that aren't implemented here: {', '.join(missing)}"] if missing else []),
        *(f"assumed: {assumption_line(a.about, a.choice, a.flag)}" for a in recipe.assumptions),
    ]
    return [*heading, bullets(facts), *measured_here(recipe, result)]


def measured_here(recipe: Recipe, result: Json | None) -> list[str]:
    """The tables of the published result, or that there is none."""
    if result is None:
        return [f"Measured here: not run; it needs {estimate_needs(recipe)}."]
    return [
        f"Measured here by `{result['command']}`{made_by(result['provenance'])}:",
        *(text.replace("## ", "### ", 1) for panel in result["panels"] for text in panel_parts(result, panel)),
    ]


def published_table(table: PublishedTable) -> str:
    """A published table that can't be run, with its tags."""
    lines = []
    for row in table.rows:
        cells = [NR if text == NR else f"{text} [{tag}]" for text, tag in zip(row.values, row.tags, strict=True)]
        lines.append([row.name, *cells])
    return plain_table(["row", *table.columns], lines)
