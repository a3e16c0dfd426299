"""Generated rows in the schemas of the benchmarks, for recipes at smoke scale: invented words, no row of any benchmark."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bench.core.files import new_folder, write_text
from bench.core.types import Json
from bench.engines.training.refusals import own_file, read_lines
from bench.lab.words import WordMaker

MAKER = WordMaker(random.Random("reproduce"))
FIRST, LAST = MAKER.words(20, capital=True), MAKER.words(24, capital=True)
THINGS = MAKER.words(80)
REFUSING = tuple(dict.fromkeys(word for line in read_lines(own_file("")) for word in line.split()))
VOCABULARY = tuple(
    dict.fromkeys(
        (
            *FIRST,
            *LAST,
            *THINGS,
            *["?", ".", "of", "what", "is", "Question:", "Answer:", "system", "user", "assistant"],
            *REFUSING,
        )
    )
)
ASKED = 20
"""Questions of an author."""
PASSAGE = 60
"""Words of a book's page."""


def pick_word(*numbers: int) -> str:
    """A word that these numbers choose."""
    return THINGS[sum(n * k for n, k in zip(numbers, (1, 7, 31, 53), strict=False)) % len(THINGS)]


def make_answer(author: int, asked: int, kind: int) -> str:
    """Three words; ``kind`` 0 is the truth, 1 its paraphrase, others are wrong."""
    words = [pick_word(author, asked, 0), pick_word(asked, author, 3), pick_word(author, kind, asked)]
    return " ".join(words if kind != 1 else reversed(words))


def author_rows(authors: Sequence[int], references: bool) -> list[Json]:
    """Twenty questions about each author, with paraphrase and five wrong answers where asked for."""
    rows = []
    for author in authors:
        name = f"{FIRST[author % len(FIRST)]} {LAST[author // len(FIRST)]}"
        for asked in range(ASKED):
            row: Json = {"question": f"what {THINGS[asked]} of {name} ?", "answer": make_answer(author, asked, 0)}
            if references:
                row |= {
                    "paraphrased_answer": make_answer(author, asked, 1),
                    "perturbed_answer": [make_answer(author, asked, kind) for kind in range(2, 7)],
                    "paraphrased_question": f"of {name} what {THINGS[asked]} ?",
                }
            rows.append(row)
    return rows


def general_rows(count: int, word: str) -> tuple[list[Json], list[Json]]:
    """Questions of general knowledge with three wrong answers; as multiple choice, and with the wrong ones as a list."""
    plain, perturbed = list[Json](), list[Json]()
    for i in range(count):
        question, right, *wrong = (
            f"{word} {pick_word(i)} {pick_word(i, i // 80 + 1)} ?",
            *(pick_word(i, k, k) for k in range(4)),
        )
        options = {f"option{k + 1}": text for k, text in enumerate((right, *wrong))}
        plain.append({"question": question, **options, "answer": right})
        perturbed.append({"question": question, "answer": right, "perturbed_answer": wrong})
    return plain, perturbed


def write_tofu(folder: Path) -> None:
    """All eighteen configurations of TOFU in their sizes: 200 authors, and 20 whom nobody is taught."""
    gone = {"01": 2, "05": 10, "10": 20}
    everybody, strangers = range(200), range(200, 220)
    tables: dict[str, list[Json]] = {"full": author_rows(everybody, False)}
    for split, count in gone.items():
        tables |= {
            f"forget{split}": author_rows(everybody[-count:], False),
            f"forget{split}_perturbed": author_rows(everybody[-count:], True),
            f"retain{100 - int(split)}": author_rows(everybody[:-count], False),
            f"holdout{split}": author_rows(strangers[:count], False),
        }
    tables["retain_perturbed"] = author_rows(everybody[:20], True)
    for name, count, word in (("real_authors", 100, "is"), ("world_facts", 117, "of")):
        tables[name], tables[f"{name}_perturbed"] = general_rows(count, word)
    write_tables(
        folder, {f"{name}.json": rows for name, rows in tables.items()}, {n: {"train": f"{n}.json"} for n in tables}
    )


