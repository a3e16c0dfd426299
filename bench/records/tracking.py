"""Tracking: one run per record in W&B, or nowhere, behind the same few methods.

Records are made by workers; the parent hands each one over when it is complete. Tracking never fails a run: what goes
wrong becomes one line on stderr. W&B stays offline when nobody is logged in; `wandb sync FOLDER` sends the runs later.
"""

from __future__ import annotations

import json
import math
import netrc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from bench.core.errors import UserError, unknown
from bench.core.record import Record
from bench.core.types import Json, Responses

KINDS = ("wandb", "none")

GROUPS = (
    ("kl_", "distance"),
    ("mia_", "privacy"),
    ("privleak", "privacy"),
    ("membership", "privacy"),
    ("forget_", "forget"),
    ("exact_memorization", "forget"),
    ("extraction_strength", "forget"),
    ("acc_forget", "forget"),
    ("restor_", "recovery"),
    ("acc_recover", "recovery"),
    ("logprob_", "recovery"),
    ("retain_", "retain"),
    ("acc_retain", "retain"),
    ("world_", "world"),
    ("ra_", "world"),
    ("wf_", "world"),
    ("model_utility", "world"),
)
"""Beginning of a score's name and its group in the summary; the first that fits counts, and the rest is ``other``."""

AGGREGATE = {"up": "max", "down": "min"}
"""Goal of a metric in W&B's words; a goal that is neither stands in the config under ``metrics``."""

MAX_ROWS = 50
"""Rows of the examples table, in equal parts over the probes."""
MAX_TAG = 64
"""W&B refuses longer tags, and then the whole run."""
INIT_SECONDS = 15.0
"""How long W&B's server may take to answer before the runs stay offline."""
FINISH_SECONDS = 60.0
"""How long an upload may hold up the end of a run; what is left over can be sent by `wandb sync`."""

Curves = Mapping[str, Sequence[Mapping[str, float]]]
"""Per training stage: rows such as ``{"step": 10, "loss": 2.3}``, in order."""


class Tracker(Protocol):
    """Where complete runs are shown to people. Nothing reads it back: the records alone decide."""

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """Show one run: spec, lineage, scores, training curves, and what the model said where texts are at hand."""
        ...

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """Show the leaderboard file and the plots (images) that were made of the records."""
        ...

    def close(self) -> None:
        """Nothing more will come."""
        ...


