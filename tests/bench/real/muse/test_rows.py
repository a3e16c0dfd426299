"""MUSE-Books' rows: how text is cut, which rows are asked, what is refused; on made-up books and on the stand-in."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.types import Example
from bench.lab.model import word_tokenizer
from bench.real.muse.rows import (
    MUSE_COUNTS,
    STAND_IN,
    Document,
    MuseCut,
    MuseLibrary,
    MuseRows,
    RowSpan,
    choose_muse_rows,
    cut_at_rows,
    fold_spaces,
    load_muse_tables,
    load_tokenizer,
    open_library,
    possible_wordings,
    table_hashes,
)
from tests.paths import DATA
from tests.shared_data import needs_data

REAL = DATA / "books-public-domain"
here = needs_data("data/books-public-domain")

WORDS = [f"{a}{b}" for a in "bcdfghjklmnprstvz" for b in "aeiou"]
"""Words of the books; the tokenizer knows each as one token."""
TEXTS = {"forget": 2, "retain1": 3, "retain2": 3, "holdout": 2}
VERBATIM, MEMBER = (8, 12), 24
"""Words of a verbatim row's prompt and continuation, and of a membership row."""
EVERY = 60
"""Words from one row to the next."""

Tables = dict[str, list[dict[str, str]]]


def books() -> Tables:
    """Tables in MUSE-Books' layout: every text has 300 words, verbatim rows at 0, 120, ..., membership rows at 60, 180 ...

    The first verbatim row goes on over a line's end, and where a membership row begins inside of a verbatim one is said
    by `EVERY`: nowhere.
    """
    rng = random.Random(0)
    texts = {
        split: [" ".join(rng.choice(WORDS) for _ in range(300)) for _ in range(count)] for split, count in TEXTS.items()
    }

    def words(split: str, first: int, count: int) -> list[str]:
        return [" ".join(text.split()[at : at + count]) for text in texts[split] for at in range(first, 300, 2 * EVERY)]

    seen = words("forget", 0, sum(VERBATIM))
    verbatim = [{"prompt": " ".join(row.split()[:8]), "gt": " ".join(row.split()[8:])} for row in seen]
    texts["forget"][0] = texts["forget"][0].replace(verbatim[0]["gt"], "\n\n" + verbatim[0]["gt"])
    kept = words("retain1", EVERY, MEMBER) + words("retain2", EVERY, MEMBER)
    tables: Tables = {
        **{f"train/{split}": [{"text": text} for text in texts[split]] for split in ("forget", "retain1", "retain2")},
        "raw/holdout": [{"text": text} for text in texts["holdout"]],
        "verbmem/forget": verbatim,
        "privleak/forget": [{"text": text} for text in words("forget", EVERY, MEMBER)],
        "privleak/retain": [{"text": text} for text in kept],
        "privleak/holdout": [{"text": text} for text in words("holdout", EVERY, MEMBER)],
    }
    for side in ("forget", "retain"):
        for kind, count in (("qa", 4), ("qa_icl", 2)):
            rows = [{"question": f"Who {kind} {side} {i}?", "answer": rng.choice(WORDS)} for i in range(count)]
            tables[f"knowmem/{side}_{kind}"] = rows
    return tables


