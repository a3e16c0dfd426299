"""Which runs are attacks, and on what."""

from __future__ import annotations

from bench.core.attacks import attack_of, attacked_run, is_attack
from tests.lab_runs import MSA, spec, step


def test_a_run_is_an_attack_by_its_last_step_or_its_questions() -> None:
    taught = spec(MSA, step("relearn"))
    assert attack_of(taught) == "relearn" and attacked_run(taught) == spec(MSA)
    assert attack_of(spec(MSA)) == attack_of(spec()) == "" and attack_of(spec(step("relearn"), MSA)) == ""
    asked = spec(MSA, attack="leak")
    assert attack_of(asked) == "leak" and attacked_run(asked) == spec(MSA)
    assert asked.method == "msa+leak" and asked.key != spec(MSA).key
    assert "attack" not in spec(MSA).to_json(), "the keys of all other runs are as they were"
    assert type(asked).from_json(asked.to_json()) == asked


def test_a_name_that_nobody_knows_is_no_attack() -> None:
    assert is_attack("relearn") and not is_attack("msa") and not is_attack("of-a-plug-in-that-has-gone")
