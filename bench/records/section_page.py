"""The page of one section in Markdown: every score of every row, the contrasts, what was used, and the code that measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from bench.core.files import read_toml
from bench.records import tables
from bench.records.attacked import build_attacks
from bench.records.contrasts import Contrast, Contrasts, build_contrasts
from bench.records.fronts import KeptAtOracle, kept_at_oracle
from bench.records.markdown import (
    NOTHING,
    bullet_list,
    format_amount,
    format_cell,
    format_interval,
    format_number,
    goal_arrow,
    markdown_table,
    mean_and_range,
    plain,
    seed_list,
)
from bench.records.names import score_name
from bench.records.noise import ORACLES
from bench.records.overall import field_scores
from bench.records.tables import ScoreColumn, Section, TableCell, TableRow
from bench.records.warnings import find_warnings

T = TypeVar("T")
Bold = Mapping[str, set[str]]
"""Per score, the rows that a supported contrast names as the better one, and none as the worse."""

METRICS_A_TABLE = 6
"""Score columns of one table: with name and seeds eight columns, which a page still holds."""
ROWS_A_TABLE = 8
"""Columns of the table of all scores, in which the methods stand side by side."""

TEXTS = read_toml(Path(__file__).with_name("leaderboard.toml"))
"""How to read the pages, and the title and meaning of each tier."""


def render_section(section: Section) -> str:
    """Everything that is said of a section, below its title."""
    parts = [f"> {plain(line)}" for line in (*section.statements, *find_warnings(section))]
    contrasts = build_contrasts(section)
    bold = contrasts.better_rows()
    if section.rows:
        parts += [
            _score_table(section, columns, bold)
            for columns in _chunks(section.headline or section.columns, METRICS_A_TABLE)
        ]
        parts += [_lacks(section), *_contrasts(contrasts), _advantages(section), *_privacy(section, bold)]
        parts += [_judges(section), _used(section)]
        parts.append(_field_overall(section))
    unfinished = [
        f"{plain(run.name)} {run.status} on {seed_list(run.seeds)}: {_reason(run.reason)}" for run in section.unfinished
    ]
    parts.append(bullet_list("Without scores:", unfinished))
    parts += _attacks(section)
    if section.rows:
        parts += [_all_scores(section, bold), _footnotes(section)]
    return "\n\n".join(part for part in parts if part)


def _contrasts(found: Contrasts) -> list[str]:
    """Every contrast in every primary score, with what may be said of it."""
    if not found.fixed and not found.best:
        return [plain(found.said)]
    head = ["", "score", "difference of gaps", "95% interval", "p (Holm)", "supported"]
    lines = [_contrast_line(contrast) for contrast in (*found.fixed, *found.best)]
    counted = f"{len(found.supported)} of {len(found.fixed)} differences are supported."
    return [f"Contrasts: {counted} {plain(found.said)}".strip(), markdown_table(head, lines, "--:")]


def _contrast_line(contrast: Contrast) -> list[str]:
    paired = contrast.paired
    tested = [NOTHING, "not tested"]
    if contrast.holm is not None:
        tested = [format_number(contrast.holm), f"{plain(contrast.better)} is better" if contrast.supported else "no"]
    return [
        " – ".join(plain(name) + " ⚠" * (name in contrast.wrecks) for name in (contrast.one, contrast.other)),
        f"{contrast.role.replace('_', ' ')}: {plain(contrast.score)}",
        format_number(paired.mean),
        format_interval(paired.low, paired.high),
        *tested,
    ]


def _attacks(section: Section) -> list[str]:
    """Every attack's table: before, after, and after minus the oracle's after."""
    tables_of = build_attacks(section)
    if not tables_of:
        return []
    parts = ["**Under attack.** " + TEXTS["attacks"]]
    for table in tables_of:
        more = list(dict.fromkeys(name for row in table.rows for name in row.more))
        head = ["", "seeds", f"{table.before} before".strip(), f"{table.score} after", "minus the oracle's after"]
        deep = any(row.blocks for row in table.rows)
        head += [*([f"{table.kept} after"] if table.kept else []), *more, *(["by block"] if deep else [])]
        lines = []
        for row in table.rows:
            seeds = row.after.n
            cells = [
                row.before,
                row.after,
                row.gap,
                *([row.kept] if table.kept else []),
                *(row.more.get(n) for n in more),
            ]
            name = plain(row.name) if row.is_method else f"*{plain(row.name)}*"
            blocks = [" · ".join(map(format_number, row.blocks)) or NOTHING] if deep else []
            told = [*(_spread(cell, seeds) for cell in cells), *blocks]
            lines.append([f"{name} ⚠" if row.wreck else name, str(seeds), *told])
        parts += [f"Attack: {plain(table.attack)}", markdown_table([plain(text) for text in head], lines, "--:")]
    return parts


def _privacy(section: Section, bold: Bold) -> list[str]:
    """The AUC of every membership attack, where there are more than the headline shows."""
    columns = [column for name in tables.ATTACKS for column in section.columns if column.name == name]
    if not set(columns) - set(section.headline):
        return []
    said = "Privacy: AUC of each membership attack, forget against never-trained texts (1: plainly members)."
    return [said, _score_table(section, columns, bold)]


def _field_overall(section: Section) -> str:
    """The field's overall score of the rows that have its parts, beside which the oracle's stands (`bench.records.overall`)."""
    found = field_scores(section)
    if not found:
        return ""

    def over_seeds(row: TableRow, values: Iterable[float]) -> str:
        return _spread(TableCell(dict(enumerate(values))), len(row.seeds))

    lines = [
        [
            _title(row),
            over_seeds(row, (score.overall for score in scores)),
            over_seeds(row, (score.memorisation for score in scores)),
            over_seeds(row, (score.privacy for score in scores)),
            over_seeds(row, (score.utility for score in scores)),
        ]
        for row, scores in found
    ]
    head = ["", "overall without fluency", "memorisation", "privacy", "utility / target's"]
    return _details("The field's overall score", [TEXTS["field"], markdown_table(head, lines, "--:")])


def _score_table(section: Section, columns: Sequence[ScoreColumn], bold: Bold) -> str:
    head = ["", "seeds", *(f"{plain(score_name(column.name))} {goal_arrow(column.goal)}".strip() for column in columns)]
    lines = []
    for row in section.rows:
        cells = [_cell(row, column, row.name in bold.get(column.name, ())) for column in columns]
        lines.append([_title(row), str(len(row.seeds)), *cells])
    if section.noise:
        framing = sum(not row.is_method for row in section.rows)
        lines.insert(framing, ["*noise*", "", *(_noise(section, column) for column in columns)])
    return markdown_table(head, lines, "--:")


def _noise(section: Section, column: ScoreColumn) -> str:
    noise = section.noise.get(column.name)
    return NOTHING if noise is None else format_number(noise.sd)


def _all_scores(section: Section, bold: Bold) -> str:
    """Every score, one a line, the rows of the other tables side by side."""
    parts = []
    for rows in _chunks(section.rows, ROWS_A_TABLE):
        noisy = bool(section.noise) and rows[0] is section.rows[0]
        head = ["", *(_title(row) for row in rows), *(["*noise*"] if noisy else [])]
        lines = []
        for column in section.columns:
            cells = [_cell(row, column, row.name in bold.get(column.name, ())) for row in rows]
            noise = [_noise(section, column)] if noisy else []
            lines.append([f"{plain(column.name)} {goal_arrow(column.goal)}".strip(), *cells, *noise])
        parts.append(markdown_table(head, lines, "--:"))
    return _details("All scores", parts)


def _used(section: Section) -> str:
    """A table of what each row saw of the data, how much it trained, and what it keeps at the oracle's forgetting."""
    costs = {"tokens trained": format_amount, tables.OF_RETRAINING: format_number, tables.OF_NOTHING: format_number}
    fronts = {row.name: kept_at_oracle(section, row) for row in section.rows if row.is_method}
    lines = []
    for row in section.rows:
        told = [
            _spread(row.costs.get(what), len(row.seeds), say)
            for what, say in {**costs, "seconds": format_amount}.items()
        ]
        kept = [kept_in_words(fronts.get(row.name), len(row.seeds))] if any(fronts.values()) else []
        lines.append([_title(row), *(plain(row.fact(fact)) or NOTHING for fact in tables.SAW.values()), *told, *kept])
    head = ["", *tables.SAW, *costs, "seconds", *(["kept at the oracle's forgetting"] if any(fronts.values()) else [])]
    return markdown_table(head, lines, "--:")


