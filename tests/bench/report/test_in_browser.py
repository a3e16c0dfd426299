"""The report in a real Chromium, from a file: numbers, sorting, filters, keyboard, phone, dark, and nothing asked of anybody."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from bench.core.record import Record
from bench.core.types import Responses
from bench.records.files import load_records, write_record, write_responses
from bench.records.markdown import format_number
from bench.runs.report import write_report_page
from tests.bench.report.test_answers import row
from tests.bench.report.test_sections import ranked
from tests.browser import PHONE, chromium, complaints_of, need_chromium, open_page, requests_of
from tests.factories import record, study
from tests.paths import ROOT

HOSTILE = "<img src=x onerror=hacked=1>|$x^2$ " + "ü" * 40
MARKUP = "</script><img src=x onerror='hacked=1'><b>bold</b> ü\u202eevil"
pytestmark = pytest.mark.slow(60)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    need_chromium()
    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def clean(driver: Any) -> Iterator[None]:
    """Every page of every test asks nobody for anything, and its console stays empty."""
    complaints_of(driver), requests_of(driver)
    yield
    assert complaints_of(driver) == []
    asked = [address for address in requests_of(driver) if not address.startswith(("about:", "data:"))]
    assert all(address.startswith("file:") and address.partition("#")[0].endswith(".html") for address in asked), asked
    assert driver.execute_script("return typeof hacked") == "undefined"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of what is published."""
    folder = tmp_path_factory.mktemp("published")
    return write_report_page(load_records(ROOT / "results"), ROOT / "results", folder / "store", folder / "report.html")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of made-up runs with hostile names and texts, and of an attack on them."""
    folder = tmp_path_factory.mktemp("own")
    records = [with_trace(one) for one in ranked()]
    records += [dataclasses.replace(one, spec=dataclasses.replace(one.spec, attack="leak")) for one in records[:6]]
    stranger = record(task="restor", label="restor </script><i>(lab)</i>", params={"x": "<script>hacked=1"})
    step = dataclasses.replace(stranger.spec.steps[0], variant=HOSTILE)
    records.append(dataclasses.replace(stranger, spec=dataclasses.replace(stranger.spec, steps=(step,))))
    for one in records:
        write_record(one, folder / "runs")
    said = {
        "target": ["zosuy muviville", "zosuy muviville", "zosuy muviville"],
        "retrain": ["lemoy kifoville", "zosuy muviville", "zosuy muviville"],
        "npo": ["lemoy kifoville", "zosuy muviville", MARKUP],
        "msa": ["zosuy muviville", "zosuy muviville", "zosuy kifoville"],
    }
    for method, texts in said.items():
        key = record(method).lineage["responses"]
        rows = {f"q{i}": row(text) for i, text in enumerate(texts)}
        write_responses(Responses("x", {"forget_said": rows}), folder / "runs" / "texts" / f"{key}.json.gz")
    return write_report_page(load_records(folder / "runs"), folder / "runs", folder / "store", folder / "report.html")


def with_trace(one: Record) -> Record:
    """The record with two places on the way of its method."""
    if one.spec.method in ("target", "retrain"):
        return one
    trace = [{"share": s, "scores": {"forget_accuracy": 0.97 - s / 2, "retain_accuracy": 0.99}} for s in (0.0, 0.5)]
    return dataclasses.replace(one, facts={**one.facts, "trace": trace})


def find(driver: Any, selector: str) -> Any:
    return driver.find_element("css selector", selector)


def texts(driver: Any, selector: str) -> list[str]:
    """What a reader sees of every element."""
    return [element.text for element in driver.find_elements("css selector", selector)]


def names(driver: Any) -> list[str]:
    return texts(driver, "table.scores tbody th")


def press(driver: Any, *keys: str) -> None:
    for key in keys:
        driver.switch_to.active_element.send_keys(key)


@pytest.mark.parametrize(
    ("task", "method", "score"),
    [("tofu", "msa", "forget_accuracy"), ("restor", "npo", "kl_retain"), ("muse-books", "ga", "mia_min_k")],
)
def test_the_numbers_are_those_of_the_records(driver: Any, published: Path, task: str, method: str, score: str) -> None:
    records = [r for r in load_records(ROOT / "results").records if (r.spec.tier, r.spec.task) == ("lab", task)]
    values = [
        r.scores[score].value for r in records if r.spec.method == method and not r.spec.order and r.status == "done"
    ]
    open_page(driver, published, part=f"lab-{task}")
    shown = find(driver, f'td[data-row="{method}"][data-score="{score}"]').text
    assert shown.split()[0] == format_number(fmean(values)) and len(values) > 1


def test_a_head_sorts_up_then_down_then_back(driver: Any, published: Path) -> None:
    open_page(driver, published, part="lab-tofu")
    before = names(driver)
    head = "table.scores th[data-key=retain_accuracy]"

    def values() -> list[float]:
        return [float(text.split()[0]) for text in texts(driver, "td[data-score=retain_accuracy]")][2:]

    shown = values()
    assert shown not in (sorted(shown), sorted(shown, reverse=True))
    for wanted, state in ((sorted(shown), "ascending"), (sorted(shown, reverse=True), "descending"), (shown, "none")):
        find(driver, f"{head} button").click()
        assert values() == wanted and find(driver, head).get_attribute("aria-sort") == state
        assert names(driver)[:3] == ["target", "retrain", "noise"], "what frames the table stays first"
    assert names(driver) == before


def test_filters_narrow_rows_and_columns(driver: Any, published: Path) -> None:
    open_page(driver, published, part="lab-tofu")
    everything = names(driver)
    methods, scores = driver.find_elements("css selector", "input[type=search]")[:2]
    methods.send_keys("NPO")
    found = [name for name in everything if "npo" in name]
    assert names(driver) == ["target", "retrain", "noise", *found] != everything
    scores.send_keys("mia_")
    heads = texts(driver, "table.scores thead th")[2:]
    assert len(heads) > 3 and all(head.replace("\n", "").startswith("mia_") for head in heads), (
        "all scores are looked through"
    )
    methods.send_keys("nothing of this name")
    assert names(driver) == ["target", "retrain", "noise"]


def test_every_page_fits_a_phone(driver: Any, published: Path, own: Path) -> None:
    for page in (published, own):
        open_page(driver, page, PHONE)
        for link in driver.find_elements("css selector", "#nav a"):
            driver.execute_script("location.hash = arguments[0].hash", link)
            wide, screen = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
            assert wide <= screen == PHONE[0], link.get_attribute("title")


def test_dark_follows_the_readers_choice(driver: Any, published: Path) -> None:
    def shades() -> list[int]:
        script = """const [a, b] = [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color];
                    return [a, b].map((c) => Number(/\\d+/.exec(c)[0]))"""
        return driver.execute_script(script)

    open_page(driver, published)
    paper, ink = shades()
    assert paper > 200 and ink < 60
    open_page(driver, published, dark=True)
    paper, ink = shades()
    assert paper < 60 and ink > 200


def test_the_keyboard_reaches_cells_heads_and_rows(driver: Any, own: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    open_page(driver, own, part="lab-tofu")
    stops = driver.find_elements("css selector", "table.scores [tabindex='0']")
    assert len(stops) == 1, "a table is one stop of the tab key"
    driver.execute_script("document.querySelector('.controls input[type=checkbox]:last-of-type').focus()")
    press(driver, Keys.TAB)
    press(driver, Keys.TAB)
    for _ in range(8):
        if driver.switch_to.active_element.get_attribute("data-stop") is not None:
            break
        press(driver, Keys.TAB)
    assert driver.switch_to.active_element.get_attribute("data-stop") is not None
    driver.execute_script("document.querySelector('table.scores tbody [data-stop]').focus()")
    assert driver.switch_to.active_element.text == "target"
    press(driver, Keys.ARROW_RIGHT)
    assert find(driver, "#tip").is_displayed(), "the cell under the focus tells what it is"
    told = find(driver, "#tip").text
    assert "target: forget_accuracy" in told and "n = 6 seeds" in told and "noise" in told and "oracle" in told
    press(driver, Keys.ESCAPE)
    assert not find(driver, "#tip").is_displayed()
    press(driver, Keys.ARROW_LEFT, Keys.ENTER)
    dialog = find(driver, "#dialog")
    assert dialog.is_displayed() and "--methods target --task tofu" in dialog.text
    press(driver, Keys.ESCAPE)
    assert not dialog.is_displayed()
    press(driver, Keys.ARROW_UP, Keys.ENTER)
    assert find(driver, "table.scores th[data-key=name]").get_attribute("aria-sort") == "ascending"


def test_the_glance_marks_wrecks_and_leads_to_the_tables(driver: Any, own: Path) -> None:
    open_page(driver, own)
    wrecks = {cell.get_attribute("data-row") for cell in driver.find_elements("css selector", "td.wreck")}
    assert wrecks == {"ga"}, "the collapsed one is hatched"
    assert "d0" in find(driver, 'td[data-row="retrain"][data-role$="forgetting"]').get_attribute("class")
    assert "d4" in find(driver, 'td[data-row="target"][data-role$="forgetting"]').get_attribute("class")
    find(driver, 'td[data-row="msa"] a').click()
    assert find(driver, "main h2").text == "tofu (lab)"


def test_answers_are_filtered_by_what_became_of_them(driver: Any, own: Path) -> None:
    open_page(driver, own, part="lab-tofu--answers")

    def questions(verdict: str) -> list[str]:
        find(driver, f'.chips button[data-verdict="{verdict}"]').click()
        return [card.get_attribute("data-question") for card in driver.find_elements("css selector", ".card")]

    assert questions("all") == ["q0", "q1", "q2"]
    assert questions("forgot") == ["q0"] and questions("still") == ["q0"], (
        "one method forgot it, another still knows it"
    )
    assert questions("broke") == ["q2"] and questions("changed") == ["q0", "q2"] and questions("gained") == []
    questions("forgot")
    by = {answer.get_attribute("data-who"): answer for answer in driver.find_elements("css selector", ".answer")}
    assert by["npo"].get_attribute("data-verdict") == "forgot" and by["msa"].get_attribute("data-verdict") == "still"
    assert [mark.text for mark in by["npo"].find_elements("css selector", "mark")] == ["lemoy", "kifoville"]
    assert "zosuy muviville" in find(driver, ".asked").text
    questions("all")
    assert any(
        "</script><img src=x onerror='hacked=1'><b>bold</b> ü\ufffdevil" in text for text in texts(driver, ".answer")
    )


def test_names_are_shown_and_not_obeyed(driver: Any, own: Path) -> None:
    open_page(driver, own, part="lab-restor")
    assert find(driver, "main h2").text == "restor </script><i>(lab)</i>"
    (name,) = driver.find_elements("css selector", "table.scores tbody th button[title^=npo]")
    assert name.get_attribute("title") == f"npo@{HOSTILE}"
    name.click()
    assert "x=<script>hacked=1" in find(driver, "#dialog").text


def test_pictures_are_drawn(driver: Any, published: Path, own: Path) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    for page, least in ((published, 3), (own, 5)):
        open_page(driver, page, part="lab-tofu")
        places = len(driver.find_elements("css selector", ".plot"))
        assert places >= least
        WebDriverWait(driver, 20).until(lambda d, n=places: len(d.find_elements("css selector", ".plot .xtick")) >= n)
    titles = texts(driver, ".plot .xtitle")
    assert "forget_accuracy minus the oracle's" in titles


def test_no_records_make_a_page_that_says_so(driver: Any, tmp_path: Path) -> None:
    page = write_report_page(load_records(tmp_path), tmp_path, tmp_path / "store", tmp_path / "report.html")
    open_page(driver, page)
    assert "There are no records yet" in find(driver, "main").text


def test_a_study_without_texts_says_why(driver: Any, tmp_path: Path) -> None:
    for one in study(seeds=(0,)):
        write_record(one, tmp_path / "runs")
    page = write_report_page(
        load_records(tmp_path / "runs"), tmp_path / "runs", tmp_path / "store", tmp_path / "report.html"
    )
    open_page(driver, page, part="lab-tofu")
    assert "The store holds no texts of these runs" in find(driver, "main").text
    assert json.loads(find(driver, "#data").get_attribute("textContent"))["records"] == 7
