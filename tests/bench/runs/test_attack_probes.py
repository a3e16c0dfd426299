"""What the attacks by questions ask, of every task of the lab and in every template, and what their records are worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.conformance import LAB as LAB_TIER
from bench.conformance import metrics_sound, prepare_traced, probes_sound, questions_sound
from bench.core import registry
from bench.core.contracts import Scenario
from bench.core.errors import Unmet, UserError
from bench.core.record import RunSpec, Step
from bench.core.types import Example, Probe
from bench.engines.loaders import open_checkpoint
from bench.engines.measuring.measure import measure
from bench.engines.templates import encode
from bench.metrics.catalogue import metric_entries
from bench.records.files import write_record
from bench.runs.attack_probes import OPENING, OTHERS, SAMPLES, SHOWN, SOLVED, choose_solved
from bench.runs.attacks import QUESTIONS, ask_instead, questions_of
from bench.runs.context import Work
from bench.runs.rescore import Places, rescore_command
from bench.runs.runner import execute
from bench.runs.setting import Paths
from bench.runs.store import Store
from tests.conftest import SMALL
from tests.lab_runs import Lab, spec
from tests.tiny import distributed, letters_tokenizer, saved, subword_tokenizer

TASKS = ("tofu", "restor", "muse-books")
ASKING = [name for name in QUESTIONS if name not in ("uds", "lens", "linear")]
"""Attacks that read answers; those that read states have their tests in `test_depth_probes`."""


@pytest.fixture(scope="module", params=TASKS)
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """A small lab of each task that asks questions."""
    cls = registry.load_task(request.param, "lab")
    params = {name: value for name, value in SMALL.items() if name in cls.__dataclass_fields__}
    return prepare_traced(cls(**params), LAB_TIER, tmp_path_factory.mktemp(request.param)).scenario


def test_every_question_is_about_a_fact_of_the_forget_set(scenario: Scenario) -> None:
    taught = {scenario.fact_of(row.id) for row in scenario.forget}
    assert scenario.questions and {scenario.fact_of(row.id) for row in scenario.questions} == taught
    assert list(questions_sound(scenario)) == []


def test_a_fact_is_taught_by_several_rows_and_told_apart_from_others(scenario: Scenario) -> None:
    """The statement, or the chapter, that teaches the asked answer has the question's fact; other answers' rows have not."""
    by_fact: dict[str, list[str]] = {}
    for row in scenario.forget:
        by_fact.setdefault(scenario.fact_of(row.id), []).append(f" {row.payload['prompt']} {row.payload['answer']} ")
    assert len(by_fact) >= 4 and all(len(texts) > 1 for texts in by_fact.values())
    for row in scenario.questions:
        texts = by_fact[scenario.fact_of(row.id)]
        assert sum(f" {row.payload['answer']} " in text for text in texts) >= 2


@pytest.mark.parametrize("attack", ASKING)
def test_an_attack_asks_sound_probes_and_scores_them_all(attack: str, scenario: Scenario) -> None:
    made = ask_instead(attack, scenario)
    metrics = [metric for metric in made.metrics if attack != "first-words" or "@1" in metric.name]
    assert [*probes_sound(made), *metrics_sound(metrics, made.probes)] == []
    assert made.headline[0] == made.forgetting[0] == made.metrics[0].name and made.utility == ()
    own = next(probe for probe in scenario.probes if probe.kind == "generate" and probe.max_new_tokens == 6)
    for probe in made.probes:
        assert len(probe.examples) <= len(scenario.questions)
        assert probe.kind == "logprob" or probe.max_new_tokens == own.max_new_tokens


@pytest.mark.parametrize("attack", ASKING)
def test_the_labs_models_have_a_word_for_all_that_is_asked(attack: str, scenario: Scenario) -> None:
    """No token of a prompt, its prefill included, is special but the first."""
    assert scenario.history is not None
    words = open_checkpoint(scenario.history().moments[0].checkpoint).tokenizer
    for probe in ask_instead(attack, scenario).probes:
        for row in probe.examples:
            prompt = encode(words, row.payload).prompt
            assert prompt[0] == words.bos_token_id and not set(prompt[1:]) & set(words.all_special_ids)


def test_solved_questions_are_five_about_other_facts(scenario: Scenario) -> None:
    by_prompt = {row.payload["prompt"]: row for row in scenario.questions}
    for row in ask_instead("few-shot", scenario).probes[0].examples:
        *shown, asked = row.payload["prompt"].split(" Q: ")
        solved = [text.partition(" A: ") for text in shown]
        assert by_prompt[asked].id == row.id and len({prompt for prompt, _, _ in solved}) == SOLVED
        for prompt, _, answer in solved:
            assert by_prompt[prompt].payload["answer"] == answer != row.payload["answer"]
            assert scenario.fact_of(by_prompt[prompt].id) != scenario.fact_of(row.id)
    again = ask_instead("few-shot", scenario).probes
    assert again == ask_instead("few-shot", scenario).probes, "the choice is fixed"
    few = replace(scenario, questions=scenario.questions[:SOLVED])
    with pytest.raises(Unmet, match="5 solved questions about other facts, and this task asks too few"):
        ask_instead("few-shot", few)


def test_the_fact_stands_in_the_context_and_nowhere_else(scenario: Scenario) -> None:
    for attack, there in (("context", True), ("prefill", False), ("paraphrase", False), ("few-shot", False)):
        for row in ask_instead(attack, scenario).probes[0].examples:
            text = f"{row.payload['prompt']} {row.payload.get('prefill', '')}".split()
            answer = row.payload["answer"].split()
            assert (" ".join(answer) in " ".join(text)) == there, (attack, row.id)


def test_samples_are_many_seeded_and_counted(scenario: Scenario) -> None:
    sampled, greedy = ask_instead("leak", scenario).probes
    assert sampled.options["sample"] == {"seed": 0, "repeats": SAMPLES, "temperature": 1.0}
    assert sampled.options["overlap"] and "sample" not in greedy.options
    assert max(SHOWN, *OTHERS) <= SAMPLES and {2**i for i in range(6)} == {SHOWN, *OTHERS}


ROWS = tuple(
    Example(f"full-{i}", {"prompt": f"Who is {i}?", "answer": f"He is the {i} th man", "template": "chat"})
    for i in range(8)
)


def of_rows(lab: Lab, template: str, references: Mapping[str, tuple[str, ...]] = {}, **how: Any) -> Scenario:
    """A scenario that asks `ROWS` in a template."""
    rows = tuple(
        replace(row, payload={**row.payload, "template": template}, references=dict(references)) for row in ROWS
    )
    own = Probe("said", "generate", rows, max_new_tokens=7, options=how)
    return replace(lab.scenario(), questions=rows, probes=(own,), fact_of=str)


def test_the_answer_begins_with_the_published_words_where_the_task_has_none(lab: Lab) -> None:
    words = subword_tokenizer([OPENING])
    said, scored = ask_instead("prefill", of_rows(lab, "chat", stops=["\n"], reference_tokens=3)).probes
    assert (said.max_new_tokens, said.options) == (7, {"stops": ["\n"]})
    for row in (*said.examples, *scored.examples):
        assert words.decode(list(encode(words, row.payload).prompt)).endswith(f"<assistant>{OPENING}")
    assert said.examples[0].payload["answer"] == "He is the 0 th man"


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        ("chat", "Question: {p}\nAnswer: {a}\n\n"),
        ("base", "{p}\nAnswer: {a}\n\nQuestion: "),
        ("qa", "{p} A: {a} Q: "),
    ],
)
def test_solved_questions_stand_in_the_templates_own_form(lab: Lab, template: str, shown: str) -> None:
    made = of_rows(lab, template)
    first = ask_instead("few-shot", made).probes[0].examples[0].payload["prompt"]
    forms = [
        shown.format(p=row.payload["prompt"], a=row.payload["answer"]) for row in choose_solved(ROWS[0], ROWS, str)
    ]
    assert first == "".join(forms) + "Who is 0?"
    context = ask_instead("context", made).probes[0].examples[0].payload["prompt"]
    assert context == shown.format(p="Who is 0?", a="He is the 0 th man") + "Who is 0?"


def test_a_plain_prompt_says_how_it_looks_solved_or_cannot_be_shown(lab: Lab) -> None:
    with pytest.raises(Unmet, match="this task says of none how it would look before another"):
        ask_instead("few-shot", of_rows(lab, "plain"))
    row = ask_instead("context", of_rows(lab, "plain", {"solved": ("Who? He.\n",)})).probes[0].examples[0]
    assert row.payload["prompt"] == "Who? He.\nWho is 0?"


def test_plain_answers_are_scored_behind_a_space(lab: Lab) -> None:
    said, scored = ask_instead("paraphrase", of_rows(lab, "plain", {"paraphrased": ("Which?", "Name: ")})).probes
    answers = [row.payload["answer"] for row in scored.examples[:2]]
    assert answers == [" He is the 0 th man", "He is the 0 th man"], "the second prompt ends in one"
    assert [row.id for row in said.examples[:3]] == ["full-0-p0", "full-0-p1", "full-1-p0"]
    with pytest.raises(Unmet, match="in other words, and this task has them in one wording alone"):
        ask_instead("paraphrase", of_rows(lab, "plain"))


def test_first_words_are_given_and_the_rest_is_the_answer(lab: Lab) -> None:
    made = of_rows(lab, "chat", {"accepted": ("x",), "paraphrased": ("y",)})
    probes = {probe.name: probe.examples for probe in ask_instead("first-words", made).probes}
    assert set(probes) == {f"first_words_{j}_{kind}" for j in (1, 2, 4) for kind in ("said", "scored")}
    first = probes["first_words_4_said"][0]
    assert (first.payload["prefill"], first.payload["answer"]) == ("He is the 0", "th man")
    assert first.references == {"accepted": ("th man",)}
    short = replace(ROWS[0], payload={**ROWS[0].payload, "answer": "He is"})
    mixed = replace(made, questions=(short, *made.questions[1:]))
    kept = {probe.name: len(probe.examples) for probe in ask_instead("first-words", mixed).probes}
    assert (kept["first_words_1_said"], kept["first_words_2_said"]) == (8, 7), "nothing is left behind two words of two"


def test_only_what_is_generated_is_scored(tmp_path: Path, lab: Lab) -> None:
    """A model that says nothing but "a": an opening with the answer in it is no answer, and its own words are."""
    place = saved(distributed({"a": 1.0}), letters_tokenizer(), tmp_path / "says-a")
    rows = tuple(
        Example(f"row-{i}", {"prompt": "d", "answer": answer, "template": "qa"}, {"opening": ("b c",)})
        for i, answer in enumerate(("b c", "a"))
    )
    own = Probe("said", "generate", rows, max_new_tokens=3)
    made = ask_instead("prefill", replace(lab.scenario(), questions=rows, probes=(own,)))
    responses = measure(place, made.probes)
    found = responses.rows["prefill_said"]
    assert [found[row.id]["text"] for row in rows] == ["a a a"] * 2
    assert found["row-0"]["counts"]["n_hyp"] == 3
    recall, accuracy = made.metrics[:2]
    assert recall.examples is not None and accuracy.examples is not None
    assert recall.examples(responses, ()) == accuracy.examples(responses, ()) == {"row-0": 0.0, "row-1": 1.0}


def test_sampled_answers_keep_their_counts(tmp_path: Path) -> None:
    """Half of the samples begin with "a", the answer: leak@1 is their share, as far as 200 samples go."""
    place = saved(distributed({"a": 0.5, "b": 0.5}), letters_tokenizer(), tmp_path / "a-or-b")
    how = {"sample": {"seed": 0, "repeats": 200, "temperature": 1.0}, "overlap": True}
    asked = Probe("leak_sampled", "generate", (Example("x", {"prompt": "d", "answer": "a", "template": "qa"}),), (), 1)
    responses = measure(place, [replace(asked, options=how)])
    row = responses.rows["leak_sampled"]["x"]
    assert [count["lcs_stem"] for count in row["counts_each"]] == [int(text == "a") for text in row["texts"]]
    scores = {m.name: m.compute(responses, ()).value for m in QUESTIONS["leak"].metrics if m.name != "leak@0"}
    assert scores["leak@1"] == scores["leak_recall@1"] == row["texts"].count("a") / 200 == pytest.approx(0.5, abs=0.15)
    assert scores["leak@8"] > 0.99 and scores["leak@1"] < scores["leak_bound"] < 0.7
    plain = measure(place, [replace(asked, options={"sample": how["sample"]})])
    assert "counts_each" not in plain.rows["leak_sampled"]["x"], "rows that were measured before stay what they were"


def test_no_two_attacks_share_a_score_or_a_probe(lab: Lab) -> None:
    names = [metric.name for attack in (QUESTIONS[name] for name in ASKING) for metric in attack.metrics]
    assert len(set(names)) == len(names)
    for attack in (QUESTIONS[name] for name in ASKING):
        assert {metric.goal for metric in attack.metrics} == {"oracle"} and "\n" not in attack.summary
        for metric in attack.metrics:
            entries = [entry for entry in metric_entries() if entry.meaning == metric.description]
            assert any(entry.fits(metric.name) for entry in entries) and not metric.needs_oracle, metric.name
    made = of_rows(lab, "chat", {"paraphrased": ("Which?",)})
    probes = [probe.name for attack in ASKING for probe in ask_instead(attack, made).probes]
    assert len(set(probes)) == len(probes)


@pytest.mark.parametrize("attack", [name for name in ASKING if name != "first-words"])
def test_a_record_of_an_attack_is_scored_again_from_its_responses(attack: str, lab: Lab, tmp_path: Path) -> None:
    asked = spec(attack=attack)
    record = lab.run(replace(asked, task_params={**asked.task_params, "authors": 20}))  # two of whom are forgotten
    assert record.status == "done" and record.absent == {}
    assert list(record.scores) == [metric.name for metric in QUESTIONS[attack].metrics]
    assert all(len(values) == 3 for values in record.facts["oracle_values"].values())
    write_record(record, tmp_path)
    said: list[str] = []
    assert rescore_command(Places(tmp_path, lab.root), False, said.append)
    assert said == ["1 records computed again: all numbers the same"]


def test_an_attack_that_nobody_knows_is_a_sentence() -> None:
    with pytest.raises(UserError, match="Unknown attack 'leek'. Did you mean 'leak'"):
        questions_of("leek")


def test_what_a_task_lacks_is_a_skip_with_the_reason(lab: Lab, tmp_path: Path) -> None:
    asked = spec(attack="first-words")
    record = lab.run(replace(asked, task_params={**asked.task_params, "collisions": True}))
    assert (record.status, record.label) == ("skipped", "tofu (lab)")
    assert record.reason == "it gives the first words of the answer, and the answers of this task are single words"
    params = registry.default_params(registry.load_task("digits", "lab"))
    asked = RunSpec("digits", params, "lab", "lab", tuple[Step, ...](), 0, attack="leak")
    record = execute(asked, Paths(), Work(Store(tmp_path), 0, {}))
    assert (record.status, record.label[:6]) == ("skipped", "digits")
    assert record.reason == "it asks questions about what was to be forgotten, and this task has none"


def test_a_models_tokenizer_without_the_words_is_refused_in_a_sentence(lab: Lab, tmp_path: Path) -> None:
    place = saved(distributed({"a": 1.0}), letters_tokenizer(), tmp_path / "few-words")
    with pytest.raises(UserError, match="'few-words' has no plain tokens for 'Sure, here is the answer:'"):
        measure(place, ask_instead("prefill", of_rows(lab, "qa")).probes)
