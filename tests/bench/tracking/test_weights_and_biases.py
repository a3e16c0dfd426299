"""W&B offline for real: runs are made, and their binary log is read back."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bench.core.record import Record
from bench.core.types import Responses
from bench.tracking.guarded import open_tracker
from bench.tracking.weights_and_biases import logged_in, sync_command
from tests.processes import environment
from tests.tracked import CURVES, FLOORS, ORACLES, SAID, SCORES, made
from tests.wandb_reader import BLOCK, HEADER, OfflineRun, payloads, read_runs


@pytest.fixture(autouse=True)
def stranger(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A user without a W&B account, in an empty home."""
    for name in [name for name in os.environ if name.startswith("WANDB_") or name == "NETRC"]:
        monkeypatch.delenv(name)
    # Set and then deleted: what the tracker puts there is taken away after the test.
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    yield


def tracked(out: Path, *records: Record, said: Mapping[str, Responses] = SAID) -> list[OfflineRun]:
    tracker = open_tracker("wandb", out)
    for record in records:
        tracker.record(record, said, CURVES)
    tracker.close()
    return read_runs(out / "wandb")


def test_a_run_is_read_back_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = made("npo")
    (run,) = tracked(tmp_path, record)

    assert (run.project, run.group, run.job_type, run.name) == ("msa-bench", "tofu-lab-lab", "unlearn", "npo-tofu-0")
    assert sorted(run.tags) == ["lab", "npo", "tofu"]
    assert run.exit_code == 0

    assert run.config["params"] == {"npo": {"lr": 1e-4, "steps": 30}, "tofu": {"authors": 20}}
    plain = {
        "method": "npo",
        "key": record.spec.key,
        "task": "tofu",
        "seed": 0,
        "label": "tofu (lab)",
        "status": "done",
    }
    assert plain.items() <= run.config.items()
    assert run.config["provenance"] == dict(record.provenance)
    assert not [name for name, value in run.config.items() if isinstance(value, list)], "W&B makes columns of no list"

    for name, (goal, value, group) in SCORES.items():
        assert run.summary[f"{group}/{name}"] == value, name
        direction = {"up": "max", "down": "min"}.get(str(goal), "")
        assert run.directions.get(f"{group}/{name}", "") == direction, name
    assert run.summary["cost/seconds/train"] == 12.5
    assert "cost/note" not in run.summary
    # The mean of .02 and .04, and 1.25 - (.1 + .3) / 2.
    assert run.summary["oracle/forget_accuracy"] == pytest.approx(0.03)
    assert run.summary["gap/kl_forget"] == pytest.approx(1.05)
    assert {name for name in run.summary if name.startswith("gap/")} == {f"gap/{name}" for name in ORACLES}
    assert {name: run.summary[f"floor/{name}"] for name in FLOORS} == FLOORS
    assert [row["trace/kl_forget"] for row in run.history if "trace/share" in row] == [2.0]

    for stage, rows in CURVES.items():
        read = [row for row in run.history if f"train/{stage}/step" in row]
        assert [
            {name: row[f"train/{stage}/{name}"] for name in want} for row, want in zip(read, rows, strict=True)
        ] == rows
        assert run.steps[f"train/{stage}/*"] == f"train/{stage}/step"

    # Not logged in: one line says where the runs are, and W&B itself is silent.
    out, err = capfd.readouterr()
    assert out == ""
    assert err == f"W&B has no login: `wandb login`, then send the runs with: {sync_command(tmp_path / 'wandb')}\n"


def test_table_and_record_are_files_of_the_run_and_all_is_below_the_directory(tmp_path: Path) -> None:
    record = made("msa")
    (run,) = tracked(tmp_path, record)

    table = json.loads((run.folder / "files" / run.summary["examples/path"]).read_text())
    assert table["columns"] == ["probe", "id", "question", "truth", "target", "oracle", "said"]
    assert len(table["data"]) == 50
    assert table["data"][0] == ["forget", "f0", "", "", "", "", "Zürich 0"]
    assert table["data"][25] == ["retain", "r0", "Where?", "here", "target 0", "", "said 0"]
    assert table["data"][26] == ["retain", "r1", "Where?", "here", "target 1", "oracle 1", "said 1"]

    file = run.artifacts[f"record-{record.spec.key}"]["record.json"]
    assert Record.from_json(json.loads(file.read_text())) == record
    assert file.is_relative_to(tmp_path / "wandb")
    assert not (tmp_path / "home").exists(), "nothing is written into the user's home"


