"""What faults are made in: a snapshot of the code, and scenes, each a folder with a command's sound results in it.

A scene is made once and copied for every case. Commands name their folders relative to it, so that a copy is as good.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from bench.core.machine import Machine
from bench.core.record import RunSpec, Step
from bench.core.types import Json
from bench.records.bundles import BUNDLE, unpack_bundle
from bench.records.columns import unpack_responses
from bench.records.files import COLUMNS
from bench.runs.cluster.submission import FOLDER, Array, Submission, name_arrays
from bench.runs.jobs import Job, WorkerConfig
from bench.runs.setting import Paths
from tests.hub import Hub
from tests.paths import ROOT
from tests.processes import tiny_run
from tests.warm import warm_python

MARK = "MSA_BENCH_FAULTS_CASE"
"""Environment variable that tells a case's processes from all others."""
KEPT_NAMES = (".guard", ".at-work", ".stamps.json")
"""Files that commands keep for themselves."""
HANG_SECONDS = 60.0
"""A command that takes longer on an idle machine hangs: each takes seconds. Fresh processes have three times as long."""
MOST_BYTES = 6 << 30
"""Memory that a process may ask for: enough for every command, and an end to reading a file without one."""
TINY = {"width": 4, "history_passes": 0.5, "target_passes": 0.2, "history_points": 2}
DIGITS = [
    "--task",
    "digits",
    *(word for name, value in TINY.items() for word in ("--set", f"digits.{name}={value}")),
]
PLACES = ["--jobs", "1", "--store", "store", "--out", "out"]
VARYING = re.compile(r"seconds|minutes|stages|peak_bytes|provenance|checksum")
"""Names of what differs from run to run in records: numbers, and objects of numbers whose names are the same."""


@dataclass(frozen=True)
class Done:
    """A command that has ended, or was ended."""

    words: tuple[str, ...]
    code: int
    text: str
    """What the terminal showed."""
    seconds: float
    hung: bool = False


@dataclass(frozen=True)
class Scene:
    """Commands, and what must be there before the first."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    prepare: Callable[[Ground, Path], None] = lambda ground, folder: None
    warm: bool = True
    """Whether its commands can do without a fresh process: what is read from the environment at import can't."""


@dataclass
class Made:
    """A scene's sound results."""

    folder: Path
    facts: Json
    seconds: float
    """That its commands took."""


def write_models(ground: Ground, folder: Path) -> None:
    """Three tiny models of one shape."""
    from tests.tiny import llama, saved, tokenizer

    for seed, name in enumerate(("target", "before", "tuned")):
        saved(llama(seed), tokenizer(), folder / name)


def write_evaluation(ground: Ground, folder: Path) -> None:
    """A tiny model and some rows in TOFU's layout."""
    from tests.bench.real.test_evaluate import CONFIGS, row, write_data
    from tests.tiny import saved, subword_llama, subword_tokenizer

    write_data(folder / "data")
    words = subword_tokenizer([json.dumps(row(config, i)) for config in CONFIGS for i in range(6)])
    saved(subword_llama(words, 0), words, folder / "model")


def copy_run(ground: Ground, folder: Path) -> None:
    """The records and the store of a run, without its pages."""
    run = ground.made("run").folder
    copy(run / "store", folder / "store")
    copy(run / "out" / "lab", folder / "out" / "lab")


def write_submission(ground: Ground, folder: Path) -> None:
    """What a command leaves in ``out`` that has handed a stage and two runs to a cluster."""
    out, spec = folder / "out", RunSpec("digits", {}, "lab", "lab", (Step("msa", {}),), 0)
    config = WorkerConfig.of(Machine(Path("out"), Path("store"), executor="slurm"), Paths())
    stages, runs = name_arrays("0a1b2c3d")
    arrays = (
        Array(stages, (Job(spec, "target"),), {"time": "15"}),
        Array(runs, (Job(spec), Job(replace(spec, seed=1))), {"time": "15", "mem": "4000M"}),
    )
    made = Submission(out / FOLDER / "20260101-000000-0a1b2c3d", config, arrays, 120)
    made.write()
    (out / FOLDER / "lock").touch()
    for number, task in zip(("10", "11_0", "11_1"), made.tasks(), strict=True):
        task.mark.write_text(number.partition("_")[0])
        task.say({"event": "begin", "slurm": number, "node": "n1", "restarts": 0})
        news = {"stage": "train", "status": "progress", "done": 3, "total": 9, "seconds": 4.0, "message": ""}
        task.say({"job": task.job.name, **news})
        task.say({"event": "end", "status": "done"})
        task.logs.mkdir(exist_ok=True)
        for ending in ("err", "out"):
            (task.logs / f"{number}_0_log.{ending}").write_text("a warning\nanother one\n")


