"""Boxes of a search: scales, faces, and the settings that are drawn from them."""

from __future__ import annotations

import pytest

from bench.core.boxes import (
    SOBOL_SEED,
    Scale,
    box_faults,
    box_json,
    draw_settings,
    faces_of,
    read_box,
    round_digits,
    searched,
)
from bench.core.errors import UserError

STATED = {"batch": 16, "lr": {"log": [1e-4, 1e-2]}, "steps": {"int": [10, 90]}, "power": {"choice": [1.0, 5.0]}}
BOX = read_box(STATED)
DEFAULTS = {"batch": 32, "lr": 1e-4, "steps": 60, "power": 1.0, "kind": "plain", "whole": True}


def test_a_box_reads_back_as_it_is_stated() -> None:
    assert box_json(BOX) == STATED
    assert list(searched(BOX)) == ["lr", "steps", "power"] and BOX["batch"] == 16
    assert list(box_faults(STATED, "box", DEFAULTS)) == []


def test_values_by_hand() -> None:
    """Half way: log of 1e-4 to 1e-2 is 1e-3, linear of 0 to 3 is 1.5; whole numbers of 10 to 19 are ten, each as likely."""
    assert Scale("log", (1e-4, 1e-2)).at(0.5) == 1e-3
    assert Scale("linear", (0.0, 3.0)).at(0.5) == 1.5
    assert [Scale("int", (10, 19)).at(i / 10) for i in range(10)] == list(range(10, 20))
    assert Scale("int", (10, 19)).at(1 - 1e-9) == 19
    assert Scale("log-int", (1, 99)).at(0.5) == 10, "1 * 100 ** .5"
    assert [Scale("log-int", (5, 90)).at(share) for share in (0.0, 1 - 1e-9)] == [5, 90]
    assert [Scale("choice", ("a", "b", "c")).at(share) for share in (0.0, 0.34, 0.99)] == ["a", "b", "c"]


def test_numbers_have_three_digits_and_stay_within_their_ends() -> None:
    assert round_digits(0.00012345) == 0.000123 and round_digits(98765.0) == 98800.0
    assert Scale("log", (1.2345e-4, 1e-2)).at(0.0) == 1.2345e-4, "rounded it would lie below the end"
    for setting in draw_settings(BOX, 64):
        assert setting["lr"] == float(f"{setting['lr']:.3g}") and 1e-4 <= setting["lr"] <= 1e-2
        assert type(setting["steps"]) is int and 10 <= setting["steps"] <= 90


def test_the_same_settings_every_time_spread_evenly_over_the_box() -> None:
    """Sixteen points of a Sobol sequence have one in each sixteenth of every scale, eight at each of two choices."""
    settings = draw_settings(BOX, 16)
    assert settings == draw_settings(BOX, 16) != draw_settings(BOX, 16, SOBOL_SEED + 1)
    assert list(settings[0]) == list(BOX) and {each["batch"] for each in settings} == {16}
    assert sorted(each["x"] for each in draw_settings({"x": Scale("int", (0, 15))}, 16)) == list(range(16))
    assert [each["power"] for each in settings].count(1.0) == 8
    assert sum(each["lr"] < 1e-3 for each in settings) == 8


def test_no_setting_is_tried_twice() -> None:
    """Ten whole numbers and a choice of two are twenty settings: sixteen of them are found, thirty-two can't be."""
    small = {"steps": Scale("int", (1, 10)), "kind": Scale("choice", ("a", "b"))}
    found = draw_settings(small, 16)
    assert len({(each["steps"], each["kind"]) for each in found}) == 16
    with pytest.raises(
        UserError, match="The box of steps, kind has 20 different settings, and 32 are to be tried: widen"
    ):
        draw_settings(small, 32)
    with pytest.raises(UserError, match="The box of no searched parameter has 0 different settings"):
        draw_settings({"steps": 3}, 4)


