"""Every registered method, without anyone listing them: its declaration, its behaviour on a tiny model, its budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from bench.conformance import check_declared, check_method
from bench.core import registry
from bench.core.boxes import SETTINGS, draw_settings, searched
from bench.runs.selection import search_box

METHODS = sorted(registry.components("methods"))
PLACES = [f"{tier}-{task}" for task, tiers in sorted(registry.components("tasks").items()) for tier in tiers]
ORACLE = "retrain"
"""The oracle's row unlearns nothing itself, and is tested apart."""
CONTROLS = ("before", "interpolate", "rewind")
"""Rows of a run of all that are stated and not searched."""
COMPARED = [
    name for name in METHODS if name not in (ORACLE, *CONTROLS) and registry.load_component("methods", name).in_all
]
"""Of a run of all; what ablations alone use has nothing to be searched."""
NOT_TEXTS = frozenset({"lab-digits", "lab-graph"})
NO_QUESTIONS = NOT_TEXTS | {"lab-restor"}
SKIPPED = {name: NO_QUESTIONS for name in ("altpo", "flat", "idk-dpo", "idk-nll")} | {
    name: NOT_TEXTS for name in ("rmu", "transfer")
}
"""Places where a method has nothing to work on: no question that it could answer otherwise, no decoder blocks."""


@pytest.mark.parametrize("name", [name for name in METHODS if name != ORACLE])
def test_it_keeps_what_a_method_owes(name: str, small: Callable[[type], dict[str, Any]]) -> None:
    cls = registry.load_component("methods", name)
    check_method(cls, **small(cls))


def test_the_oracles_row_is_declared_like_the_others() -> None:
    check_declared(registry.load_component("methods", ORACLE))


SEARCHED = [
    (name, variant) for name in COMPARED for variant in ("", *registry.load_component("methods", name).variants)
]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("name", "variant"), SEARCHED, ids=["@".join(filter(None, each)) for each in SEARCHED])
def test_every_method_and_variant_has_a_box_in_every_place(name: str, variant: str, place: str) -> None:
    """With room for as many settings as every other; the methods' own default is none of them."""
    if place in SKIPPED.get(name, ()):
        assert place not in registry.load_component("methods", name).space
        return
    box = search_box(registry.load_component("methods", name), place, variant)
    assert 1 <= len(searched(box)) <= 4
    usual = registry.default_params(registry.load_component("methods", name))
    settings = draw_settings(box, SETTINGS)
    assert len(settings) == SETTINGS and usual not in [usual | setting for setting in settings]


ORACLE_TOKENS = {
    "lab-tofu": 170_000,
    "lab-restor": 151_000,
    "lab-muse-books": 196_000,
    "lab-digits": 17_088,
    "lab-graph": 17_088,
}
"""That an oracle is trained on."""
ROW_TOKENS = {
    "lab-tofu": (13, 0, 13, 0),
    "lab-restor": (0, 13, 13, 13),
    "lab-muse-books": (14, 41, 14, 41),
    "lab-digits": (1, 0, 1, 0),
    "lab-graph": (1, 0, 1, 0),
}
"""Tokens of a question and a passage on the forget side, then on the retain side; 0 where a side has none."""
TRAINED = [
    (name, place)
    for name in METHODS
    for place, box in registry.load_component("methods", name).space.items()
    if place.removesuffix("-difference") in ORACLE_TOKENS and {"steps", "alpha"} & set(searched(box))
]


@pytest.mark.parametrize(("name", "place"), TRAINED, ids=map("-".join, TRAINED))
def test_no_setting_trains_on_more_than_a_quarter_of_the_oracles_tokens(name: str, place: str) -> None:
    """At the dearest corner of the box, by the rows of a step on each side; MSA has them in one vector after another."""
    where, variant = place.removesuffix("-difference"), "difference" if place.endswith("-difference") else ""
    kind = registry.load_component("methods", name)
    box = search_box(kind, where, variant)
    most = {key: scale.values[-1] for key, scale in searched(box).items()}
    method = kind(**{**registry.default_params(kind), **box, **most})
    forget, retain = max(1, method.together - 1), method.together > 1
    if name == "msa":
        forget, retain = 1, 2 if variant else bool(method.beta)
    question, passage, kept_question, kept_passage = ROW_TOKENS[where]
    rows = forget * question + retain * kept_question, forget * passage + retain * kept_passage
    tokens = method.steps * (rows[0] * method.batch + rows[1] * method.text_batch)
    assert 0 < tokens <= ORACLE_TOKENS[where] / 4


