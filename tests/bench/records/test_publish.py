"""Only complete and clean records are published, and what is published gives the same scores again."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.core.contracts import Metric
from bench.core.errors import Absent, UserError
from bench.core.record import Record, Score
from bench.core.types import Responses
from bench.metrics import rows_of, score_all
from bench.records import files, publish
from bench.records.publish import publication_faults, rescore_record, response_keys, write_published
from tests.factories import record

OWN = {"a": (-0.1, -0.2), "b": (-1 / 3, -2.5)}
ORACLES = {"o1": {"a": (-1.0,), "b": (-2.0,)}, "o2": {"a": (-1.25,), "b": (-3.0,)}}


def _responses(checkpoint: str, logp: Mapping[str, Sequence[float]], text: str = "what it said") -> Responses:
    scored = {
        key: {"answer": [{"logp": list(values), "hit": [1] * len(values), "eos": True}]} for key, values in logp.items()
    }
    written = {key: {"text": f"{text} about {key}", "counts": {"lcs": 3}} for key in logp}
    return Responses(checkpoint, {"forget": scored, "said": written}, 1.25)


def _mean_logp(responses: Responses) -> float:
    values = [value for row in rows_of(responses, "forget").values() for value in row["answer"][0]["logp"]]
    return math.fsum(values) / len(values)


def _prob(responses: Responses, oracles: Sequence[Responses]) -> Score:
    return Score(math.exp(_mean_logp(responses)), 2, 0.1, 0.9)


def _gap(responses: Responses, oracles: Sequence[Responses]) -> Score:
    return Score(_mean_logp(responses) - math.fsum(map(_mean_logp, oracles)) / len(oracles), 2)


def _never(responses: Responses, oracles: Sequence[Responses]) -> Score:
    raise Absent("there is nothing to read")


METRICS = (
    Metric("prob", _prob, "oracle"),
    Metric("gap", _gap, "down", needs_oracle=True),
    Metric("never", _never, "up"),
)


def stored(results: Path) -> Callable[[str], Responses]:
    """Responses that are published below ``results``, by key."""
    return lambda key: files.read_responses(files.responses_path(results, key))


def _store(seed: int = 0, method: str = "npo") -> dict[str, Responses]:
    oracles = {f"{key}-{seed}": _responses(f"{key}-{seed}", logp) for key, logp in ORACLES.items()}
    return {f"own-{method}-{seed}": _responses(f"weights-{method}", OWN)} | oracles


def _done(seed: int = 0, method: str = "npo", **fields: Any) -> Record:
    """A record whose scores are what its responses say."""
    store = _store(seed, method)
    own, *oracles = store
    scored = score_all(METRICS, store[own], [store[key] for key in oracles])
    lineage = {"target": f"target-{seed}", "responses": own, "oracle_responses": oracles}
    known: dict[str, Any] = {
        "scores": scored.scores,
        "absent": scored.absent,
        "metrics": {m.name: m.to_json() for m in METRICS},
        "lineage": lineage,
    }
    spec = {name: fields.pop(name) for name in ("limit",) if name in fields}
    return dataclasses.replace(record(method, seed, {}, **spec), **(known | fields))


def _of(one: Record) -> dict[str, Responses]:
    return _store(one.spec.seed, one.spec.method)


def test_records_and_responses_are_published_once_and_without_text(tmp_path: Path) -> None:
    chosen = [_done(0, "npo"), _done(0, "msa")]
    paths = write_published(chosen, tmp_path, _of)
    names = [path.relative_to(tmp_path).as_posix() for path in paths]
    # The oracles of the seed are shared by both.
    responses = [f"responses/{key}.safetensors.xz" for key in ("o1-0", "o2-0", "own-msa-0", "own-npo-0")]
    texts = [f"texts/{key}.json.gz" for key in ("own-msa-0", "own-npo-0")]
    assert names == [*responses, *texts, "lab/tofu/lab.jsonl.xz"]
    assert files.load_records(tmp_path).records == sorted(chosen, key=lambda one: one.name)
    back = stored(tmp_path)("own-npo-0")
    assert back == _store()["own-npo-0"].publishable()
    assert back.rows["said"]["a"] == {"counts": {"lcs": 3}}
    assert write_published(chosen, tmp_path, _of) == []


def test_responses_of_some_seeds_are_published_with_the_records_of_all(tmp_path: Path) -> None:
    chosen = [_done(seed) for seed in range(3)]
    paths = write_published(chosen, tmp_path, _of, seeds={1})
    assert [path.name for path in paths] == [
        *(f"{k}-1.safetensors.xz" for k in ("o1", "o2", "own-npo")),
        "own-npo-1.json.gz",
        "lab.jsonl.xz",
    ]
    assert files.load_records(tmp_path).records == sorted(chosen, key=lambda one: one.name)
    assert write_published(chosen, tmp_path, _of, seeds={1}) == []
    assert len(write_published(chosen, tmp_path, _of)) == 8, "the others', later"
    bare = write_published(chosen, tmp_path / "bare", _of, seeds=())
    assert [path.name for path in bare] == ["lab.jsonl.xz"]


def test_the_labs_texts_stand_beside_the_numbers_and_a_benchmarks_nowhere(tmp_path: Path) -> None:
    ours, theirs = _done(0, "npo"), _done(0, "msa")
    theirs = dataclasses.replace(theirs, spec=dataclasses.replace(theirs.spec, tier="real", data="tofu"))
    write_published([ours, theirs], tmp_path, _of)
    assert [file.name for file in (tmp_path / "texts").iterdir()] == ["own-npo-0.json.gz"]
    said = files.read_responses(files.texts_path(tmp_path, "own-npo-0"))
    assert said.rows == {"said": _store()["own-npo-0"].rows["said"]}, "texts with their counts, and no log-prob"
    files.texts_path(tmp_path, "own-npo-0").unlink()
    assert [path.name for path in write_published([ours], tmp_path, _of)] == ["own-npo-0.json.gz"], "made up for later"


@pytest.mark.parametrize("what", [{"order": 1}, {"attack": "leak"}])
def test_of_second_runs_and_attacks_no_responses_are_published_where_seeds_are_named(
    what: dict[str, Any], tmp_path: Path
) -> None:
    one = _done(1)
    other = dataclasses.replace(one, spec=dataclasses.replace(one.spec, **what))
    assert [path.name for path in write_published([other], tmp_path, lambda _: _store(1), seeds={1})] == [
        "lab.jsonl.xz"
    ]
    assert len(write_published([other], tmp_path, lambda _: _store(1))) > 2


def test_the_published_files_give_the_same_scores_again(tmp_path: Path) -> None:
    one = _done()
    write_published([one], tmp_path, _of)
    (kept,) = files.load_records(tmp_path).records
    assert set(kept.scores) == {"prob", "gap"}
    comparison = rescore_record(kept, stored(tmp_path), METRICS)
    assert comparison.same
    assert str(comparison) == f"{one.name}: the same scores"


def test_rescore_worked_by_hand() -> None:
    one, store = _done(), _store()
    # prob = exp of the mean of -.1 -.2 -1/3 -2.5 = exp(-3.1333 / 4) = exp(-.78333)
    assert one.scores["prob"].value == pytest.approx(math.exp(-0.783333), rel=1e-5)
    # gap = -.78333 - mean(-1.5, -2.125) = -.78333 + 1.8125
    assert one.scores["gap"].value == pytest.approx(1.029167, rel=1e-5)
    nudged = math.nextafter(one.scores["prob"].value, 1)
    wrong = dataclasses.replace(
        one, scores={"prob": Score(nudged, 2, 0.1, 0.9), "never": Score(1.0, 2), "gone": Score(2.0, 2)}
    )
    comparison = rescore_record(wrong, store.__getitem__, METRICS)
    assert not comparison.same
    # The last bit counts.
    assert comparison.differing == {"prob": (wrong.scores["prob"], one.scores["prob"])}
    assert comparison.missing == {"gone": "no metric of the task has this name", "never": "there is nothing to read"}
    assert comparison.extra == {"gap": one.scores["gap"]}
    assert str(comparison).count("\n") == 3


def test_an_interval_that_differs_is_a_difference() -> None:
    one = _done()
    moved = dataclasses.replace(one, scores={**one.scores, "prob": dataclasses.replace(one.scores["prob"], low=0.11)})
    assert list(rescore_record(moved, _store().__getitem__, METRICS).differing) == ["prob"]


def test_everything_that_forbids_publishing_is_listed_and_nothing_is_written(tmp_path: Path) -> None:
    good = _done(0)
    bad = {
        "failed, not done": _done(1, status="failed"),
        "skipped, not done": _done(2, status="skipped"),
        "not known to be a commit's": _done(3, provenance={"commit": "abc", "dirty": True}),
        "(provenance: dirty)": _done(4, provenance={}),
        "only 5 examples per probe": _done(5, limit=5),
        "names no responses": _done(6, lineage={"target": "t"}),
        "a path of this machine (/home/someone/x)": _done(7, facts={"source": "/home/someone/x"}),
        "not in the store": _done(8, lineage={"target": "t", "responses": "lost", "oracle_responses": []}),
    }
    with pytest.raises(UserError) as caught:
        write_published([good, *bad.values()], tmp_path, _of)
    assert len(caught.value.problems) == len(bad)
    for reason, one in bad.items():
        assert any(reason in problem and problem.startswith(one.name) for problem in caught.value.problems), reason
    assert list(tmp_path.iterdir()) == []
    assert publication_faults(good) == []


def test_text_under_another_name_does_not_slip_through(tmp_path: Path) -> None:
    def leaking(one: Record) -> dict[str, Responses]:
        own, *_ = store = _of(one)
        return store | {own: Responses("weights", {"forget": {"a": {"answer": [{"words": "of the benchmark"}]}}})}

    with pytest.raises(UserError, match="own-npo-0: they hold text"):
        write_published([_done()], tmp_path, leaking)
    with pytest.raises(UserError, match="no file name"):
        bad = _done(lineage={"target": "t", "responses": "../up", "oracle_responses": []})
        write_published([bad], tmp_path, lambda one: {"../up": _responses("x", OWN)})
    assert list(tmp_path.iterdir()) == []


def test_what_is_published_is_replaced_only_by_force(tmp_path: Path) -> None:
    write_published([_done()], tmp_path, _of)
    other = _done(cost={"seconds": {"method": 99.0}})
    with pytest.raises(UserError, match="published already and different"):
        write_published([other], tmp_path, _of)
    assert files.load_records(tmp_path).records == [_done()]
    assert write_published([other], tmp_path, _of, force=True) == [tmp_path / "lab/tofu/lab.jsonl.xz"]
    assert files.load_records(tmp_path).records == [other]


def test_a_broken_file_is_not_overwritten_even_by_force(tmp_path: Path) -> None:
    path = tmp_path / _done().name
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(UserError, match="it is no JSON .line 1.: delete it"):
        write_published([_done()], tmp_path, _of, force=True)
    assert path.read_text() == "{"


def test_responses_measured_anew_are_the_same_unless_a_number_moved(tmp_path: Path) -> None:
    write_published([_done()], tmp_path, _of)

    def slower(one: Record) -> dict[str, Responses]:
        return {key: dataclasses.replace(responses, seconds=77.0) for key, responses in _of(one).items()}

    def moved(one: Record) -> dict[str, Responses]:
        return _of(one) | {"o1-0": _responses("o1-0", {"a": (-1.0,), "b": (-2.5,)})}

    assert write_published([_done()], tmp_path, slower) == []
    with pytest.raises(UserError, match="responses o1-0: published already and different"):
        write_published([_done()], tmp_path, moved)


def test_keys_of_responses_are_named_once() -> None:
    twice = _done(lineage={"target": "t", "responses": "o1", "oracle_responses": ["o1", "o2"]})
    assert response_keys(twice) == ["o1", "o2"]


def test_publishing_the_same_at_once_ends_well_for_everybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else publishes between the look at what is there and the writing."""
    chosen, look = [_done(0, "npo"), _done(0, "msa")], publish._are_published

    def look_and_be_overtaken(key: str, responses: Responses, results: Path) -> bool | None:
        found = look(key, responses, results)
        monkeypatch.setattr(publish, "_are_published", look)
        write_published(chosen, results, _of)
        return found

    monkeypatch.setattr(publish, "_are_published", look_and_be_overtaken)
    assert len(write_published(chosen, tmp_path, _of)) >= len(chosen)
    assert files.load_records(tmp_path).records == sorted(chosen, key=lambda one: one.name)