def test_jobs_groups_and_failed_runs(tmp_path: Path) -> None:
    records = (
        made(),
        made("retrain", study="ablation"),
        made("npo", model="org/model", status="failed"),
        made("relearning-on-a-part-of-the-forget-set", "quantisation-to-four-bits", seed=2),
    )
    runs = tracked(tmp_path, *records, said={})
    assert [run.job_type for run in runs] == ["target", "oracle", "unlearn", "unlearn"]
    assert [run.group for run in runs] == ["tofu-lab-lab", "tofu-lab-ablation", "tofu-org--model-lab", "tofu-lab-lab"]
    assert [run.exit_code for run in runs] == [0, 0, 1, 0]
    assert runs[0].name == "target-tofu-0"
    assert all("examples/path" not in run.summary for run in runs)
    # W&B refuses tags of more than 64 characters.
    assert max(len(tag) for tag in runs[3].tags) == 64


def test_report_holds_the_leaderboard_and_the_plots(tmp_path: Path) -> None:
    from PIL import Image

    board, png, svg = tmp_path / "leaderboard.md", tmp_path / "pareto.png", tmp_path / "pareto.svg"
    board.write_text("# board\n")
    Image.new("RGB", (4, 3), "red").save(png)
    svg.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    tracker = open_tracker("wandb", tmp_path)
    tracker.report(board, [png, svg])
    tracker.close()

    (run,) = read_runs(tmp_path / "wandb")
    assert (run.project, run.job_type) == ("msa-bench", "report")
    picture = run.folder / "files" / run.summary["plots/pareto/path"]
    assert picture.read_bytes() == png.read_bytes()
    (files,) = run.artifacts.values()
    assert set(files) == {"leaderboard.md", "pareto.png", "pareto.svg"}


def test_an_unreachable_server_means_offline_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A key of the right form, and a port of this machine on which nobody listens.
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("bench.tracking.weights_and_biases.INIT_SECONDS", 1.0)
    runs = tracked(tmp_path, made("npo"), made("msa"))
    assert [run.name for run in runs] == ["npo-tofu-0", "msa-tofu-0"]
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("W&B can't be reached (")


def test_the_users_mode_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert len(tracked(tmp_path / "offline", made("npo"))) == 1
    assert capfd.readouterr().err.startswith("W&B is offline: send the runs with: wandb sync ")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert tracked(tmp_path / "disabled", made("npo")) == []
    assert capfd.readouterr() == ("", "")


