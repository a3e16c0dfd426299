"""What may stand in one table, and which records are one row."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from bench.core.record import Record
from bench.records.tables import build_sections
from tests.factories import lineage, record


def _refused(made: Sequence[Record]) -> str:
    (section,) = build_sections(made)
    assert section.rows == ()
    return " ".join(section.statements)


def test_seeds_that_share_a_target_are_refused() -> None:
    made = [record("npo", seed, lineage=lineage("npo", 0, "tofu")) for seed in (0, 1)]
    assert "seeds 0 and 1 have the same target" in _refused(made)


def test_one_seed_with_two_targets_is_refused() -> None:
    made = [record("npo", 0), record("msa", 0, lineage={"target": "another one altogether"})]
    assert "seed 0 start from different targets" in _refused(made)


def test_records_without_a_target_are_refused() -> None:
    assert "name no target" in _refused([record("npo", 0, lineage={})])


def test_of_two_versions_the_later_one_counts_and_the_other_is_told() -> None:
    """Also where the later one has run on one seed alone: a row is never of two codes."""
    old = [record("npo", seed, versions={"npo": 1}) for seed in (0, 1)]
    (section,) = build_sections([*old, new := record("npo", 0, versions={"npo": 2})])
    assert section.rows[0].records == (new,) and section.older == {each.name: "npo" for each in old}
    assert section.statements == (
        "2 records are left out, made by older code of npo: python -m bench prune removes such records.",
    )


def coded(method: str, code: str, finished: str, seed: int = 0, **fields: Any) -> Record:
    when = {"finished": finished} if finished else {}
    fields = {"scores": {"retain_accuracy": 0.9}, "lineage": lineage(method, seed, "tofu") | {"result": code}} | fields
    return record(method, seed, hashes={f"code of {method}": code}, provenance=when, **fields)


def test_of_a_plug_in_the_code_that_was_run_last_counts() -> None:
    """As another row's code does not matter to it; a failed run of the newest code leaves no row of an older one."""
    first, second = coded("fade", "aa", "2026-01-01T00:00:00Z"), coded("fade", "bb", "2026-01-01T00:00:01Z")
    (section,) = build_sections([second, first, record("npo", 0)])
    assert [row.records for row in section.rows if row.method == "fade"] == [(second,)] and len(section.rows) == 2
    assert section.older == {first.name: "fade"}
    again = coded("fade", "aa", "2026-01-01T00:00:02Z", seed=1)
    (section,) = build_sections([second, first, again])
    assert section.rows[0].records == (first, again), "who goes back to a code has its rows again"
    failed = coded("fade", "cc", "2026-01-01T00:00:03Z", status="failed", reason="no", scores={})
    (section,) = build_sections([second, first, failed, record("npo", 0)])
    assert [row.method for row in section.rows] == ["npo"] and section.unfinished[0].reason == "no"


def test_two_codes_of_which_nobody_knows_the_newer_are_refused() -> None:
    assert "the same run by different versions" in _refused([coded("fade", "aa", ""), coded("fade", "bb", "")])


def test_an_undated_record_is_older_than_a_dated_one() -> None:
    old, new = coded("fade", "bb", ""), coded("fade", "aa", "2026-01-01T00:00:00Z")
    (section,) = build_sections([old, new])
    assert section.rows[0].records == (new,)


def test_rows_of_two_histories_are_two_rows_and_the_target_is_one() -> None:
    pasts = [{"history": letter * 16} for letter in "ab"]
    made = [record(method, 0, hashes=past) for past in pasts for method in ("target", "msa")]
    made = [dataclasses.replace(r, facts={**r.facts, "history_used": r.spec.method == "msa"}) for r in made]
    (section,) = build_sections(made)
    assert [row.name for row in section.rows] == ["target", "msa (history=aaaaaaaa)", "msa (history=bbbbbbbb)"]
    assert not section.statements


def test_of_a_run_asked_twice_the_fuller_record_stands() -> None:
    whole, part = record("npo", 0), record("npo", 0, {"forget_accuracy": 0.5}, kinds=("logprob",))
    (section,) = build_sections([part, whole])
    assert section.rows[0].records == (whole,)
    other = dataclasses.replace(part, lineage={**part.lineage, "result": "another"})
    (section,) = build_sections([other, whole])
    assert section.rows == () and "delete the older" in section.statements[0]
