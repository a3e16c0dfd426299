"""The verdicts on claims, on records and studies whose numbers are chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from bench.core.errors import UserError
from bench.core.record import Record, Step
from bench.core.types import Json
from bench.records.files import write_record
from bench.records.tables import build_sections
from bench.studies.ablations import catalogue
from bench.studies.ablations.base import Study
from bench.studies.ablations.study import with_derived_findings
from bench.studies.claims import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    UNKNOWN,
    Evidence,
    Verdict,
    decide,
    describe_older_task,
    judge_claim,
    measure_claim,
    read_claims,
    read_evidence,
    render_claims,
)
from tests.factories import ablation_study, finding, place, record

CLAIMS = read_claims()
ROLES = {"forgetting": "forget_accuracy", "kept": "retain_accuracy", "kl_forget": "kl_forget", "kl_retain": "kl_retain"}
SHAKE = (0.0, 0.01, -0.01, 0.005, -0.005, 0.002)


def with_roles(made: Record, **facts: Any) -> Record:
    return replace(made, facts={**made.facts, "primary": ROLES, **facts})


def row(method: str, scores: Mapping[str, float], seeds: Sequence[int] = range(6), **fields: Any) -> list[Record]:
    """A row whose scores are shaken by the seed, but for the oracle's."""
    shake = (0.0,) * 6 if method == "retrain" else SHAKE
    return [
        with_roles(record(method, seed, {name: value + shake[seed] for name, value in scores.items()}, **fields))
        for seed in seeds
    ]


def evidence(*rows: Sequence[Record]) -> Evidence:
    sections = build_sections([one for records in rows for one in records])
    return Evidence({section.task: section for section in sections}, {}, {})


def verdict(name: str, *rows: Sequence[Record]) -> Verdict:
    (found,) = judge_claim(CLAIMS[name], evidence(*rows))
    return found


ORACLE = row("retrain", {"forget_accuracy": 0.05, "retain_accuracy": 1.0})


@pytest.mark.parametrize(
    ("theirs", "status"), [(0.30, SUPPORTED), (0.12, UNDECIDED), (0.10, CONTRADICTED), (0.05, CONTRADICTED)]
)
def test_the_interval_decides_on_which_side_of_the_margin_a_difference_lies(theirs: float, status: str) -> None:
    msa = row("msa", {"forget_accuracy": 0.10})
    npo = [with_roles(record("npo", s, {"forget_accuracy": theirs + 2 * SHAKE[s]})) for s in range(6)]
    found = verdict("npo-forgetting", ORACLE, msa, npo)
    assert (found.status, found.n, found.task, found.score) == (status, 6, "tofu", "forget_accuracy")
    gaps = [[abs(r.scores["forget_accuracy"].value - 0.05) for r in rows] for rows in (msa, npo)]
    theirs_interval = stats.ttest_rel(*gaps).confidence_interval(0.95)
    assert found.interval == pytest.approx(tuple(theirs_interval))


def test_the_side_of_the_claim_turns_the_verdict() -> None:
    claim = CLAIMS["utility-kept"]
    assert claim.side == "below" and claim.margin == 0.05
    above = replace(claim, side="above")
    assert [decide(claim, *ends) for ends in ((0.0, 0.04), (0.04, 0.06), (0.06, 0.09))] == [
        SUPPORTED,
        UNDECIDED,
        CONTRADICTED,
    ]
    assert [decide(above, *ends) for ends in ((0.0, 0.04), (0.04, 0.06), (0.06, 0.09))] == [
        CONTRADICTED,
        UNDECIDED,
        SUPPORTED,
    ]
    assert decide(claim, 0.04, 0.05) == decide(claim, 0.05, 0.06) == UNDECIDED, "touching the margin is not beyond it"


