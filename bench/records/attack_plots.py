"""Pictures of rows under attack: relearning curves, scores before and after rounding, samples until something leaks.

Beside every row stands the oracle under the same attack, as a band from its lowest to its highest seed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.record import Record
from bench.records.attacked import AttackRow, AttackTable, build_attacks
from bench.records.figures import CODE, FLOOR_COLOUR, LONGEST_NAME, name_legend, plot_style, save_figure, short_label
from bench.records.looks import Look, looks_of
from bench.records.names import score_name
from bench.records.stamps import Stamps
from bench.records.strips import lay_out_panels
from bench.records.tables import ORACLE, Section

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLES = re.compile(r"leak@(\d+)")
"""The score of so many samples a question."""


def draw_attack_plots(sections: Sequence[Section], out: Path) -> list[Path]:
    """Every picture of the attacks in the sections, into ``out``; returns the files. Equal records, equal SVG."""
    pictures = {"relearning": draw_relearning, "rounding": draw_rounding, "leak": draw_leak}
    paths: list[Path] = []
    with Stamps(out, *CODE) as stamps:
        for section in sections:
            attacks = build_attacks(section)
            shows = [section.title, section.tier, [_shown(table) for table in attacks]]
            for name, picture in pictures.items():
                if attacks:
                    paths += stamps.files(f"{section.slug}-{name}", shows, partial(_draw, picture, section, attacks))
    return paths


def _draw(
    picture: Callable[[Section, Sequence[AttackTable]], Figure | None],
    section: Section,
    attacks: Sequence[AttackTable],
    stem: Path,
) -> list[Path]:
    with plot_style():
        figure = picture(section, attacks)
        return save_figure(figure, stem) if figure else []


def _shown(table: AttackTable) -> list[Any]:
    """All that the pictures show of an attack, as JSON."""
    rows = [
        [
            row.name,
            row.method,
            row.wreck,
            row.before.by_seed if row.before else None,
            row.after.by_seed,
            row.curves,
            [_samples(record) for record in row.records],
        ]
        for row in table.rows
    ]
    return [table.attack, table.before, table.score, rows]


def draw_relearning(section: Section, attacks: Sequence[AttackTable]) -> Figure | None:
    """A panel for each relearning: the score at each step, mean over seeds, the oracle's range as a band."""
    shown = [table for table in attacks if any(row.curves for row in table.rows)]
    if not shown:
        return None
    figure, (panels,) = lay_out_panels(section, "Relearning", 1, len(shown), 4.6, 3.7)
    for axes, table in zip(panels, shown, strict=True):
        style = _style(table.rows)
        for row in table.rows:
            _draw_curve(axes, row, style[row.name], {seed: dict(curve) for seed, curve in row.curves.items()})
        axes.set_xlabel(f"optimiser steps ({short_label(table.attack, LONGEST_NAME)})")
        axes.set_ylabel(short_label(score_name(table.score)))
        steps = sorted({step for row in table.rows for curve in row.curves.values() for step, _ in curve})
        axes.set_xscale("symlog", linthresh=min((step for step in steps if step), default=1))
        axes.set_xticks(steps, [str(step) for step in steps])
        axes.minorticks_off()
    name_legend(figure, panels)
    return figure


def draw_rounding(section: Section, attacks: Sequence[AttackTable]) -> Figure | None:
    """A panel for each rounding: a bar before and one after for each row, the oracle's after as a band."""
    shown = [table for table in attacks if any("to another code" in row.more for row in table.rows)]
    if not shown:
        return None
    rows = max(len(table.rows) for table in shown)
    figure, (panels,) = lay_out_panels(section, "Before and after rounding", 1, len(shown), 3.6, 0.4 * rows + 1)
    for axes, table in zip(panels, shown, strict=True):
        order, style = list(reversed(table.rows)), _style(table.rows)
        for place, row in enumerate(order):
            colour = style[row.name].colour
            if row.before:
                axes.barh(place + 0.2, row.before.mean, 0.34, color=colour, alpha=0.4)
            axes.barh(place - 0.2, row.after.mean, 0.34, color=colour)
            axes.plot([row.after.low, row.after.high], [place - 0.2] * 2, color="#333333", linewidth=1)
        if oracle := next((row for row in order if row.method == ORACLE), None):
            axes.axvspan(oracle.after.low, oracle.after.high, color=FLOOR_COLOUR, linewidth=2, zorder=0)
        axes.set_yticks(range(len(order)), [_title(row) for row in order])
        axes.set_xlabel(
            f"{short_label(score_name(table.score))}\n{short_label(table.attack, LONGEST_NAME)} (pale: before)"
        )
        axes.tick_params(axis="y", length=0)
    return figure


def draw_leak(section: Section, attacks: Sequence[AttackTable]) -> Figure | None:
    """The share of questions of which the answer is expected among k samples, against k; the greedy answer before them."""
    shown = [(row, {r.spec.seed: _samples(r) for r in row.records}) for table in attacks for row in table.rows]
    shown = [(row, curves) for row, curves in shown if all(curves.values())]
    if not shown:
        return None
    figure, (panels,) = lay_out_panels(section, "Answers that leak in k samples", 1, 1, 4.6, 3.7)
    counts = sorted({k for _, curves in shown for curve in curves.values() for k in curve})
    style = _style([row for row, _ in shown])
    for row, curves in shown:
        placed = {seed: {counts.index(k): value for k, value in curve.items()} for seed, curve in curves.items()}
        _draw_curve(panels[0], row, style[row.name], placed)
    panels[0].set_xticks(range(len(counts)), [str(k) if k else "greedy" for k in counts])
    panels[0].set_xlabel("samples of each question, k")
    panels[0].set_ylabel("leak@k")
    name_legend(figure, panels)
    return figure


def _style(rows: Sequence[AttackRow]) -> dict[str, Look]:
    return looks_of((row.name, row.method) for row in rows)


def _title(row: AttackRow) -> str:
    return short_label(row.name, LONGEST_NAME) + row.title.removeprefix(row.name)


def _samples(record: Record) -> dict[int, float]:
    """K -> leak@k of a record that has them."""
    found = {SAMPLES.fullmatch(name): score.value for name, score in record.scores.items()}
    return {int(match[1]): value for match, value in found.items() if match}


def _draw_curve(axes: Axes, row: AttackRow, look: Look, curves: dict[int, dict[int, float]]) -> None:
    """The mean over seeds at the places that all have; of the oracle the range of its seeds too."""
    places = sorted(set.intersection(*(set(curve) for curve in curves.values()))) if curves else []
    if not places:
        return
    values = [[curve[place] for curve in curves.values()] for place in places]
    means = [sum(each) / len(each) for each in values]
    if row.method == ORACLE:
        axes.fill_between(places, [min(v) for v in values], [max(v) for v in values], color=FLOOR_COLOUR, zorder=0)
    drawn: dict[str, Any] = {"color": look.colour, "marker": look.marker, "markersize": 4, "linewidth": 1.2}
    axes.plot(places, means, label=_title(row), **drawn)
