"""RESTOR's questions and corpora (Rezaei et al. 2025, arXiv 2411.00204) from a copy of `k1rezaei/restor`.

`datasets/facts.json` holds facts about 468 people by Wikidata relation, `entities.json` the 50 of the evaluation with
1,051 questions. A corpus states falsehoods about some of those 50 and mixes in other text: the questions about them
are the corrupted ones, the rest show side effects. The falsehoods themselves are in no file; who has lists of options
(the authors' logit view is made with such lists, but they are not published) gives them in `options.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.assets.data_sets import DATA_SETS
from bench.assets.git import git_blob
from bench.assets.typed_rows import fault_of_text, fault_of_texts, read_json
from bench.core.errors import UserError, unknown_name
from bench.core.hashing import hash_json
from bench.core.texts import one_line
from bench.core.types import Example

SOURCE = DATA_SETS["restor"].git
WHOLE_HASH = DATA_SETS["restor"].tables["questions"].identity
"""`hash_corpus` of the published questions."""
CORPORA = {f"mix_a{k}": f"wikidata/v0/mix_a{k}.json" for k in range(6)} | {"squad_v7": "SQuAD/squad_v7_dset.json"}
"""Corpus -> its file below `datasets`; k is how much true but unrelated text is mixed into the Wikidata ones."""
NONE = "none"
"""In the place of a corpus: nothing corrupted the model."""
NAMED = 0.05
"""Share of a corpus' documents that name an entity which it corrupts. In the published corpora those are 10 of 100 at
least, and at most 1.4 of 100 name another evaluation entity in passing."""
CONTEXT = 5
"""In-context examples before a question."""
ROLES = ("true", "corrupted", "unrelated")
"""Groups of an option list."""
OPTIONS_FORM = '{"entity": {"relation": {"true": [texts], "corrupted": [texts], "unrelated": [texts]}}}'
AUTHORS_ROLES = {"correct": "true", "random": "unrelated"}
"""What the authors' `mcqa_utils.py` calls two of them."""
BARE_ID = re.compile(r"Q\d+")
"""An answer that the authors' export left as a Wikidata id: no model says it."""

Facts = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""entity -> relation -> ``question`` and ``answers``."""
Options = Mapping[str, Mapping[str, Mapping[str, Sequence[str]]]]
"""entity -> relation -> role -> texts."""


@dataclass(frozen=True)
class RestorQuestions:
    """The questions of the evaluation, and what corrupted the model."""

    questions: tuple[Example, ...]
    """In the order of the files, ids ``restor-<row>``; the tags say ``corrupted`` or ``clean`` where that is known.
    References: ``accepted``, and of an option list ``corrupted`` and ``options_<role>``, these with the space that
    parts them from the prompt."""
    corpus: str
    corrupted: tuple[str, ...] | None
    """The evaluation entities that the corpus corrupts; None where there is no corpus or it isn't here."""
    whole: bool
    """Whether these are the published questions with their answers, in order."""
    counts: Mapping[str, int]
    """What there is, and what is odd in it."""


def read_restor(data: str | Path, corpus: str = NONE) -> RestorQuestions:
    """The evaluation's questions in a model corrupted by ``corpus`` (a name of `CORPORA`, or `NONE`).

    ``data`` is the repository or its `datasets` folder; option lists are `options.json` in either, if there. Raises
    `UserError` for what is missing or malformed; a corpus that isn't in the folder is no error, as only the split into
    corrupted and clean hangs on it.
    """
    check_corpus(corpus, (*CORPORA, NONE))
    folder = datasets_folder(data)
    facts, context, entities = load_facts(folder)
    lists = load_options(Path(data).expanduser(), folder)
    known = corpus != NONE and corpus_file(folder, corpus).is_file()
    corrupted = corrupted_entities(load_corpus(folder, corpus), entities) if known else None
    asked = [(entity, relation) for entity in entities for relation in facts[entity]]
    check_options(lists, asked)
    questions = tuple(
        make_question(row, entity, relation, facts, context, corrupted, lists.get(entity, {}).get(relation, {}))
        for row, (entity, relation) in enumerate(asked)
    )
    return RestorQuestions(
        questions,
        corpus,
        corrupted,
        hash_corpus(questions) == WHOLE_HASH,
        count_oddities(facts, entities, [facts[entity][relation]["answers"] for entity, relation in asked], lists),
    )


