"""The short table of a section: its rows in the order of display, four to six columns, as Markdown, CSV or LaTeX.

A cell is the mean over seeds and half of its 95% interval; bold is what a supported contrast names as better, and none as worse.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from bench.core.errors import UserError, unknown_name
from bench.core.texts import one_line
from bench.records.contrasts import Contrasts, build_contrasts
from bench.records.markdown import NOTHING, format_interval, format_number, goal_arrow, markdown_table, plain
from bench.records.names import role_name, score_name
from bench.records.tables import OF_RETRAINING, ORACLE, TARGET, Goal, Section, TableCell, TableRow

COSTS = {"cost": OF_RETRAINING, "tokens": "tokens trained", "seconds": "seconds"}
"""What ``--columns`` calls a cost -> the cost."""
COST_HEADS = {"cost": "tokens, of one retraining's", "tokens": "tokens trained", "seconds": "seconds"}
MOST_SCORES = 5
"""Scores of a table where nobody says which."""
FORMULA = re.compile(r"[=+\-@\t]")
"""How a text begins that a spreadsheet would compute."""
LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    "–": "--",
    "→": r"$\rightarrow$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "⚠": r"$\dagger$",
    "▲": r"$\triangle$",
}


@dataclass(frozen=True)
class Column:
    """A column of a short table."""

    name: str
    """A score, or a word of `COSTS`."""
    head: str
    """For people."""
    goal: Goal = ""

    def cell(self, row: TableRow) -> TableCell | None:
        """The row's quantity."""
        return row.costs.get(COSTS[self.name]) if self.name in COSTS else row.cells.get(self.name)


@dataclass(frozen=True)
class Summary:
    """The short table of a section."""

    section: Section
    columns: tuple[Column, ...]
    rows: tuple[TableRow, ...]
    """In the order of display."""
    better: Mapping[str, Collection[str]]
    """Per score, the rows that a supported contrast names as the better one, and none as the worse."""


def summarise(section: Section, wanted: Sequence[str] = (), contrasts: Contrasts | None = None) -> Summary:
    """The short table of a section, with the columns that are wanted: scores, roles of primary scores, or costs."""
    found = contrasts or build_contrasts(section)
    columns = choose_columns(section, wanted)
    return Summary(section, tuple(columns), section.rows, found.better_rows())


def choose_columns(section: Section, wanted: Sequence[str] = ()) -> list[Column]:
    """The columns of these names; of none the primary scores, or the first of the task's own, and the cost."""
    names = list(wanted) or default_columns(section)
    goals = {column.name: column.goal for column in section.columns}
    roles = {score: role_name(role) for role, score in section.primary.items()}
    known = {*goals, *section.primary, *COSTS}
    columns = []
    for name in names:
        score = section.primary.get(name, name)
        if score in goals:
            head = f"{roles[score]}: {score_name(score)}" if score in roles else score_name(score)
            columns.append(Column(score, _without_echo(head), goals[score]))
        elif name in COSTS:
            columns.append(Column(name, COST_HEADS[name], ""))
        else:
            raise UserError(unknown_name(f"column of {section.slug}", name, known))
    return columns


def default_columns(section: Section) -> list[str]:
    """The columns where nobody says which."""
    scores = list(section.primary.values()) or [c.name for c in section.headline or section.columns][:MOST_SCORES]
    return [*scores, *(["cost"] if any(OF_RETRAINING in row.costs for row in section.rows) else [])]


def _without_echo(head: str) -> str:
    """``divergence, forget set: KL to the oracle, forget set`` without saying it twice."""
    role, _, score = head.partition(": ")
    return score if score.startswith("KL to the oracle") else head


def tell_cell(cell: TableCell | None, seeds: int, bold: bool = False) -> str:
    """``0.957 ± 0.012``; ``0.957 [0.9, 0.98]`` where the interval is a bootstrap's; with n where it isn't the row's seeds."""
    if cell is None:
        return NOTHING
    mean = f"**{format_number(cell.mean)}**" if bold else format_number(cell.mean)
    few = f" n={cell.n}" if cell.n != seeds else ""
    if cell.interval is None or {format_number(end) for end in cell.interval} == {format_number(cell.mean)}:
        return mean + few
    low, high = cell.interval
    if cell.is_over_seeds:
        return f"{mean} ± {format_number((high - low) / 2)}{few}"
    return f"{mean} {format_interval(low, high)}{few}"


def marks_of(row: TableRow) -> str:
    """The signs after a row's name: of a wreck, and of what costs more than half of a retraining."""
    return " ⚠" * row.wrecked + " ▲" * row.costly


def head_of(column: Column) -> str:
    """A column's head with its goal."""
    return f"{column.head} {goal_arrow(column.goal)}".strip()


def cells_of(summary: Summary, row: TableRow) -> list[str]:
    """The cells of a row, bold in asterisks."""
    return [
        tell_cell(column.cell(row), len(row.seeds), row.name in summary.better.get(column.name, ()))
        for column in summary.columns
    ]


def name_in_markdown(row: TableRow) -> str:
    """A row's name; what is no method stands in italics, and a control says so."""
    if row.is_control:
        return f"*{plain(row.name)}* (control)"
    return plain(row.name) if row.is_method else f"*{plain(row.name)}*"


