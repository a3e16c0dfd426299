"""MUSE-Books' suite (Shi et al. 2024, arXiv 2407.06460), as its authors define it; the peer's values beside them.

Verbatim memorisation continues ``verbmem``, knowledge memorisation answers ``knowmem`` behind ten solved questions,
membership compares ``privleak`` forget with holdout passages. The peer is open-unlearning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bench.assets.hub_tables import HubRow
from bench.core.contracts import Metric, Suite
from bench.core.errors import Absent, UserError
from bench.core.types import Example, Probe
from bench.metrics.membership import attack_probes, attacks, auc, privleak
from bench.metrics.probability import exact_memorization, extraction_strength
from bench.metrics.rouge import rouge_l
from bench.real.muse.rows import rows_of_table
from bench.real.scenario import with_space_before_answers

CONTINUATION = 128
"""Tokens that are generated for, and taken of, a passage."""
ANSWER = 32
"""Tokens that are generated for an answer."""
STOPS = ("\n\n", "\nQuestion", "Question:")
PASSAGE = 2048
"""Most tokens of a membership passage."""
SOLVED = "Question: {question}\nAnswer: {answer}\n\n"
ASKED = "Question: {question}\nAnswer: "
"""The space at its end is the authors' and the peer's."""

TABLES = {
    "verbmem": ("verbmem/forget",),
    "forget_knowmem": ("knowmem/forget_qa", "knowmem/forget_qa_icl"),
    "retain_knowmem": ("knowmem/retain_qa", "knowmem/retain_qa_icl"),
    "privleak": ("privleak/forget", "privleak/holdout"),
}
"""Part of the suite -> the tables that it reads: configuration and split."""


def muse_suite(data: str, split: str = "forget") -> Suite:
    """The whole suite on the rows of ``data``; a table that isn't there makes its own metrics absent."""
    if split != "forget":
        raise UserError(f"--split {split}: MUSE-Books has one forget set; leave --split out.")
    probes: list[Probe] = []
    counts: dict[str, int] = {}
    absent: dict[str, str] = {}
    for part, tables in TABLES.items():
        try:
            found = [rows_of_table(data, table) for table in tables]
        except Absent as reason:
            absent |= {metric.name: str(reason) for metric in BY_PART[part]}
            continue
        counts |= {table: len(rows) for table, rows in zip(tables, found, strict=True)}
        probes += PROBES[part](found[0], found[-1])
    if not probes:
        raise UserError(f"'{data}' is no MUSE data: {next(iter(absent.values()))}. Name a folder in MUSE's layout.")
    metrics = tuple(metric for metrics in BY_PART.values() for metric in metrics if metric.name not in absent)
    return Suite(tuple(probes), metrics, absent, {"benchmark": "MUSE-Books", "rows": counts})


def verbatim_probes(rows: Sequence[HubRow]) -> list[Probe]:
    """Continuations of the forget passages: generated, and fed the right tokens behind a space, as the peer has it.

    Prompt and text are cut from running prose without the space between them.
    """
    examples = tuple(
        Example(f"verbmem-{i}", {"prompt": row["prompt"], "answer": row["gt"], "template": "plain"})
        for i, row in enumerate(rows)
    )
    said = {"reference_tokens": CONTINUATION}
    return [
        Probe("forget_verbmem_said", "generate", examples, max_new_tokens=CONTINUATION, options=said),
        Probe("forget_verbmem", "logprob", with_space_before_answers(examples)),
    ]


def question_probes(side: str, rows: Sequence[HubRow], solved: Sequence[HubRow]) -> list[Probe]:
    """Questions behind all the solved ones."""
    before = "".join(SOLVED.format(**row) for row in solved)
    examples = tuple(
        Example(
            f"knowmem_{side}-{i}",
            {"prompt": before + ASKED.format(**row), "answer": row["answer"], "template": "plain"},
        )
        for i, row in enumerate(rows)
    )
    return [Probe(f"{side}_knowmem", "generate", examples, max_new_tokens=ANSWER, options={"stops": list(STOPS)})]


def passage_probes(forget: Sequence[HubRow], holdout: Sequence[HubRow]) -> list[Probe]:
    """Whole passages of both sides, for membership."""
    return [
        probe
        for side, rows in (("forget", forget), ("holdout", holdout))
        for probe in attack_probes(Probe(side, "logprob", passage_examples(side, rows)))
    ]


def passage_examples(side: str, rows: Sequence[HubRow]) -> tuple[Example, ...]:
    """Rows of ``privleak`` as the tokenizer encodes them, cut at `PASSAGE` tokens."""
    payload = {"prompt": "", "template": "plain", "most": PASSAGE}
    return tuple(Example(f"privleak_{side}-{i}", {**payload, "answer": row["text"]}) for i, row in enumerate(rows))


PROBES: dict[str, Callable[[Sequence[HubRow], Sequence[HubRow]], list[Probe]]] = {
    "verbmem": lambda rows, _: verbatim_probes(rows),
    "forget_knowmem": lambda rows, solved: question_probes("forget", rows, solved),
    "retain_knowmem": lambda rows, solved: question_probes("retain", rows, solved),
    "privleak": lambda forget, holdout: passage_probes(forget, holdout),
}
"""Part of the suite -> its probes, from the rows of its one or two tables."""


def knowledge_metrics(side: str) -> tuple[Metric, ...]:
    """ROUGE-L F1 of a side's answers, without stemmer, and the peer's with it."""
    name, goal = f"{side}_knowmem", "oracle" if side == "forget" else "up"
    return (
        rouge_l(f"{name}_ROUGE", name, measure="f1", stemmer=False, goal=goal),
        rouge_l(f"{name}_ROUGE_peer", name, measure="f1", stemmer=True, goal=goal),
    )


BY_PART: dict[str, tuple[Metric, ...]] = {
    "verbmem": (
        rouge_l("forget_verbmem_ROUGE", "forget_verbmem_said", measure="f1", stemmer=False, goal="oracle"),
        rouge_l(
            "forget_verbmem_ROUGE_peer", "forget_verbmem_said", measure="f1", stemmer=True, goal="oracle", whole=True
        ),
        exact_memorization("exact_memorization", "forget_verbmem"),
        extraction_strength("extraction_strength", "forget_verbmem"),
    ),
    "forget_knowmem": knowledge_metrics("forget"),
    "retain_knowmem": knowledge_metrics("retain"),
    "privleak": (
        *attacks("forget", "holdout"),
        auc("mia_min_k_peer", "min_k_peer", "forget", "holdout"),
        privleak("privleak_peer", "forget", "holdout", "min_k_peer"),
    ),
}
"""Part of the suite -> its metrics."""
METRICS = tuple(metric for metrics in BY_PART.values() for metric in metrics)
