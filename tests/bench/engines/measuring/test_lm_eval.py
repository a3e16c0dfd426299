"""lm-eval's evaluator on models in memory: its choices against our own scoring of the same rows, and its own tasks."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.core.errors import UserError
from bench.core.types import Example, Probe
from bench.engines.measuring.lm_eval import (
    choice_task,
    evaluate,
    evaluate_probe,
    make_document,
    named_probes,
    named_tasks,
)
from bench.engines.templates import encode
from bench.lab.model import small_llama, word_tokenizer
from tests.paths import DATA
from tests.shared_data import needs_data

ROWS = DATA / "lm_eval"
here = needs_data("data/lm_eval")

WORDS = ["Q:", "A:", "?", *(f"w{i}" for i in range(40))]


@pytest.fixture(scope="module")
def lab() -> tuple[Any, Any]:
    """A random two-layer Llama over 40 words, and its tokenizer."""
    tokenizer = word_tokenizer(WORDS)
    return small_llama(len(tokenizer), 32, 2, 64, seed=3).eval(), tokenizer


def question(i: int, template: str = "qa") -> Example:
    """Row ``i``: choices of one and of two words, the right one first."""
    choices = (f"w{i + 2}", f"w{i + 3} w{i}", f"w{i + 4}")
    payload = {"prompt": f"w{i} w{i + 1} ?", "answer": choices[0], "template": template}
    return Example(f"row-{i}", payload, {"choices": choices})


EXAMPLES = tuple(question(i) for i in range(30))


def own_score(model: Any, tokenizer: Any, example: Example, choice: str) -> float:
    """Summed log-prob of a choice after the template's prompt, without the end of sequence, one text at a time."""
    text = encode(tokenizer, example.payload, choice)
    ids = [*text.prompt, *text.answer[:-1]]
    with torch.no_grad():
        logp = model(torch.tensor([ids])).logits[0].log_softmax(-1)
    begin = len(text.prompt)
    return sum(float(logp[begin - 1 + k, token]) for k, token in enumerate(text.answer[:-1]))


def test_choices_are_those_of_our_own_scoring(lab: tuple[Any, Any]) -> None:
    model, tokenizer = lab
    rows = evaluate_probe(model, tokenizer, Probe("world", "lm-eval", EXAMPLES), "cpu")
    expected = {}
    for example in EXAMPLES:
        scores = [own_score(model, tokenizer, example, choice) for choice in example.references["choices"]]
        expected[example.id] = {"acc": float(scores[0] == max(scores))}
    assert rows == expected
    assert 0 < sum(row["acc"] for row in rows.values()) < len(rows), "a test in which the model is always right is none"


def test_the_prompt_has_the_templates_tokens(lab: tuple[Any, Any]) -> None:
    _, tokenizer = lab
    made = make_document(EXAMPLES[0], tokenizer)
    text = encode(tokenizer, EXAMPLES[0].payload, "w3 w0")
    assert tokenizer.encode(made["prompt"], add_special_tokens=False) == list(text.prompt)
    assert made["choices"] == [" w2", " w3 w0", " w4"] and made["label"] == 0
    assert tokenizer.encode(made["prompt"] + " w3 w0", add_special_tokens=False) == [*text.prompt, *text.answer[:-1]]


def test_the_right_choice_gains_nothing_by_its_place() -> None:
    """A model without an opinion ties every choice, and lm-eval takes the first: by the alphabet, not the right one."""
    tokenizer = word_tokenizer(WORDS)
    model = small_llama(len(tokenizer), 8, 1, 64, seed=0).eval()
    torch.nn.init.zeros_(model.lm_head.weight)
    examples = [
        Example(
            f"row-{i}", {"prompt": "?", "answer": f"w{i}", "template": "qa"}, {"choices": (f"w{i}", "w1", "w2", "w3")}
        )
        for i in (4, 5, 0)
    ]
    rows = evaluate_probe(model, tokenizer, Probe("flat", "lm-eval", tuple(examples)), "cpu")
    assert [row["acc"] for row in rows.values()] == [0.0, 0.0, 1.0]  # w4 and w5 sort after w1; w0 sorts first


def test_a_model_without_finite_scores_gets_none() -> None:
    tokenizer = word_tokenizer(WORDS)
    model = small_llama(len(tokenizer), 8, 1, 64, seed=0).eval()
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    with pytest.raises(FloatingPointError, match="no numbers"):
        evaluate(model, tokenizer, [choice_task("broken", EXAMPLES[:2], tokenizer)])


