"""TensorBoard's event files, read back by its own reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.tracking.guarded import open_tracker
from tests.event_reader import folder_of, read, text_of
from tests.tracked import CURVES, SAID, SCORES, made

pytest.importorskip("tensorboard", reason="tensorboard is not installed: `pip install tensorboard`")


def test_a_run_is_read_back_whole_its_live_rows_once(tmp_path: Path) -> None:
    record, tracker = made("npo"), open_tracker("tensorboard", tmp_path)
    for row in CURVES["target"][:2]:
        tracker.row(record.spec, "", "train/target", row)
    tracker.record(record, SAID, CURVES)
    tracker.close()
    events = read(folder_of(tmp_path, "npo-tofu-0"))
    losses = [(event.step, event.value) for event in events.Scalars("train/target/loss")]
    assert losses == [(row["step"], pytest.approx(row["loss"])) for row in CURVES["target"]]
    for name, (_, value, group) in SCORES.items():
        (event,) = events.Scalars(f"{group}/{name}")
        assert event.value == pytest.approx(value)
    (gap,), (way,) = events.Scalars("gap/kl_forget"), events.Scalars("trace/kl_forget")
    assert gap.value == pytest.approx(1.05) and (way.step, way.value) == (0, 2.0)
    assert '"steps": 30' in text_of(events, "config")
    assert "| retain | r1 | Where? | here | target 1 | oracle 1 | said 1 |" in text_of(events, "examples")
    assert text_of(events, "ended") == "complete"
    hparams = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"params.npo.lr" in hparams


def test_a_run_made_again_replaces_the_earlier_one(tmp_path: Path) -> None:
    for _ in range(2):
        tracker = open_tracker("tensorboard", tmp_path)
        tracker.record(made("npo"), {}, CURVES)
        tracker.close()
    assert len(read(folder_of(tmp_path, "npo-tofu-0")).Scalars("train/target/loss")) == len(CURVES["target"])


def test_the_report_has_its_page_and_its_pictures(tmp_path: Path) -> None:
    from PIL import Image

    page, picture = tmp_path / "leaderboard.md", tmp_path / "plane.png"
    page.write_text("# board")
    Image.new("RGB", (4, 3), "red").save(picture)
    tracker = open_tracker("tensorboard", tmp_path)
    tracker.report(page, [picture, tmp_path / "plane.svg"])
    tracker.close()
    events = read(folder_of(tmp_path, "leaderboard"))
    (image,) = events.Images("plots/plane")
    assert image.encoded_image_string == picture.read_bytes()
    assert text_of(events, "page") == "# board"


def test_what_a_model_said_stays_in_its_cell(tmp_path: Path) -> None:
    from bench.core.types import Responses

    said = {"method": Responses("c0ffee", {"forget": {"f0": {"text": "<script>a</script> | b\n# c"}}})}
    tracker = open_tracker("tensorboard", tmp_path)
    tracker.record(made("npo"), said, {})
    tracker.close()
    *_, line = text_of(read(folder_of(tmp_path, "npo-tofu-0")), "examples").splitlines()
    assert line.startswith("| forget | f0 |") and "<script>" not in line and "\\|" in line
