"""TOFU's rows: the choice of authors and questions, on a generated copy of its layout, and on the real rows if here."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import UserError
from bench.core.sampling import evenly_spread
from bench.real.tofu.rows import choose_tofu_rows, load_tofu_config, paraphrased_rows, row_of
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "tofu"
here = needs_data("data/tofu")


def pair(kind: str, i: int) -> dict[str, Any]:
    """Question and answer ``i``."""
    return {"question": f"{kind} question {i}?", "answer": f"{kind} answer {i}."}


def perturbed(kind: str, i: int, wrong: int) -> dict[str, Any]:
    """The same with wrong answers, and paraphrases where TOFU has them."""
    row = pair(kind, i) | {"perturbed_answer": [f"{kind} wrong {i} {k}." for k in range(wrong)]}
    if wrong == 5:
        row |= {"paraphrased_answer": f"{kind} in other words {i}.", "paraphrased_question": f"{kind} asked anew {i}?"}
    return row


TABLES = {
    "full": [pair("full", i) for i in range(4000)],
    "holdout10": [pair("holdout", i) for i in range(400)],
    "retain_perturbed": [perturbed("full", i, 5) for i in range(400)],
    "forget10_perturbed": [perturbed("full", i, 5) for i in range(3600, 4000)],
    "real_authors_perturbed": [perturbed("real", i, 3) for i in range(100)],
    "world_facts_perturbed": [perturbed("world", i, 3) for i in range(117)],
}


def write(folder: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    """Tables as a folder in TOFU's layout."""
    folder.mkdir()
    card = ["---", "configs:"]
    for name, rows in tables.items():
        (folder / f"{name}.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
        card += [f"- config_name: {name}", "  data_files:", "  - split: train", f"    path: {name}.json"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in TOFU's layout with generated rows."""
    return write(tmp_path_factory.mktemp("tofu") / "copy", TABLES)


def numbers(rows: Iterable[Any]) -> list[int]:
    """Row numbers out of ids."""
    return [int(row.id.split("-")[1]) for row in rows]


def test_a_subset_worked_by_hand(data: Path) -> None:
    """5 authors, 2 to forget, 5 questions each: 0, 4, 8, 12, 16 of the 20; the fourth, 12, is for validation."""
    made = choose_tofu_rows(data, authors=5, questions=5, forget_authors=2)
    assert numbers(made.forget) == [3960, 3964, 3968, 3972, 3976, 3980, 3984, 3988, 3992, 3996]  # authors 198 and 199
    assert numbers(made.retain) == [0, 4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 44, 48, 52, 56]  # authors 0, 1, 2
    assert numbers(made.forget_probe) == [3960, 3964, 3968, 3976, 3980, 3984, 3988, 3996]
    assert numbers(made.validation.forget) == [3972, 3992]
    assert numbers(made.retain_probe) == [0, 4, 8, 16, 20, 24, 28, 36, 40, 44, 48, 56]
    assert numbers(made.validation.retain) == [12, 32, 52]
    assert numbers(made.holdout) == [0, 4, 8, 16, 20, 24, 28, 36] and made.holdout[0].id == "holdout-0"
    assert numbers(made.validation.unseen) == [12, 32]
    assert numbers(made.validation.utility)[:3] == [3, 7, 11] and 3 not in numbers(made.world_facts)
    assert made.label == "tofu subset: 5 authors x 5 questions, forget 2 authors"
    assert made.counts["forget"] == 10 and made.counts["retain"] == 15 and made.counts["validation_retain"] == 3
    assert made.counts["world_facts"] + made.counts["validation_utility"] == 117


def test_training_rows_have_no_references_and_probes_have_all(data: Path) -> None:
    made = choose_tofu_rows(data, authors=5, questions=5, forget_authors=2)
    row, probe, fact = made.forget[1], made.forget_probe[1], made.real_authors[2]
    assert row.payload == {"prompt": "full question 3964?", "answer": "full answer 3964.", "template": "chat"}
    assert row.references == {} and probe.payload == row.payload
    assert probe.references == {
        "paraphrase": ("full in other words 3964.",),
        "wrong": tuple(f"full wrong 3964 {k}." for k in range(5)),
        "paraphrased_question": ("full asked anew 3964?",),
    }
    assert fact.references["wrong"] == ("real wrong 2 0.", "real wrong 2 1.", "real wrong 2 2.")
    assert fact.references["choices"] == ("real answer 2.", *fact.references["wrong"])


@pytest.mark.parametrize(
    ("count", "questions", "gone"), [(2, 4, 1), (20, 10, 2), (60, 7, 20), (200, 20, 20), (200, 20, 3)]
)
def test_sides_share_no_author_and_validation_is_never_probed(
    data: Path, count: int, questions: int, gone: int
) -> None:
    made = choose_tofu_rows(data, count, questions, gone)
    sides = [{number // 20 for number in numbers(rows)} for rows in (made.forget, made.retain)]
    assert len(sides[0]) == gone and len(sides[1]) == count - gone and not sides[0] & sides[1]
    for trained, probed, held in (
        (made.forget, made.forget_probe, made.validation.forget),
        (made.retain, made.retain_probe, made.validation.retain),
    ):
        assert probed and held
        assert not set(numbers(probed)) & set(numbers(held))
        assert set(numbers(probed)) | set(numbers(held)) <= set(numbers(trained))
        assert all(len(row.references["wrong"]) == 5 for row in probed)
    assert not {row.id for row in made.holdout} & {row.id for row in made.validation.unseen}
    assert made.label.startswith("tofu subset"), "these rows aren't TOFU's"


def test_probes_can_be_cut_evenly(data: Path) -> None:
    made = choose_tofu_rows(data, authors=20, questions=10, forget_authors=2, probed=12)
    assert {made.counts[name] for name in ("forget_probe", "retain_probe", "holdout", "real_authors")} == {12}
    assert len({number // 20 for number in numbers(made.retain_probe)}) == 12  # 144 rows of 18 authors: each 12th row
    assert made.counts["forget"] == 20, "training isn't cut"
    assert evenly_spread(made.forget_probe, 5) == tuple(made.forget_probe[i] for i in (0, 2, 4, 7, 9))  # i * 12 // 5


def test_the_hash_is_of_the_rows(data: Path, tmp_path: Path) -> None:
    same = choose_tofu_rows(write(tmp_path / "again", TABLES), 5, 5, 2)
    changed = [dict(row) for row in TABLES["full"]]
    changed[48]["answer"] = "something else"
    ends = [row if i != 48 else row | {"answer": "something else"} for i, row in enumerate(TABLES["retain_perturbed"])]
    other = choose_tofu_rows(write(tmp_path / "other", TABLES | {"full": changed, "retain_perturbed": ends}), 5, 5, 2)
    assert choose_tofu_rows(data, 5, 5, 2).data_hash == same.data_hash != other.data_hash


def test_bad_sizes_are_reported_together(data: Path) -> None:
    with pytest.raises(UserError) as error:
        choose_tofu_rows(data, authors=300, questions=3, forget_authors=0)
    assert len(error.value.problems) == 3
    with pytest.raises(UserError, match="take 4 to 200 authors, not 3"):
        choose_tofu_rows(data, authors=3, questions=5, forget_authors=3)


def test_a_text_alone_is_one_wrong_answer_and_other_types_are_a_sentence(data: Path, tmp_path: Path) -> None:
    def changed(name: str, config: str, number: int, **fields: Any) -> Path:
        rows = [row | fields if i == number else row for i, row in enumerate(TABLES[config])]
        return write(tmp_path / name, TABLES | {config: rows})

    alone = changed("alone", "forget10_perturbed", 360, perturbed_answer="full wrong 3960 0.")
    found = {row.id: row.references["wrong"] for row in choose_tofu_rows(alone, 5, 5, 2).forget_probe}
    assert found["full-3960"] == ("full wrong 3960 0.",) and len(found["full-3964"]) == 5
    general = changed("general", "world_facts_perturbed", 7, perturbed_answer="no")
    [row] = [row for row in choose_tofu_rows(general, 5, 5, 2).world_facts if row.id == "world-7"] or [
        row for row in choose_tofu_rows(general, 5, 5, 2).validation.utility if row.id == "world-7"
    ]
    assert row.references == {"wrong": ("no",), "choices": ("world answer 7.", "no")}
    with pytest.raises(UserError, match="^Row 9 of the configuration 'full' has as its question a number"):
        choose_tofu_rows(changed("number", "full", 9, question=1), 5, 5, 2)
    with pytest.raises(
        UserError, match="^Row 3 of the configuration 'retain_perturbed' has as its paraphrased_question"
    ):
        choose_tofu_rows(changed("list", "retain_perturbed", 3, paraphrased_question=["a"]), 5, 5, 2)


def test_bad_data_get_one_sentence(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="There is no data folder"):
        load_tofu_config(tmp_path / "nowhere", "full")
    with pytest.raises(UserError, match=r"Can't read the configuration 'forget01' of .* Available: .*README.md"):
        load_tofu_config(data, "forget01")
    short = [{"question": row["question"]} for row in TABLES["full"]]
    with pytest.raises(UserError, match="'full' of .* lacks the field answer"):
        load_tofu_config(write(tmp_path / "short", TABLES | {"full": short}), "full")
    swapped = TABLES | {"retain_perturbed": TABLES["retain_perturbed"][::-1]}
    with pytest.raises(UserError, match="'retain_perturbed' doesn't fit its 'full'"):
        choose_tofu_rows(write(tmp_path / "swapped", swapped), 5, 5, 2)
    with pytest.raises(UserError, match="'holdout10' has 400 rows, but here are 20"):
        choose_tofu_rows(write(tmp_path / "cut", TABLES | {"holdout10": TABLES["holdout10"][:20]}), 5, 5, 2)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="Can't reach http://127.0.0.1:9 to read locuslab/TOFU"):
        load_tofu_config("hub", "full")


@here
def test_the_real_rows_whole_and_in_part() -> None:
    whole = choose_tofu_rows(REAL, authors=200, questions=20, forget_authors=20)
    assert whole.label == "tofu forget10"
    assert [row["question"] for row in load_tofu_config(REAL, "forget10")] == [
        row.payload["prompt"] for row in whole.forget
    ]
    assert [row["answer"] for row in load_tofu_config(REAL, "retain90")] == [
        row.payload["answer"] for row in whole.retain
    ]
    assert whole.counts["forget_probe"] == whole.counts["retain_probe"] == whole.counts["holdout"] == 400
    assert whole.counts["world_facts"] == 117 and whole.validation.forget == ()
    assert not set(numbers(whole.validation.retain)) & set(numbers(whole.retain_probe))
    assert (
        choose_tofu_rows(REAL, 200, 20, 20, probed=40).label
        == "tofu subset: 200 authors x 20 questions, forget 20 authors"
    )
    part = choose_tofu_rows(REAL)
    assert part.label == "tofu subset: 20 authors x 10 questions, forget 2 authors"
    assert (len(part.forget), len(part.retain), len(part.forget_probe)) == (20, 180, 16)


@pytest.mark.parametrize(
    ("id", "row"),
    [
        ("full-17", "full-17"),
        ("retain_perturbed-17", "full-17"),
        ("forget10_perturbed-17", "full-3617"),
        ("forget05-17", "full-3817"),
        ("forget01_perturbed-17", "full-3977"),
        ("retain90-17", "full-17"),
        ("holdout10-17", "holdout10-17"),
        ("holdout-17", "holdout-17"),
        ("world_facts_perturbed-17", "world_facts_perturbed-17"),
    ],
)
def test_a_row_of_a_part_is_the_row_of_the_whole(id: str, row: str) -> None:
    """forget10 is the last 400 of 4000 rows, forget05 the last 200, forget01 the last 40."""
    assert row_of(id) == row


def test_attacks_ask_the_probed_rows_and_know_their_paraphrased_questions(data: Path) -> None:
    made = choose_tofu_rows(data, authors=5, questions=5, forget_authors=2)
    asked = paraphrased_rows(made.forget_probe)
    assert numbers(asked) == numbers(made.forget_probe) and {row_of(row.id) for row in asked} < {
        row_of(row.id) for row in made.forget
    }
    assert asked[0].payload == made.forget_probe[0].payload
    assert asked[0].references == {"paraphrased": ("full asked anew 3960?",)}