def written(folder: Path, tables: Mapping[str, list[dict[str, str]]]) -> str:
    """Tables as a folder that `load_dataset` reads."""
    lines = ["---", "configs:"]
    for config in dict.fromkeys(table.split("/")[0] for table in tables):
        lines += [f"- config_name: {config}", "  data_files:"]
        for table in (table for table in tables if table.startswith(f"{config}/")):
            lines += [f"  - split: {table.split('/')[1]}", f"    path: {table}.jsonl"]
            file = folder / f"{table}.jsonl"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("".join(json.dumps(row) + "\n" for row in tables[table]))
    (folder / "README.md").write_text("\n".join([*lines, "---", ""]))
    return str(folder)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a tokenizer that has a token for every word."""
    folder = tmp_path_factory.mktemp("tokenizer")
    word_tokenizer(WORDS).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return written(tmp_path_factory.mktemp("books"), books())


def texts(rows: tuple[Example, ...]) -> list[str]:
    return [fold_spaces(row.payload["answer"]) for row in rows]


def inside(made: MuseRows, table: str, passages: tuple[Example, ...], most: int = 10**6) -> list[bool]:
    """For each row that is asked, whether its first ``most`` words stand in one of the passages."""
    rows = [possible_wordings(made.tables[table][number])[0].split()[:most] for number in made.asked[table]]
    return [any(" ".join(row) in passage for passage in texts(passages)) for row in rows]


def test_the_whole_text_is_cut_without_a_gap_and_every_row_asked(data: str, tokens: str) -> None:
    made = choose_muse_rows(data, tokens, MuseCut(chunk=48))
    for split, count in (("forget", 2), ("retain1", 3), ("retain2", 3)):
        rows = made.trained[split]
        for i in range(count):
            own = [row for row in rows if row.id.startswith(f"{split}-{i}-")]
            assert " ".join(texts(tuple(own))) == fold_spaces(made.tables[f"train/{split}"][i]["text"])
        assert made.tokens[split] == 300 * count
    assert {table: len(numbers) for table, numbers in made.asked.items()} == {
        "verbmem/forget": 6,
        "privleak/forget": 4,
        "privleak/retain": 12,
        "privleak/holdout": 4,
        "knowmem/forget_qa": 4,
        "knowmem/forget_qa_icl": 2,
        "knowmem/retain_qa": 4,
        "knowmem/retain_qa_icl": 2,
    }
    assert not made.exact, "these aren't MUSE-Books' counts"


@pytest.mark.parametrize(
    "cut", [MuseCut(chunk=48), MuseCut(most_tokens=300, chunk=48, passage=16), MuseCut(texts=1, chunk=48)]
)
def test_validation_shares_no_text_with_a_row_that_is_asked(data: str, tokens: str, cut: MuseCut) -> None:
    made = choose_muse_rows(data, tokens, cut)
    sides = {
        "forget": ("verbmem/forget", "privleak/forget"),
        "retain": ("privleak/retain",),
        "utility": ("privleak/retain",),
        "unseen": ("privleak/holdout",),
    }
    for side, tables in sides.items():
        held = texts(getattr(made.validation, side))
        assert held, side
        asked = [
            possible_wordings(made.tables[table][number])[0].split() for table in tables for number in made.asked[table]
        ]
        scored = [row if len(row) != MEMBER else row[: cut.passage] for row in asked]
        pieces = [" ".join(row[at : at + 5]) for row in scored for at in range(len(row) - 4)]
        assert pieces and not [piece for piece in pieces if any(piece in passage for passage in held)], side
    trained = "\n".join(text for rows in made.trained.values() for text in texts(rows))
    whole = {
        split: fold_spaces("\n".join(row["text"] for row in made.tables[f"train/{split}"])) for split in made.trained
    }
    assert all(any(text in book for book in whole.values()) for text in texts(made.validation.forget))
    assert not [text for text in texts(made.validation.unseen) if text in trained]


def test_a_part_asks_only_rows_inside_a_trained_passage(data: str, tokens: str) -> None:
    made = choose_muse_rows(data, tokens, MuseCut(most_tokens=300, chunk=48, passage=16))
    assert made.tokens["forget"] <= 300 and made.tokens["retain1"] <= 150 and made.tokens["retain2"] <= 150
    assert made.tokens["forget"] > 200, "the bound is made use of"
    assert len(made.asked["verbmem/forget"]) >= 2 and len(made.asked["privleak/forget"]) >= 2
    assert all(inside(made, "verbmem/forget", made.trained["forget"]))
    assert all(inside(made, "privleak/forget", made.trained["forget"], 16))
    assert all(inside(made, "privleak/retain", made.trained["retain1"] + made.trained["retain2"], 16))
    assert "knowmem/forget_qa" not in made.asked
    again = {row.id for row in made.trained["forget"]}
    assert len(again) == len(made.trained["forget"])


def test_the_first_texts_alone(data: str, tokens: str) -> None:
    made = choose_muse_rows(data, tokens, MuseCut(texts=1, chunk=48))
    assert {split: {row.id.split("-")[1] for row in rows} for split, rows in made.trained.items()} == {
        split: {"0"} for split in made.trained
    }
    assert made.asked["verbmem/forget"] == (0, 1, 2), "those of the first book"
    assert made.asked["privleak/forget"] == (0, 1)
    assert len(made.asked["privleak/holdout"]) == 2, "as many unseen rows as members"


def test_probes_can_be_cut_evenly(data: str, tokens: str) -> None:
    made = choose_muse_rows(data, tokens, MuseCut(chunk=48, probed=3))
    assert made.asked["verbmem/forget"] == (0, 2, 4) and made.asked["privleak/retain"] == (0, 4, 8)
    assert made.asked["knowmem/forget_qa_icl"] == (0, 1), "the solved questions are no probes"


def words_of(text: str, tokens: str) -> Document:
    return Document(text, load_tokenizer(tokens))


def test_windows_begin_at_rows_and_a_row_that_does_not_fit_lies_in_none(tokens: str) -> None:
    """20 words of two letters, three characters each with the space; windows of 8 tokens.

    Row 0 at words 2 to 5, row 1 at 6 to 9 fits with it up to word 10; row 2 at 8 begins inside row 1 and ends behind the
    window; row 3 at 12 to 20 is exactly as long as a window, row 4 from 13 on is inside it.
    """
    document = words_of(" ".join(WORDS[i] for i in range(21)), tokens)
    assert len(document.starts) == 21

    def span(number: int, first: int, last: int) -> RowSpan:
        return RowSpan("t", number, 3 * first, 3 * last - 1)

    rows = [span(0, 2, 6), span(1, 6, 10), span(2, 8, 12), span(3, 12, 20), span(4, 13, 15), span(5, 14, 21)]
    made = cut_at_rows(document, 0, rows, 8)
    assert [[row.number for row in window.rows] for window in made] == [[], [0, 1], [], [3, 4], []]
    assert [document.text[window.start : window.end].split()[0] for window in made] == [
        WORDS[i] for i in (0, 2, 10, 12, 20)
    ]
    assert [window.tokens for window in made] == [2, 8, 2, 8, 1]
    assert "".join(document.text[w.start : w.end] for w in made) == document.text


def test_rows_are_found_whatever_white_space_stands_between_the_words(tokens: str) -> None:
    document = words_of("ba be\n\n  bi bo\tbu", tokens)
    assert document.find("bi bo") == (9, 14) and document.text[9:14] == "bi bo"
    assert document.find("be bi") == (3, 11) and document.find("bi ba") is None
    assert possible_wordings({"prompt": "ba be", "gt": "bi"}) == ["ba be bi", "ba bebi"]


def changed(table: str, number: int, **fields: str) -> Tables:
    """The books with one row changed."""
    tables = books()
    tables[table][number] = tables[table][number] | fields
    return tables


def test_an_unfound_row_leaves_nothing_to_validate_on(tmp_path: Path, tokens: str) -> None:
    """Where it stands isn't known, so that no passage is sure not to hold it."""
    place = written(tmp_path / "a", changed("privleak/forget", 0, text="za zu ze " * 8))
    made = choose_muse_rows(place, tokens, MuseCut(chunk=48))
    assert made.validation.forget == () and made.validation.retain
    assert 0 not in choose_muse_rows(place, tokens, MuseCut(texts=1, chunk=48)).asked["privleak/forget"]


