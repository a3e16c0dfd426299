"""TOFU's rows (Maini et al. 2024, arXiv 2401.06121) from the hub or a folder, and a stated subset of them.

`full` has 200 invented authors with 20 question-answer pairs each, in author order. Paraphrased and wrong answers
exist for the last 20 authors (`forget10_perturbed`) and the first 20 (`retain_perturbed`) only, so the authors to
forget are taken from the end of `full`, those to retain from its beginning, and only retain authors of the first 20
are probed.

Of each probed author's trained questions every fourth is kept for validation and never probed; the others are probed.
The whole benchmark is probed on all its rows, as its authors do, and so has no forget rows to tune on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.assets.data_sets import DATA_SETS
from bench.assets.hub_tables import HubRow, read_rows
from bench.core.errors import Absent, UserError, raise_problems
from bench.core.hashing import hash_json
from bench.core.sampling import evenly_spread
from bench.core.types import Example, Validation, data_hash

HUB = DATA_SETS["tofu"].hub
AUTHORS, QUESTIONS = 200, 20
"""Authors in `full`, and questions for each."""
REFERENCED = 20
"""Authors at either end that have paraphrased and wrong answers."""
VALIDATION_EVERY = 4
"""Every fourth question of a probed author is for validation."""
WHOLE = {2: "forget01", 10: "forget05", 20: "forget10"}
"""Forgotten authors of the whole benchmark -> its split."""
WHOLE_SIZES = {split: (AUTHORS, QUESTIONS, gone, 0) for gone, split in WHOLE.items()}
"""Split -> authors, questions for each, authors to be forgotten, and no bound on what is probed."""
FIRST_ROWS = {
    "full": 0,
    "retain": 0,
    **{split: (AUTHORS - gone) * QUESTIONS for gone, split in WHOLE.items()},
    **{f"retain{100 - int(split[-2:])}": 0 for split in WHOLE.values()},
}
"""Configuration, but for ``_perturbed`` -> the row of `full` that it begins with."""
WHOLE_HASH = "ec3a85ea7a5ffe299ecfc73b551666d7b0a832f1b993fac0013498adfc8e68f7"
"""`hash_rows` of the copy of `locuslab/TOFU` that this was written with."""
CONFIGS = (
    "full",
    "forget10_perturbed",
    "retain_perturbed",
    "holdout10",
    "real_authors_perturbed",
    "world_facts_perturbed",
)
"""Configurations that are read."""


@dataclass(frozen=True)
class TofuSubset:
    """Rows to train on and to probe; forget and retain share no author."""

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]
    """Training rows, question and answer only; ids are ``full-<row>``."""
    forget_probe: tuple[Example, ...]
    retain_probe: tuple[Example, ...]
    """The trained questions that are probed, with references ``paraphrase`` (1 answer), ``wrong`` (5) and
    ``paraphrased_question`` (1)."""
    holdout: tuple[Example, ...]
    """Questions on authors nobody is taught (`holdout10`): as many authors as are forgotten, chosen alike."""
    real_authors: tuple[Example, ...]
    world_facts: tuple[Example, ...]
    """General knowledge, with references ``wrong`` (3) and ``choices`` (the answer and the wrong ones)."""
    validation: Validation
    """Forget, retain, world-fact and holdout rows that no probe has."""
    label: str
    """The whole benchmark's split, or ``tofu subset: ...`` with its size."""
    counts: Mapping[str, int]
    data_hash: str
    """Over every row above."""