def test_a_login_is_seen_in_the_environment_and_in_netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not logged_in("https://api.wandb.ai")
    netrc = tmp_path / "netrc"
    netrc.write_text("machine api.wandb.ai login user password not-a-real-key\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert logged_in("https://api.wandb.ai")
    assert not logged_in("https://wandb.example.org")
    monkeypatch.setenv("WANDB_API_KEY", "not-a-real-key")
    assert logged_in("https://wandb.example.org")


def test_wandb_itself_broken_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "wandb"
    in_the_way.write_text("a file where the folder should be")
    tracker = open_tracker("wandb", tmp_path)
    tracker.record(made("npo"), SAID, CURVES)
    tracker.record(made("msa"), SAID, CURVES)
    tracker.report(tmp_path / "missing.md", [])
    tracker.close()
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "FileExistsError" in err


def test_what_fails_in_the_middle_ends_its_run_and_the_next_one_is_whole(tmp_path: Path) -> None:
    tracker = open_tracker("wandb", tmp_path)
    tracker.record(made("npo"), {}, {"stage": [{"step": object()}]})  # type: ignore[dict-item]
    tracker.record(made("msa"), {}, CURVES)
    tracker.close()
    first, second = read_runs(tmp_path / "wandb")
    assert first.exit_code == 1
    assert (second.name, second.exit_code) == ("msa-tofu-0", 0)


def test_hooks_of_others_stay_and_an_error_after_many_runs_is_printed_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.tracking.guarded import open_tracker\n"
        "from tests.tracked import made\n"
        "shown = sys.excepthook; sys.excepthook = lambda *error: shown(*error)\n"
        "own = sys.exit, sys.excepthook\n"
        "tracker = open_tracker('wandb', Path('.'))\n"
        "for seed in range(3): tracker.record(made('npo', seed=seed), {}, {})\n"
        "tracker.close()\n"
        "assert own == (sys.exit, sys.excepthook)\n"
        "raise RuntimeError('seen once')"
    )
    env = environment() | {"WANDB_MODE": "offline"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 1 and done.stderr.endswith("RuntimeError: seen once\n")


def test_the_reader_joins_chunks_over_blocks() -> None:
    # One record of 32758 bytes fills block 0 but for 3 bytes: 7 (file header) + 7 (chunk header) + 32751 = 32765.
    # 3 bytes are too few for a chunk header, so they are padding; the next chunks are in blocks 1 (first) and 2 (last).
    def chunk(kind: int, data: bytes) -> bytes:
        return bytes(4) + len(data).to_bytes(2, "little") + bytes([kind]) + data

    one = b"a" * (BLOCK - HEADER - 7 - 3)
    first, last = b"b" * (BLOCK - 7), b"c" * 5
    data = b":W&B" + bytes(3) + chunk(1, one) + bytes(3) + chunk(2, first) + chunk(4, last)
    assert list(payloads(data)) == [one, first + last]


def test_no_host_home_or_token_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B puts the machine's name into every run, unless it is told another; where its own log lies, stays here."""
    monkeypatch.setattr(socket, "gethostname", lambda: "machine-of-mine")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (run,) = tracked(tmp_path, made("npo"))
    for file in run.folder.glob("*.wandb"):
        assert b"machine-of-mine" not in file.read_bytes() and b"0123456789" * 4 not in file.read_bytes()
    for file in (
        *run.folder.glob("files/**/*"),
        *(path for files in run.artifacts.values() for path in files.values()),
    ):
        assert not file.is_file() or not {b"machine-of-mine", str(tmp_path).encode()} & set(
            file.read_bytes().split(b'"')
        )


def test_rows_are_live_and_none_is_logged_twice(tmp_path: Path) -> None:
    """Two of five rows come while the run is under way, of its second stage none; then the record comes with its curves."""
    record, tracker = made("npo"), open_tracker("wandb", tmp_path)
    for row in CURVES["target"][:2]:
        tracker.row(record.spec, "", "train/target", row)
    tracker.row(record.spec, "oracle-0", "train/oracle-0", {"step": 1, "loss": 2.0})
    tracker.end(record.spec, "oracle-0", failed=False)
    tracker.row(made("msa").spec, "", "train/msa", {"step": 1, "loss": float("nan")})
    tracker.record(record, SAID, CURVES)
    tracker.close()
    runs = {run.name: run for run in read_runs(tmp_path / "wandb")}
    assert {name: (run.job_type, run.exit_code) for name, run in runs.items()} == {
        "npo-tofu-0": ("unlearn", 0),
        "stage-oracle-0-tofu-0": ("stage", 0),
        "msa-tofu-0": ("unlearn", 1),  # no record came of it
    }
    steps = [row["train/target/step"] for row in runs["npo-tofu-0"].history if "train/target/step" in row]
    assert steps == [row["step"] for row in CURVES["target"]]
    assert "train/msa/loss" not in runs["msa-tofu-0"].summary


def test_project_and_entity_are_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_PROJECT", "forgetting")
    monkeypatch.setenv("WANDB_ENTITY", "a-lab")
    (run,) = tracked(tmp_path, made("npo"))
    assert (run.project, run.entity) == ("forgetting", "a-lab")


def test_a_folders_page_is_one_run_whichever_command_makes_it(tmp_path: Path) -> None:
    page = tmp_path / "leaderboard.md"
    for folder, text in (("one", "first"), ("one", "second"), ("other", "third")):
        page.write_text(text)
        tracker = open_tracker("wandb", tmp_path / folder)
        tracker.report(page, [])
        tracker.close()
    (run,) = read_runs(tmp_path / "one" / "wandb")
    (other,) = read_runs(tmp_path / "other" / "wandb")
    (files,) = run.artifacts.values()
    assert files["leaderboard.md"].read_text() == "second"
    assert run.number != other.number and run.number.endswith("-leaderboard")


def test_the_sync_line_works_where_it_is_pasted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As a shell takes it, in a folder whose name has a space and a quote; nothing is sent."""
    out = tmp_path / "my 'runs'"
    tracked(out, made("npo"), made("msa"))
    line = capfd.readouterr().err.partition("send the runs with: ")[2].strip()
    program = shlex.join([sys.executable, "-m", "wandb"])
    line = line.replace("wandb sync", f"{program} sync", 1) if line.startswith("wandb ") else line
    done = subprocess.run(f"{line} --dry-run", shell=True, capture_output=True, text=True, env=environment(), cwd="/")
    assert done.returncode == 0 and "Would sync 2 run(s)" in done.stdout + done.stderr


def test_statistics_are_sent_of_a_gpu_alone_and_no_name_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "machine-of-mine")
    for device, expected in (("cpu", False), ("cuda", True)):
        tracker = open_tracker("wandb", tmp_path / device, device)
        tracker.row(made("npo").spec, "", "train/npo", {"step": 1, "loss": 2.0})
        tracker.close()
        (run,) = read_runs(tmp_path / device / "wandb")
        assert (run.statistics > 0) is expected
        (log,) = run.folder.glob("*.wandb")
        assert b"machine-of-mine" not in log.read_bytes()