def test_what_stands_on_both_sides_is_refused(tmp_path: Path, tokens: str) -> None:
    own = books()
    place = written(tmp_path / "a", changed("train/retain1", 1, text=own["train/forget"][1]["text"]))
    with pytest.raises(
        UserError, match=r"1 rows of 'train/forget' \(the first: row 1\) are also among those to be kept"
    ):
        choose_muse_rows(place, tokens, MuseCut())
    place = written(tmp_path / "b", changed("privleak/holdout", 2, text=own["privleak/retain"][0]["text"]))
    with pytest.raises(UserError, match=r"'privleak/holdout' \(the first: row 2\) are trained on"):
        choose_muse_rows(place, tokens, MuseCut())


def test_bad_data_get_one_sentence_each(tmp_path: Path, tokens: str, data: str) -> None:
    tables = books()
    del tables["verbmem/forget"], tables["privleak/retain"], tables["knowmem/retain_qa"]
    with pytest.raises(UserError, match="isn't in MUSE-Books' layout") as error:
        choose_muse_rows(written(tmp_path / "a", tables), tokens, MuseCut())
    assert len(error.value.problems) == 2, "the questions may be missing"
    del (tables := books())["knowmem/retain_qa"]
    assert "knowmem/retain_qa" not in choose_muse_rows(written(tmp_path / "b", tables), tokens, MuseCut()).asked
    with pytest.raises(UserError, match="lacks the field gt"):
        choose_muse_rows(written(tmp_path / "c", {**books(), "verbmem/forget": [{"prompt": "ba"}]}), tokens, MuseCut())
    with pytest.raises(UserError, match="No row of 'verbmem/forget' lies inside one passage of 18 tokens"):
        choose_muse_rows(data, tokens, MuseCut(texts=1, chunk=18, passage=12))
    with pytest.raises(UserError, match="no data folder"):
        choose_muse_rows(str(tmp_path / "nowhere"), tokens, MuseCut())


