"""The whole of RESTOR (Rezaei et al. 2025, arXiv 2411.00204): its 1,051 questions, sampled as in the paper, and greedy.

As the authors ask (`evaluation/eval_utils.py`): five answered questions about others, then the question, no chat
template, sampled, at least 2 new tokens, cut at the first line break. Where ours differs:

- They stop at 200 tokens, prompt included, which leaves long prompts little; ours may write `NEW_TOKENS` whatever the
  prompt. The longest accepted answer has 92 characters; 50 tokens hold it, and all behind a line break is cut anyway.
- They drop the first character behind the prompt, a space as a rule. A text that begins with a line break has no
  answer here; with them its second line is the answer.
- They leave temperature and top-p to the checkpoint's own generation config (often 0.6 and 0.9 for Llama 3); ours
  samples from the whole distribution at `TEMPERATURE`, for every checkpoint alike.
- GPT-3.5 judges there; here it is `bench.metrics.answers`, exactly and leniently.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.core.contracts import Metric, Suite
from bench.core.types import Example, Json, Probe
from bench.engines.measuring.judges import check_accepts, judge_label, load_judge
from bench.metrics.options import option_logprob
from bench.metrics.restor import judge_accepts, matched
from bench.real.restor.corpus import CORPORA, NONE, ROLES, SOURCE, RestorQuestions, read_restor

NEW_TOKENS = 50
"""Longest answer, in tokens."""
TEMPERATURE = 1.0
GREEDY: Json = {"stops": ["\n"], "min_new_tokens": 2}
SAMPLING: Json = GREEDY | {"sample": {"seed": 32, "repeats": 3, "temperature": TEMPERATURE}}
"""Options of a probe that asks greedily, and of one that samples; seed and repetitions are the authors'."""
SIDES = ("corrupted", "clean")
JUDGED = "restor_accuracy_judged"
OPTIONS_PROBE = "restor_options"
NOT_SAMPLED = "the questions are only asked greedily here: ask with sampling"
LOGIT_GOALS = {"true": "up", "corrupted": "oracle", "unrelated": "oracle"}
NO_VALUES = (
    "the corrupted values aren't known: RESTOR publishes no list of them; give them as 'corrupted' in an options.json "
    "beside facts.json"
)


def restor_suite(data: str, split: str = "mix_a0", judge: str = "") -> Suite:
    """RESTOR on the copy of its repository at ``data``, asked of a model that the corpus ``split`` corrupted.

    ``split`` is a name of `bench.real.restor.corpus.CORPORA`, or ``none``; it decides which questions are the corrupted ones.
    Each question is sampled three times, and answered greedily once. ``judge`` also has the sampled answers judged by a
    chat model, as the authors do.
    """
    restor = read_restor(data, split)
    sides = {side: tuple(row for row in restor.questions if side in row.tags) for side in SIDES}
    groups = {f"restor_{side}": rows for side, rows in sides.items() if rows} or {"restor": restor.questions}
    probes, metrics, absent = list[Probe](), list[Metric](), dict[str, str]()
    for suffix, how in (("", SAMPLING), ("_greedy", GREEDY)):
        probes += [Probe(name + suffix, "generate", rows, (), NEW_TOKENS, how) for name, rows in groups.items()]
        for name, (side, judgement) in accuracy_names(suffix).items():
            reason = why_absent(restor, side, judgement)
            read_probes = [probe + suffix for probe in groups if side in ("", probe.removeprefix("restor_"))]
            if reason:
                absent[name] = reason
            else:
                goal = "oracle" if judgement.startswith("wrong") else "up"
                metrics.append(matched(name, read_probes, judgement, goal=goal))
    if judge:
        check_accepts(judge)
        probes += [
            Probe(f"{name}_judged", "judge", rows, options={"judge": judge, "said": name})
            for name, rows in groups.items()
        ]
        metrics.append(judge_accepts(JUDGED, [f"{name}_judged" for name in groups], judge_label(load_judge(judge))))
    else:
        absent[JUDGED] = "no judge was asked: --judge chat has a chat model judge the answers, for users with a key"
    add_option_scores(restor.questions, probes, metrics, absent)
    return Suite(tuple(probes), tuple(metrics), absent, suite_facts(restor))


def accuracy_names(suffix: str) -> dict[str, tuple[str, str]]:
    """Score -> the side it is about ("" for all) and the judgement it counts."""
    names: dict[str, tuple[str, str]] = {}
    for side in ("", *SIDES):
        base = f"restor_accuracy_{side}" if side else "restor_accuracy"
        names |= {base + suffix: (side, "exact"), f"{base}_lenient{suffix}": (side, "lenient")}
    wrong = {"restor_wrong" + suffix: ("", "wrong"), "restor_wrong_lenient" + suffix: ("", "wrong_lenient")}
    return names | wrong


def why_absent(restor: RestorQuestions, side: str, judgement: str) -> str:
    """The reason why the data can't give a score; empty where they can."""
    if judgement.startswith("wrong"):
        return "" if any("corrupted" in row.references for row in restor.questions) else NO_VALUES
    if not side:
        return ""
    if restor.corpus == NONE:
        return "no corpus is said to have corrupted the model (split 'none'): name one of " + ", ".join(CORPORA)
    if restor.corrupted is None:
        return (
            f"who is corrupted is read off the corpus '{restor.corpus}', and it isn't in the data folder: get "
            f"datasets/{CORPORA[restor.corpus]} from {SOURCE}"
        )
    return "" if any(side in row.tags for row in restor.questions) else f"no question is about a {side} person"


def add_option_scores(
    questions: Sequence[Example], probes: list[Probe], metrics: list[Metric], absent: dict[str, str]
) -> None:
    """Mean token log-prob of the option lists' texts as the answer, where the user brings such lists."""
    listed = tuple(row for row in questions if any(f"options_{role}" in row.references for role in ROLES))
    if listed:
        probes.append(Probe(OPTIONS_PROBE, "logprob", listed, tuple(f"options_{role}" for role in ROLES)))
    for role in ROLES:
        name = f"logprob_{role}"
        if any(f"options_{role}" in row.references for row in listed):
            metrics.append(option_logprob(name, OPTIONS_PROBE, f"options_{role}", goal=LOGIT_GOALS[role]))
        else:
            absent[name] = reason_without_lists(role)


def reason_without_lists(role: str) -> str:
    """The reason why the scores of a role's option texts are absent."""
    return f"RESTOR publishes no option lists: give texts as '{role}' in an options.json beside facts.json"


def suite_facts(restor: RestorQuestions) -> dict[str, Any]:
    """Facts on the data and the judge for the provenance of `bench eval`."""
    count = restor.counts["questions"]
    return {
        "benchmark": "restor" if restor.whole else f"not RESTOR's published questions: {count} questions",
        "corpus": restor.corpus,
        "corrupted_entities": None if restor.corrupted is None else list(restor.corrupted),
        "corrupted_questions": sum("corrupted" in row.tags for row in restor.questions),
        "judge": "string rules (bench.metrics.answers) where RESTOR asks gpt-3.5-turbo",
        "temperature": TEMPERATURE,
        **restor.counts,
    }