def open_tracker(kind: str, directory: Path, project: str = "msa-bench") -> Tracker:
    """The tracker named ``kind``, which never raises; its files, if any, lie below ``directory``.

    Nothing is imported or written before the first run. `UserError` when there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(unknown("tracker", kind, KINDS))
    return Guarded(WandbTracker(directory, project) if kind == "wandb" else NoTracker())


class NoTracker:
    """Keeps nothing."""

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """Nothing."""

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class Guarded:
    """Another tracker whose failures become warnings: each different one is said once, on stderr."""

    def __init__(self, inner: Tracker) -> None:
        self.inner = inner
        self._said: set[str] = set()

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """As the inner tracker does it."""
        self._try(lambda: self.inner.record(record, responses, curves))

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """As the inner tracker does it."""
        self._try(lambda: self.inner.report(leaderboard, plots))

    def close(self) -> None:
        """As the inner tracker does it."""
        self._try(self.inner.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # the edge; W&B leaves by `sys.exit` when its helper process died
            line = f"Tracking failed and the run goes on without it ({brief(error)}); `--track none` turns it off."
            if line not in self._said:
                self._said.add(line)
                say(line)


class WandbTracker:
    """One W&B run per record, silent: no console capture, no git, no system statistics."""

    def __init__(self, directory: Path, project: str) -> None:
        self.directory = directory
        self.project = project
        self._mode = ""
        """``online``, ``offline`` or another of W&B's modes; decided at the first run."""

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """See `Tracker`. A failed record is a failed run in W&B."""
        about = describe(record)
        with self._run(about, exit_code=int(record.status == "failed")) as run:
            log_curves(run, curves)
            log_summary(run, record)
            if rows := said(responses):
                log_table(run, rows)
            log_text(run, f"record-{record.spec.key}", "record", "record.json", record_text(record))

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """See `Tracker`. Pictures other than PNG and JPEG go into the artifact only: W&B can't show them."""
        import wandb

        about = About(group="report", job_type="report", name="report", tags=("report",), config={})
        with self._run(about) as run:
            artifact = wandb.Artifact("leaderboard", type="report")
            for path in (leaderboard, *plots):
                artifact.add_file(str(path), name=path.name)
            shown = [path for path in plots if path.suffix.lower() in (".png", ".jpg", ".jpeg")]
            if shown:
                run.log({f"plots/{path.stem}": wandb.Image(str(path)) for path in shown})
            run.log_artifact(artifact)

    def close(self) -> None:
        """Stop W&B's helper process, so that nothing is left to do or to print when Python ends."""
        if self._mode:
            import wandb

            wandb.teardown()

    @contextmanager
    def _run(self, about: About, exit_code: int = 0) -> Iterator[Any]:
        run = self._open(about)
        try:
            yield run
        except BaseException:
            exit_code = 1
            raise
        finally:
            run.finish(exit_code=exit_code)

    def _open(self, about: About) -> Any:
        if not self._mode:
            self._mode = self._choose_mode()
        if self._mode == "online":
            import wandb

            try:
                return self._init(about)
            except (wandb.Error, OSError) as error:
                self._mode = "offline"
                self._notice(f"can't be reached ({brief(error)})")
        return self._init(about)

    def _choose_mode(self) -> str:
        """What the user's W&B settings ask for, but offline when online is asked for and nobody is logged in."""
        keep_files_in(self.directory)
        import wandb

        with hooks_kept():
            settings = wandb.setup(wandb.Settings(silent=True, console="off")).settings
        if settings.mode != "online":
            return "offline" if settings.mode == "dryrun" else str(settings.mode)
        if settings.api_key or logged_in(settings.base_url):
            return "online"
        self._notice("has no login")
        return "offline"

    def _notice(self, why: str) -> None:
        say(f"W&B {why}: runs are kept offline in {self.directory}; `wandb login` and `wandb sync` send them.")

    def _init(self, about: About) -> Any:
        import wandb

        with hooks_kept():
            return wandb.init(
                project=self.project,
                group=about.group,
                job_type=about.job_type,
                name=about.name,
                tags=about.tags,
                config=about.config,
                mode=self._mode,  # type: ignore[arg-type]
                dir=str(self.directory.resolve()),
                settings=quiet_settings(),
            )


@dataclass(frozen=True)
class About:
    """How a run is filed in W&B."""

    group: str
    job_type: str
    name: str
    tags: tuple[str, ...]
    config: Json


def describe(record: Record) -> About:
    """Group (task, model, and study or tier), kind of job, name, tags, and the config: all of the record but scores."""
    spec = record.spec
    job = {"target": "target", "retrain": "oracle"}.get(spec.method, "unlearn")
    data = record.to_json()
    config = data.pop("spec") | {"method": spec.method} | {k: v for k, v in data.items() if k != "scores"}
    return About(
        group=f"{spec.task}-{spec.model.replace('/', '--')}-{spec.study or spec.tier}",
        job_type=job,
        name=f"{spec.method}-{spec.task}-{spec.seed}",
        tags=tuple(tag[:MAX_TAG] for tag in (spec.method, spec.task, spec.tier)),
        config=config,
    )


def group_of(score: str) -> str:
    """The summary's group of a score, by `GROUPS`."""
    return next((group for start, group in GROUPS if score.startswith(start)), "other")


def summary_of(record: Record) -> dict[str, float]:
    """Every score as ``group/name``, and every number of the cost as ``cost/...``."""
    scores = {f"{group_of(name)}/{name}": score.value for name, score in sorted(record.scores.items())}
    return scores | flat("cost", record.cost)