def test_other_data_are_not_the_stand_in(data: str, tokens: str) -> None:
    with pytest.raises(UserError, match="these aren't the rows of the public-domain stand-in"):
        choose_muse_rows(data, tokens, MuseCut(), stand_in=True)


def test_the_benchmark_is_known_by_its_counts(tokens: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tuple(len(rows) for rows in books().values())
    assert len(counts) == len(MUSE_COUNTS)
    monkeypatch.setattr("bench.real.muse.rows.MUSE_COUNTS", counts)
    choose_muse_rows.cache_clear()
    assert choose_muse_rows(data, tokens, MuseCut(chunk=48)).exact
    assert not choose_muse_rows(data, tokens, MuseCut(chunk=48, probed=3)).exact
    assert not choose_muse_rows(data, tokens, MuseCut(chunk=48, passage=16)).exact
    assert not choose_muse_rows(data, tokens, MuseCut(texts=2, chunk=48)).exact
    choose_muse_rows.cache_clear()


def test_the_choice_is_part_of_the_hash(data: str, tokens: str) -> None:
    cuts = [
        MuseCut(chunk=48),
        MuseCut(chunk=32),
        MuseCut(chunk=48, probed=3),
        MuseCut(most_tokens=300, chunk=48, passage=16),
    ]
    assert len({choose_muse_rows(data, tokens, cut).data_hash for cut in cuts}) == len(cuts)


@pytest.fixture(scope="module")
def real(tokens: str) -> MuseLibrary:
    return open_library(str(REAL), tokens, True)


@here
def test_the_stand_in_is_known_by_its_content(real: MuseLibrary, tokens: str) -> None:
    assert table_hashes(load_muse_tables(str(REAL))) == STAND_IN
    with pytest.raises(UserError, match="take --task books-public-domain"):
        choose_muse_rows(str(REAL), tokens, MuseCut())


@here
def test_every_row_of_the_stand_in_is_found(real: MuseLibrary) -> None:
    assert not real.lost
    found: dict[str, int] = {}
    for spans in real.rows.values():
        for span in spans:
            found[span.table] = found.get(span.table, 0) + 1
    assert set(found.values()) == {100} and len(found) == 4


@here
def test_a_part_of_the_stand_in(tokens: str) -> None:
    rows = choose_muse_rows(str(REAL), tokens, MuseCut(most_tokens=12000, chunk=640, passage=320), stand_in=True)
    assert len(rows.asked["verbmem/forget"]) >= 15 and len(rows.asked["privleak/forget"]) >= 15
    assert all(inside(rows, "verbmem/forget", rows.trained["forget"])) and not rows.exact
    assert {row.id.split("-")[1] for row in rows.trained["forget"]} == {"0", "1"}, "from both books"
    assert choose_muse_rows(str(REAL), tokens, MuseCut(), stand_in=True).exact