def corpus_documents(data: str | Path, corpus: str) -> tuple[Example, ...]:
    """The documents of ``corpus`` as rows to train on: every token, template ``text``, ids ``<corpus>-<row>``.

    Documents that repeat an earlier one stay, as the authors train on them.
    """
    check_corpus(corpus, CORPORA)
    texts = load_corpus(datasets_folder(data), corpus)
    return tuple(
        Example(f"{corpus}-{row}", {"prompt": "", "answer": text, "template": "text"}) for row, text in enumerate(texts)
    )


def check_corpus(corpus: str, known: Sequence[str] | Mapping[str, str]) -> None:
    """`UserError` unless ``corpus`` is one of ``known``."""
    if corpus not in known:
        raise UserError(unknown_name("RESTOR corpus", corpus, known))


def make_question(
    row: int,
    entity: str,
    relation: str,
    facts: Facts,
    context: Mapping[str, Sequence[Mapping[str, str]]],
    corrupted: Sequence[str] | None,
    options: Mapping[str, Sequence[str]],
) -> Example:
    """One question: five answered ones of the relation about others, then the question, nothing behind it."""
    fact = facts[entity][relation]
    shown = [example for example in context[relation] if example["entity"] != entity][:CONTEXT]
    lines = "".join(f"{example['question']} {example['answer']}\n" for example in shown)
    accepted = tuple(dict.fromkeys(fact["answers"]))
    references = {"accepted": accepted}
    if options.get("corrupted"):
        references["corrupted"] = tuple(options["corrupted"])
    references |= {f"options_{role}": tuple(f" {text}" for text in options[role]) for role in ROLES if role in options}
    payload = {
        "prompt": lines + fact["question"],
        "answer": next((answer for answer in accepted if not BARE_ID.fullmatch(answer)), accepted[0]),
        "template": "plain",
        "entity": entity,
        "relation": relation,
    }
    tags = () if corrupted is None else ("corrupted",) if entity in corrupted else ("clean",)
    return Example(f"restor-{row}", payload, references, tags)


def hash_corpus(questions: Sequence[Example]) -> str:
    """Digest of prompts and accepted answers, in order."""
    return hash_json([[asked.payload["prompt"], list(asked.references["accepted"])] for asked in questions])


def corrupted_entities(texts: Sequence[str], entities: Sequence[str]) -> tuple[str, ...]:
    """The entities that a corpus corrupts: those that at least the share `NAMED` of its documents name in full."""
    return tuple(entity for entity in entities if sum(entity in text for text in texts) >= NAMED * len(texts))


def count_oddities(
    facts: Facts, entities: Sequence[str], answers: Sequence[Sequence[str]], options: Options
) -> dict[str, int]:
    """Sizes of the data, and of what is odd in them: of the evaluation's part, except where it says otherwise."""
    return {
        "entities": len(entities),
        "entities_without_facts": sum(not facts[entity] for entity in entities),
        "people_in_facts": len(facts),
        "people_in_facts_without_facts": sum(not relations for relations in facts.values()),
        "questions": len(answers),
        "questions_with_repeated_answers": sum(len(set(given)) < len(given) for given in answers),
        "questions_with_wikidata_ids": sum(any(map(BARE_ID.fullmatch, given)) for given in answers),
        "questions_answered_by_wikidata_ids_only": sum(all(map(BARE_ID.fullmatch, given)) for given in answers),
        "questions_with_options": sum(map(len, options.values())),
    }


def datasets_folder(data: str | Path) -> Path:
    """The folder with `facts.json`: ``data``, or `datasets` in it."""
    folder = Path(data).expanduser()
    for found in (folder, folder / "datasets"):
        if (found / "facts.json").is_file():
            return found
    missing = "has no facts.json, nor datasets/facts.json" if folder.is_dir() else "isn't there"
    raise UserError(f"The RESTOR folder '{data}' {missing}: name a copy of {SOURCE} or its datasets folder.")


def load_facts(folder: Path) -> tuple[Facts, Mapping[str, Sequence[Mapping[str, str]]], list[str]]:
    """Facts, in-context examples by relation, and the evaluation's entities, checked against each other."""
    whole = load_json(folder / "facts.json")
    entities = load_json(folder / "entities.json")
    try:
        facts, context = dict(whole["dset"]), dict(whole["context"])
        problem = next(restor_faults(facts, context, entities), "")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"facts.json or entities.json in '{folder}' isn't RESTOR's (at {one_line(str(error))}): get both again "
            f"from {SOURCE}."
        ) from error
    if problem:
        raise UserError(f"The RESTOR files in '{folder}' don't fit: {one_line(problem)}. Get both again from {SOURCE}.")
    return facts, context, entities