SCENES = {
    scene.name: scene
    for scene in (
        Scene(
            "run",
            (
                (
                    *("run", "--methods", "msa", "--seeds", "0", "--set", "msa.steps=2", "--track", "none"),
                    *(*DIGITS, *PLACES),
                ),
            ),
        ),
        Scene("books", ((*tiny_run("msa"), "--store", "store", "--out", "out"),)),
        Scene("tune", (("tune", "--methods", "ga", "--seeds", "100,101", "--settings", "4", *DIGITS, *PLACES),)),
        Scene("ablate", (("ablate", "controls", "--seeds", "0", "--track", "none", *DIGITS, *PLACES),)),
        Scene(
            "publish",
            (
                ("publish", "--from", "out", "--to", "results", "--store", "store"),
                ("leaderboard", "--from", "results", "--to", "page.md"),
                ("plot", "--from", "results", "--to", "plots"),
                ("rescore", "--from", "results", "--store", "store"),
            ),
            copy_run,
        ),
        Scene(
            "msa",
            (
                (
                    *("msa", "--target", "target", "--before", "before", "--forget-tuned", "tuned"),
                    *("--alpha", "0.5,1", "--out", "merged"),
                ),
            ),
            write_models,
        ),
        Scene(
            "eval",
            (
                (
                    *("eval", "--task", "tofu", "--model", "model", "--data", "data", "--out", "scores.json"),
                    *("--store", "store"),
                ),
            ),
            write_evaluation,
        ),
        Scene("cluster", (("status", "--out", "out"),), write_submission),
        Scene(
            "fetch",
            (("fetch", "some/model", "--store", "store"), ("fetch", "muse-books", "--store", "store")),
            warm=False,
        ),
    )
}
"""By name."""