def test_fewer_than_five_seeds_decide_nothing() -> None:
    few = [one[:3] for one in (ORACLE, row("msa", {"forget_accuracy": 0.05}), row("npo", {"forget_accuracy": 0.5}))]
    found = verdict("npo-forgetting", *few)
    assert (found.status, found.n, found.why) == (UNDECIDED, 3, "3 seeds") and found.interval is not None
    alone = verdict("npo-forgetting", *(one[:1] for one in few))
    assert (alone.status, alone.interval, alone.why) == (UNDECIDED, None, "1 seed") and alone.mean is not None


def test_without_a_row_a_score_or_an_oracle_nothing_is_measured() -> None:
    msa = row("msa", {"forget_accuracy": 0.05})
    assert verdict("npo-forgetting", ORACLE, msa) == Verdict(UNKNOWN)
    assert verdict("npo-kept", ORACLE, msa, row("npo", {"forget_accuracy": 0.1})) == Verdict(UNKNOWN)
    assert verdict("npo-forgetting", msa, row("npo", {"forget_accuracy": 0.1})) == Verdict(UNKNOWN)
    roleless = [replace(one, facts={}) for one in (*ORACLE, *msa)]
    assert verdict("utility-kept", roleless) == Verdict(UNKNOWN)


def test_every_task_takes_part_whatever_the_preset_of_its_row_is_called() -> None:
    scores, settings = {"forget_accuracy": 0.1}, {"tofu": {}, "muse-books": {"per_token": True}}
    rows = []
    for task, params in settings.items():
        rows += [row("retrain", scores, task=task), row("msa", scores, task=task)]
        npo = [record("npo", seed, scores, task=task, params={"beta": 1.0, **params}) for seed in range(6)]
        step = Step("npo", {"beta": 1.0, **params}, "per-token" if params else "")
        rows.append([with_roles(replace(one, spec=replace(one.spec, steps=(step,)))) for one in npo])
    told = evidence(*rows)
    assert told.sections["muse-books"].row("npo") is None and told.sections["muse-books"].row("npo@per-token")
    assert {found.task for found in judge_claim(CLAIMS["npo-forgetting"], told)} == {"tofu", "muse-books"}


def test_a_wreck_is_never_what_a_verdict_speaks_for() -> None:
    near, far = {"forget_accuracy": 0.05, "collapsed": 0.0}, {"forget_accuracy": 0.5, "collapsed": 0.0}
    sound = [
        [with_roles(record(m, s, {**v, "forget_accuracy": v["forget_accuracy"] + SHAKE[s]})) for s in range(6)]
        for m, v in (("msa", near), ("npo", far))
    ]
    wreck = [
        [
            with_roles(replace(r, scores={**r.scores, "collapsed": replace(r.scores["collapsed"], value=1.0)}))
            for r in rows
        ]
        for rows in sound
    ]
    assert verdict("npo-forgetting", ORACLE, *sound).status == SUPPORTED
    assert verdict("npo-forgetting", ORACLE, sound[0], wreck[1]).status == SUPPORTED, "the other one is the wreck"
    found = verdict("npo-forgetting", ORACLE, wreck[0], sound[1])
    assert (found.status, found.why) == (UNDECIDED, "msa fell apart on some seed")


def test_the_share_of_the_damage_undone() -> None:
    score = "restor_accuracy_corrupted"
    goals = {score: "up"}

    def made(method: str, value: float) -> list[Record]:
        every = {score: [0.9, 1.0, 1.1]}  # the oracles', which each record says
        return [
            with_roles(record(method, s, {score: value}, task="restor", goals=goals, floors={}), oracle_values=every)
            for s in range(6)
        ]

    frame = (made("target", 0.2), made("retrain", 1.0))
    found = verdict("recovery", *frame, made("msa", 0.8))
    assert found.mean == pytest.approx(0.75) and found.status == SUPPORTED and found.task == "restor"
    assert verdict("recovery-npo", *frame, made("msa", 0.8), made("npo", 0.76)).status == CONTRADICTED
    assert verdict("recovery-npo", *frame, made("msa", 0.8), made("npo", 0.4)).mean == pytest.approx(0.5)


