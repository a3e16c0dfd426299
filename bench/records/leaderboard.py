"""``leaderboard.md`` and the pages behind it: pure functions of the records, equal bytes for equal records (no date, no host).

The leaderboard answers first and stays short: which method comes nearer to the oracle in what, then a table a task. All scores
stand in ``tables/``: a page, a CSV and a LaTeX table for each section.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bench.core.files import write_text
from bench.core.record import PRIMARY, Record
from bench.core.texts import one_line
from bench.records import tables
from bench.records.contrasts import SEEDS_TO_RANK, Contrasts, build_contrasts
from bench.records.files import BrokenFile, LoadedRecords
from bench.records.markdown import NOTHING, as_code, as_link, bullet_list, markdown_table, plain
from bench.records.names import role_name
from bench.records.plots import OVERVIEW, PICTURES, kinds_of, sections_at_a_glance
from bench.records.section_page import TEXTS, render_section
from bench.records.summaries import Column, Summary, as_csv, as_latex, as_markdown, summarise
from bench.records.tables import ORACLE, TARGET, Section, TableRow, build_sections, short_names
from bench.records.warnings import VOID, find_warnings

MOST_LINES, MOST_BYTES = 120, 15_000
"""Of the leaderboard."""
LONGEST_NAME = 60
"""Characters of a name on the leaderboard; the section's page has all of it."""
MOST_LINKS = 30
"""Sections that the contents name."""
MOST_NAMED = 6
"""Files, or rows that there is no room for, that are named."""
LEAST_ROWS = 3
"""Of a section's table on the leaderboard; where there is no room for so many it has none."""
FOLDER = "tables"
"""The pages' folder among the records."""
MARK = "Written by `python -m bench leaderboard` from the records; not edited by hand."
ENDINGS = (".md", ".csv", ".tex")


@dataclass(frozen=True)
class Pages:
    """What is written from records."""

    board: str
    """The leaderboard."""
    tables: Mapping[str, str]
    """Name in the folder of tables -> text."""
    pictures: tuple[str, ...]
    """Names of the pictures that they link to, without ending."""


@dataclass(frozen=True)
class _Shown:
    """A section as the leaderboard sees it."""

    name: str
    """Short."""
    section: Section
    contrasts: Contrasts
    summary: Summary


def render_leaderboard(records: Sequence[Record], broken: Sequence[BrokenFile], base: str = "results") -> str:
    """The leaderboard of ``records`` in Markdown; ``broken`` are files that are named at its end.

    ``base``: the folder of records, seen from the page.
    """
    return render_pages(records, broken, base).board


def render_pages(
    records: Sequence[Record], broken: Sequence[BrokenFile], base: str = "results", back: str = "../../leaderboard.md"
) -> Pages:
    """The leaderboard and all pages behind it. ``back``: the leaderboard, seen from the folder of tables."""
    built = build_sections(records)
    shown = [
        _Shown(name, each, found := build_contrasts(each), summarise(each, (), found))
        for name, each in zip(short_names(built), built, strict=True)
    ]
    files = {"README.md": _render_reading(shown, broken, back)}
    for each in shown:
        section = each.section
        files[f"{section.slug}.md"] = _render_page(section, back)
        if section.rows:
            every = Summary(section, tuple(Column(c.name, "") for c in section.columns), section.rows, {})
            files[f"{section.slug}.csv"] = as_csv(every)
            files[f"{section.slug}.tex"] = as_latex(each.summary)
    sections = [each.section for each in shown if each.section.rows]
    pictures = [f"{section.slug}-{kind}" for section in sections for kind in kinds_of(section)]
    if sections_at_a_glance(sections):
        pictures.insert(0, OVERVIEW)
    return Pages(_fit_board(shown, broken, base), files, tuple(pictures))


def write_pages(loaded: LoadedRecords, source: Path, page: Path) -> list[Path]:
    """Write the leaderboard to ``page`` and the pages behind it below ``source``; remove those that nothing writes any more.

    Returns the files, the leaderboard first.
    """
    files = files_of(loaded, source, page)
    for path, text in files.items():
        write_text(path, text)
    for path in stale_tables(source, files):
        path.unlink()
    return list(files)


def files_of(loaded: LoadedRecords, source: Path, page: Path) -> dict[Path, str]:
    """Every generated text with its place, the leaderboard first."""
    pages = _render_at(loaded, source, page)
    return {page: pages.board, **{source / FOLDER / name: text for name, text in pages.tables.items()}}


def missing_pictures(loaded: LoadedRecords, source: Path, page: Path) -> list[Path]:
    """The pictures that the pages link to and that aren't there."""
    names = _render_at(loaded, source, page).pictures
    places = [source / "plots" / f"{name}.svg" for name in names]
    return [place for place in places if not place.is_file()]


def _render_at(loaded: LoadedRecords, source: Path, page: Path) -> Pages:
    base = Path(os.path.relpath(source, page.absolute().parent)).as_posix()
    back = Path(os.path.relpath(page.absolute(), (source / FOLDER).absolute())).as_posix()
    return render_pages(loaded.records, loaded.broken, base, back)