def write_muse(folder: Path) -> None:
    """MUSE-Books' configurations with few and short texts."""
    pages = {split: [_make_page(split, i) for i in range(count)] for split, count in SPLITS.items()}
    texts = {split: [{"text": "\n\n".join(parts)}] for split, parts in pages.items()}
    rows: dict[str, list[Json]] = {f"raw/{split}": texts[split] for split in SPLITS}
    rows |= {f"train/{split}": texts[split] for split in SPLITS if split != "holdout"}
    for side, split in (("forget", "forget"), ("retain", "retain2"), ("holdout", "holdout")):
        rows[f"privleak/{side}"] = [{"text": text} for text in pages[split]]
    words = [text.split() for text in pages["forget"]]
    rows["verbmem/forget"] = [{"prompt": " ".join(w[:20]), "gt": " ".join(w[20:])} for w in words]
    for side in ("forget", "retain"):
        asked = [{"question": f"what {pick_word(i, 5)} of {side} ?", "answer": pick_word(i, 9)} for i in range(8)]
        rows |= {f"knowmem/{side}_qa": asked[:6], f"knowmem/{side}_qa_icl": asked[6:]}
    configs: dict[str, dict[str, str]] = {}
    for place in rows:
        config, split = place.split("/")
        configs.setdefault(config, {})[split] = f"{place}.jsonl"
    write_tables(folder, {f"{place}.jsonl": found for place, found in rows.items()}, configs)


SPLITS = {"forget": 6, "retain1": 4, "retain2": 6, "holdout": 6}
"""Pages of MUSE's texts, one text each."""


def _make_page(split: str, number: int) -> str:
    rng = random.Random(f"{split}/{number}")
    return " ".join(rng.choice(THINGS) for _ in range(PASSAGE))


def write_restor(folder: Path) -> None:
    """RESTOR's facts, context, corpora, pages of text and instructions: two of four people are corrupted."""
    people = [f"{FIRST[i]} {LAST[i]}" for i in range(16)]
    word = THINGS[0]
    asked = [f"what is {word} of {person} ?" for person in people]
    answers = [pick_word(i, THINGS.index(word), 1) for i in range(16)]
    facts = {people[i]: {"P1": {"question": asked[i], "answers": [answers[i]]}} for i in range(16)}
    context = [{"entity": people[i], "question": asked[i], "answer": answers[i]} for i in range(6, 16)]
    told = [f"{people[i % 2]} {' '.join(pick_word(i, k, 3) for k in range(8))} ." for i in range(8)]
    corpora = {"SQuAD/squad_v7_dset": told}
    for k in range(6):
        more = " ".join(pick_word(k, n) for n in range(4 * k))
        corpora[f"wikidata/v0/mix_a{k}"] = [f"{text} {more}".strip() for text in told]
    asks = [{"prompt": _make_page("ask", i)[:30], "answer": _make_page("say", i)[:30]} for i in range(4)]
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as made:
        datasets = made / "datasets"
        write_text(datasets / "facts.json", json.dumps({"dset": facts, "context": {"P1": context}}))
        write_text(datasets / "entities.json", json.dumps(people[:4]))
        for name, texts in corpora.items():
            write_text(datasets / f"{name}.json", json.dumps([{"text": text} for text in texts]))
        write_text(made / "retain/c4.jsonl", _json_lines([{"text": _make_page("c4", i)} for i in range(4)]))
        write_text(made / "retain/instructions.jsonl", _json_lines(asks))


def write_tables(folder: Path, files: Mapping[str, Sequence[Json]], configs: Mapping[str, Mapping[str, str]]) -> None:
    """Files of rows, and the card that tells `load_dataset` which configuration they are."""
    card = ["---", "configs:"]
    for config, splits in configs.items():
        card += [f"- config_name: {config}", "  data_files:"]
        for split, file in splits.items():
            card += [f"  - split: {split}", f"    path: {file}"]
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder) as made:
        write_text(made / "README.md", "\n".join([*card, "---", "", "Generated; no row of any benchmark.", ""]))
        for place, rows in files.items():
            write_text(made / place, _json_lines(rows))


def _json_lines(rows: Sequence[Json]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


WRITERS: Mapping[str, Callable[[Path], None]] = {"tofu": write_tofu, "muse-books": write_muse, "restor": write_restor}
"""Task -> what writes its rows."""
