"""One file with everything in it: equal views give equal bytes, data can't end their element, the library is npm's own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from bench.core.files import write_text
from bench.records.files import load_records, write_record, write_responses
from bench.records.publish import write_published
from bench.report import page
from bench.report.view import build_view
from bench.runs.report import NAME, sources_of, write_report_page
from tests.bench.records.test_publish import _done, _of
from tests.factories import study
from tests.paths import ROOT
from tests.published import published_records

PLOTLY = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
"""sha256 of package/plotly-basic.min.js in npm's plotly.js-basic-dist-min-4.1.1.tgz."""
MOST_BYTES = 5_000_000
LINKS = re.compile(r"""(?:src|href)\s*=\s*["'](?!#|data:)""")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> str:
    loaded = published_records()
    folder = tmp_path_factory.mktemp("published")
    return write_report_page(loaded, ROOT / "results", folder / "store", folder / NAME).read_text(encoding="utf-8")


def data_of(text: str) -> dict[str, object]:
    """The JSON in a page."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_the_library_is_npms_file_with_its_licence() -> None:
    assert hashlib.sha256(page.PLOTLY.read_bytes()).hexdigest() == PLOTLY
    assert "MIT" in (page.PLOTLY.parent / "plotly-LICENSE.txt").read_text()
    assert "4.1.1" in page.PLOTLY.name and "v4.1.1" in page.PLOTLY.read_text()[:200]


def test_all_of_results_is_one_small_file_that_links_to_nothing(published: str) -> None:
    assert len(published.encode()) < MOST_BYTES
    ours = published.replace(page.script(page.PLOTLY), "")
    assert not LINKS.search(ours) and "@import" not in ours and "http" not in page.script(page.HERE / "app.js")
    assert [section["label"] for section in data_of(published)["sections"]][:2] == ["digits (lab)", "graph (lab)"]  # type: ignore[index]


def test_the_policy_knows_these_scripts_and_no_other(published: str) -> None:
    scripts = re.findall(r"<script>(.*?)</script>", published, re.DOTALL)
    hashes = [f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}" for text in scripts]
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', published)
    assert policy and re.findall(r"sha256-[\w+/=]+", policy[1].replace("&#43;", "+")) == hashes and len(hashes) == 2
    assert "default-src 'none'" in policy[1].replace("&#39;", "'")


def test_equal_records_give_equal_bytes_and_the_stamp_tells_others(tmp_path: Path) -> None:
    for one in study(seeds=(0, 1)):
        write_record(one, tmp_path / "runs")
    loaded = load_records(tmp_path / "runs")
    first, second = (
        write_report_page(loaded, tmp_path / "runs", tmp_path, tmp_path / f"{n}.html").read_bytes() for n in (1, 2)
    )
    assert first == second
    kept = tmp_path / "1.html"
    write_text(kept, kept.read_text() + "<!-- mine -->")
    write_report_page(loaded, tmp_path / "runs", tmp_path, kept, keep=True)
    assert kept.read_text().endswith("<!-- mine -->"), "of the same records, it stays"
    (tmp_path / "runs" / loaded.records[0].name).unlink()
    write_report_page(load_records(tmp_path / "runs"), tmp_path / "runs", tmp_path, kept, keep=True)
    assert not kept.read_text().endswith("<!-- mine -->")


def test_data_cannot_end_their_element() -> None:
    text = page.as_script_data({"a": "</script><!--", "half": "\ud83d", "separator": "\u2028"})
    assert "<" not in text and json.loads(text) == {"a": "</script><!--", "half": "\ud83d", "separator": "\u2028"}
    text.encode()


def test_published_texts_are_the_labs_alone_and_ones_own_are_shown(tmp_path: Path) -> None:
    """Of real rows nothing, though the store has them; from one's own runs both."""
    from dataclasses import replace

    ours, theirs = _done(0, "npo"), _done(0, "msa")
    theirs = replace(theirs, spec=replace(theirs.spec, tier="real", data="tofu"))
    write_published([ours, theirs], tmp_path / "results", _of)
    said = sources_of(tmp_path / "results", tmp_path / "store").said
    found = said(ours)
    assert found is not None and found.rows["said"] and said(theirs) is None
    for one in (ours, theirs):
        write_record(one, tmp_path / "runs")
        spoken = _of(one)[one.lineage["responses"]].spoken()
        for place in ("runs", "results"):
            write_responses(spoken, tmp_path / place / "texts" / f"{one.lineage['responses']}.json.gz")
    assert said(theirs) is None, "not even where somebody has put its texts"
    own = sources_of(tmp_path / "runs", tmp_path / "store")
    assert own.own and own.said(ours) and own.said(theirs)


def test_a_damaged_text_is_left_out(tmp_path: Path) -> None:
    ours = _done(0, "npo")
    write_published([ours], tmp_path, _of)
    file = tmp_path / "texts" / f"{ours.lineage['responses']}.json.gz"
    file.write_bytes(file.read_bytes()[:30])
    loaded = load_records(tmp_path)
    assert sources_of(tmp_path, tmp_path / "store").said(ours) is None
    view = build_view(loaded.records, loaded.broken, sources_of(tmp_path, tmp_path / "store"))
    assert view["sections"][0]["answers"] is None