def stale_tables(source: Path, written: Iterable[Path]) -> list[Path]:
    """Files in the folder of tables that were written there and nothing writes any more; a stranger's stay."""
    kept = set(written)
    found = []
    for page in sorted((source / FOLDER).glob("[!.]*.md")):
        if page in kept or MARK not in page.read_text(encoding="utf-8", errors="replace"):
            continue
        found += [path for ending in ENDINGS if (path := page.with_suffix(ending)) not in kept and path.is_file()]
    return found


def _fit_board(shown: Sequence[_Shown], broken: Sequence[BrokenFile], base: str) -> str:
    """The leaderboard with as many rows a section, and then as many sections, as there is room for."""
    most = max((len(each.section.rows) for each in shown), default=0)
    sizes = [(len(shown), rows) for rows in range(max(most, LEAST_ROWS), LEAST_ROWS - 1, -1)]
    sizes += [(count, LEAST_ROWS) for count in range(len(shown) - 1, -1, -1)]

    def render(place: int) -> str:
        return _render_board(shown, broken, base, *sizes[place])

    return render(min(bisect_left(range(len(sizes)), True, key=lambda place: _fits(render(place))), len(sizes) - 1))


def _fits(page: str) -> bool:
    return len(page.splitlines()) <= MOST_LINES and len(page.encode(errors="replace")) <= MOST_BYTES


def _render_board(shown: Sequence[_Shown], broken: Sequence[BrokenFile], base: str, tabled: int, rows: int) -> str:
    """The leaderboard with tables of the first sections, each of so many rows."""
    parts = ["# Leaderboard"]
    if not shown:
        parts += ["There are no records yet: `python -m bench run --methods msa,npo --task muse-books` makes some."]
    else:
        parts += [*_glance(shown, base, tabled), TEXTS["short"].format(seeds=SEEDS_TO_RANK, base=base)]
    for tier, group in groupby(shown[:tabled], key=lambda each: each.section.tier):
        about = TEXTS["tiers"].get(tier, {"title": f"Tier {plain(tier)}", "short": ""})
        parts += [
            f"## {about['title']}\n{about['short']}".strip(),
            *(_board_section(each, base, rows) for each in group),
        ]
    if broken:
        named = [
            f"{as_code(_cut(file.path, 3 * LONGEST_NAME))}: {plain(_cut(file.reason, 3 * LONGEST_NAME))}"
            for file in broken
        ]
        more = [f"{len(broken) - MOST_NAMED} more"] if len(broken) > MOST_NAMED else []
        parts.append(bullet_list("No readable records, and left out:", [*named[:MOST_NAMED], *more]))
    return "\n\n".join([*parts, MARK]) + "\n"


def _glance(shown: Sequence[_Shown], base: str, tabled: int) -> list[str]:
    """What there is, and who comes nearer to the oracle in what, a line a section of which something can be said."""
    ranked = [each for each in shown if each.contrasts.fixed]
    drawn = sections_at_a_glance([each.section for each in shown if each.section.rows])
    picture = f" [All tasks in one picture]({base}/plots/{OVERVIEW}.svg)." if drawn else ""
    links = [
        as_link(_cut(each.name), f"#{slug}" if place < tabled else f"{base}/{FOLDER}/{slug}.md")
        for place, each in enumerate(shown[:MOST_LINKS])
        for slug in [each.section.slug]
    ]
    more = f" · [{len(shown) - MOST_LINKS} more]({base}/{FOLDER}/README.md)" if len(shown) > MOST_LINKS else ""
    parts = [
        f"Who comes nearer to the oracle, the model retrained without the forget set?{picture}",
        f"Contents: {' · '.join(links)}{more}",
    ]
    if ranked:
        roles = [role for role in PRIMARY if any(role in each.section.primary for each in ranked)]
        lines = [
            [
                f"{plain(_cut(each.name))}, {_count_seeds(each.section)}",
                *(tell_verdict(each.contrasts, role) for role in roles),
            ]
            for each in ranked[:MOST_LINKS]
        ]
        parts.append(markdown_table(["", *map(role_name, roles)], lines))
        rest = [each for each in shown if each.section.rows and not each.contrasts.fixed][:MOST_LINKS]
        if rest:
            named = [f"{plain(_cut(each.name))} ({_count_seeds(each.section)})" for each in rest]
            parts.append(f"Not ranked: {', '.join(named)}.")
    else:
        parts.append(f"Nothing is ranked: that takes {SEEDS_TO_RANK} seeds of msa and of what it is compared with.")
    return parts


def tell_verdict(contrasts: Contrasts, role: str) -> str:
    """What the contrasts of a section say of one primary score: who beats whom, where that is supported."""
    asked = [contrast for contrast in contrasts.fixed if contrast.role == role]
    if not asked:
        return NOTHING
    one = plain(_cut(asked[0].one))
    supported = [contrast for contrast in asked if contrast.supported]
    winners = [plain(_cut(contrast.other)) for contrast in supported if contrast.better != contrast.one]
    losers = [plain(_cut(contrast.other)) for contrast in supported if contrast.better == contrast.one]
    said = []
    if winners:
        said.append(f"**{', '.join(winners)}** beat{'s' * (len(winners) == 1)} {one}")
    if losers:
        said.append(f"**{one}** beats {', '.join(losers)}")
    return "; ".join(said) or "no difference shown"