def chosen_study(scores: Mapping[tuple[int, float], float]) -> Study:
    """MSA's retain accuracy by width and place, with an oracle of each width that keeps .9 and one that keeps 1.

    Noise in no seed: the interval is a point.
    """
    found = []
    for (width, at), value in scores.items():
        for seed in range(5):
            found.append(
                finding(
                    {"series": "msa", "width": width, "at": at},
                    seed,
                    {"retain_accuracy": value},
                    task_params={"width": width},
                )
            )
    for width, value in ((64, 0.9), (192, 1.0)):
        found += [
            finding(
                {"series": "oracle", "width": width},
                seed,
                {"retain_accuracy": value},
                method="retrain",
                task_params={"width": width},
            )
            for seed in range(5)
        ]
    found = [replace(one, record=with_roles(one.record)) for one in found]
    return Study("cost", place(), tuple(range(5)), tuple(found))


def test_an_arm_of_a_study_is_the_mean_of_its_findings_against_the_oracle_of_the_same_setting() -> None:
    study = chosen_study({(64, 0.0): 0.5, (64, 1.0): 0.7, (128, 0.0): 0.1, (192, 0.0): 0.9})
    told = Evidence({}, {("cost", "tofu"): study}, {})
    (shrinks,), (vanishes,) = (judge_claim(CLAIMS[f"width-{name}"], told) for name in ("shrinks", "vanishes"))
    assert shrinks.mean == pytest.approx((1.0 - 0.9) - (0.9 - 0.6)) and shrinks.status == SUPPORTED
    assert vanishes.mean == pytest.approx(0.1) and vanishes.status == CONTRADICTED and vanishes.n == 5


STUDIED = [name for name, claim in CLAIMS.items() if claim.study]


@cache
def made_study(name: str) -> Study:
    made = ablation_study(name, seeds=range(5))
    made = replace(made, findings=tuple(replace(f, record=with_roles(f.record)) for f in made.findings))
    return with_derived_findings(made, catalogue.load_ablation_of_runs(name))


@pytest.mark.parametrize("name", STUDIED)
def test_the_arms_of_a_claim_are_in_the_ablation_that_its_command_runs(name: str) -> None:
    claim = CLAIMS[name]
    study = made_study(claim.study)
    (found,) = judge_claim(claim, Evidence({}, {(claim.study, "tofu"): study}, {}))
    assert (
        found.n == 5
        and found.interval is not None
        and claim.command == f"python -m bench ablate {claim.study} --task TASK"
    )


def experiment(seeds: int) -> list[Json]:
    def estimates(msa: float, exact: float) -> dict[str, Json]:
        return {"MSA, alpha 1": {"cosine": msa}, "SGD-influence": {"cosine": exact}}

    return [
        {
            "seed": seed,
            "estimates": [{"name": name, **found} for name, found in estimates(0.5, 0.55).items()],
            "removals": [
                {"share": 1.0, "estimates": estimates(0.5, 0.55)},
                {"share": 0.01, "estimates": estimates(0.3, 1.0)},
            ],
        }
        for seed in range(seeds)
    ]


def test_estimates_are_compared_at_the_whole_removal_and_at_the_smallest() -> None:
    told = Evidence({}, {}, {"sgd-influence": experiment(5)})
    (whole,), (small,) = (judge_claim(CLAIMS[name], told) for name in ("sgd-influence", "sgd-influence-small"))
    assert (whole.status, whole.mean) == (SUPPORTED, pytest.approx(-0.05))
    assert (small.status, small.mean) == (CONTRADICTED, pytest.approx(-0.7))
    few = Evidence({}, {}, {"sgd-influence": experiment(3)})
    assert judge_claim(CLAIMS["sgd-influence"], few)[0].status == UNDECIDED


