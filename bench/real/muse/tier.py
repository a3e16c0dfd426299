"""The real tier of MUSE-Books and of data in its layout: books learnt by continued training, and what is asked of them.

`bench.real.muse.rows` says which text is trained on and which rows are asked; probes and metrics are those of
`bench.real.muse.suite`, with losses, hits and divergences of passages beside them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import ClassVar

from bench.core.contracts import Metric, Outline, Scenario, Suite, TaskContext, TaskInputs
from bench.core.errors import Absent
from bench.core.record import Score
from bench.core.types import Example, Probe, Responses
from bench.metrics.divergence import distances
from bench.metrics.options import mean_loss, token_hits
from bench.metrics.truth import score_part
from bench.real.muse import suite
from bench.real.muse.rows import MuseCut, MuseRows, choose_muse_rows
from bench.real.scenario import RealOptions, count_parameters

NOMINAL = {"forget": 1_000_000, "retain1": 200_000, "retain2": 490_000}
"""MUSE-Books' tokens by split, about four bytes a token: for an estimate before there are data and a tokenizer."""
BROKEN = 0.1
"""Share of a retain passage's tokens that are predicted below which a model counts as collapsed; prose gives .3 and more."""
EXCERPTS = (
    "only a part of the books was trained on, and the data don't say where the questions' answers stand; train on all of "
    "the text (stories=0, most_tokens=0)"
)


@dataclass(frozen=True, kw_only=True)
class RealBooksTask(RealOptions):
    """Books in MUSE-Books' layout, taught to a model that the user names; the defaults are the benchmark's own where it
    has them.
    """

    stories: int = 0
    """Most texts of each split of ``train`` (of `forget`: books), the first ones; 0 for all."""
    most_tokens: int = 0
    """Most tokens to forget, and as many to keep, as the model's tokenizer counts; 0 for all."""
    chunk: int = 2048
    """Tokens of a training passage; of a part of the text, a probed row must lie inside one."""
    passage: int = 2048
    """Tokens of a membership passage that are scored, its first ones."""
    epochs: int = 10
    """Passes over the passages for target and oracles."""
    lr: float = 1e-5
    """Peak learning rate of target and oracles (the benchmark's own suits models of billions of parameters)."""
    batch: int = 32
    """Passages of one optimiser step of target and oracles."""
    generated: int = 0
    """Most tokens generated for a row, and read of its reference; 0 for the benchmark's own 128 (answers: 32)."""

    least: ClassVar[Mapping[str, int]] = {
        **RealOptions.least,
        "chunk": 16,
        "passage": 16,
        "stories": 0,
        "most_tokens": 0,
        "generated": 0,
    }
    stand_in: ClassVar[bool] = False
    """Whether the books are others than MUSE-Books' own."""

    def titled(self, setting: TaskInputs) -> str:
        """The benchmark's name, with what must be known of the data's origin."""
        raise NotImplementedError

    @property
    def cut(self) -> MuseCut:
        """The part of the data that these parameters choose."""
        return MuseCut(self.stories, self.most_tokens, self.chunk, self.passage, self.probed)

    def rows(self, setting: TaskInputs) -> MuseRows:
        """The books, or the part of them that was asked for."""
        return choose_muse_rows(setting.data, setting.model_path, self.cut, self.stand_in)

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the task; of a part of the text those on questions are absent."""
        return tuple(
            replace(metric, compute=refuse_questions_on_part, examples=None)
            if "knowmem" in metric.name and not self.cut.whole
            else metric
            for metric in METRICS
        )

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about data, or sizes asked of them, that don't fit; nothing is known without a tokenizer."""
        return super().check(setting) if setting.model_path else []

    def suite(self, data: str, split: str = "", judge: str = "") -> Suite:
        """The benchmark's complete suite, for `bench eval`; without ``split`` on forget."""
        return suite.muse_suite(data, split or "forget")

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The target reads all of ``train``, the oracles its two retain splits; methods are given the first of these."""
        rows = self.rows(setting)
        forget, retain = rows.trained["forget"], rows.trained["retain1"]
        kept = retain + rows.trained["retain2"]
        made = self.train_stages(work, setting, forget + kept, kept)
        probes = self.probes(rows)
        return Scenario(
            label=self.label(self.titled(setting), rows),
            **vars(made),
            forget=forget,
            retain=retain,
            validation=rows.validation,
            probes=probes,
            metrics=self.metrics(),
            oracle_rows=kept,
            lineage={"data": {"all": rows.data_hash}, "counts": rows.counts, "before": setting.before.hash},
            forgetting=("forget_verbmem_ROUGE", "forget_passage_hits"),
            utility=("retain_passage_hits",),
            headline=HEADLINE if self.cut.whole else tuple(c for c in HEADLINE if "knowmem" not in c),
            questions=tuple(with_solved(row) for p in probes if p.name == "forget_knowmem" for row in p.examples),
        )

    def probes(self, rows: MuseRows) -> tuple[Probe, ...]:
        """The suite's probes on the rows that are asked, and passages of retain for losses and divergences."""
        tables, asked = rows.tables, rows.asked
        made = suite.verbatim_probes(tables["verbmem/forget"])
        made += suite.passage_probes(tables["privleak/forget"], tables["privleak/holdout"])
        if self.cut.whole:
            for side in ("forget", "retain"):
                if f"knowmem/{side}_qa" in asked and f"knowmem/{side}_qa_icl" in asked:
                    made += suite.question_probes(side, tables[f"knowmem/{side}_qa"], tables[f"knowmem/{side}_qa_icl"])
        made.append(Probe("retain", "logprob", suite.passage_examples("retain", tables["privleak/retain"])))
        shown = [self.shown(probe, asked) for probe in made]
        known = {probe.name: probe for probe in shown}
        return (*shown, *(Probe(f"kl_{s}", "divergence", known[s].examples) for s in ("forget", "retain")))

    def shown(self, probe: Probe, asked: Mapping[str, tuple[int, ...]]) -> Probe:
        """A probe with the rows that are asked, as far as they are scored and generated."""
        kind, _, side = probe.examples[0].id.rpartition("-")[0].partition("_")
        table = {"verbmem": "verbmem/forget", "knowmem": f"knowmem/{side}_qa", "privleak": f"privleak/{side}"}[kind]
        examples = tuple(cut_passage(probe.examples[number], self.passage) for number in asked[table])
        if probe.kind != "generate" or not 0 < self.generated < probe.max_new_tokens:
            return replace(probe, examples=examples)
        options = {**probe.options, "reference_tokens": self.generated}
        return replace(probe, examples=examples, max_new_tokens=self.generated, options=options)

    def label(self, name: str, rows: MuseRows) -> str:
        """The benchmark's name for exactly the benchmark, else how large a part of it this is."""
        capped = 0 < self.generated < suite.CONTINUATION
        if rows.exact and not capped:
            return name
        sizes = {split: f"{len(passages)}" for split, passages in rows.trained.items()}
        tokens = {split: f"{count / 1000:.1f}k" for split, count in rows.tokens.items()}
        said = [
            f"{sizes['forget']} passages ({tokens['forget']} tokens) to forget",
            f"{sizes['retain1']} + {sizes['retain2']} ({tokens['retain1']} + {tokens['retain2']}) to keep",
            f"{len(rows.asked['verbmem/forget'])} verbatim and {len(rows.asked['privleak/forget'])} membership rows",
        ]
        if self.passage < suite.PASSAGE:
            said.append(f"membership on the first {self.passage} tokens")
        if capped:
            said.append(f"{self.generated} tokens generated a row")
        return f"{name} subset: {', '.join(said)}"

    def outline(self, setting: TaskInputs) -> Outline:
        """Sizes of what will be trained on; the benchmark's own for the hub's data, or without a model to count with."""
        if setting.model_path and setting.data not in ("", "hub"):
            rows = self.rows(setting)
            tokens: dict[str, float] = dict(rows.tokens)
            asked = {table: len(numbers) for table, numbers in rows.asked.items()}
            counts = {split: len(passages) for split, passages in rows.trained.items()}
        else:
            shares = {"forget": 1.0, "retain1": 0.5, "retain2": 0.5}
            tokens = {s: min(n, self.most_tokens * shares[s] or n) for s, n in NOMINAL.items()}
            counts, asked = {split: ceil(count / self.chunk) for split, count in tokens.items()}, {"privleak": 500}
        kept = counts["retain1"] + counts["retain2"]
        stages = self.stages(self.epochs * (counts["forget"] + kept), self.epochs * kept)
        mean = sum(tokens.values()) / sum(counts.values())
        probed = 3 * sum(asked.values())
        return Outline(count_parameters(setting), mean, stages, counts["forget"], counts["retain1"], probed)


