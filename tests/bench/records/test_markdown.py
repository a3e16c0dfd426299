"""Texts that a stranger wrote, numbers with prefixes, and durations, as pages show them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from bench.core.texts import one_line
from bench.records.markdown import (
    FOLDERS,
    as_cell,
    format_duration,
    format_number,
    format_scaled,
    markdown_table,
    plain,
)


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "—"), (0, "0 B"), (999, "999 B"), (1234, "1.23 kB"), (5.4e8, "540 MB"), (9.996e8, "1 GB")],
)
def test_quantities_have_prefixes(value: float | None, said: str) -> None:
    assert format_scaled(value, "B") == said


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "—"), (9.7, "9.7 s"), (150, "2.5 min"), (9000, "2.5 h"), (2e6, "23.1 days")]
)
def test_durations_are_in_the_unit_that_reads_best(seconds: float | None, said: str) -> None:
    assert format_duration(seconds) == said


HOSTILE = {
    "<script>alert(1)</script>": "&lt;script>",
    "a\n\n# Heading\n| a | b |": "a # Heading \\| a \\| b \\|",
    "# Heading": "\\# Heading",
    "- item": "\\- item",
    "1. item": "1\\. item",
    "[click](javascript:x)": "[click]\\(javascript:x)",
    "![](http://host/a.png)": "![]\\(http:",
    "[a]: http://host": "[a]\\: http:",
    "`code` **bold** $x^2$": "\\`code\\` \\*\\*bold\\*\\* \\$x^2\\$",
    "__bold__ a_b_": "\\_\\_bold\\_\\_ a_b\\_",
    "&lt;b&gt; \\*": "&amp;lt;b&amp;gt; \\\\\\*",
    "https://host www.host": "https:\\//host www\\.host",
    "a\x1b[31mb\x00\u202ec\u2066\u200b": "a\ufffd[31mb\ufffd\ufffdc\ufffd\ufffd",
    "one\r\ntwo\u2028three\x85four": "one two three four",
    "/home/somebody/models/x": "…/x",
}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_says_itself_and_nothing_else_wherever_it_stands(text: str) -> None:
    made = plain(text)
    assert made.startswith(HOSTILE[text]) and "\n" not in made
    assert as_cell(made) == made, "a table's second look changes nothing"


WORDS = st.lists(
    st.sampled_from([*"\\`*_~$|<>[](){}#+-.!&;:/=@ a9é", "www.", "https://", "&lt;", "&#42;", "__", "**", "](", "]: "]),
    max_size=12,
).map("".join)


@given(WORDS)
@example("__bold__ and _slanted_, &lt;b&gt; at www.evil.com or https://evil.example")
@example("\\*not slanted\\* \\`nor code\\` \\")
@example("\\| a | b \\\\|")
def test_a_reader_of_markdown_sees_the_text_itself(text: str) -> None:
    """As a paragraph and as a cell: no mark, link, entity or further cell is read out of it."""
    text = FOLDERS.sub("…/", one_line(text)).strip()
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    for page in (f"So: {plain(text)}.", f"| a | b |\n|---|---|\n| {plain(text)} | x |"):
        cells = [token for token in reader.parse(page) if token.type == "inline"]
        seen = [child for token in cells for child in token.children or []]
        assert {child.type for child in seen} <= {"text"}
        shown = ["So: " + text + "."] if page.startswith("So") else ["a", "b", text, "x"]
        assert ["".join(child.content for child in cell.children or []) for cell in cells] == shown
    assert not re.search(r"://|\bwww\.", plain(text), re.IGNORECASE), "GitHub makes links of bare addresses"


@pytest.mark.parametrize(
    "text", ["kl_forget", "msa (alpha=0.5, vector=forget)", "naïve – 0.98 → oracle ⚠", "a & b", ""]
)
def test_ordinary_texts_stay_as_they_are(text: str) -> None:
    assert plain(text) == text == one_line(text)


def test_a_cell_keeps_our_own_marks_and_stays_one_cell() -> None:
    """A pipe that is escaped already isn't escaped again."""
    table = markdown_table(["a|b", "c"], [["**0.5**", "x\ny"], ["a\\|b", "<b>"]])
    assert table.splitlines()[0] == "| a\\|b | c |"
    assert table.splitlines()[2:] == ["| **0.5** | x y |", "| a\\|b | &lt;b> |"]


@pytest.mark.parametrize(
    ("value", "said"),
    [(1e31, "1.00e31"), (-4.2e9, "-4.20e9"), (9999999.0, "9999999"), (1e7, "1.00e7"), (1e150, "1.00e150")],
)
def test_huge_numbers_stay_short(value: float, said: str) -> None:
    assert format_number(value) == said
