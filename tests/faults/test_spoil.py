"""Every kind of damage is made, each of it a change of one place."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest

from bench.core.files import write_bytes
from bench.core.places import stays_below
from bench.records.files import load_records, record_text
from bench.records.tables import build_sections
from bench.records.warnings import find_warnings
from bench.tracking.weights_and_biases import init_arguments
from tests.factories import record, study
from tests.faults.spoil import WRONG, own_place, spoil_record
from tests.pages import all_pages

LIVE = r"<(script|img|b)>?|^# Heading|\]\(javascript|[\x00-\x09\x0b-\x1f\u202e]"
"""What a stranger's text must not become in a page."""
ONE = record("msa", 1)


@cache
def made() -> dict[str, bytes]:
    """Every wrong file that is made of `ONE`, by what was done."""
    return dict(spoil_record(record_text(ONE).encode()))


def test_every_field_is_spoilt_in_every_way() -> None:
    for place in ("the whole", "label", "scores.collapsed", "spec.steps.0.params.alpha", "facts.headline.0"):
        assert {f"{place}: {what}" for what in WRONG} <= made().keys()
    assert {f"{name}: dropped" for name in json.loads(record_text(ONE))} <= made().keys()
    assert len(made()) > 2000


def test_a_file_says_what_its_description_says() -> None:
    assert json.loads(made()["label: a text"])["label"] == "text"
    assert b'"label": 1000' in made()["label: an integer beyond float"] and b'"label": NaN' in made()["label: NaN"]
    assert b'"label": "\\ud800"' in made()["label: half a character"]
    assert "label" not in json.loads(made()["label: dropped"])
    assert made()["spec.seed: told twice"].count(b'"seed"') == 2


def test_a_spoilt_spec_comes_with_the_key_that_fits_it_too() -> None:
    plain, fitting = (json.loads(made()[f"spec.tier: a path upwards{more}"])["spec"] for more in ("", ", with its key"))
    assert plain["key"] == ONE.spec.key != fitting["key"]
    assert own_place(made()["spec.tier: a path upwards, with its key"]).startswith("../../../outside/tofu/lab/msa-")


@pytest.mark.slow(15)
def test_no_spoilt_record_stops_a_reader_or_gets_into_a_page(tmp_path: Path) -> None:
    """Every seventh of them, at the place that it names: it is left out with a sentence, or shown as text."""
    others = study(("target", "retrain", "msa"), (1, 2))
    taken = 0
    for what, content in list(spoil_record(record_text(record("msa", 0)).encode()))[::7]:
        where = tmp_path / (own_place(content) if stays_below(own_place(content)) else record("msa", 0).name)
        try:
            write_bytes(where, content)
        except (OSError, UnicodeEncodeError):  # a name that no file system has
            continue
        loaded = load_records(tmp_path)
        where.unlink()
        assert len(loaded.records) + len(loaded.broken) == 1, what
        assert all("\n" not in file.reason and len(file.reason) < 500 for file in loaded.broken), what
        page = all_pages([*others, *loaded.records], loaded.broken)
        assert page.encode() and not re.search(LIVE, page, re.MULTILINE), what
        for one in loaded.records:
            taken += 1
            said = [line for section in build_sections([*others, one]) for line in find_warnings(section)]
            assert all(line.isprintable() for line in said) and init_arguments(one.spec)["config"]
    assert taken > 50