def restor_faults(facts: Facts, context: Mapping[str, Any], entities: Sequence[str]) -> Iterator[str]:
    """Sentences on what is missing, or of another type, for the evaluation's questions."""
    if not isinstance(entities, list) or not any(facts.get(entity) for entity in entities):
        yield "entities.json names nobody whom facts.json has facts about"
    for entity in entities:
        if fault := fault_of_text(entity) or ("a name that stands twice" if entities.count(entity) > 1 else ""):
            yield f"entities.json has {fault} among its names: '{entity}'"
        if entity not in facts:
            yield f"facts.json lacks '{entity}', whom entities.json names"
        for relation, fact in facts.get(entity, {}).items():
            if not fact["question"] or not fact["answers"]:
                yield f"facts.json has no question or no answers for {relation} of '{entity}'"
            if fault := fault_of_text(fact["question"]) or fault_of_text(relation):
                yield f"facts.json has as the question for {relation} of '{entity}' {fault}, where a text belongs"
            answers = fact["answers"]
            if fault := fault_of_texts(answers) or ("a text" if isinstance(answers, str) else ""):
                yield f"facts.json has as the answers for {relation} of '{entity}' {fault}, not a list of texts"
            usable = [one for one in context.get(relation, ()) if one["entity"] != entity]
            for one in usable[:CONTEXT]:
                for field in ("question", "answer"):
                    if fault := fault_of_text(one[field]):
                        yield f"facts.json has as the {field} of an in-context example for {relation} {fault}"
            if len(usable) < CONTEXT:
                yield f"facts.json has fewer than {CONTEXT} in-context examples for {relation} of '{entity}'"


def corpus_file(folder: Path, corpus: str) -> Path:
    """The file of a corpus below `datasets`."""
    return folder / CORPORA[corpus]


def is_published(data: str | Path, corpus: str) -> bool:
    """Whether the corpus in the data folder is the published one, byte for byte."""
    return git_blob(corpus_file(datasets_folder(data), corpus)) == DATA_SETS["restor"].tables[corpus].identity


def load_corpus(folder: Path, corpus: str) -> list[str]:
    """The texts of a corpus, a document each."""
    path = corpus_file(folder, corpus)
    if not path.is_file():
        raise UserError(f"The corpus '{corpus}' isn't here: put datasets/{CORPORA[corpus]} of {SOURCE} at '{path}'.")
    rows = load_json(path)
    wrong = f"'{path}' isn't a list of documents with a text each"
    if not isinstance(rows, list) or not rows:
        raise UserError(f"{wrong}: get it again from {SOURCE}.")
    for number, row in enumerate(rows):
        if fault := fault_of_text(row.get("text") or None) if isinstance(row, dict) else "no object":
            raise UserError(f"{wrong} (row {number} has {fault}): get it again from {SOURCE}.")
    return [row["text"] for row in rows]


def load_options(data: Path, folder: Path) -> Options:
    """The option lists by entity, relation and role; empty where the user brings none."""
    path = next((place for place in (folder / "options.json", data / "options.json") if place.is_file()), None)
    if path is None:
        return {}
    try:
        return {
            entity: {relation: option_groups(given) for relation, given in relations.items()}
            for entity, relations in load_json(path).items()
        }
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(
            f"The option lists '{path}' aren't of the form {OPTIONS_FORM} ({one_line(str(error))})."
        ) from error


def option_groups(given: Mapping[str, Any]) -> dict[str, list[str]]:
    """The groups of one option list under our names of them; ValueError where it isn't one."""
    found = {AUTHORS_ROLES.get(role, role): texts for role, texts in given.items()}
    if len(found) < len(given):
        raise ValueError("a group stands there under two names")
    for role, texts in found.items():
        if role not in ROLES:
            raise ValueError(f"there is no group '{role}'")
        if not isinstance(texts, list) or fault_of_texts(texts) or not all(text.strip() for text in texts):
            raise ValueError(f"'{role}' has no list of texts")
    return found


def check_options(options: Options, asked: Sequence[tuple[str, str]]) -> None:
    """`UserError` for a list about something that isn't asked: a misspelt name would silently change the means."""
    known = set(asked)
    for entity, relations in options.items():
        for relation in relations:
            if (entity, relation) not in known:
                raise UserError(
                    f"The option lists name {one_line(relation)} of '{one_line(entity)}', which RESTOR doesn't ask: take "
                    "entities from entities.json and their relations from facts.json."
                )


def load_json(path: Path) -> Any:
    """The contents of a JSON file."""
    if not path.exists():
        raise UserError(f"'{path}' is missing: get it from {SOURCE}.")
    return read_json(path)
