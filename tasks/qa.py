"""A user's own questions and answers: some to be forgotten, some to be kept, maybe some that nobody is taught.

Real tier only: ``--task qa --model M --data forget.jsonl,retain.jsonl[,holdout.jsonl]`` (`bench.real.qa` has the form of
the rows). The model is taught the first two files, the retrained ones the second alone; what is asked of them is what
TOFU asks of its rows. Scores that the rows can't give are absent, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from bench.core.contracts import Metric, Outline, Recipe, Scenario, Setting, Task
from bench.core.errors import Absent, UserError, unknown
from bench.core.record import Score
from bench.core.types import Probe, Responses
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import kl, kl_floors
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.probability import accuracy, exact_memorization, extraction_strength
from bench.metrics.truth import forget_quality
from bench.real.qa import QaRows, read
from bench.real.scenario import (
    history_of,
    oracles_of,
    parameters_of,
    target_of,
    template_of,
    template_problems,
    training,
)
from bench.real.suite import Suite
from bench.real.tofu.suite import BY_SIDE, NAMED, NEW_TOKENS
from bench.runs.context import Work

TEMPLATES = ("chat", "base")
BROKEN = 0.05
"""Probability of the retain answers' tokens (geometric mean) below which a model counts as collapsed."""
NOMINAL = {"forget": 100, "retain": 400}
"""Rows of the estimate while no files are named."""


