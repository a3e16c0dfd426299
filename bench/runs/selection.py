"""Choosing hyperparameters without the oracle: one stated rule, one budget for every method, seeds not reported.

**The search.** As many quasi-random settings for every method, in the box that its settings file states beforehand
(`bench.core.boxes`). All of them on the first tuning seed; the best quarter of them on the others.

**The rule.** Smallest mean over the tuning seeds of ``J = |f - level| + max(0, u_target - u)`` on validation rows, which
no probe contains. f: score of the forget rows; level: the untouched target's score on rows of the same kind that it was
never trained on; ``|f - level|`` is the mean over kinds of rows (templates). u: mean of the scores on retain and on world
rows, u_target the target's own. Of the settings within .005 of the smallest J the one that trains on the fewest tokens.
The oracle takes no part, nor does membership or a probe. A setting whose model broke down has no J and ranks last.

**The score of a row.** A question: 1 when every answer token is the most likely one. A passage: share of its tokens
that are. A chat answer, or a base model's to such a question (whole sentences): the geometric mean of its tokens'
probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import exp, inf
from statistics import fmean
from typing import Any

from bench.core import registry
from bench.core.boxes import Box, draw_settings
from bench.core.record import Step
from bench.core.types import Json, Responses, Validation
from bench.metrics import rows_of

VERSION = 3
NEAR = 0.005
"""Settings whose J is at most this far above the smallest one are told apart by the tokens that they train on."""
QUARTER = 4
"""One in so many settings goes on to the other tuning seeds."""
SIDES = ("forget", "retain", "utility", "unseen")
RULE = (
    f"bench.runs.selection version {VERSION}: smallest J = |f - level| + max(0, u_target - u) on validation rows, mean over "
    f"the seeds; all settings on the first seed, the best quarter on all; within {NEAR} of the smallest the fewest tokens"
)


@dataclass(frozen=True)
class SeedScores:
    """What one setting reached on one tuning seed."""

    forget: Mapping[str, float]
    """Validation score of the forget rows by template."""
    level: Mapping[str, float]
    """The target's score on never-trained rows by template."""
    retain: float
    world: float
    target: Mapping[str, float]
    """The target's own score on the ``retain`` and the ``world`` rows."""
    tokens: int = 0
    """Trained on by the method itself."""

    @property
    def utility(self) -> float:
        """u: mean of the retain and the world score."""
        return (self.retain + self.world) / 2

    @property
    def target_utility(self) -> float:
        """u_target: the same of the untouched target."""
        return (self.target["retain"] + self.target["world"]) / 2

    @property
    def gap(self) -> float:
        """|f - level|, mean over kinds of forget rows."""
        return fmean(abs(score - self.level[kind]) for kind, score in self.forget.items())

    @property
    def j(self) -> float:
        """What the rule makes small."""
        return self.gap + max(0.0, self.target_utility - self.utility)


@dataclass(frozen=True)
class Outcome:
    """One setting, on the tuning seeds that it was run on."""

    params: Mapping[str, Any]
    seeds: tuple[SeedScores, ...] = ()
    """In the order of the tuning seeds; none where it is broken."""
    runs: int = 1
    """Tuning seeds that it was run on."""
    seconds: float = 0.0
    """Mean of the runs."""
    broken: str = ""
    """Why it has no J: the model that it makes has broken down on some seed."""

    @property
    def j(self) -> float:
        """Mean over its seeds; infinite where it is broken."""
        return inf if self.broken else fmean(each.j for each in self.seeds)

    @property
    def tokens(self) -> float:
        """Trained on, mean over its seeds."""
        return fmean(each.tokens for each in self.seeds) if self.seeds else inf

    def to_json(self) -> Json:
        """Plain JSON, for the record of the search; ``j_first`` is J on the first tuning seed."""
        about = {"params": dict(self.params), "stage": 1 if self.runs == 1 else 2, "seconds": round(self.seconds, 2)}
        if self.broken:
            return about | {"broken": self.broken}
        means = {
            "j": self.j,
            "j_first": self.seeds[0].j,
            "f": fmean(fmean(each.forget.values()) for each in self.seeds),
            "level": fmean(fmean(each.level.values()) for each in self.seeds),
            "u": fmean(each.utility for each in self.seeds),
            "u_target": fmean(each.target_utility for each in self.seeds),
            "tokens": self.tokens,
        }
        return about | means | {"by_seed": [asdict(each) for each in self.seeds]}

    @classmethod
    def from_json(cls, data: Json) -> Outcome:
        """The inverse of `to_json`; how many runs a broken setting had is known to the stage alone."""
        seeds = tuple(SeedScores(**each) for each in data.get("by_seed", ()))
        return cls(data["params"], seeds, len(seeds) or data["stage"], data["seconds"], data.get("broken", ""))


