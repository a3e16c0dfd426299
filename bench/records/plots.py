"""Pictures of the sections, PNG and SVG, drawn from the same tables as the leaderboard; the tier stands in each.

``overview``             forgetting and keeping on every task at a glance
``forget-keep``          how far the forget set is from being answered as the oracle does, against what is kept
``distance-to-oracle``   KL to the oracle per method, counted in noise floors
``membership``           AUC of the membership attacks per method, beside target and oracle

Those of rows under attack are `bench.records.attack_plots`'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.record import Record
from bench.records.attack_plots import draw_attack_plots
from bench.records.figures import CODE, plot_style, save_figure
from bench.records.forget_keep import draw_forget_keep, draw_overview, fronts_of, has_forget_keep, mean_front, scores_of
from bench.records.stamps import Stamps
from bench.records.strips import draw_distance_to_oracle, draw_membership, has_attacks, has_distances
from bench.records.tables import Section, build_sections

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OVERVIEW = "overview"


@dataclass(frozen=True)
class Picture:
    """One kind of picture of a section."""

    title: str
    is_there: Callable[[Section], bool]
    """Whether a section has what it shows."""
    draw: Callable[[Section], Figure]


PICTURES = {
    "forget-keep": Picture("forgetting and keeping", has_forget_keep, draw_forget_keep),
    "distance-to-oracle": Picture("distance to the oracle", has_distances, draw_distance_to_oracle),
    "membership": Picture("membership attacks", has_attacks, draw_membership),
}
"""By the end of their files' names."""
MOST_ROWS = 36
"""Of a picture: more names than that can't be read, and take long to place."""
MOST_PANELS = 12
"""Of the overview."""


def draw_plots(records: Sequence[Record], out: Path) -> list[Path]:
    """Every picture that the records can make, into ``out``; returns the files. Equal records, equal SVG.

    What is there already, drawn by this code from the same numbers, stays as it is (`bench.records.stamps`).
    """
    built = build_sections(records)
    sections = [_first_rows(section) for section in built if section.rows]
    paths: list[Path] = []
    with Stamps(out, *CODE) as stamps:
        for section in sections:
            shows = _shows(section)
            for kind in kinds_of(section):
                paths += stamps.files(f"{section.slug}-{kind}", shows, partial(_draw, PICTURES[kind].draw, section))
        if seen := sections_at_a_glance(sections):
            paths += stamps.files(OVERVIEW, [_shows(section) for section in seen], partial(_draw, draw_overview, seen))
    return [*paths, *draw_attack_plots(built, out)]


def kinds_of(section: Section) -> list[str]:
    """The pictures that a section has, by the ends of their files' names."""
    return [kind for kind, picture in PICTURES.items() if picture.is_there(section)]


def sections_at_a_glance(sections: Sequence[Section]) -> list[Section]:
    """The sections that the overview shows; none where there is one alone, which has that picture itself."""
    found = [section for section in sections if has_forget_keep(section)][:MOST_PANELS]
    return found if len(found) > 1 else []


def _first_rows(section: Section) -> Section:
    """The section with as many rows as a picture holds, and a title that says so where it had more."""
    if len(section.rows) <= MOST_ROWS:
        return section
    label = f"the first {MOST_ROWS} of {len(section.rows)} rows of {section.label}"
    return replace(section, label=label, rows=section.rows[:MOST_ROWS])


def _draw(picture: Callable[[Any], Figure], shown: Any, stem: Path) -> list[Path]:
    with plot_style():
        return save_figure(picture(shown), stem)


def _shows(section: Section) -> list[Any]:
    """All that the pictures of a section are made of, as JSON."""
    rows = [
        [
            [row.name, row.method, row.collapsed, row.diverged, row.seeds],
            {name: cell.by_seed for name, cell in row.cells.items()},
            list(mean_front(fronts_of(section, row)).values()),
        ]
        for row in section.rows
    ]
    noise = {name: noise.sd for name, noise in section.noise.items()}
    oracles = [[seed, dict(values)] for seed, values in section.oracles.items()]
    return [section.title, section.tier, scores_of(section), rows, noise, oracles]