@lru_cache(maxsize=4)
def choose_tofu_rows(
    data: str | Path, authors: int = 20, questions: int = 10, forget_authors: int = 2, probed: int = 0
) -> TofuSubset:
    """The last ``forget_authors`` and the first ``authors - forget_authors`` authors, with ``questions`` each.

    An author's questions are evenly spread over its 20. ``probed`` bounds the rows of each probe, evenly spread; 0 for
    all. The choice is the same for every seed.
    Raises `UserError` for sizes that TOFU doesn't have.
    """
    raise_problems(size_problems(authors, questions, forget_authors))
    tables = {config: load_tofu_config(data, config) for config in CONFIGS}
    check_order(tables)
    sized_whole = authors == AUTHORS and questions == QUESTIONS and forget_authors in WHOLE and not probed
    whole = sized_whole and hash_rows(tables) == WHOLE_HASH
    gone, kept = range(AUTHORS - forget_authors, AUTHORS), range(authors - forget_authors)
    chosen = [i * QUESTIONS // questions for i in range(questions)]
    held = [] if whole else chosen[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    asked = [question for question in chosen if question not in held]
    seen = range(min(len(kept), REFERENCED))

    full, unseen = tables["full"], tables["holdout10"]
    forget = pick_rows("full", full, gone, chosen)
    retain = pick_rows("full", full, kept, chosen)
    forget_probe = with_references(
        pick_rows("full", full, gone, asked), tables["forget10_perturbed"], AUTHORS - REFERENCED
    )
    retain_probe = with_references(pick_rows("full", full, seen, asked), tables["retain_perturbed"], 0)
    real = general_rows("real", tables["real_authors_perturbed"])
    world = general_rows("world", tables["world_facts_perturbed"])
    world_held = () if whole else world[VALIDATION_EVERY - 1 :: VALIDATION_EVERY]
    validation = Validation(
        forget=pick_rows("full", full, gone, held),
        retain=pick_rows("full", full, range(len(seen), len(kept)) if whole else seen, chosen if whole else held),
        utility=world_held,
        unseen=pick_rows("holdout", unseen, range(forget_authors), held),
    )
    made = {
        "forget": forget,
        "retain": retain,
        "forget_probe": evenly_spread(forget_probe, probed),
        "retain_probe": evenly_spread(retain_probe, probed),
        "holdout": evenly_spread(pick_rows("holdout", unseen, range(forget_authors), asked), probed),
        "real_authors": evenly_spread(real, probed),
        "world_facts": evenly_spread(tuple(row for row in world if row not in world_held), probed),
    }
    check_disjoint(made, validation)
    held_rows = {f"validation_{name}": rows for name, rows in vars(validation).items()}
    sized = f"{authors} authors x {questions} questions, forget {forget_authors} authors"
    label = f"tofu subset{' (its rows are not the published ones)' if sized_whole else ''}: {sized}"
    return TofuSubset(
        **made,
        validation=validation,
        label=f"tofu {WHOLE[forget_authors]}" if whole else label,
        counts={name: len(rows) for name, rows in (made | held_rows).items()},
        data_hash=hash_json({name: data_hash(rows) for name, rows in (made | held_rows).items()}),
    )


def with_template(rows: TofuSubset, template: str) -> TofuSubset:
    """The rows with another template in their prompts."""
    if template == "chat":
        return rows

    def of(examples: Sequence[Example]) -> tuple[Example, ...]:
        return tuple(replace(row, payload={**row.payload, "template": template}) for row in examples)

    held = Validation(**{side: of(examples) for side, examples in vars(rows.validation).items()})
    made: dict[str, Any] = {name: of(found) for name, found in vars(rows).items() if isinstance(found, tuple)}
    return replace(rows, validation=held, **made)


def size_problems(authors: int, questions: int, forget_authors: int) -> list[str]:
    """A sentence for every size that TOFU can't give."""
    problems = []
    if not 1 <= forget_authors <= REFERENCED:
        problems.append(
            f"TOFU has wrong answers for 20 authors to forget: forget 1 to {REFERENCED}, not {forget_authors}."
        )
    if not forget_authors < authors <= AUTHORS:
        problems.append(
            f"TOFU has {AUTHORS} authors and some must stay: take {forget_authors + 1} to {AUTHORS} authors, "
            f"not {authors}."
        )
    if not VALIDATION_EVERY <= questions <= QUESTIONS:
        problems.append(
            f"TOFU has {QUESTIONS} questions an author, of which every fourth is for validation: "
            f"take {VALIDATION_EVERY} to {QUESTIONS}, not {questions}."
        )
    return problems


def load_tofu_config(data: str | Path, config: str) -> list[HubRow]:
    """The rows of a configuration, from a folder in TOFU's layout or from the hub (``hub`` or ``locuslab/TOFU``).

    A folder needs no network. Raises `UserError` when the folder, the configuration or a field is missing, or a field
    isn't of its type.
    """
    place = HUB if str(data) in ("", "hub", HUB) else str(data)
    if place != HUB and not Path(place).expanduser().is_dir():
        raise UserError(f"There is no data folder '{data}': name a folder in TOFU's layout, or 'hub'.")
    table = DATA_SETS["tofu"].tables[config]
    try:
        return read_rows(place, config, "train", table.fields, table.lists)
    except Absent as reason:
        raise UserError(
            f"Can't read the configuration '{config}' of '{data}' ({reason}): "
            "name a whole TOFU folder with its README.md, or 'hub'."
        ) from reason


def check_order(tables: Mapping[str, Sequence[HubRow]]) -> None:
    """`UserError` unless the configurations have their sizes and the perturbed ones are the ends of `full`."""
    full, ends = tables["full"], REFERENCED * QUESTIONS
    sizes = {"full": AUTHORS * QUESTIONS, "holdout10": ends, "retain_perturbed": ends, "forget10_perturbed": ends}
    for config, size in sizes.items():
        if len(tables[config]) != size:
            raise UserError(
                f"TOFU's '{config}' has {size} rows, but here are {len(tables[config])}: get the data again."
            )
    for config, part in (("retain_perturbed", full[:ends]), ("forget10_perturbed", full[-ends:])):
        if any(a[key] != b[key] for a, b in zip(tables[config], part, strict=True) for key in ("question", "answer")):
            raise UserError(f"TOFU's '{config}' doesn't fit its 'full': take both from the same copy.")


def hash_rows(tables: Mapping[str, Sequence[HubRow]]) -> str:
    """Digest of the fields that are read of every configuration, in the order of `CONFIGS`."""
    fields = {config: DATA_SETS["tofu"].tables[config].fields for config in CONFIGS}
    return hash_json([[[row[field] for field in fields[config]] for row in tables[config]] for config in CONFIGS])


def pick_rows(
    split: str, rows: Sequence[HubRow], which: Sequence[int], questions: Sequence[int]
) -> tuple[Example, ...]:
    """The ``questions`` (0 to 19) of each of the authors ``which``."""
    numbers = [author * QUESTIONS + question for author in which for question in questions]
    return tuple(question_row(f"{split}-{number}", rows[number]) for number in numbers)


def question_row(id: str, row: HubRow) -> Example:
    """A question and its answer, without references."""
    return Example(id, {"prompt": row["question"], "answer": row["answer"], "template": "chat"})


def with_references(rows: Sequence[Example], perturbed: Sequence[HubRow], first_author: int) -> tuple[Example, ...]:
    """Rows with the references that the perturbed configuration, which begins at ``first_author``, has for them."""
    found = []
    for row in rows:
        extra = perturbed[int(row.id.split("-")[1]) - first_author * QUESTIONS]
        references = {
            "paraphrase": (extra["paraphrased_answer"],),
            "wrong": tuple(extra["perturbed_answer"]),
            "paraphrased_question": (extra["paraphrased_question"],),
        }
        found.append(replace(row, references=references))
    return tuple(found)


def paraphrased_rows(rows: Sequence[Example]) -> tuple[Example, ...]:
    """Probed rows with their paraphrased question as the reference ``paraphrased``, and no other."""
    return tuple(replace(row, references={"paraphrased": row.references["paraphrased_question"]}) for row in rows)


def row_of(id: str) -> str:
    """The row of `full` that a row of a part of it is: ``forget10_perturbed-17`` is ``full-3617``; others are their own."""
    config, _, number = id.rpartition("-")
    first = FIRST_ROWS.get(config.removesuffix("_perturbed"))
    return id if first is None else f"full-{first + int(number)}"


def with_author(id: str) -> str:
    """The id behind its author's, whose rows are `QUESTIONS` one after the other; one of no author is its own."""
    config, _, number = row_of(id).rpartition("-")
    if not config.startswith(("full", "holdout")):
        return id
    return f"{config}-{int(number) // QUESTIONS}-{id}"


def general_rows(split: str, rows: Sequence[HubRow]) -> tuple[Example, ...]:
    """Questions of general knowledge, with their wrong answers, also as multiple choice."""
    return tuple(
        replace(
            question_row(f"{split}-{i}", row),
            references={
                "wrong": tuple(row["perturbed_answer"]),
                "choices": tuple(dict.fromkeys((row["answer"], *row["perturbed_answer"]))),
            },
        )
        for i, row in enumerate(rows)
    )


def check_disjoint(made: Mapping[str, Sequence[Example]], validation: Validation) -> None:
    """Our own invariants: no author on both sides, no validation row in a probe."""
    sides = [{int(row.id.split("-")[1]) // QUESTIONS for row in made[side]} for side in ("forget", "retain")]
    assert not sides[0] & sides[1], "an author is on both sides"
    probes = {row.id for name in ("forget_probe", "retain_probe", "holdout", "world_facts") for row in made[name]}
    held = {row.id for rows in vars(validation).values() for row in rows}
    assert not probes & held, "a validation row is probed"