def kept_in_words(found: KeptAtOracle | None, seeds: int) -> str:
    """What is kept where the forget score comes to the oracle's; where it never does the nearest one, of so many seeds."""
    if found is None:
        return NOTHING
    never = list(found.nearest.values())
    missed = f"never on {len(never)}: nearest {mean_and_range(never)}" if never else ""
    return "; ".join(filter(None, [_spread(found.kept, seeds) if found.kept else "", missed]))


def _advantages(section: Section) -> str:
    """Rule 8: what some methods see and the others don't is said where the numbers are."""
    seen = [row.name for row in section.rows if row.is_method and any(r.facts.get("history_used") for r in row.records)]
    if not seen:
        return ""
    names = plain(", ".join(seen))
    return f"Not all methods see the same: {names} used checkpoints from before the forget set, which the others lack."


def _lacks(section: Section) -> str:
    """Sentences on what the table needs and hasn't: the rows that frame it, and the noise."""
    framing = [f"{name} is missing." for name in (tables.TARGET, tables.ORACLE) if section.row(name) is None]
    if not section.noise:
        framing.append(f"There is no noise: it takes {ORACLES} oracles of a seed, or second runs (`--order 1`).")
    return " ".join(framing)


def _judges(section: Section) -> str:
    """The verdicts of the acc_* scores' judge on target and oracle: how much its scores are worth."""
    records = [record for row in section.rows for record in row.records]
    verdicts = dict.fromkeys(verdict for r in records if (verdict := r.facts.get("judge", {}).get("verdict")))
    if not verdicts:
        return ""
    return "The judge of the acc_ scores is not the paper's GPT-4o. " + " ".join(map(plain, verdicts))


