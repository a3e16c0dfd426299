"""Every kind of damage is made, each of it a change of one place."""

from __future__ import annotations

import json

from bench.records.files import record_text
from tests.factories import record
from tests.faults.spoil import WRONG, own_place, spoil_record

ONE = record("msa", 1)
MADE = dict(spoil_record(record_text(ONE).encode()))


def test_every_field_is_spoilt_in_every_way() -> None:
    for place in ("the whole", "label", "scores.collapsed", "spec.steps.0.params.alpha", "facts.headline.0"):
        assert {f"{place}: {what}" for what in WRONG} <= MADE.keys()
    assert {f"{name}: dropped" for name in json.loads(record_text(ONE))} <= MADE.keys()
    assert len(MADE) > 2000


def test_a_file_says_what_its_description_says() -> None:
    assert json.loads(MADE["label: a text"])["label"] == "text"
    assert b'"label": 1000' in MADE["label: an integer beyond float"] and b'"label": NaN' in MADE["label: NaN"]
    assert b'"label": "\\ud800"' in MADE["label: half a character"]
    assert "label" not in json.loads(MADE["label: dropped"])
    assert MADE["spec.seed: told twice"].count(b'"seed"') == 2


def test_a_spoilt_spec_comes_with_the_key_that_fits_it_too() -> None:
    plain, fitting = (json.loads(MADE[f"spec.tier: a path upwards{more}"])["spec"] for more in ("", ", with its key"))
    assert plain["key"] == ONE.spec.key != fitting["key"]
    assert own_place(MADE["spec.tier: a path upwards, with its key"]).startswith("../../../outside/tofu/lab/msa-")
