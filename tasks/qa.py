"""A user's own questions and answers: some to be forgotten, some to be kept, maybe some that nobody is taught.

Real tier only: ``--task qa --model M --data forget.jsonl,retain.jsonl[,holdout.jsonl]`` (`bench.real.qa` has the form of
the rows). The model is taught the first two files, the retrained ones the second alone; what is asked of them is what
TOFU asks of its rows. Scores that the rows can't give are absent, with the reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from bench.assets.data_sets import resolve_files
from bench.core.contracts import Metric, Outline, Scenario, Suite, TaskContext, TaskInputs
from bench.core.errors import UserError
from bench.core.types import Probe
from bench.metrics import absent_where, is_unasked
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.probability import accuracy, exact_memorization, extraction_strength
from bench.metrics.truth import forget_quality
from bench.real.qa import QaRows, read_qa_rows
from bench.real.scenario import PromptedOptions, count_parameters
from bench.real.tofu.suite import BY_SIDE, NAMED, NEW_TOKENS
from bench.real.tofu.suite import HEADLINE as TOFU_HEADLINE

BROKEN = 0.05
"""Probability of the retain answers' tokens (geometric mean) below which a model counts as collapsed."""
NO_HOLDOUT = "no holdout rows were asked: a third file of --data, with rows that no model is trained on"
NOMINAL = {"forget": 100, "retain": 400}
"""Rows of the estimate while no files are named."""


@dataclass(frozen=True)
class Qa(PromptedOptions):
    """The rows of the user's files, taught to a model that the user names, and what is asked of them."""

    probed: int = 100
    """Most rows of a file that are probed; 0 for all."""
    name: ClassVar[str] = "qa"
    summary: ClassVar[str] = "your own questions and answers: --data forget.jsonl,retain.jsonl[,holdout.jsonl]"
    files: ClassVar[bool] = True
    presets_of: ClassVar[str] = "tofu"

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return ([] if self.lr > 0 else [f"qa.lr must be above 0, not {self.lr}."]) + super().problems()

    def rows(self, setting: TaskInputs) -> QaRows:
        """The rows of the user's files."""
        return read_qa_rows(setting.data, self.form(setting), self.probed)

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the task; what the rows can't give is absent."""
        return METRICS

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The user's rows; the model as it was given is the last checkpoint before them."""
        rows = self.rows(setting)
        made = self.train_stages(work, setting, rows.forget + rows.retain, rows.retain)
        most = max(map(len, rows.probes.values()))
        return Scenario(
            label=rows.label + (f", at most {self.probed} rows of a file probed" if most == self.probed else ""),
            **vars(made),
            forget=rows.forget,
            retain=rows.retain,
            validation=rows.validation,
            probes=qa_probes(rows),
            metrics=METRICS,
            oracle_rows=rows.retain,
            lineage={"data": {"all": rows.data_hash}, "counts": dict(rows.counts), "before": setting.before.hash},
            forgetting=("forget_Q_A_Prob", "forget_Q_A_ROUGE"),
            utility=("retain_Q_A_Prob", "retain_Q_A_ROUGE"),
            headline=HEADLINE,
            questions=tuple(replace(row, references={}) for row in rows.probes["forget"]),
        )

    def suite(self, data: str, split: str = "", judge: str = "") -> Suite:
        """The task's probes and metrics, for `bench eval`; every row that isn't for validation, in the tokenizer's own
        template.
        """
        if split:
            raise UserError(f"--split {split}: qa has the files of --data and no splits; leave --split out.")
        rows = read_qa_rows(resolve_files("qa", data).path, "chat")
        return Suite(qa_probes(rows), METRICS, facts={"benchmark": rows.label, "rows": dict(rows.counts)})

    def outline(self, setting: TaskInputs) -> Outline:
        """Rows of every stage."""
        rows = self.rows(setting) if setting.data and setting.data != "hub" else None
        sizes = rows.counts if rows else NOMINAL
        asked = sum(map(len, rows.probes.values())) if rows else sum(NOMINAL.values())
        stages = self.stages(self.epochs * (sizes["forget"] + sizes["retain"]), self.epochs * sizes["retain"])
        return Outline(count_parameters(setting), 90.0, stages, sizes["forget"], sizes["retain"], 5 * asked)


def qa_probes(rows: QaRows) -> tuple[Probe, ...]:
    """The probes over each file's rows."""
    found: list[Probe] = []
    for side, examples in rows.probes.items():
        roles = ("answer", *(role for role in ("paraphrase", "wrong") if role in examples[0].references))
        asked = Probe(side, "logprob", examples, roles if side != "holdout" else ("answer",))
        found += attack_probes(asked) if side in ("forget", "holdout") else (asked,)
        if side != "holdout":
            found.append(Probe(f"{side}_said", "generate", examples, max_new_tokens=NEW_TOKENS))
            found.append(Probe(f"kl_{side}", "divergence", examples))
    return tuple(found)


METRICS: tuple[Metric, ...] = (
    *BY_SIDE["forget"],
    *BY_SIDE["retain"],
    accuracy("forget_accuracy", "forget", goal="oracle"),
    accuracy("retain_accuracy", "retain", goal="up"),
    forget_quality("forget_quality", "forget"),
    exact_memorization("exact_memorization", "forget"),
    extraction_strength("extraction_strength", "forget"),
    *(absent_where(attack, "holdout", is_unasked, NO_HOLDOUT) for attack in attacks("forget", "holdout")),
    *distances("forget", "retain"),
    collapsed("collapsed", "retain_said", utility=NAMED["retain_Q_A_Prob"], floor=BROKEN),
)
HEADLINE = tuple(name for name in TOFU_HEADLINE if name != "model_utility")