@pytest.mark.parametrize("name", METHODS)
def test_presets_of_places_are_of_places_that_exist(name: str) -> None:
    cls = registry.load_component("methods", name)
    named = [key for key in cls.presets if key.split("-")[0] in ("lab", "real")]
    variants = set(cls.presets) - set(named)
    assert set(named) <= {*PLACES, *(f"{place}-{variant}" for place in PLACES for variant in variants)}
    assert set(cls.space) <= {
        *PLACES,
        "lab",
        "real",
        *(f"{place}-{variant}" for place in PLACES for variant in variants),
    }


PASSES = {
    ("simnpo", "tofu-forget05"): (10, 200),
    ("simnpo", "tofu-forget10"): (10, 400),
    ("simnpo", "tofu-1b"): (10, 400),
    ("idk-nll", "real-tofu"): (10, 400),
    ("idk-dpo", "real-tofu"): (10, 400),
    ("undial", "real-tofu"): (10, 400),
    ("ce-u", "real-tofu"): (10, 400),
    ("pdu", "real-tofu"): (10, 400),
    ("pdu", "tofu-8b"): (30, 400),
    ("pdu", "tofu-gemma-7b"): (20, 400),
    ("rmu", "real-tofu"): (10, 400),
    ("rmu", "tofu-1b"): (10, 400),
    ("altpo", "real-tofu"): (2, 2000),
    ("flat", "real-tofu"): (5, 400),
    ("wga", "tofu-forget10"): (5, 400),
    ("wga", "tofu-authors"): (5, 400),
    ("satimp", "tofu-forget10"): (5, 400),
    ("satimp", "tofu-yaml"): (5, 400),
    ("tnpo", "tofu-forget10"): (5, 400),
}
"""Published settings that count in passes over so many rows."""


@pytest.mark.parametrize(("name", "preset"), PASSES, ids=map("@".join, PASSES))
def test_a_pass_has_as_many_steps_everywhere(name: str, preset: str) -> None:
    """Rounded up, as `reproduce` counts: 400 rows at 32 are 13 steps, ten passes 130."""
    cls = registry.load_component("methods", name)
    params = registry.default_params(cls) | cls.presets[preset].params
    passes, rows = PASSES[name, preset]
    assert params["steps"] == passes * -(-rows // params["batch"])


@pytest.mark.parametrize(
    ("variant", "stated"),
    [
        ("pdu@muse-news", {"retain_weight": 50.0, "rate": 1.0, "most": 1.5}),
        ("pdu@muse-news-13b", {"retain_weight": 50.0, "rate": 1.0, "most": 0.8}),
        ("pdu@muse-books-13b", {"retain_weight": 50.0, "rate": 1.0, "most": 0.6}),
        ("pdu@tofu-8b", {"retain_weight": 100.0, "rate": 5.0, "most": 0.3, "steps": 390, "after": 65}),
        ("pdu@tofu-gemma-7b", {"retain_weight": 100.0, "rate": 5.0, "most": 0.3, "steps": 260, "after": 65}),
        ("rmu@wmdp-default", {"c": 20.0, "retain_weight": 100.0, "steps": 80, "trained": "mlp", "units": "absolute"}),
        ("rmu@tofu-1b", {"c": 10.0, "retain_weight": 1.0, "units": "absolute"}),
        ("undial@first-code", {"beta": 3.0, "lr": 1e-6, "lora": 0}),
        ("npo@wmdp-sam", {"beta": 0.015, "retain_weight": 2.25, "steps": 125, "lr": 5e-6, "sharpness": 0.01}),
        ("flat@harry-potter", {"lr": 2e-7, "divergence": "tv", "retain_weight": 0.0}),
    ],
)
def test_published_settings_have_a_preset(variant: str, stated: dict[str, Any]) -> None:
    name, _, preset = variant.partition("@")
    params = registry.preset_params(registry.load_component("methods", name), "", preset)
    assert params is not None and {key: params[key] for key in stated} == stated


@pytest.mark.parametrize("name", METHODS)
def test_the_table_names_its_own_modules(name: str) -> None:
    assert registry.components("methods")[name].startswith("methods.")


@pytest.mark.parametrize("place", [place for place in PLACES if place.startswith("lab-")])
def test_a_random_step_is_as_long_as_task_arithmetics(place: str) -> None:
    random, own = (registry.load_component("methods", name) for name in ("random", "task-arithmetic"))
    step, wanted = registry.preset_params(random, place, ""), registry.preset_params(own, place, "")
    assert step and wanted
    assert all(step[name] == wanted[name] for name in ("alpha", "steps", "lr", "batch", "text_batch"))