@pytest.mark.parametrize(
    ("scale", "inside", "outside"),
    [
        (Scale("linear", (0.0, 2.0)), (0.0, 0.1, 1.9, 2.0), (0.11, 1.0, 1.89)),
        (Scale("log", (1e-4, 1e-2)), (1e-4, 1.25e-4, 9e-3), (1.27e-4, 1e-3, 7.9e-3)),
        (Scale("int", (10, 90)), (10, 14, 86, 90), (15, 50, 85)),
        (Scale("log-int", (1, 100)), (1, 80, 100), (2, 10, 79)),
        (Scale("choice", (1, 2)), (), (1, 2)),
    ],
    ids=lambda value: value.kind if isinstance(value, Scale) else "",
)
def test_a_face_is_a_twentieth_of_the_range_on_its_scale(
    scale: Scale, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    """Of 0 to 2 the lowest .1; of two decades a tenth of one: 1e-4 * 10 ** .1 = 1.259e-4, and 1e-2 / 10 ** .1 = 7.94e-3."""
    assert [value for value in (*inside, *outside) if scale.is_face(value)] == list(inside)


def test_faces_are_those_of_searched_parameters() -> None:
    assert faces_of(BOX, {"batch": 16, "lr": 1e-4, "steps": 50, "power": 1.0, "other": 3}) == ["lr"]


@pytest.mark.parametrize(
    ("stated", "sentence"),
    [
        ([{"lr": [1]}], "box must be a table of parameters, not [{'lr': [1]}]."),
        ({}, "box searches nothing: give a parameter a scale (log, linear, int, log-int, choice)."),
        ({"batch": 16}, "box searches nothing: give a parameter a scale (log, linear, int, log-int, choice)."),
        (
            {"lr": {"logs": [1, 2]}},
            "box: lr must have one scale of log, linear, int, log-int, choice, not {'logs': [1, 2]}.",
        ),
        ({"lr": {}}, "box: lr must have one scale of log, linear, int, log-int, choice, not {}."),
        (
            {"lr": {"log": [1, 2], "linear": [1, 2]}},
            "box: lr must have one scale of log, linear, int, log-int, choice, not {'log': [1, 2], 'linear': [1, 2]}.",
        ),
        ({"lr": {"log": 3}}, "box: lr: log must be a list, not 3."),
        ({"lr": {"log": [1.0]}}, "box: lr: log must be the smallest and the largest number, not [1.0]."),
        ({"lr": {"log": [2.0, 1.0]}}, "box: lr: log must be the smallest and the largest number, not [2.0, 1.0]."),
        ({"lr": {"linear": [1, "2"]}}, "box: lr: linear must be the smallest and the largest number, not [1, '2']."),
        ({"lr": {"log": [0.0, 1.0]}}, "box: lr: log must begin above 0, not at 0.0."),
        ({"steps": {"log": [1, 2]}}, "box: steps is a whole number: search it with int, log-int or choice, not log."),
        ({"lr": {"int": [1, 2]}}, "box: lr is a real number: search it with log, linear or choice, not int."),
        ({"kind": {"int": [1, 2]}}, "box: kind has no scale of numbers: search it with choice, not int."),
        ({"whole": {"int": [0, 1]}}, "box: whole has no scale of numbers: search it with choice, not int."),
        (
            {"lr": {"choice": [1.0]}},
            "box: lr: choice needs two or more different values, not [1.0]; a single one is written plainly.",
        ),
        (
            {"lr": {"choice": [1.0, 1.0]}},
            "box: lr: choice needs two or more different values, not [1.0, 1.0]; a single one is written plainly.",
        ),
        (
            {"lr": {"log": [1e-4, 1e-3]}, "steps": [1, 2]},
            "box: steps must be one value, or a scale such as { choice = [1, 2] }, not [1, 2].",
        ),
    ],
)
def test_each_fault_of_a_box_is_a_sentence(stated: object, sentence: str) -> None:
    assert list(box_faults(stated, "box", DEFAULTS)) == [sentence]