def with_solved(row: Example) -> Example:
    """A question with the reference ``solved``: itself with its answer, as the solved ones stand before it."""
    label = suite.ASKED.partition("{")[0]
    question = row.payload["prompt"].rpartition(label)[2]
    return replace(row, references={"solved": (f"{label}{question}{row.payload['answer']}\n\n",)})


def cut_passage(example: Example, passage: int) -> Example:
    """A membership row with at most ``passage`` tokens; other rows as they are."""
    if "most" not in example.payload:
        return example
    return replace(example, payload={**example.payload, "most": min(example.payload["most"], passage)})


def refuse_questions_on_part(responses: Responses, oracles: Collection[Responses]) -> Score:
    """Why questions have no score on a part of the text."""
    raise Absent(EXCERPTS)


def collapsed_metric(name: str, utility: Metric, floor: float) -> Metric:
    """1 where ``utility`` is below ``floor`` or the model has broken down, else 0; goal down.

    Unlike `bench.metrics.collapse.collapsed` it doesn't look at what is written: long greedy continuations of small
    models loop before anything was done to them (SmolLM2-135M's as it comes do).
    """

    def compute(responses: Responses, oracles: Sequence[Responses]) -> Score:
        if responses.wrecked:
            return Score(1.0, 1)
        found = score_part(utility, responses, oracles)
        return Score(float(found.value < floor), found.n)

    return Metric(name, compute, "down", description="1 where utility is below a floor", source="own")


RETAIN = token_hits("retain_passage_hits", "retain", goal="up")
METRICS: tuple[Metric, ...] = (
    *suite.METRICS,
    token_hits("forget_passage_hits", "forget", goal="oracle"),
    RETAIN,
    mean_loss("forget_passage_loss", "forget", goal="oracle"),
    mean_loss("retain_passage_loss", "retain", goal="down"),
    mean_loss("holdout_passage_loss", "holdout", goal="oracle"),
    *distances("forget", "retain"),
    collapsed_metric("collapsed", RETAIN, BROKEN),
)
HEADLINE = (
    "forget_verbmem_ROUGE",
    "forget_knowmem_ROUGE",
    "retain_knowmem_ROUGE",
    "retain_passage_hits",
    "extraction_strength",
    "exact_memorization",
    "mia_min_k",
    "privleak",
    "kl_forget",
    "kl_retain",
)
