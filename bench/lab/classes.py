"""What the tasks on classifiers share: who is to be forgotten, the stages of training, probes and scores.

A small network learns some images, then further ones together with the forget set (`bench.lab.digits.split_digits`). A third of
the forget rows and of the retain rows taught with them is validation, the rest is probed; of the images of kept classes
that nobody was taught, a half each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Protocol

from bench.core.contracts import Metric, Outline, Scenario, TaskContext, TaskInputs
from bench.core.errors import unknown_name
from bench.core.types import Checkpoint, Example, Probe, Validation, data_hash
from bench.lab.build import LabOptions, TaughtRows, in_passes, make_fresh
from bench.lab.digits import digit_images, split_digits
from bench.metrics.classes import class_kl, class_kl_floors, swallowed
from bench.metrics.membership import auc
from bench.metrics.probability import accuracy, probability

FORGET = ("class", "tenth")
GONE, KEPT, KNOWN_IMAGES, PROBED = 126, 1005, 502, 690
"""Images to be forgotten, kept, of these known before, and probed: give or take two with the seed, alike for both kinds."""
MOST_LATER = 300


class ExampleMaker(Protocol):
    """Makes examples of images by their numbers; ``whole``: as they are before anything is taken away for the request."""

    def __call__(self, numbers: Sequence[int], whole: bool = False) -> tuple[Example, ...]:
        """The examples of the numbered images or nodes."""
        ...


@dataclass(frozen=True)
class ClassesTask(LabOptions):
    """Parameters that the tasks on classifiers share."""

    forget: str = "class"
    """What is to be forgotten: ``class``, one whole class, or ``tenth``, a random tenth of what is trained on."""
    width: int = 32
    """Channels of the first layer, or the graph network's hidden size."""
    history_passes: float = 25.0
    """Passes of the training before the forget set comes."""
    target_passes: float = 17.0
    """Passes of the target over its rows; the oracles make as many over theirs."""

    answers: ClassVar[frozenset[str]] = frozenset({"classes"})
    data: ClassVar[str] = "scikit-learn's digits"
    rate: ClassVar[float] = 2e-3
    """Peak learning rate of every stage."""

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        found = super().problems()
        if self.forget not in FORGET:
            found.append(unknown_name(f"value of {self.name}.forget", self.forget, FORGET))
        if self.later > MOST_LATER:
            found.append(f"{self.name}.later is at most {MOST_LATER}, not {self.later}: there are 1,797 images.")
        return found

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the task."""
        return METRICS

    def start(self, work: TaskContext) -> Checkpoint:
        """The checkpoint of the network before any training, a node."""
        raise NotImplementedError

    def rows_for(self, forget: Sequence[int]) -> ExampleMaker:
        """A maker of the task's examples, once it is known which images are to be forgotten."""
        raise NotImplementedError

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """The scenario of the seed."""
        parts = split_digits(digit_images().labels, self.forget, work.seed, self.later)
        rows = self.rows_for(parts.forget)
        kept = (*parts.taught, *parts.known)
        forget, retain = rows(parts.forget, whole=True), rows(kept)
        taught = forget + rows(kept, whole=True)
        afterwards = (*(parts.later if self.gap_steps else ()), *kept)

        made = self.train_stages(
            work,
            partial(self.start, work),
            in_passes(rows(parts.known), self.history_passes, self.rate),
            partial(in_passes, passes=self.target_passes, lr=self.rate),
            TaughtRows(taught, rows(afterwards, whole=True)),
            TaughtRows(retain, rows(afterwards)),
            self.rate / 2,
        )
        held = {side: len(getattr(parts, side)) // 3 for side in ("forget", "taught")} | {"test": len(parts.test) // 2}
        return Scenario(
            label=f"{self.name} (lab)",
            **vars(made),
            forget=forget,
            retain=retain,
            validation=Validation(
                rows(parts.forget[: held["forget"]]),
                rows(parts.taught[: held["taught"]]),
                rows(parts.test[: held["test"]]),
                rows(parts.unseen),
            ),
            asks="classes",
            probes=(
                Probe("forget", "classes", rows(parts.forget[held["forget"] :])),
                Probe("holdout", "classes", rows(parts.holdout)),
                Probe("retain", "classes", rows(parts.taught[held["taught"] :])),
                Probe("test", "classes", rows(parts.test[held["test"] :])),
            ),
            metrics=METRICS,
            oracle_rows=rows((*kept, *(parts.later if self.gap_steps else ()))),
            told=self.told(forget, retain, work.seed),
            lineage={"data": {"forget": data_hash(forget), "retain": data_hash(retain)}},
            forgetting=("forget_accuracy", "mia_loss"),
            utility=("retain_accuracy", "test_accuracy"),
            headline=HEADLINE,
            primary=PRIMARY_SCORES,
        )

    @property
    def pass_rows(self) -> tuple[int, int]:
        """Images known, and taught; give or take a few with the seed."""
        return KNOWN_IMAGES, GONE + KEPT - self.later

    def sized(self, parameters: int) -> Outline:
        """Rows of every stage of a network of so many parameters: an image is one token."""
        return Outline(parameters, 1.0, self.stages(GONE), GONE, KEPT - self.later, PROBED)


def make_fresh_network(work: TaskContext, network: str, sizes: Mapping[str, int]) -> Checkpoint:
    """Untrained weights, a node."""

    def write(folder: Path) -> None:
        from bench.lab.networks import save_fresh_network

        save_fresh_network(network, sizes, work.seed, folder)

    return make_fresh(work, {"network": network, "sizes": dict(sizes)}, write, "classifier")


TEST = accuracy("test_accuracy", "test", goal="up")
METRICS: tuple[Metric, ...] = (
    accuracy("forget_accuracy", "forget", goal="oracle"),
    probability("forget_probability", "forget", goal="oracle"),
    accuracy("holdout_accuracy", "holdout", goal="oracle"),
    accuracy("retain_accuracy", "retain", goal="up"),
    TEST,
    auc("mia_loss", "loss", "forget", "holdout"),
    *(class_kl(f"kl_{side}", side) for side in ("forget", "retain", "test")),
    *(class_kl_floors(f"kl_{side}_floors", side) for side in ("forget", "retain", "test")),
    swallowed("collapsed", "test", utility=TEST, floor=0.5),
)
PRIMARY_SCORES = {
    "forgetting": "forget_accuracy",
    "kept": "test_accuracy",
    "kl_forget": "kl_forget",
    "kl_retain": "kl_retain",
    "membership": "mia_loss",
}
"""Kept knowledge is that of images nobody is trained on."""
HEADLINE = (
    "forget_accuracy",
    "holdout_accuracy",
    "retain_accuracy",
    "test_accuracy",
    "mia_loss",
    "kl_forget",
    "kl_retain",
    "kl_test",
)
