"""Choosing hyperparameters without the oracle: one stated rule, one budget for every method, seeds not reported.

**The rule.** Each setting of a method's grid is run on the tuning seeds and asked the validation rows, which no probe
contains. A setting *has forgotten* when, for each kind of forget row, its score is at most the never-trained level
plus .10; the level is the untouched target's score on rows of the same kind that it was never trained on. Among the
settings that have forgotten, the one with the highest utility (mean of the scores on retain and on world rows) is
chosen; of those with equal utility, the one whose retain and world rows are the most probable (mean log-prob of their
tokens), and only then the earlier in the grid. When none has forgotten, the one nearest to it is chosen and the record
says so. The oracle takes no part. A choice at the edge of its grid is flagged.

**The score of a row.** A question: 1 when every answer token is the most likely one. A passage: share of its tokens
that are. A chat answer, or a base model's to such a question (whole sentences): the geometric mean of its tokens'
probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp
from statistics import fmean
from typing import Any

from bench.core import registry
from bench.core.record import Step
from bench.core.types import Json, Responses, Validation
from bench.metrics import rows_of

VERSION = 2
MARGIN = 0.10
"""How far above the never-trained level a forget score may stay."""
SIDES = ("forget", "retain", "utility", "unseen")


@dataclass(frozen=True)
class Outcome:
    """One setting, averaged over the tuning seeds."""

    params: Mapping[str, Any]
    forget: Mapping[str, float]
    """Validation score of the forget rows by template."""
    level: Mapping[str, float]
    """The target's score on never-trained rows by template."""
    retain: float
    world: float
    seconds: float = 0.0
    fine: float = 0.0
    """Mean log-prob of the answer tokens of the retain and the world rows, in nats: what tells equal scores apart."""
    broken: str = ""
    """Why it has no scores: the model that it makes has broken down on some seed."""

    @property
    def utility(self) -> float:
        """Mean of the retain and the world score."""
        return (self.retain + self.world) / 2

    @property
    def excess(self) -> float:
        """How far the worst kind of forget row lies above what the rule allows; 0 or less: it has forgotten."""
        # Rounded: 40 of 100 rows beside a level of 30 of 100 is .10 above it, which float subtraction misses by 1e-17.
        return round(max(score - self.level[kind] - MARGIN for kind, score in self.forget.items()), 9)

    def to_json(self) -> Json:
        """Plain JSON, for the record of the search."""
        if self.broken:
            return {"params": dict(self.params), "broken": self.broken, "seconds": self.seconds}
        return {
            "params": dict(self.params),
            "forget": dict(self.forget),
            "level": dict(self.level),
            "retain": self.retain,
            "world": self.world,
            "utility": self.utility,
            "excess": self.excess,
            "seconds": self.seconds,
            "fine": self.fine,
        }


@dataclass(frozen=True)
class Choice:
    """The setting that the rule picked."""

    index: int
    forgotten: bool
    tied: int
    """Settings with the chosen one's utility, itself among them, that have forgotten as well."""
    edges: tuple[str, ...]
    """Parameters whose chosen value is at the end of what was tried with the others alike."""


def search_grid(component: Any, place: str, base: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every setting of the method's search space for ``place`` (``lab-tofu``), laid over ``base``, in order."""
    space = component.space.get(place) or component.space.get(place.split("-")[0]) or ()
    return [{**base, **setting} for setting in space]


def choose_setting(outcomes: Sequence[Outcome]) -> Choice:
    """Choose among the settings of a search by the stated rule; a broken one only where all are."""
    sound = [i for i, outcome in enumerate(outcomes) if not outcome.broken]
    forgotten = [i for i in sound if outcomes[i].excess <= 0]
    if forgotten:
        index = max(forgotten, key=lambda i: (outcomes[i].utility, outcomes[i].fine, -i))
    else:
        index = min(sound, key=lambda i: (outcomes[i].excess, i), default=0)
    tied = sum(outcomes[i].utility == outcomes[index].utility for i in forgotten)
    return Choice(index, bool(forgotten), tied, params_at_edge(outcomes, index))


def params_at_edge(outcomes: Sequence[Outcome], index: int) -> tuple[str, ...]:
    """Numeric parameters whose chosen value is the smallest or the largest among the settings alike in all others."""
    chosen, found = outcomes[index].params, []
    for name, value in chosen.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        rest = {key: other for key, other in chosen.items() if key != name}
        alike = {o.params[name] for o in outcomes if {k: v for k, v in o.params.items() if k != name} == rest}
        if len(alike) > 1 and value in (min(alike), max(alike)):
            found.append(name)
    return tuple(found)


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


def mean_log_prob(responses: Responses, validation: Validation) -> float:
    """Mean over the retain and the world rows of the mean log-prob of their answer tokens, in nats."""
    sides = []
    for side in ("retain", "utility"):
        rows = rows_of(responses, f"validation_{side}")
        answers = [rows[example.id]["answer"][0]["logp"] for example in getattr(validation, side)]
        sides.append(fmean(fmean(logp) for logp in answers if logp))
    return fmean(sides)


def question_score(by_template: Mapping[str, float]) -> float:
    """The score of the questions, or of the passages where there are no questions."""
    asked = [score for template, score in by_template.items() if template != "text"]
    return fmean(asked or by_template.values())


def average_rows(rows: Sequence[Json]) -> Outcome:
    """One setting's rows of several seeds as one outcome, broken where one of them is."""
    seconds = fmean(row["seconds"] for row in rows)
    if reason := next((row["broken"] for row in rows if "broken" in row), ""):
        return Outcome(rows[0]["params"], {}, {}, 0.0, 0.0, seconds, broken=reason)
    kinds = rows[0]["forget"]
    return Outcome(
        rows[0]["params"],
        {kind: fmean(row["forget"][kind] for row in rows) for kind in kinds},
        {kind: fmean(row["level"][kind] for row in rows) for kind in kinds},
        fmean(row["retain"] for row in rows),
        fmean(row["world"] for row in rows),
        seconds,
        fmean(row["fine"] for row in rows),
    )


def search_record(place: str, method: str, seeds: Sequence[int], outcomes: Sequence[Outcome], provenance: Json) -> Json:
    """The record of a search: rule, budget, every setting with its scores, and the choice; none where all are broken."""
    choice = choose_setting(outcomes)
    nothing = all(outcome.broken for outcome in outcomes)
    return {
        "schema": 1,
        "kind": "tune",
        "place": place,
        "method": method,
        "rule": f"bench.runs.selection version {VERSION}: highest utility among settings that have forgotten "
        f"(at most the never-trained level + {MARGIN}), then highest log-prob of what must stay",
        "seeds": list(seeds),
        "budget": len(outcomes),
        "settings": [outcome.to_json() for outcome in outcomes],
        "chosen": None if nothing else choice.index,
        "params": {} if nothing else dict(outcomes[choice.index].params),
        "forgotten": choice.forgotten,
        "tied": choice.tied,
        "edges": [] if nothing else list(choice.edges),
        "provenance": provenance,
    }


def steps_for(method: str, place: str) -> list[Step]:
    """Every setting of a method's grid as a step."""
    component = registry.load_component("methods", method)
    settings = search_grid(component, place, registry.default_params(component))
    return [Step(method, registry.said_params(component, params)) for params in settings]
