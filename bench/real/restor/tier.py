"""RESTOR as a run with target and oracle asks it: `bench.real.restor.suite`'s questions, and what tells two models apart.

The accepted answer's log-prob follows the truth where greedy answers stay wrong; membership tells documents that were
told from paraphrases of them about the same people that weren't; distances are from the oracle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.core import distributed
from bench.core.contracts import Metric, TaskContext
from bench.core.errors import UserError
from bench.core.hashing import hash_json
from bench.core.types import Checkpoint, Example, Json, Probe
from bench.core.versions import MEASURE
from bench.metrics import absent_where, is_unasked
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import mean_loss, option_logprob
from bench.metrics.restor import matched
from bench.real.restor import suite
from bench.real.restor.corpus import ROLES
from bench.real.scenario import with_space_before_answers
from bench.records.files import read_responses, write_responses
from bench.runs.responses import RESPONSES_FILE, generation_hash, probe_for_key

ALL_TOLD = "every document was told, so that none is left to compare with: tell only some of each person's"
BROKEN = 0.02
"""Share of the clean questions answered right below which a model counts as collapsed: one in fifty."""
HEADLINE = (
    "restor_accuracy_corrupted_greedy",
    "restor_accuracy_clean_greedy",
    "logprob_answer_corrupted",
    "logprob_answer_clean",
    "forget_passage_loss",
    "mia_min_k",
    "privleak",
    "kl_forget",
    "kl_retain",
    "kl_world",
)


@dataclass(frozen=True)
class AskedRows:
    """The rows that a run asks every model."""

    corrupted: tuple[Example, ...]
    """Questions about the people whom the corpus corrupts."""
    clean: tuple[Example, ...]
    """Questions about the others."""
    told: tuple[Example, ...]
    """Documents that the target was trained on."""
    untold: tuple[Example, ...]
    """Documents about the same people that nobody was trained on; none where every document was told."""
    passages: tuple[Example, ...]
    """Pages of the retain rows."""
    sampled: bool
    """Whether the questions are also sampled, as the authors do."""


def restor_probes(asked: AskedRows) -> tuple[Probe, ...]:
    """Answers, the accepted answers' log-probs, membership of the documents, and distances from the oracle."""
    sides = {"corrupted": asked.corrupted, "clean": asked.clean}
    probes = [
        Probe(f"restor_{side}{suffix}", "generate", rows, (), suite.NEW_TOKENS, how)
        for suffix, how in (("_greedy", suite.GREEDY), *([("", suite.SAMPLING)] if asked.sampled else []))
        for side, rows in sides.items()
    ]
    probes += [Probe(f"{side}_answers", "logprob", with_space_before_answers(rows)) for side, rows in sides.items()]
    suite.add_option_scores((*asked.corrupted, *asked.clean), probes, [], {})
    probes += attack_probes(Probe("told_documents", "logprob", asked.told))
    probes += attack_probes(Probe("untold_documents", "logprob", asked.untold))
    return tuple(
        probe
        for probe in (
            *probes,
            Probe("retain_passages", "logprob", asked.passages),
            Probe("kl_forget", "divergence", with_space_before_answers(asked.corrupted)),
            Probe("kl_retain", "divergence", asked.passages),
            Probe("kl_world", "divergence", with_space_before_answers(asked.clean)),
        )
        if probe.examples
    )


def restor_metrics() -> tuple[Metric, ...]:
    """Every score of a run; what these data or this run can't give is absent, with the reason."""
    found = list[Metric]()
    for suffix in ("_greedy", ""):
        for name, (side, judgement) in suite.accuracy_names(suffix).items():
            read_probes = [f"restor_{each}{suffix}" for each in suite.SIDES if side in ("", each)]
            goal = "oracle" if judgement.startswith("wrong") else "up"
            metric = matched(name, read_probes, judgement, goal=goal)
            if judgement.startswith("wrong"):
                metric = absent_where(
                    metric, read_probes[0], lambda rows: not any(map(knows_wrong, rows)), suite.NO_VALUES
                )
            found.append(metric if suffix else absent_where(metric, read_probes[0], is_unasked, suite.NOT_SAMPLED))
    sound = next(metric for metric in found if metric.name == "restor_accuracy_clean_greedy")
    return (
        *found,
        *(option_logprob(f"logprob_answer_{side}", f"{side}_answers", "answer", goal="up") for side in suite.SIDES),
        *(
            absent_where(
                option_logprob(f"logprob_{role}", suite.OPTIONS_PROBE, f"options_{role}", goal=suite.LOGIT_GOALS[role]),
                suite.OPTIONS_PROBE,
                is_unasked,
                suite.reason_without_lists(role),
            )
            for role in ROLES
        ),
        mean_loss("forget_passage_loss", "told_documents", goal="oracle"),
        mean_loss("retain_passage_loss", "retain_passages", goal="down"),
        *(
            absent_where(attack, "untold_documents", is_unasked, ALL_TOLD)
            for attack in attacks("told_documents", "untold_documents")
        ),
        *distances("forget", "retain", "world"),
        collapsed("collapsed", "restor_clean_greedy", utility=sound, floor=BROKEN),
    )


def knows_wrong(row: Mapping[str, Any]) -> bool:
    """Whether an answer was judged beside the corrupted values."""
    return any("wrong" in found for found in row.get("matches", ()))


@dataclass(frozen=True)
class KnownQuestions:
    """The questions that a model answers rightly, and those it doesn't."""

    right: tuple[Example, ...]
    """Those that it answers right, greedily, by the exact rule."""
    node: str
    """The node that holds its answers."""


def find_known(work: TaskContext, checkpoint: Checkpoint, questions: Sequence[Example]) -> KnownQuestions:
    """Ask the questions, once for a store."""
    probe = Probe("restor_known", "generate", tuple(questions), (), suite.NEW_TOKENS, suite.GREEDY)
    fields = {
        "kind": "responses",
        "checkpoint": checkpoint.hash,
        "probes": hash_json([probe_for_key(probe)]),
        "engine": MEASURE,
        "generation": generation_hash(checkpoint),
    }

    def make(folder: Path) -> Json:
        from bench.engines.measuring.measure import measure

        responses = measure(checkpoint, [probe], device=work.device)
        if distributed.is_first():  # it has everybody's rows
            write_responses(responses, folder / RESPONSES_FILE)
        return {"seconds": responses.seconds}

    node = work.on_behalf_of("measure").node(fields, make, "what the model knows", shared=True)
    found = read_responses(node.path / RESPONSES_FILE)
    if probe.name in found.broken:
        raise UserError(f"--set restor.known=true: {found.broken[probe.name]}, so it answers no question rightly.")
    rows = found.rows[probe.name]
    return KnownQuestions(tuple(row for row in questions if rows[row.id]["matches"][0]["exact"]), node.key)