def as_markdown(summary: Summary, rows: Sequence[TableRow] | None = None) -> str:
    """The table in Markdown, of some of the rows."""
    lines = [
        [name_in_markdown(row) + marks_of(row), *cells_of(summary, row)]
        for row in (summary.rows if rows is None else rows)
    ]
    return markdown_table(["", *(plain(head_of(column)) for column in summary.columns)], lines, "--:")


def as_csv(summary: Summary) -> str:
    """The table as CSV: of each column the mean, the ends of its 95% interval, and the seeds behind it.

    Each line says which table it is of, as a lab row is never the benchmark's.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [_as_field(column.name) for column in summary.columns]
    ends, title = ("", "_low", "_high", "_n"), _as_field(summary.section.title)
    writer.writerow(["table", "row", "method", "kind", "fate", *(f"{name}{end}" for name in names for end in ends)])
    for row in summary.rows:
        fate = "collapsed" if row.collapsed else "diverged" if row.diverged else ""
        values = [part for column in summary.columns for part in _numbers(column.cell(row))]
        writer.writerow([title, _as_field(row.name), _as_field(row.method), kind_of(row), fate, *values])
    return out.getvalue()


def kind_of(row: TableRow) -> str:
    """What a row is: the target, the oracle, a control, or a method."""
    framing = {TARGET: "target", ORACLE: "oracle"}
    return framing.get(row.method) or ("control" if row.is_control else "method")


def _numbers(cell: TableCell | None) -> list[str]:
    if cell is None:
        return ["", "", "", ""]
    return [
        *(f"{value:.7g}" for value in (cell.mean, *(cell.interval or ()))),
        *([] if cell.interval else ["", ""]),
        str(cell.n),
    ]


def _as_field(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    line = one_line(text)
    return f"'{line}" if FORMULA.match(line) else line


def as_latex(summary: Summary) -> str:
    """The table in LaTeX with booktabs, as a paper takes it in."""
    head = " & ".join(["", *(_latex_head(head_of(column)) for column in summary.columns)])
    lines = [
        "% Written by `python -m bench`; needs \\usepackage{booktabs}.",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_text(caption_of(summary))}}}",
        f"\\begin{{tabular}}{{l{'r' * len(summary.columns)}}}",
        "\\toprule",
        f"{head.lstrip()} \\\\",
        "\\midrule",
    ]
    kinds = [kind_of(row) for row in summary.rows]
    for place, row in enumerate(summary.rows):
        if place and kinds[place] != kinds[place - 1] and kinds[place] in ("control", "method"):
            lines.append("\\midrule")
        cells = [latex_text(cell) for cell in cells_of(summary, row)]
        lines.append(" & ".join([latex_text(one_line(row.name) + marks_of(row)), *map(_latex_bold, cells)]) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def caption_of(summary: Summary) -> str:
    """What the table shows and how it is read."""
    seeds = {len(row.seeds) for row in summary.rows}
    counted = f"{min(seeds)} to {max(seeds)} seeds" if len(seeds) > 1 else f"{max(seeds, default=0)} seeds"
    said = [f"{one_line(summary.section.title)}, {counted.replace('1 seeds', '1 seed')}: means with 95% intervals."]
    if any(summary.better.values()):
        said.append("Bold: better in a supported contrast that was fixed beforehand, and worse in none.")
    if any(row.wrecked for row in summary.rows):
        said.append("⚠: collapsed on some seed.")
    if any(row.costly for row in summary.rows):
        said.append("▲: more than half of one retraining.")
    return " ".join(said)


def latex_text(text: str) -> str:
    """``text`` in LaTeX, which takes none of it for a command."""
    return "".join(LATEX.get(sign, sign) for sign in text)


def _latex_head(head: str) -> str:
    """A head on two lines, where it has two parts."""
    role, colon, score = head.partition(": ")
    return f"\\shortstack{{{latex_text(role)}\\\\{latex_text(score)}}}" if colon else latex_text(head)


def _latex_bold(cell: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", cell)


def as_captioned_markdown(summary: Summary) -> str:
    """The whole table in Markdown, below a line that says what it is."""
    return f"{plain(caption_of(summary))}\n\n{as_markdown(summary)}\n"


FORMATS: Mapping[str, Callable[[Summary], str]] = {"md": as_captioned_markdown, "csv": as_csv, "latex": as_latex}
"""How `bench table` writes one."""


def find_section(sections: Sequence[Section], name: str, model: str = "") -> Section:
    """The section of a task, in the lab where it is there and no model is named, or that of a table's own name.

    `UserError` where none is there, or several are.
    """
    there = [section for section in sections if section.rows]
    fitting = [section for section in there if section.slug == name] or [s for s in there if s.task == name]
    if not fitting:
        names = [*dict.fromkeys(section.task for section in there), *(section.slug for section in there)]
        raise UserError(unknown_name("table", name, names, "") if names else "There are no records with scores yet.")
    if model:
        fitting = [section for section in fitting if section.model == model]
    elif len(fitting) > 1:
        fitting = [section for section in fitting if section.tier == "lab"] or fitting
    if len(fitting) != 1:
        told = ", ".join(section.slug for section in there if section.task == name or section.slug == name)
        raise UserError(
            f"-t {name}{f' --model {model}' * bool(model)} names {len(fitting)} tables; name one of: {told}."
        )
    return fitting[0]