def _board_section(each: _Shown, base: str, most: int) -> str:
    """A section of the leaderboard: where everything of it stands, and its table."""
    section = each.section
    place = f"{base}/{FOLDER}/{section.slug}"
    said = [f'### <a id="{section.slug}"></a>{plain(_cut(each.name))}']
    if not section.rows:
        reason = "; ".join(section.statements) or "no run has scores"
        return "\n".join([*said, f"{plain(_cut(reason, 5 * LONGEST_NAME))} [More]({place}.md)."])
    whole = [plain(_cut(section.title, 5 * LONGEST_NAME))] if one_line(section.title) != each.name else []
    rows = choose_rows(each, most)
    facts = [
        *(f"**{plain(line)}**" for line in find_warnings(section) if line.startswith(VOID)),
        *whole,
        _count_seeds(section),
    ]
    if each.contrasts.fixed:
        facts.append(f"{len(each.contrasts.supported)} of {len(each.contrasts.fixed)} contrasts supported")
        if each.contrasts.best:
            best = plain(_cut(each.contrasts.best[0].other))
            facts.append(f"of the other methods nearest by the mean gap (described, not tested): {best}")
    else:
        facts.append(plain(each.contrasts.said[:1].lower() + each.contrasts.said[1:]).rstrip("."))
    if section.unfinished:
        facts.append(f"{sum(len(run.seeds) for run in section.unfinished)} runs without scores")
    links = [f"[all {len(section.rows)} rows, {len(section.columns)} scores]({place}.md)", f"[CSV]({place}.csv)"]
    links += [f"[LaTeX]({place}.tex)"]
    links += [f"[{PICTURES[kind].title}]({base}/plots/{section.slug}-{kind}.svg)" for kind in kinds_of(section)]
    shown = {row.name for row in rows}
    left = [row.name for row in section.rows if row.name not in shown]
    if left:
        more = f" and {len(left) - MOST_NAMED} more" if len(left) > MOST_NAMED else ""
        facts.append(f"not here: {', '.join(plain(_cut(name)) for name in left[:MOST_NAMED])}{more}")
    return "\n".join([*said, f"{'; '.join(facts)}. {' · '.join(links)}", "", as_markdown(each.summary, rows)])


def choose_rows(each: _Shown, most: int) -> list[TableRow]:
    """As many rows, in the order of display: the frame, what the contrasts are about, then methods, controls and wrecks."""
    compared = {name for contrast in each.contrasts.fixed for name in (contrast.one, contrast.other)}

    def turn(row: TableRow) -> int:
        if row.method in (TARGET, ORACLE):
            return 0
        return 1 if row.name in compared else 4 if row.wrecked else 3 if row.is_control else 2

    kept = {row.name for row in sorted(each.section.rows, key=turn)[:most]}
    return [row for row in each.section.rows if row.name in kept]


def _render_page(section: Section, back: str) -> str:
    """The page of one section."""
    links = [f"[leaderboard]({back})", "[how to read it](README.md)"]
    if section.rows:
        links += [f"[CSV]({section.slug}.csv)", f"[LaTeX]({section.slug}.tex)"]
        links += [f"[{PICTURES[kind].title}](../plots/{section.slug}-{kind}.svg)" for kind in kinds_of(section)]
    about = TEXTS["tiers"].get(section.tier, {}).get("meaning", "")
    parts = [f"# {plain(section.title)}", " · ".join(links), about, render_section(section), MARK]
    return "\n\n".join(part for part in parts if part) + "\n"


def _render_reading(shown: Sequence[_Shown], broken: Sequence[BrokenFile], back: str) -> str:
    """The page on how the others are read, which lists them."""
    items = [
        f"{as_link(each.section.title, f'{each.section.slug}.md')}"
        + (f" ([CSV]({each.section.slug}.csv), [LaTeX]({each.section.slug}.tex))" if each.section.rows else "")
        for each in shown
    ]
    named = [f"{as_code(file.path)}: {plain(file.reason)}" for file in broken]
    parts = [
        "# Tables",
        f"All scores of [the leaderboard]({back}).",
        TEXTS["reading"].format(seeds=SEEDS_TO_RANK, interval=tables.SEEDS_OF_INTERVAL),
        bullet_list("**Pages**", items),
        bullet_list("**Files left out.** No readable records; they are left as they are:", named),
        MARK,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _count_seeds(section: Section) -> str:
    seeds = {seed for row in section.rows for seed in row.seeds}
    return f"{len(seeds)} seed{'s' * (len(seeds) != 1)}"


def _cut(text: str, most: int = LONGEST_NAME) -> str:
    line = one_line(text)
    return line if len(line) <= most else line[: most - 1].rstrip() + "…"
