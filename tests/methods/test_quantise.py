"""Quantisation as an attack: what it refuses and notes, and that it tries the target and the oracle as well."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from bench.conformance import tiny_place
from bench.core.errors import Unmet
from bench.core.registry import name_variant, preset_params
from bench.core.types import Checkpoint
from bench.engines.loaders import Sealed, open_checkpoint
from bench.records.files import write_record
from bench.runs.method_context import Ledger, MethodContext
from bench.runs.rescore import Places, rescore_command
from bench.runs.runner import unlearn
from methods.quantise import Quantise
from tests.lab_runs import MSA, STILL, Lab, spec, step
from tests.spies import Plain
from tests.weights import tensors_of


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


def test_what_it_refuses() -> None:
    assert Quantise(group=-1).problems() == ["quantise.group must be at least 0, not -1."]
    [unknown] = Quantise(kind="int5").problems()
    assert unknown.startswith("Unknown value of quantise.kind 'int5'. Did you mean 'int8'? Known: fp4, int4, int8, nf4")
    assert Quantise(kind="nf4", group=128).problems() == [
        "quantise.group goes with int8 and int4: leave it out, as nf4 has blocks of 64."
    ]
    assert Quantise(kind="int8", group=128).problems() == []


@pytest.mark.parametrize("variant", ["int8", "int4", "int4-128", "nf4", "fp4"])
def test_variants_are_named_by_what_they_are(variant: str) -> None:
    params = preset_params(Quantise, "lab-tofu", variant)
    assert params is not None and Quantise(**params).problems() == []
    assert name_variant(Quantise, params, variant) == variant == Quantise(**params).named()


def test_it_is_an_attack_that_nobody_runs_unasked() -> None:
    assert Quantise.attack and not Quantise.in_all and Quantise.needs == frozenset()


def test_one_checkpoint_is_made_and_notes_say_how(tmp_path: Path) -> None:
    """Of the target itself nothing differs and nothing has moved; of an earlier checkpoint a part."""
    place = tiny_place(tmp_path)
    assert place.request.history is not None
    past, target = place.request.history.last.checkpoint, place.request.target
    work, ledger = place.work("own"), Ledger(set(), set())
    made = Quantise("int8").unlearn(replace(place.request, first=target), MethodContext(work, ledger))
    assert made.label == "target in int8" and made.dtype == target.dtype
    kinds = sorted(node.info["fields"]["kind"] for node in work.nodes.values())
    assert kinds == ["compare rounded", "rounded", "update"]
    about = ledger.notes["rounding"]
    assert (about["kind"], about["group"], about["simulated"], about["dtype"]) == ("int8", 0, True, "float32")
    assert (about["differs"]["values"], about["differs"]["codes"]) == (0, 0)
    assert ledger.notes["update"] == {"relative_norm": 0.0, "stable_rank": None, "blocks": [[0.0, None], [0.0, None]]}

    context = MethodContext(work, ledger)
    Quantise("int8").unlearn(replace(place.request, target=past, first=target), context)
    differs, update = ledger.notes["rounding"]["differs"], ledger.notes["update"]
    assert 0 < differs["codes"] <= differs["values"] <= 1
    assert update["relative_norm"] > 0 and update["stable_rank"] >= 1


def test_what_is_cached_is_not_made_again_and_another_kind_is_another_node(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    work = place.work("own")
    made = {
        (kind, group): Quantise(kind, group).unlearn(place.request, MethodContext(work, Ledger(set(), set())))
        for kind, group in [("int4", 0), ("int4", 4), ("nf4", 0), ("int4", 0)]
    }
    assert len({checkpoint.hash for checkpoint in made.values()}) == 3 == len(work.nodes)


def test_the_runner_gives_the_first_target_to_attacks_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods

    monkeypatch.setitem(methods.TABLE, "plain", "tests.spies:Plain")
    scenario, work = lab.scenario(), lab.work()
    Plain.caught.clear()
    for attack in (False, True):
        monkeypatch.setattr(Plain, "attack", attack)
        unlearn(spec(STILL, step("plain")), scenario, scenario.target(), [], work, Ledger(set(), set()))
    given = [request for request, _ in Plain.caught]
    assert [request.first for request in given] == [None, scenario.target()]
    assert all(request.target.hash != scenario.target().hash for request in given)


def test_an_attack_on_the_oracle_opens_it_and_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    import methods

    class Opener(Plain):
        def unlearn(self, request: object, ctx: object) -> Checkpoint:
            open_checkpoint(oracles[0])
            with pytest.raises(Sealed):
                open_checkpoint(oracles[1])
            return oracles[0]

    scenario, work = lab.scenario(), lab.work()
    oracles = [oracle() for oracle in scenario.oracles]
    monkeypatch.setitem(methods.TABLE, "plain", "tests.spies:Plain")
    monkeypatch.setattr(Plain, "unlearn", Opener.unlearn)
    steps = spec(step("retrain"), step("plain"))
    with pytest.raises(Sealed):
        unlearn(steps, scenario, scenario.target(), oracles, work, Ledger(set(), set()))
    monkeypatch.setattr(Plain, "attack", True)
    made = unlearn(steps, scenario, scenario.target(), oracles, work, Ledger(set(), set()))
    assert made.hash == oracles[0].hash


def test_records_of_an_attack_on_target_oracle_and_a_method(lab: Lab) -> None:
    attack = step("quantise", kind="nf4")
    target, oracle, msa = (lab.run(spec(*steps, attack)) for steps in ((), (step("retrain"),), (MSA,)))
    for record in (target, oracle, msa):
        assert record.status == "done" and record.lineage["result"] not in record.lineage["oracles"]
        assert record.facts["notes"]["rounding"]["kind"] == "nf4"
    assert target.facts["notes"]["rounding"]["differs"]["values"] == 0
    assert oracle.facts["notes"]["rounding"]["differs"]["codes"] > 0
    assert not oracle.facts["history_used"] and msa.facts["history_used"]
    assert oracle.facts["retain_rows"] == 0, "the attack sees no row"


def test_an_attacked_oracle_is_compared_with_the_others_as_the_oracle_is(lab: Lab, tmp_path: Path) -> None:
    """At 8 bits it is nearly itself: compared with itself too, its divergence would be half of what it was."""
    whole, rounded = (
        lab.run(spec(*steps)) for steps in ((step("retrain"),), (step("retrain"), step("quantise", kind="int8")))
    )
    for name in ("kl_forget", "kl_retain"):
        assert rounded.scores[name].value == pytest.approx(whole.scores[name].value, rel=0.05)
    assert rounded.floors == whole.floors and rounded.facts["oracle_values"] == whole.facts["oracle_values"]
    write_record(rounded, tmp_path)
    said: list[str] = []
    assert rescore_command(Places(tmp_path, lab.root), False, said.append)
    assert said == ["1 records computed again: all numbers the same"]


def test_a_classifier_is_skipped_with_a_reason(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    network = replace(place.request.target, loader="classifier")
    with pytest.raises(Unmet, match="this model has none"):
        Quantise().unlearn(replace(place.request, target=network), MethodContext(place.work("x"), Ledger(set(), set())))


def test_the_target_on_disk_stays(tmp_path: Path) -> None:
    place = tiny_place(tmp_path)
    before = tensors_of(Path(place.request.target.path))
    Quantise("fp4").unlearn(place.request, MethodContext(place.work("x"), Ledger(set(), set())))
    after = tensors_of(Path(place.request.target.path))
    assert all(before[name].equal(after[name]) for name in before)
