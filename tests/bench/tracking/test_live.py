"""A real run with a tracker: what was trained and measured is found in each one's log, the live rows once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.core.record import Record
from bench.records.files import load_records
from tests.event_reader import folder_of, read, text_of
from tests.processes import TINY, Place, bench, plug_in
from tests.wandb_reader import read_runs

STEPS = 4
RUN = (
    *("run", "--task", "muse-books", "--methods", "graddiff", "--seeds", "0", "--jobs", "1", "--trace", "2"),
    *("--set", f"graddiff.steps={STEPS}"),
)
LINES = """
from bench.api import Tracker

class Lines(Tracker):
    def row(self, spec, stage, series, row):
        self.say(f"{stage or spec.method} {series} {' '.join(row)}")

    def record(self, record, said, curves):
        self.say(f"{record.spec.method} is {record.status}")

    def say(self, line):
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lines.txt").open("a") as file:
            print(line, file=file)
"""


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A user without a W&B account, in an empty home."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    yield


def run(finished: Place, folder: Path, tracker: str, first: tuple[Path, ...] = ()) -> tuple[Place, Record]:
    """A run over a copy of a finished store, and its record."""
    place = finished.copy(folder)
    words = [word for name, value in TINY.items() for word in ("--set", f"muse-books.{name}={value}")]
    done = bench([*RUN, *words, *place.words, "--track", tracker], folder, first)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Tracking failed" not in done.stderr, done.stderr
    (record,) = [r for r in load_records(place.out).records if r.spec.method == "graddiff"]
    return place, record


@pytest.mark.slow(60)
def test_wandb_has_rows_scores_oracle_settings_and_examples(finished: Place, tmp_path: Path) -> None:
    place, record = run(finished, tmp_path, "wandb")
    runs = {each.name: each for each in read_runs(place.out / "wandb")}
    own = runs["graddiff-muse-books-0"]
    steps = [row for row in own.history if "train/graddiff/step" in row]
    assert [row["train/graddiff/step"] for row in steps] == list(range(1, STEPS + 1)), "live, and not once more"
    assert {"loss", "lr", "grad_norm", "loss_ascent", "loss_next_token"} <= {n.split("/")[-1] for n in steps[0]}
    assert [row["trace/share"] for row in own.history if "trace/share" in row] == [0, 0.5]
    assert own.config["params"]["graddiff"]["steps"] == STEPS
    oracles = record.facts["oracle_values"]["kl_forget"]
    mean = sum(oracles) / len(oracles)
    assert own.summary["oracle/kl_forget"] == pytest.approx(mean)
    assert own.summary["gap/kl_forget"] == pytest.approx(record.scores["kl_forget"].value - mean)
    assert own.summary["floor/kl_forget"] == pytest.approx(record.floors["kl_forget"])
    table = json.loads((own.folder / "files" / own.summary["examples/path"]).read_text())
    told = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert any(told["question"]) and any(told["truth"]) and any(told["oracle"]) and any(told["said"])
    assert any(told["target"]), "the target's record lies in the folder"
    assert runs["report-leaderboard"].artifacts


@pytest.mark.slow(60)
@pytest.mark.skipif(find_spec("tensorboard") is None, reason="tensorboard is not installed: `pip install tensorboard`")
def test_tensorboard_has_the_same(finished: Place, tmp_path: Path) -> None:
    place, record = run(finished, tmp_path, "tensorboard")
    events = read(folder_of(place.out, "graddiff-muse-books-0"))
    for name in ("loss", "lr", "grad_norm", "loss_ascent", "loss_next_token"):
        assert [event.step for event in events.Scalars(f"train/graddiff/{name}")] == list(range(1, STEPS + 1)), name
    assert [event.step for event in events.Scalars("trace/kl_forget")] == [0, 500]
    (score,), (ideal,) = events.Scalars("distance/kl_forget"), events.Scalars("oracle/kl_forget")
    oracles = record.facts["oracle_values"]["kl_forget"]
    assert score.value == pytest.approx(record.scores["kl_forget"].value)
    assert ideal.value == pytest.approx(sum(oracles) / len(oracles))
    assert f'"steps": {STEPS}' in text_of(events, "config")
    assert text_of(events, "examples").startswith("| probe | id | question | truth | target | oracle | said |")
    assert read(folder_of(place.out, "leaderboard")).Tags()["images"]


@pytest.mark.slow(60)
def test_a_tracker_that_is_plugged_in_is_told_of_everything(finished: Place, tmp_path: Path) -> None:
    (tmp_path / "plugged").mkdir()
    plugged = plug_in(tmp_path / "plugged", LINES, {"lines": "Lines"}, "mylines", kind="trackers")
    place, _ = run(finished, tmp_path / "run", "lines", (plugged,))
    lines = (place.out / "trackers" / "lines" / "lines.txt").read_text().splitlines()
    rows = [line for line in lines if line.startswith("graddiff train/graddiff step loss ")]
    assert len(rows) == STEPS
    assert lines.index("graddiff is done") > lines.index(rows[-1]) and {"target is done", "retrain is done"} < set(
        lines
    )
