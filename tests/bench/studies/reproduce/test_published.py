"""The published numbers, each read again from the notes on the paper in ``../shared/reference``."""

from __future__ import annotations

import re

import pytest

from bench.studies.reproduce.published import NR, PUBLISHED_TABLES, PublishedTable
from tests.paths import SHARED
from tests.shared_data import needs_data

SHEET = SHARED / "reference" / "paper.md"
pytestmark = needs_data("reference/paper.md")


def section(start: str) -> list[list[str]]:
    """Cells of the first table after the line that begins so, heading first, without emphasis."""
    lines = SHEET.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(start))
    first = next(i for i in range(at + 1, len(lines)) if lines[i].startswith("|"))
    last = next(i for i in range(first, len(lines)) if not lines[i].startswith("|"))
    rows = [[cell.strip().replace("**", "") for cell in line.strip("|").split("|")] for line in lines[first:last]]
    return [rows[0], *rows[2:]]


def number(cell: str) -> str:
    """A cell without what stands behind its number: a tag, a question mark, which checkpoint it is."""
    return re.sub(r"\s*[(\[].*[)\]]$", "", cell)


def check(table: PublishedTable, rows: dict[str, list[str]]) -> None:
    assert [row.name for row in table.rows] == list(rows)
    for name, cells in rows.items():
        assert table.row(name).values == tuple(number(cell) for cell in cells), name
        assert len(table.row(name).values) == len(table.columns) == len(table.row(name).tags)


@pytest.mark.parametrize(
    ("table", "start", "first"),
    [
        (PUBLISHED_TABLES["T1"], "### T1.", 1),
        (PUBLISHED_TABLES["T2"], "### T2.", 1),
        (PUBLISHED_TABLES["T3"], "### T3.", 1),
        (PUBLISHED_TABLES["T4"], "### T4.", 2),
        (PUBLISHED_TABLES["T6"], "### T6.", 1),
    ],
)
def test_rows_are_as_in_the_sheet(table: PublishedTable, start: str, first: int) -> None:
    _, *rows = section(start)
    check(table, {row[0]: row[first:] for row in rows})


@pytest.mark.parametrize(
    ("table", "model", "early", "closest"),
    [
        (PUBLISHED_TABLES["T5-llama"], "Llama-3.1-8B", "base", "instruct"),
        (PUBLISHED_TABLES["T5-olmo"], "OLMo-2-7B", "500B", "last"),
    ],
)
def test_t5(table: PublishedTable, model: str, early: str, closest: str) -> None:
    heading, *rows = section("### T5.")
    cells = dict(zip(heading, next(row for row in rows if row[0] == model), strict=True))
    assert cells["MSA early"].endswith(f"({early})") and cells["MSA closest"].endswith(f"({closest})")
    names = {"MSA early": f"MSA_{early}", "MSA closest": f"MSA_{closest}"}
    check(table, {names.get(name, name): [cell] for name, cell in cells.items() if name != "Model"})


def test_t8_by_corpus() -> None:
    _, *rows = section("### T8.")
    text = SHEET.read_text()
    clean = PUBLISHED_TABLES["T8-k0"].row("Clean").values[0]
    assert f"clean {clean}" in text.partition("### T8.")[2].splitlines()[0]
    assert {f"T8-k{k}" for k, *_ in rows} | {"T8-squad"} == {key for key in PUBLISHED_TABLES if key.startswith("T8-")}
    for k, *cells in rows:
        assert [row.values[0] for row in PUBLISHED_TABLES[f"T8-k{k}"].rows] == [clean, *cells]
    said = re.search(r"SQuAD corruption \[A\]: clean (\S+), corrupted (\S+), GA (\S+), KL (\S+), NPO ([\d.]+\d)", text)
    assert said and tuple(row.values[0] for row in PUBLISHED_TABLES["T8-squad"].rows) == said.groups()


@pytest.mark.parametrize(
    ("model", "key"), [("Llama-3.2-1B-Instruct", "OU-llama-1b"), ("Llama-2-7b-chat", "OU-llama-7b")]
)
def test_open_unlearning_on_tofu(model: str, key: str) -> None:
    _, *rows = section(f"TOFU, {model}")
    for i, split in enumerate(("forget01", "forget05", "forget10")):
        check(PUBLISHED_TABLES[f"{key}-{split}"], {row[0]: row[1 + 3 * i : 4 + 3 * i] for row in rows})


@pytest.mark.parametrize(("corpus", "first"), [("Books", 1), ("News", 5)])
def test_open_unlearning_on_muse(corpus: str, first: int) -> None:
    _, *rows = section("MUSE (Llama-2-7B targets)")
    check(PUBLISHED_TABLES[f"OU-MUSE-{corpus}"], {row[0]: row[first : first + 4] for row in rows})


def test_tags_are_the_sheets() -> None:
    text = SHEET.read_text()
    tables = {
        "T1": PUBLISHED_TABLES["T1"],
        "T2": PUBLISHED_TABLES["T2"],
        "T4": PUBLISHED_TABLES["T4"],
        "T5": PUBLISHED_TABLES["T5-llama"],
        "T6": PUBLISHED_TABLES["T6"],
    }
    for name, table in tables.items():
        line = next(line for line in text.splitlines() if line.startswith(f"### {name}."))
        tag = re.search(r"\[([ASV])\]", line)
        assert tag and {tag[1]} == {each for row in table.rows for each in row.tags}, name
    assert PUBLISHED_TABLES["T3"].row("Corrupted target").tags == ("A", NR, NR)
    assert set(PUBLISHED_TABLES["T3"].row("Ideal (TOFU only)").tags) == {"S"}
    assert {
        tag
        for key, table in PUBLISHED_TABLES.items()
        if key.startswith("T8-")
        for row in table.rows
        for tag in row.tags
    } == {"A"}
    assert "## 5. OpenUnlearning reference numbers [V" in text and set(
        PUBLISHED_TABLES["OU-MUSE-Books"].row("NPO").tags
    ) == {"V"}
    assert all(tag == NR for row in PUBLISHED_TABLES["T7"].rows for tag in row.tags) and "### T7." in text
