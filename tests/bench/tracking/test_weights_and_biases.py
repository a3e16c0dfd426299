"""W&B offline for real: runs are made, and their binary log is read back."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.core.record import Record, RunSpec, Score, Step
from bench.core.types import Responses
from bench.records.tracking import (
    GuardedTracker,
    Tracker,
    generated_texts,
    group_of,
    log_curves,
    logged_in,
    open_tracker,
)
from tests.processes import environment
from tests.wandb_reader import BLOCK, HEADER, OfflineRun, payloads, read_runs

SCORES = {
    "forget_accuracy": ("oracle", 0.04, "forget"),
    "forget_Q_A_Prob": ("oracle", 0.11, "forget"),
    "retain_accuracy": ("up", 0.96, "retain"),
    "world_accuracy": ("up", 0.98, "world"),
    "mia_min_k": ("oracle", 0.52, "privacy"),
    "privleak": (0.0, -7.5, "privacy"),
    "kl_forget": ("down", 1.25, "distance"),
    "restor_accuracy": ("up", 0.5, "recovery"),
    "collapsed": ("down", 0.0, "other"),
}
"""Goal, value, and the group it must be found in."""

TEXTS = Responses(
    checkpoint="c0ffee",
    rows={
        "forget": {f"f{i}": {"text": f"Zürich {i}", "counts": {"lcs": 1}} for i in range(40)},
        "retain": {f"r{i}": {"text": f"said {i}", "prompt": "Where?", "reference": "here"} for i in range(40)},
        "loss": {"f0": {"answer": [{"logp": [-0.5]}]}},
    },
)
CURVES = {
    "target": [{"step": 10 * i, "loss": 3.0 / i} for i in range(1, 6)],
    "unlearn 0": [{"step": i, "loss": 0.5 * i, "lr": 1e-4} for i in range(1, 4)],
}


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


def made(*methods: str, seed: int = 0, status: str = "done", **spec: str) -> Record:
    """A record of ``methods`` in order, with every score of `SCORES`."""
    steps = tuple(Step(method, {"lr": 1e-4, "steps": 30}) for method in methods)
    return Record(
        spec=RunSpec(
            "tofu", {"authors": 20}, "lab", spec.get("model", "lab"), steps, seed, study=spec.get("study", "")
        ),
        status=status,
        label="tofu (lab)",
        scores={name: Score(value, 40) for name, (_, value, _) in SCORES.items()},
        metrics={
            name: {"version": 1, "goal": goal, "unit": "", "needs_oracle": False}
            for name, (goal, _, _) in SCORES.items()
        },
        lineage={"target": "abc", "oracle rows": ["r0", "r1"]},
        cost={"seconds": {"train": 12.5, "measure": 2}, "peak_bytes": 1000, "note": "cold"},
        provenance={"commit": "0123abc", "dirty": False},
    )


def tracked(directory: Path, *records: Record, responses: Responses | None = TEXTS) -> list[OfflineRun]:
    tracker = open_tracker("wandb", directory)
    for record in records:
        tracker.record(record, responses, CURVES)
    tracker.close()
    return read_runs(directory)


def test_a_run_is_read_back_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    record = made("npo")
    (run,) = tracked(tmp_path / "wandb", record)

    assert (run.project, run.group, run.job_type, run.name) == ("msa-bench", "tofu-lab-lab", "unlearn", "npo-tofu-0")
    assert sorted(run.tags) == ["lab", "npo", "tofu"]
    assert run.exit_code == 0

    for name, value in (json.loads(json.dumps(record.spec.to_json())) | {"key": record.spec.key}).items():
        assert run.config[name] == value, name
    assert run.config["method"] == "npo"
    assert run.config["lineage"] == dict(record.lineage)
    assert run.config["provenance"] == dict(record.provenance)

    for name, (goal, value, group) in SCORES.items():
        assert run.summary[f"{group}/{name}"] == value, name
        direction = {"up": "max", "down": "min"}.get(str(goal), "")
        assert run.directions.get(f"{group}/{name}", "") == direction, name
        assert run.config["metrics"][name]["goal"] == goal
    assert run.summary["cost/seconds/train"] == 12.5
    assert "cost/note" not in run.summary

    for stage, rows in CURVES.items():
        read = [row for row in run.history if f"train/{stage}/step" in row]
        assert [
            {name: row[f"train/{stage}/{name}"] for name in want} for row, want in zip(read, rows, strict=True)
        ] == rows
        assert run.steps[f"train/{stage}/*"] == f"train/{stage}/step"

    # Not logged in: one line says where the runs are, and W&B itself is silent.
    out, err = capfd.readouterr()
    assert out == ""
    where = f"runs are kept offline in {tmp_path / 'wandb'}; `wandb login` and `wandb sync` send them."
    assert err == f"W&B has no login: {where}\n"


def test_table_and_record_are_files_of_the_run_and_all_is_below_the_directory(tmp_path: Path) -> None:
    record = made("msa")
    (run,) = tracked(tmp_path / "wandb", record)

    table = json.loads((run.folder / "files" / run.summary["examples/path"]).read_text())
    assert table["columns"] == ["probe", "id", "prompt", "reference", "said"]
    assert len(table["data"]) == 50
    assert table["data"][0] == ["forget", "f0", "", "", "Zürich 0"]
    assert table["data"][25] == ["retain", "r0", "Where?", "here", "said 0"]

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
    runs = tracked(tmp_path / "wandb", *records, responses=None)
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
    tracker = open_tracker("wandb", tmp_path / "wandb")
    tracker.report(board, [png, svg])
    tracker.close()

    (run,) = read_runs(tmp_path / "wandb")
    assert (run.project, run.job_type) == ("msa-bench", "report")
    picture = run.folder / "files" / run.summary["plots/pareto/path"]
    assert picture.read_bytes() == png.read_bytes()
    assert set(run.artifacts["leaderboard"]) == {"leaderboard.md", "pareto.png", "pareto.svg"}


def test_an_unreachable_server_means_offline_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A key of the right form, and a port of this machine on which nobody listens.
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr("bench.records.tracking.INIT_SECONDS", 1.0)
    runs = tracked(tmp_path / "wandb", made("npo"), made("msa"))
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


class Broken(Tracker):
    """Fails in every call, each time in the same way."""

    def record(self, record: Record, responses: Responses | None, curves: object) -> None:
        raise RuntimeError("the disk is full\nand more")

    def close(self) -> None:
        raise SystemExit(3)


def test_a_broken_tracker_warns_once_and_does_not_raise(capfd: pytest.CaptureFixture[str]) -> None:
    tracker = GuardedTracker(Broken())
    tracker.record(made("npo"), None, {})
    tracker.record(made("npo"), None, {})
    tracker.close()
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "RuntimeError: the disk is full)" in lines[0] and "--track none" in lines[0]
    assert "SystemExit: 3" in lines[1]


def test_wandb_itself_broken_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "wandb"
    in_the_way.write_text("a file where the folder should be")
    tracker = open_tracker("wandb", in_the_way)
    tracker.record(made("npo"), TEXTS, CURVES)
    tracker.record(made("msa"), TEXTS, CURVES)
    tracker.report(tmp_path / "missing.md", [])
    tracker.close()
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and "FileExistsError" in err


def test_what_fails_in_the_middle_ends_its_run_and_the_next_one_is_whole(tmp_path: Path) -> None:
    tracker = open_tracker("wandb", tmp_path / "wandb")
    tracker.record(made("npo"), None, {"stage": [{"step": object()}]})  # type: ignore[dict-item]
    tracker.record(made("msa"), None, CURVES)
    tracker.close()
    first, second = read_runs(tmp_path / "wandb")
    assert first.exit_code == 1
    assert (second.name, second.exit_code) == ("msa-tofu-0", 0)


def test_none_takes_the_same_path_without_wandb_and_the_other_kind_imports_it_late() -> None:
    code = (
        "import sys; from pathlib import Path; from bench.records.tracking import GuardedTracker, open_tracker\n"
        "open_tracker('wandb', Path('w')).close()\n"
        "tracker = open_tracker('none', Path('w')); assert isinstance(tracker, GuardedTracker)\n"
        "tracker.record(None, None, {}); tracker.report(Path('x'), []); tracker.close()\n"
        "print([name for name in ('wandb', 'torch') if name in sys.modules], Path('w').exists())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment())
    assert (done.stdout, done.stderr) == ("[] False\n", "")


def test_hooks_of_others_stay_and_an_error_after_many_runs_is_printed_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from bench.records.tracking import open_tracker\n"
        "from tests.bench.records.test_tracking import made\n"
        "shown = sys.excepthook; sys.excepthook = lambda *error: shown(*error)\n"
        "own = sys.exit, sys.excepthook\n"
        "tracker = open_tracker('wandb', Path('w'))\n"
        "for seed in range(3): tracker.record(made('npo', seed=seed), None, {})\n"
        "assert own == (sys.exit, sys.excepthook)\n"
        "raise RuntimeError('seen once')"
    )
    env = environment() | {"WANDB_MODE": "offline"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("Traceback") == 1 and done.stderr.endswith("RuntimeError: seen once\n")


def test_an_unknown_kind_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Unknown tracker 'wand'. Did you mean 'wandb'"):
        open_tracker("wand", tmp_path)


def test_groups_by_name() -> None:
    assert {name: group_of(name) for name in SCORES} == {name: group for name, (_, _, group) in SCORES.items()}
    # The first beginning that fits: a KL on forget answers is a distance.
    assert group_of("kl_forget_floors") == "distance"
    assert group_of("wf_Q_A_Prob_normalised") == "world"


def test_rows_of_the_table_are_shared_among_the_probes() -> None:
    # Three probes with texts: ceil(50 / 3) = 17 rows each, 51 in all, cut to 50.
    rows = {probe: {str(i): {"text": probe} for i in range(60)} for probe in ("a", "b", "c")}
    counted = [row[0] for row in generated_texts(Responses("hash", rows))]
    assert [counted.count(probe) for probe in ("a", "b", "c")] == [17, 17, 16]
    assert generated_texts(Responses("hash", rows).publishable()) == []
    assert generated_texts(None) == []


def test_the_reader_joins_chunks_over_blocks() -> None:
    # One record of 32758 bytes fills block 0 but for 3 bytes: 7 (file header) + 7 (chunk header) + 32751 = 32765.
    # 3 bytes are too few for a chunk header, so they are padding; the next chunks are in blocks 1 (first) and 2 (last).
    def chunk(kind: int, data: bytes) -> bytes:
        return bytes(4) + len(data).to_bytes(2, "little") + bytes([kind]) + data

    one = b"a" * (BLOCK - HEADER - 7 - 3)
    first, last = b"b" * (BLOCK - 7), b"c" * 5
    data = b":W&B" + bytes(3) + chunk(1, one) + bytes(3) + chunk(2, first) + chunk(4, last)
    assert list(payloads(data)) == [one, first + last]


def test_losses_that_were_no_numbers_are_left_out() -> None:
    logged: list[dict[str, float]] = []

    class Run:
        def define_metric(self, *_: object, **__: object) -> None: ...

        def log(self, row: dict[str, float]) -> None:
            logged.append(row)

    log_curves(Run(), {"ga": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}]})  # type: ignore[dict-item]
    assert logged == [{"train/ga/step": 1, "train/ga/loss": 2.0}, {"train/ga/step": 2}]


def test_no_host_home_or_token_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B puts the machine's name into every run, unless it is told another; where its own log lies, stays here."""
    monkeypatch.setattr(socket, "gethostname", lambda: "machine-of-mine")
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB_MODE", "offline")
    (run,) = tracked(tmp_path / "wandb", made("npo"))
    for file in run.folder.glob("*.wandb"):
        assert b"machine-of-mine" not in file.read_bytes() and b"0123456789" * 4 not in file.read_bytes()
    for file in (
        *run.folder.glob("files/**/*"),
        *(path for files in run.artifacts.values() for path in files.values()),
    ):
        assert not file.is_file() or not {b"machine-of-mine", str(tmp_path).encode()} & set(
            file.read_bytes().split(b'"')
        )