def test_a_text_that_a_broken_model_writes_is_no_answer() -> None:
    """The argmax of NaN is the first word of the vocabulary, again and again."""
    from datasets import Dataset
    from lm_eval.api.task import ConfigurableTask

    tokenizer = word_tokenizer(WORDS)
    model = small_llama(len(tokenizer), 8, 1, 64, seed=0).eval()
    config = {
        "task": "writes",
        "custom_dataset": lambda **_: {"test": Dataset.from_list([{"q": "w1 w2 ?", "a": "w3"}])},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "{{q}}",
        "doc_to_target": "{{a}}",
        "generation_kwargs": {"max_gen_toks": 2, "until": ["zzz"]},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "num_fewshot": 0,
        "metadata": {"version": 1},
    }
    assert evaluate(model, tokenizer, [ConfigurableTask(config=config)])["writes"]["0"]["exact_match"] == 0.0
    torch.nn.init.constant_(model.model.norm.weight, float("nan"))
    with pytest.raises(FloatingPointError):
        evaluate(model, tokenizer, [ConfigurableTask(config=config)])


def test_limit_order_and_several_tasks(lab: tuple[Any, Any]) -> None:
    model, tokenizer = lab
    tasks = [choice_task("forth", EXAMPLES, tokenizer), choice_task("back", EXAMPLES[::-1], tokenizer)]
    found = evaluate(model, tokenizer, tasks, limit=30, batch_size=7)
    assert [found["forth"][str(i)] for i in range(30)] == [found["back"][str(29 - i)] for i in range(30)]
    assert evaluate(model, tokenizer, tasks[:1], limit=4)["forth"] == {str(i): found["forth"][str(i)] for i in range(4)}


def test_bad_choices_are_refused(lab: tuple[Any, Any]) -> None:
    payload = {"prompt": "w1 ?", "answer": "w1", "template": "qa"}
    for choices in ((), ("w1",), ("w2", "w3"), ("w1", "w1", "w2")):
        with pytest.raises(ValueError, match="row-x: a choice needs different texts"):
            make_document(Example("row-x", payload, {"choices": choices}), lab[1])
    with pytest.raises(ValueError, match="no choice task for the template 'text'"):
        make_document(question(0, "text"), lab[1])


def test_nothing_is_printed(lab: tuple[Any, Any], capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = lab
    evaluate_probe(model, tokenizer, Probe("world", "lm-eval", EXAMPLES[:2]), "cpu")
    assert capfd.readouterr() == ("", "")


@here
def test_offline_rows_of_lm_evals_own_tasks(lab: tuple[Any, Any]) -> None:
    model, tokenizer = lab
    tasks = named_tasks(["piqa", "blimp_anaphor_gender_agreement"], ROWS)
    found = evaluate(model, tokenizer, tasks, limit=8)
    assert {name: list(rows) for name, rows in found.items()} == {
        "piqa": [str(i) for i in range(8)],
        "blimp_anaphor_gender_agreement": [str(i) for i in range(8)],
    }
    assert all(set(row) == {"acc", "acc_norm"} and row["acc"] in (0.0, 1.0) for row in found["piqa"].values())


@here
def test_a_probe_of_named_rows_measures_what_the_task_does(lab: tuple[Any, Any]) -> None:
    model, tokenizer = lab
    (probe,) = named_probes(["piqa"], ROWS)
    assert len(probe.examples) == 1838 and str(ROWS) not in str(probe.to_json())
    first = Probe(probe.name, probe.kind, probe.examples[:8], options=probe.options)
    rows = evaluate_probe(model, tokenizer, first, "cpu")
    direct = evaluate(model, tokenizer, named_tasks(["piqa"], ROWS), limit=8)["piqa"]
    assert rows == {f"piqa-{i}": direct[str(i)] for i in range(8)}


@here
def test_a_group_is_what_the_folder_has_of_it() -> None:
    names = [task.config.task for task in named_tasks(["blimp"], ROWS)]
    assert len(names) == 5 and "blimp_irregular_past_participle_verbs" in names


@here
def test_rows_that_are_not_there_and_tasks_with_examples_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="has no rows for 'hellaswag'; it has: blimp, gsm8k, piqa"):
        named_tasks(["hellaswag"], ROWS)
    with pytest.raises(UserError, match="'gsm8k' puts 5 examples before each question"):
        named_tasks(["gsm8k"], ROWS)
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set"):
        named_tasks(["hellaswag"], None)