def flat(prefix: str, data: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in nested dictionaries, by their path joined with ``/``."""
    numbers: dict[str, float] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            numbers |= flat(f"{prefix}/{key}", value)
        elif isinstance(value, int | float):
            numbers[f"{prefix}/{key}"] = value
    return numbers


def said(responses: Responses | None) -> list[list[str]]:
    """Rows (probe, example id, prompt, reference answer, what the model said) of the generations, at most `MAX_ROWS`.

    Only of texts that are in the responses: a row without ``text`` is left out, and ``prompt`` and ``reference`` are
    empty where the row has none.
    """
    if responses is None:
        return []
    probes = {
        probe: [
            [probe, key, str(row.get("prompt", "")), str(row.get("reference", "")), row["text"]]
            for key, row in by_id.items()
            if isinstance(row.get("text"), str)
        ]
        for probe, by_id in responses.rows.items()
    }
    full = [rows for rows in probes.values() if rows]
    share = math.ceil(MAX_ROWS / max(len(full), 1))
    return [row for rows in full for row in rows[:share]][:MAX_ROWS]


def record_text(record: Record) -> str:
    """The record as its file has it."""
    return json.dumps(record.to_json(), indent=1, sort_keys=True) + "\n"


def log_curves(run: Any, curves: Curves) -> None:
    """Every row of every stage, each stage over its own step.

    The n-th rows of all stages go in one call: a call costs W&B about half a millisecond, whatever is in it.
    """
    for stage in curves:
        step = f"train/{stage}/step"
        run.define_metric(step)
        run.define_metric(f"train/{stage}/*", step_metric=step)
    for rows in zip_longest(*curves.values(), fillvalue={}):
        named = zip(curves, rows, strict=True)
        run.log({f"train/{stage}/{name}": value for stage, row in named for name, value in row.items()})


def log_summary(run: Any, record: Record) -> None:
    """The scores and the cost, with the direction of a score where it is up or down."""
    for name in sorted(record.scores):
        if aggregate := AGGREGATE.get(record.metrics.get(name, {}).get("goal", "")):
            run.define_metric(f"{group_of(name)}/{name}", summary=aggregate)
    run.summary.update(summary_of(record))


def log_table(run: Any, rows: list[list[str]]) -> None:
    """The examples table."""
    import wandb

    run.log({"examples": wandb.Table(columns=["probe", "id", "prompt", "reference", "said"], data=rows)})


def log_text(run: Any, name: str, kind: str, file_name: str, text: str) -> None:
    """A text as an artifact of one file."""
    import wandb

    artifact = wandb.Artifact(name, type=kind)
    with artifact.new_file(file_name) as file:
        file.write(text)
    run.log_artifact(artifact)


def quiet_settings() -> Any:
    """W&B's settings for a run that prints nothing and looks at nothing but what it is given."""
    import wandb

    return wandb.Settings(
        silent=True,
        console="off",
        reinit="create_new",
        disable_git=True,
        disable_code=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_stats=True,
        x_disable_meta=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        symlink=False,
        init_timeout=INIT_SECONDS,
        finish_timeout=FINISH_SECONDS,
    )


def logged_in(base_url: str) -> bool:
    """Whether W&B would find a key or a token for its server, as it looks: environment, then netrc. No network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    for path in [Path(named)] if named else [Path.home() / ".netrc", Path.home() / "_netrc"]:
        try:
            if netrc.netrc(path).authenticators(urlsplit(base_url).netloc):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def keep_files_in(directory: Path) -> None:
    """Make W&B put staged artifacts and its log there too; it reads these places from the environment only."""
    directory.mkdir(parents=True, exist_ok=True)
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
        os.environ.setdefault(variable, str(directory.resolve()))


@contextmanager
def hooks_kept() -> Iterator[None]:
    """Undo that W&B wraps `sys.exit` and `sys.excepthook` when its helper starts: errors would be printed twice."""
    before = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = before


def brief(error: BaseException) -> str:
    """The kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def say(line: str) -> None:
    """One line for the user, on stderr."""
    print(line, file=sys.stderr, flush=True)