def outcome_of(rows: Sequence[Json]) -> Outcome:
    """One setting's rows of several seeds as one outcome, broken where one of them is; ValueError for those of another rule."""
    seconds = fmean(row["seconds"] for row in rows)
    if reason := next((row["broken"] for row in rows if "broken" in row), ""):
        return Outcome(rows[0]["params"], (), len(rows), seconds, reason)
    if not all(row.keys() >= {"target", "tokens"} for row in rows):
        raise ValueError("a setting's row is one of an earlier rule of selection, without J")
    names = SeedScores.__dataclass_fields__
    seeds = tuple(SeedScores(**{name: row[name] for name in names}) for row in rows)
    return Outcome(rows[0]["params"], seeds, len(rows), seconds)


def best_quarter(outcomes: Sequence[Outcome]) -> list[int]:
    """The settings that go on to the other seeds, best first: a quarter, at least one, and none that is broken."""
    sound = [i for i, outcome in enumerate(outcomes) if not outcome.broken]
    order = sorted(sound, key=lambda i: (outcomes[i].j, outcomes[i].tokens, i))
    return order[: max(1, len(outcomes) // QUARTER)]


def choose_setting(outcomes: Sequence[Outcome]) -> int | None:
    """The setting that the rule picks, of those run on the most seeds; None where all of these are broken."""
    most = max(outcome.runs for outcome in outcomes)
    last = [i for i, outcome in enumerate(outcomes) if outcome.runs == most and not outcome.broken]
    if not last:
        return None
    best = min(outcomes[i].j for i in last)
    near = [i for i in last if round(outcomes[i].j - best, 9) <= NEAR]
    return min(near, key=lambda i: (outcomes[i].tokens, outcomes[i].j, i))


def expected_best(values: Sequence[float | None]) -> list[float]:
    """Expected smallest of n values drawn with replacement, for n = 1 to their number (Dodge et al. 2019, arXiv 1909.03004).

    ``sum over v of v * (P(V >= v)^n - P(V > v)^n)``, exactly, P being the share of the values. None is a draw that can't be
    the smallest, of a broken setting: the expectation is then over draws with a value at all. Empty without values.
    """
    total, found = len(values), sorted(value for value in values if value is not None)
    lost = total - len(found)
    curve = []
    for n in range(1, total + 1 if found else 1):
        shares = [(total - i) / total for i in range(len(found) + 1)]  # that lie at or above the i-th smallest
        parts = [value * (shares[i] ** n - shares[i + 1] ** n) for i, value in enumerate(found)]
        curve.append(sum(parts) / (1 - (lost / total) ** n))
    return curve


def search_box(component: Any, place: str, variant: str = "") -> Box:
    """The box of a method's ``place`` (``lab-tofu``), or of its tier; a variant's own, or that with what it states held.

    Empty where nothing is to be searched.
    """
    space, presets = component.space, component.presets
    box: Box = space.get(place) or space.get(place.partition("-")[0]) or {}
    if variant:
        own = space.get(f"{place}-{variant}")
        stated = presets.get(variant) or (None if own else presets.get(f"{place}-{variant}"))
        params = stated.params if stated else {}
        box = {**params, **own} if own else {**box, **params}
    return box


def steps_for(method: str, box: Box, count: int) -> list[Step]:
    """The settings that a search tries, as steps with complete parameters."""
    component = registry.load_component("methods", method)
    usual = registry.default_params(component)
    return [Step(method, registry.said_params(component, usual | setting)) for setting in draw_settings(box, count)]


def row_score(template: str, answer: Mapping[str, Any]) -> float:
    """The score of one row by the module's definition."""
    if template == "text":
        return fmean(answer["hit"])
    if template in ("chat", "base"):
        return exp(fmean(answer["logp"]))
    return float(all(answer["hit"]))


def side_scores(responses: Responses, side: str, validation: Validation) -> dict[str, float]:
    """Mean row score of one side by template; `Absent` where the model has broken down."""
    rows = rows_of(responses, f"validation_{side}")
    by_template: dict[str, list[float]] = {}
    for example in getattr(validation, side):
        answer = rows[example.id]["answer"][0]
        if answer["logp"]:
            template = example.payload["template"]
            by_template.setdefault(template, []).append(row_score(template, answer))
    return {template: fmean(scores) for template, scores in sorted(by_template.items())}


def question_score(by_template: Mapping[str, float]) -> float:
    """The score of the questions, or of the passages where there are no questions."""
    asked = [score for template, score in by_template.items() if template != "text"]
    return fmean(asked or by_template.values())


def kept_scores(responses: Responses, validation: Validation) -> dict[str, float]:
    """The scores on the ``retain`` and the ``world`` rows; `Absent` where the model has broken down."""
    sides = {"retain": "retain", "world": "utility"}
    return {name: question_score(side_scores(responses, side, validation)) for name, side in sides.items()}