def _footnotes(section: Section) -> str:
    """Settings and their source, what is absent and why, definitions, and the code that measured."""
    settings = []
    for row in section.rows:
        source = f" (from {plain(row.fact('source'))})" if row.fact("source") else ""
        if row.method != tables.TARGET:
            settings.append(f"{plain(row.name)}: {plain(row.params) or 'no parameters'}{source}")
    versions = ", ".join(f"{plain(column.name)} v{column.version}" for column in section.columns)
    said = {column.name: score_name(column.name) for column in section.columns}
    names = "; ".join(f"{plain(name)}: {plain(words)}" for name, words in said.items() if words != name)
    parts = [
        bullet_list("Settings:", settings),
        bullet_list(
            "Collapsed:", [f"{plain(r.name)} on {seed_list(r.collapsed)}" for r in section.rows if r.collapsed]
        ),
        bullet_list("Diverged:", [f"{plain(r.name)} on {seed_list(r.diverged)}" for r in section.rows if r.diverged]),
        bullet_list("Scores that can't be had:", _absences(section.rows)),
        f"In words: {names}.",
        f"Metric versions: {versions}.",
        f"Measured by {commits_in_words(section.rows)}.",
    ]
    return _details("Settings, absent scores, versions", [part for part in parts if part])


def _absences(rows: Sequence[TableRow]) -> list[str]:
    """Absent scores, those with one reason together."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        reasons = {pair: None for record in row.records for pair in sorted(record.absent.items())}
        for pair in reasons:
            found.setdefault(pair, []).append(row.name)
    return [f"{plain(name)} of {plain(', '.join(of))}: {_reason(why)}" for (name, why), of in sorted(found.items())]


def commits_in_words(rows: Sequence[TableRow]) -> str:
    """The commits that made the records, and which of them were dirty."""
    found: dict[str, int] = {}
    for row in rows:
        for record in row.records:
            commit = (record.provenance.get("commit") or "")[:12] or "an unknown commit"
            name = commit + (" with uncommitted changes" if record.provenance.get("dirty") else "")
            found[name] = found.get(name, 0) + 1
    return ", ".join(f"{plain(name)} ({count} record{'s' * (count > 1)})" for name, count in sorted(found.items()))


def _title(row: TableRow) -> str:
    name = plain(row.name) if row.is_method else f"*{plain(row.name)}*"
    return name + " ⚠" * row.wrecked + " ▲" * row.costly


def _cell(row: TableRow, column: ScoreColumn, bold: bool) -> str:
    return _spread(row.cells.get(column.name), len(row.seeds), bold=bold)


def _spread(cell: TableCell | None, seeds: int, say: Callable[[float], str] = format_number, bold: bool = False) -> str:
    """A cell in words, its mean bold where that is said of it."""
    told = format_cell(cell, seeds, say)
    return f"**{mean}**{told.removeprefix(mean)}" if bold and cell and (mean := say(cell.mean)) else told


def _reason(text: str) -> str:
    """The sentence of a reason: of a traceback its last line."""
    lines = [line for line in text.splitlines() if line.strip()]
    return plain(lines[-1].strip()) if lines else "no reason was recorded"


def _chunks(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """``items`` in the fewest runs of at most ``size``, as even as can be."""
    count = -(-len(items) // size)
    return [items[i * len(items) // count : (i + 1) * len(items) // count] for i in range(count)]


def _details(title: str, parts: Sequence[str]) -> str:
    return "\n\n".join([f"<details><summary>{title}</summary>", *parts, "</details>"])