@pytest.mark.parametrize("results", [[{}], [{"seed": 0, "estimates": 5}], [{"seed": 0, "estimates": [{"name": "x"}]}]])
def test_a_claim_on_an_experiment_of_other_content_names_its_file(results: list[Json]) -> None:
    odd = Evidence({}, {}, {"sgd-influence": results, "another": []})
    with pytest.raises(UserError, match=r"^The claim 'MSA .*' can't be read off lab-sgd-influence\.json \(\w+Error: "):
        judge_claim(CLAIMS["sgd-influence"], odd)


def test_a_claim_on_a_study_of_other_content_names_its_file() -> None:
    study = chosen_study({(64, 0.0): 0.5, (192, 0.0): 0.9})
    odd = replace(
        study, findings=tuple(replace(f, record=replace(f.record, facts={"primary": 5})) for f in study.findings)
    )
    with pytest.raises(
        UserError, match=r"can't be read off lab-tofu-cost\.json \(\w+Error: .*\): run the ablation again\.$"
    ):
        measure_claim(CLAIMS["width-vanishes"], Evidence({}, {("cost", "tofu"): odd}, {}))


def test_a_claim_has_one_side_and_a_margin_with_its_reason() -> None:
    for name, claim in CLAIMS.items():
        assert claim.reason and claim.source and claim.text, name
        assert f"{claim.margin:g}" in claim.condition and ("<" in claim.condition) == (claim.side == "below"), name


def test_the_page_has_a_line_for_each_task_and_says_what_decides(tmp_path: Path) -> None:
    rows = [
        *ORACLE,
        *row("msa", {"forget_accuracy": 0.05, "retain_accuracy": 0.99}),
        *row("npo", {"forget_accuracy": 0.3, "retain_accuracy": 0.9}),
    ]
    for one in rows:
        write_record(one, tmp_path)
    lines = [line for line in render_claims(tmp_path).splitlines() if line.startswith("| ")]
    told = {line.split(" | ")[0].removeprefix("| "): line for line in lines}
    line = told[CLAIMS["npo-forgetting"].text]
    assert "| tofu | forget_accuracy (forgetting) | gap to the oracles: msa minus npo &lt; -0.02 | -0.2" in line
    assert "] | 6 | **supported** | `python -m bench run --methods msa,npo --task tofu` |" in line
    assert "| — | — | **not measured** |" in told[CLAIMS["sgd-influence"].text]
    assert len(lines) == len(CLAIMS) + 2 and "theta_0" in render_claims(tmp_path).split("| claim |")[0]


def test_records_that_cannot_be_read_are_named_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_record(record("msa", 0), tmp_path)
    read_evidence(tmp_path)
    assert capsys.readouterr().err == ""
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "b.json").mkdir()
    assert list(read_evidence(tmp_path).sections) == ["tofu"]
    assert capsys.readouterr().err.splitlines() == [
        "NOTE: left out: a.json: it is no JSON (line 1): delete it and run again.",
        "NOTE: left out: b.json: it is no file: delete it and run again.",
    ]


def test_of_a_tasks_sections_the_one_at_its_own_parameters_is_judged(tmp_path: Path) -> None:
    own = place().params
    for params in ({**own, "authors": 7}, own, {**own, "authors": 11}):
        write_record(record("msa", 0, task_params=params), tmp_path)
    section = read_evidence(tmp_path).sections["tofu"]
    assert dict(section.rows[0].records[0].spec.task_params) == dict(own)


def test_an_experiment_on_an_earlier_version_of_its_task_is_told_by_its_parameters() -> None:
    place = {"task": "tofu", "tier": "lab", "params": {"width": 192, "history_steps": 640, "authors": 7}}
    said = " (of an earlier version of this lab: history_steps 640, authors 7)"
    assert describe_older_task({"place": place}) == said
    assert describe_older_task({"place": place | {"params": {"authors": 7}}}) == "", "another size, of today's version"
    assert describe_older_task({}) == "", "a world of its own"
