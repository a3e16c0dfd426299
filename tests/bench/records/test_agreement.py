"""Fresh rows beside published ones, on records whose numbers are chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.core.record import Record
from bench.records.agreement import Agreement, compare_with_published, read_settings, records_of
from bench.records.bundles import bundle_path, put_records
from bench.records.tables import build_sections
from tests.factories import record

ROLES = {"kept": "retain_accuracy", "kl_forget": "kl_forget"}
KEPT = (0.80, 0.84, 0.79, 0.83, 0.81, 0.85)


def run(kept: float, seed: int, method: str = "msa", **fields: object) -> Record:
    made = record(method, seed, {"retain_accuracy": kept, "kl_forget": 1 + kept}, **fields)  # type: ignore[arg-type]
    return replace(made, facts={**made.facts, "primary": ROLES})


def published(folder: Path, kept: Sequence[float] = KEPT) -> Path:
    put_records([run(value, seed) for seed, value in enumerate(kept)], folder)
    return folder


def find_published(one: Record, results: Path) -> list[Record]:
    return records_of(one, read_settings(bundle_path(one, results)))


def compare(fresh: Sequence[Record], results: Path) -> dict[str, Agreement]:
    return {one.score: one for one in compare_with_published(build_sections(fresh), results)}


def test_a_new_seed_agrees_within_the_prediction_interval(tmp_path: Path) -> None:
    results = published(tmp_path)
    mean, sd = float(np.mean(KEPT)), float(np.std(KEPT, ddof=1))
    half = float(stats.t.ppf(0.975, 5)) * sd * (1 + 1 / 6) ** 0.5
    inside, outside = (compare([run(mean + share * half, 9)], results) for share in (0.99, 1.01))
    kept = inside["retain_accuracy"]
    assert kept.expected == pytest.approx((mean - half, mean + half)) and kept.n == 6
    assert kept.interval == pytest.approx(stats.t.interval(0.95, 5, mean, sd / 6**0.5))
    assert kept.agrees and inside["kl_forget"].agrees and set(inside) == set(ROLES.values())
    assert not outside["retain_accuracy"].agrees and not outside["kl_forget"].agrees


def test_more_new_seeds_are_expected_nearer(tmp_path: Path) -> None:
    results = published(tmp_path)
    one, four = (compare([run(0.82 + s / 1000, s) for s in range(n)], results)["retain_accuracy"] for n in (1, 4))
    widths = [found.expected[1] - found.expected[0] for found in (one, four)]
    assert widths[1] / widths[0] == pytest.approx(((1 / 4 + 1 / 6) / (1 + 1 / 6)) ** 0.5)
    assert four.here == pytest.approx(0.8215)


def test_the_same_seed_again_agrees(tmp_path: Path) -> None:
    results = published(tmp_path)
    assert all(one.agrees for seed, kept in enumerate(KEPT) for one in compare([run(kept, seed)], results).values())


def test_a_score_without_spread_may_differ_by_one_row(tmp_path: Path) -> None:
    results = published(tmp_path, [0.9] * 6)  # 135 of 150
    near, far = (compare([run(kept, 9)], results)["retain_accuracy"] for kept in (0.9 + 1 / 150, 0.9 + 5 / 150))
    assert near.agrees and not far.agrees


@pytest.mark.parametrize(
    "other",
    [
        {"params": {"alpha": 0.5, "beta": 0.25, "steps": 120}},
        {"task_params": {"gap": 1}},
        {"limit": 3},
        {"method": "npo"},
        {"task": "restor"},
        {"order": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_another_setting_is_compared_with_nothing(other: dict[str, object], tmp_path: Path) -> None:
    results = published(tmp_path)
    assert len(find_published(run(0.8, 9), results)) == 6
    assert find_published(run(0.8, 9, **other), results) == []  # type: ignore[arg-type]


def test_other_versions_and_too_few_seeds_are_no_measure(tmp_path: Path) -> None:
    assert compare([run(0.8, 9)], tmp_path) == {}
    put_records([run(0.8, 0)], tmp_path)
    assert compare([run(0.8, 9)], tmp_path) == {}
    results = published(tmp_path)
    newer = run(0.8, 9)
    metrics = {**newer.metrics, "kl_forget": {**newer.metrics["kl_forget"], "version": 2}}
    assert set(compare([replace(newer, metrics=metrics)], results)) == {"retain_accuracy"}


def test_a_method_of_another_version_is_another_method(tmp_path: Path) -> None:
    old, new = (
        [replace(r, spec=replace(r.spec, versions={"msa": v})) for r in (run(k, s) for s, k in enumerate(KEPT))]
        for v in (1, 2)
    )
    put_records(old, tmp_path)
    assert set(compare(old[:1], tmp_path)) == set(ROLES.values()) and compare(new[:1], tmp_path) == {}


def test_a_damaged_bundle_is_no_published_run(tmp_path: Path) -> None:
    results = published(tmp_path)
    bundle_path(run(0.8, 9), results).write_bytes(b"damaged")
    assert find_published(run(0.8, 9), results) == []