@dataclass
class Ground:
    """The snapshot, the scenes that were made, and how commands are run."""

    folder: Path
    warm: Path
    """In the place of ``python``: a process with its libraries loaded (`tests.warm`)."""
    hub: Hub
    scenes: dict[str, Made] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def made(self, name: str) -> Made:
        """A scene's sound results, made when they are first asked for."""
        with self.lock:
            if name not in self.scenes:
                scene, folder = SCENES[name], self.folder / "scenes" / name
                folder.mkdir(parents=True)
                scene.prepare(self, folder)
                shutil.copytree(folder, self.folder / "beginnings" / name)
                done = self.redo(scene, folder)
                assert all(each.code == 0 for each in done), done[-1]
                seconds = sum(each.seconds for each in done)
                self.scenes[name] = Made(folder, read_facts(folder), seconds)
            return self.scenes[name]

    def begin(self, name: str, folder: Path) -> Path:
        """A copy of what a scene begins with."""
        self.made(name)
        return copy(self.folder / "beginnings" / name, folder)

    def end(self, name: str, folder: Path) -> Path:
        """A copy of a scene with its results."""
        return copy(self.made(name).folder, folder)

    def redo(self, scene: Scene, folder: Path, fresh: bool = False, mark: str = "") -> list[Done]:
        """A scene's commands one after another, to the first that doesn't end with 0."""
        done: list[Done] = []
        for words in scene.commands:
            done.append(self.run(words, folder, fresh or not scene.warm, mark))
            if done[-1].code:
                break
        return done

    def run(self, words: Sequence[str], folder: Path, fresh: bool = False, mark: str = "") -> Done:
        """``python -m bench WORDS`` in ``folder`` to its end, or to the time when it is taken to hang."""
        began = time.monotonic()
        process = self.start(words, folder, fresh, mark)
        try:
            text, _ = process.communicate(timeout=patience() * (3 if fresh else 1))
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
            for each in marked(mark) if mark else ():
                kill(each)
            kill(psutil.Process(process.pid))
            text, _ = process.communicate()
        return Done(tuple(words), process.returncode, text, time.monotonic() - began, hung)

    def start(self, words: Sequence[str], folder: Path, fresh: bool = True, mark: str = "") -> subprocess.Popen[str]:
        """The command, begun, as the leader of a group of processes, with output and errors in one pipe."""
        python = sys.executable if fresh else str(self.warm)
        return subprocess.Popen(
            [python, "-m", "bench", *words],
            cwd=folder,
            env=self.environment() | ({MARK: mark} if mark else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def environment(self) -> dict[str, str]:
        """The snapshot's packages, one thread, and this machine's hub in the place of the real one."""
        code = self.folder / "code"
        given = {
            "PYTHONPATH": os.pathsep.join((str(code / "tests" / "offline"), str(code))),
            "HF_ENDPOINT": self.hub.address,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(self.folder / "hf"),
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return {**os.environ, **given}


@contextmanager
def open_ground(folder: Path) -> Iterator[Ground]:
    """The ground in an empty folder; its servers end with the block."""
    snapshot(folder / "code")
    with ExitStack() as stack:
        hub = stack.enter_context(open_hub(folder / "hub"))
        ground = Ground(folder, Path(), hub)
        ground.warm = stack.enter_context(warm_python(folder, ground.environment(), MOST_BYTES))
        yield ground


def snapshot(folder: Path) -> None:
    """A copy of the code as it is now, committed: records are clean, and nobody changes it under a long campaign."""
    for name in ("bench", "methods", "tasks", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".gitignore", folder)
    who = ["-c", "user.name=faults", "-c", "user.email=faults@localhost", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-q", "-m", "a snapshot"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)


@contextmanager
def open_hub(folder: Path) -> Iterator[Hub]:
    """A hub with a tiny model and a data set."""
    from tests.tiny import llama, saved, tokenizer

    saved(llama(), tokenizer(), folder / "model")
    (folder / "tables" / "knowmem").mkdir(parents=True)
    (folder / "tables" / "README.md").write_text("a card")
    (folder / "tables" / "knowmem" / "forget_qa.jsonl").write_text('{"question": "a", "answer": "b"}\n')
    server = Hub(folder / "model")
    server.others = {"datasets/muse-bench/MUSE-Books": folder / "tables"}
    server.daemon_threads, server.block_on_close = True, False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def patience(seconds: float = HANG_SECONDS) -> float:
    """How long a command may take that takes so many seconds at most on an idle machine, by this one's load."""
    return seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def copy(source: Path, to: Path) -> Path:
    """A copy of everything in a folder, links as links."""
    shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
    return to


def marked(mark: str) -> list[psutil.Process]:
    """The living processes of a case."""
    wanted, found = f"{MARK}={mark}\0".encode(), []
    for process in psutil.process_iter():
        try:
            if wanted in Path(f"/proc/{process.pid}/environ").read_bytes() and process.status() != "zombie":
                found.append(process)
        except (OSError, psutil.Error):
            continue
    return found


def kill(process: psutil.Process) -> None:
    """End a process, if it is still there."""
    try:
        process.kill()
    except psutil.Error:
        pass


# ---- what must be the same, however a command was disturbed


def read_facts(folder: Path) -> Json:
    """By file: records, studies, scores, responses and models, without what differs from run to run; by key: nodes."""
    facts: Json = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or path.is_symlink() or is_aside(name) or path.name.startswith("."):
            continue
        if (fact := read_fact(name, path)) is not None:
            facts[name] = fact
    return facts


def read_fact(name: str, path: Path) -> Any:
    """What a file says; None where nothing that must be the same, and the reason where it can't be read."""
    try:
        if re.search(r"nodes/../\w+/node\.json$", name):
            info = json.loads(path.read_text())
            return {"fields": info["fields"], "label": info["label"]}
        if name.endswith(".json.gz"):
            return (
                "responses in a node" if "/nodes/" in name else steady(json.loads(gzip.decompress(path.read_bytes())))
            )
        if name.endswith(BUNDLE):
            return [steady(json.loads(line)) for line in unpack_bundle(path).splitlines()]
        if name.endswith(COLUMNS):
            return steady(unpack_responses(path.read_bytes()).to_json())
        if re.match(r"store/(nodes|models|data)/", name) or name.startswith("merged/"):
            return None if name.endswith("fetch.json") else digest(path.read_bytes())
        if re.match(r"(out|results)/.*\.json$|scores\.json$", name) and "/wandb/" not in name:
            return steady(json.loads(path.read_text()))
        if name.startswith(("out/", "results/", "plots/")) and path.suffix in (".png", ".svg"):
            return digest(path.read_bytes())
        if path.suffix == ".md" and name.startswith(("out/", "page")):
            return digest(steady_page(path.read_text()).encode())
    except (OSError, ValueError, KeyError, TypeError, EOFError, RecursionError) as error:
        return f"unreadable: {error}"
    return None


def steady(data: Any) -> Any:
    """JSON without the numbers that differ from run to run; their names stay."""
    if isinstance(data, dict):
        varying = {name for name in data if VARYING.search(name)}
        kept = {name: steady(value) for name, value in data.items() if name not in varying}
        return kept | {name: sorted(value) for name in varying if isinstance(value := data[name], dict)}
    return [steady(value) for value in data] if isinstance(data, list) else data


def steady_page(text: str) -> str:
    """A page without the seconds and minutes that its commands took."""
    lines, timed = [], False
    for line in re.sub(r"\d+(\.\d+)? minutes?", "", text).splitlines():
        timed = line.startswith("|") and (timed or line.endswith("| seconds |"))
        lines.append(line.rsplit("|", 2)[0] if timed else line)
    return "\n".join(lines)


def digest(data: bytes) -> str:
    """A hash."""
    return hashlib.sha256(data).hexdigest()


def is_aside(name: str) -> bool:
    """Whether a file was set aside as damaged."""
    return "damaged" in name


def leftovers(folder: Path) -> list[str]:
    """Temporary files and folders that nobody is at work on any more."""
    found = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if is_aside(name) or "/wandb/" in name:
            continue
        temporary = path.name.startswith(".") and path.name not in KEPT_NAMES and path.suffix != ".lock"
        if temporary or re.match(r"store/(partial|scratch)/[^/]+$|store/leases/\w[^/]*\.json$", name):
            found.append(name)
    return found


# ---- what a command may say

SENTENCES = re.compile(r"[.!?]['\")]?\s+(?=[A-Z'`\"(])")
REMEDY = re.compile(
    r"\b(delete|remove|run|use|free|move|name|give|write|fetch|wait|check|see|make|install|set|lower|try|repeat|leave|"
    r"copy|choose|take|unset|raise|rerun|again|put|close|stop|report|start|replace|pass)\b",
    re.I,
)
MOST_LETTERS = 500


def faults_of(done: Done, codes: Sequence[int]) -> list[str]:
    """What is unhelpful in how a command ended and in what it said."""
    name = done.words[0]
    if done.hung:
        return [f"{name} hung: no end within {done.seconds:.0f} s; it had said: {done.text[-200:]!r}"]
    found = []
    if done.code not in codes:
        found.append(f"{name}: exit code {done.code}, not {' or '.join(map(str, codes))}: {done.text[-300:]!r}")
    if "Traceback (most recent call last)" in done.text:
        found.append(f"{name}: a traceback, ending {done.text.strip().splitlines()[-1][:200]!r}")
    lines = [line for line in done.text.splitlines() if line.startswith(("error: ", "FAILED "))]
    said = list({line.partition(": ")[2]: line for line in lines}.values())
    if done.code in (1, 2) and not said and name not in ("rescore",):
        found.append(f"{name}: exit code {done.code} without a sentence: {done.text[-200:]!r}")
    return found + [f"{name}: {fault}: {line[:300]!r}" for line in said for fault in sentence_faults(line)]


def sentence_faults(line: str) -> list[str]:
    """What keeps a line from being one sentence with a remedy."""
    found = []
    if SENTENCES.search(line):
        found.append("more than one sentence")
    if not REMEDY.search(line):
        found.append("no remedy")
    if len(line) > MOST_LETTERS:
        found.append("a sentence without end")
    return found