@dataclass(frozen=True)
class Qa(Task):
    """Parameters of the training and of the asking."""

    epochs: int = 5
    """Passes over the rows for target and oracles."""
    lr: float = 1e-4
    """Peak learning rate of target and oracles; 1e-5 suits models of billions of parameters."""
    batch: int = 8
    """Rows of one optimiser step of target and oracles."""
    oracles: int = 2
    """Retrained models; with one there is no noise floor, and nothing is ranked."""
    probed: int = 100
    """Most rows of a file that are probed; 0 for all."""
    template: str = ""
    """``chat`` (the tokenizer's own), ``base`` (Question and Answer), or empty: as the known model needs it, else chat."""

    summary: ClassVar[str] = "your own questions and answers: --data forget.jsonl,retain.jsonl[,holdout.jsonl]"
    version: ClassVar[int] = 1
    tiers: ClassVar[tuple[str, ...]] = ("real",)
    files: ClassVar[bool] = True
    """``--data`` names files."""
    presets_of: ClassVar[str] = "tofu"
    """The task whose presets the methods take here: rows of the same kind."""

    def problems(self) -> list[str]:
        """What is wrong with the parameters."""
        found = [
            f"qa.{name} must be at least 1, not {getattr(self, name)}."
            for name in ("epochs", "batch", "oracles")
            if getattr(self, name) < 1
        ]
        if self.probed < 0:
            found.append(f"qa.probed is 0 for all rows or more, not {self.probed}.")
        if self.lr <= 0:
            found.append(f"qa.lr must be above 0, not {self.lr}.")
        if self.template not in ("", *TEMPLATES):
            found.append(unknown("template of qa", self.template, TEMPLATES))
        return found

    def form(self, setting: Setting) -> str:
        """The template of the prompts: the one asked for, else the known model's, else the tokenizer's own."""
        return self.template or template_of(setting.model)

    def check(self, setting: Setting) -> list[str]:
        """What is wrong with the files, or with the model for them."""
        template = template_problems(self.form(setting), setting.model_path, "qa")
        try:
            self.rows(setting)
        except UserError as error:
            return [*error.problems, *template]
        return template

    def rows(self, setting: Setting) -> QaRows:
        """The rows of the user's files."""
        return read(setting.data, self.form(setting), self.probed)

    def metrics(self, tier: str) -> tuple[Metric, ...]:
        """Every score of the task; what the rows can't give is absent."""
        return METRICS

    def offers(self, setting: Setting) -> frozenset[str]:
        """A history and retain rows."""
        return frozenset({"history", "retain"})

    def schedule(self, rows: int) -> tuple[int, Recipe]:
        """Rows of an optimiser step, and the recipe for so many rows."""
        return self.batch, Recipe(self.epochs * -(-rows // self.batch), self.lr)

    def prepare(self, work: Work, setting: Setting) -> Scenario:
        """The user's rows; the model as it was given is the last checkpoint before them."""
        rows, before = self.rows(setting), setting.before

        train = training(work, setting, self.schedule)
        most = max(map(len, rows.probes.values()))
        return Scenario(
            label=rows.label + (f", at most {self.probed} rows of a file probed" if most == self.probed else ""),
            target=target_of(setting, train(rows.forget + rows.retain, "target")),
            oracles=oracles_of(setting, [train(rows.retain, f"oracle-{i}", order=i) for i in range(self.oracles)]),
            history=history_of(setting, work),
            forget=rows.forget,
            retain=rows.retain,
            validation=rows.validation,
            probes=probes(rows),
            metrics=METRICS,
            oracle_rows=rows.retain,
            reference=lambda: before,
            lineage={"data": {"all": rows.data_hash}, "counts": dict(rows.counts), "before": before.hash},
            forgetting=("forget_Q_A_Prob", "forget_Q_A_ROUGE"),
            utility=("retain_Q_A_Prob", "retain_Q_A_ROUGE"),
            headline=HEADLINE,
        )

    @staticmethod
    def suite(data: str, split: str = "") -> Suite:
        """What the task asks, for `bench eval`; every row that isn't for validation, in the tokenizer's own template."""
        if split:
            raise UserError(f"--split {split}: qa has the files of --data and no splits; leave --split out.")
        from bench.assets.data_sets import files

        rows = read(files("qa", data).path, "chat")
        return Suite(probes(rows), METRICS, facts={"benchmark": rows.label, "rows": dict(rows.counts)})

    def outline(self, setting: Setting) -> Outline:
        """Rows of every stage."""
        rows = self.rows(setting) if setting.data and setting.data != "hub" else None
        sizes = rows.counts if rows else NOMINAL
        asked = sum(map(len, rows.probes.values())) if rows else sum(NOMINAL.values())
        stages = {"target": self.epochs * (sizes["forget"] + sizes["retain"])}
        stages |= {f"oracle-{i}": self.epochs * sizes["retain"] for i in range(self.oracles)}
        return Outline(parameters_of(setting), 90.0, stages, sizes["forget"], sizes["retain"], 5 * asked)


def probes(rows: QaRows) -> tuple[Probe, ...]:
    """What is asked of each file's rows."""
    found: list[Probe] = []
    for side, examples in rows.probes.items():
        roles = ("answer", *(role for role in ("paraphrase", "wrong") if role in examples[0].references))
        asked = Probe(side, "logprob", examples, roles if side != "holdout" else ("answer",))
        found += attack_probes(asked) if side in ("forget", "holdout") else (asked,)
        if side != "holdout":
            found.append(Probe(f"{side}_said", "generate", examples, max_new_tokens=NEW_TOKENS))
            found.append(Probe(f"kl_{side}", "divergence", examples))
    return tuple(found)


def with_holdout(metric: Metric) -> Metric:
    """A membership score that says what it needs where the rows are missing."""

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if "holdout" not in responses.rows:
            raise Absent("no holdout rows were asked: a third file of --data, with rows that no model is trained on")
        return metric.compute(responses, oracles)

    return replace(metric, compute=compute)


METRICS: tuple[Metric, ...] = (
    *BY_SIDE["forget"],
    *BY_SIDE["retain"],
    accuracy("forget_accuracy", "forget", goal="oracle"),
    accuracy("retain_accuracy", "retain", goal="up"),
    forget_quality("forget_quality", "forget"),
    exact_memorization("exact_memorization", "forget"),
    extraction_strength("extraction_strength", "forget"),
    *map(with_holdout, attacks("forget", "holdout")),
    kl("kl_forget", "kl_forget"),
    kl("kl_retain", "kl_retain"),
    kl_floors("kl_forget_floors", "kl_forget"),
    kl_floors("kl_retain_floors", "kl_retain"),
    collapsed("collapsed", "forget_said", utility=NAMED["retain_Q_A_Prob"], floor=BROKEN),
)
HEADLINE = (
    "forget_Q_A_Prob",
    "forget_Q_A_ROUGE",
    "forget_quality",
    "retain_Q_A_Prob",
    "retain_Q_A_ROUGE",
    "extraction_strength",
    "mia_min_k",
    "privleak",
    "kl_forget",
    "kl_retain",
)
