"""Tracking: one run per record in W&B, or nowhere, behind the same few methods.

Records are made by workers; the parent hands each one over when it is complete. Tracking never fails a run: what goes
wrong becomes one line on stderr. W&B stays offline when nobody is logged in; `wandb sync FOLDER` sends the runs later.
"""

from __future__ import annotations

import math
import netrc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.core.errors import UserError, unknown_name
from bench.core.record import Record
from bench.core.types import Json, Responses
from bench.records.files import record_text

KINDS = ("wandb", "none")

GROUPS = {
    "distance": ("kl_",),
    "privacy": ("mia_", "privleak", "membership"),
    "forget": ("forget_", "exact_memorization", "extraction_strength", "acc_forget"),
    "recovery": ("restor_", "acc_recover", "logprob_"),
    "retain": ("retain_", "acc_retain"),
    "world": ("world_", "ra_", "wf_", "model_utility"),
}
"""Group in the summary and how the names of its scores begin; the rest is ``other``."""

AGGREGATE = {"up": "max", "down": "min"}
"""Goal of a metric in W&B's words; a goal that is neither stands in the config under ``metrics``."""

MAX_ROWS = 50
"""Rows of the examples table, in equal parts over the probes."""
MAX_NAME = 128
"""W&B refuses longer names of runs and groups."""
MAX_TAG = 64
"""W&B refuses longer tags, and then the whole run."""
INIT_SECONDS = 15.0
"""How long W&B's server may take to answer before the runs stay offline."""
FINISH_SECONDS = 60.0
"""How long an upload may hold up the end of a run; what is left over can be sent by `wandb sync`."""

Curves = Mapping[str, Sequence[Mapping[str, float]]]
"""Per training stage: rows such as ``{"step": 10, "loss": 2.3}``, in order."""


class Tracker:
    """A place where complete runs are shown to people; this one shows nothing. Nothing is read back from it."""

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """Show one run: spec, lineage, scores, training curves, and what the model said where texts are at hand."""

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """Show the leaderboard file and the plots (images) that were made of the records."""

    def close(self) -> None:
        """End tracking: no run and no report follows."""


def open_tracker(kind: str, directory: Path, project: str = "msa-bench") -> Tracker:
    """The tracker named ``kind``, which never raises; its files, if any, lie below ``directory``.

    Nothing is imported or written before the first run. `UserError` when there is no such kind.
    """
    if kind not in KINDS:
        raise UserError(unknown_name("tracker", kind, KINDS))
    return GuardedTracker(WandbTracker(directory, project) if kind == "wandb" else Tracker())


class GuardedTracker(Tracker):
    """Another tracker whose failures become warnings: each different one is said once, on stderr."""

    def __init__(self, inner: Tracker) -> None:
        self.inner = inner
        self._warned: set[str] = set()

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """Hand the run on to the inner tracker."""
        self._try(lambda: self.inner.record(record, responses, curves))

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """Hand the pages on to the inner tracker."""
        self._try(lambda: self.inner.report(leaderboard, plots))

    def close(self) -> None:
        """Close the inner tracker."""
        self._try(self.inner.close)

    def _try(self, call: Callable[[], None]) -> None:
        try:
            call()
        except (Exception, SystemExit) as error:  # the edge; W&B leaves by `sys.exit` when its helper process died
            line = (
                f"Tracking failed and the run goes on without it ({brief_error(error)}); `--track none` turns it off."
            )
            if line not in self._warned:
                self._warned.add(line)
                print_warning(line)


class WandbTracker(Tracker):
    """One W&B run per record, silent: no console capture, no git, no system statistics."""

    def __init__(self, directory: Path, project: str) -> None:
        self.directory = directory
        self.project = project
        self._mode = ""
        """``online``, ``offline`` or another of W&B's modes; decided at the first run."""

    def record(self, record: Record, responses: Responses | None, curves: Curves) -> None:
        """See `Tracker`. A failed record is a failed run in W&B."""
        with self._run(init_arguments(record), exit_code=int(record.status == "failed")) as run:
            import wandb

            log_curves(run, curves)
            log_trace(run, record.facts.get("trace", []))
            log_summary(run, record)
            if rows := generated_texts(responses):
                columns = ["probe", "id", "prompt", "reference", "said"]
                run.log({"examples": wandb.Table(columns=columns, data=rows)})
            artifact = wandb.Artifact(f"record-{record.spec.key}", type="record")
            with artifact.new_file("record.json") as file:
                file.write(record_text(record))
            run.log_artifact(artifact)

    def report(self, leaderboard: Path, plots: Sequence[Path]) -> None:
        """See `Tracker`. Pictures other than PNG and JPEG go into the artifact only: W&B can't show them."""
        import wandb

        with self._run({"group": "report", "job_type": "report", "name": "report", "tags": ("report",)}) as run:
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
    def _run(self, filed_under: Json, exit_code: int = 0) -> Iterator[Any]:
        run = self._open(filed_under)
        try:
            yield run
        except BaseException:
            exit_code = 1
            raise
        finally:
            run.finish(exit_code=exit_code)

    def _open(self, filed_under: Json) -> Any:
        """A new W&B run; offline from the first time that the server can't be reached."""
        self._mode = self._mode or self._choose_mode()
        import wandb

        try:
            return self._init(filed_under)
        except (wandb.Error, OSError) as error:
            if self._mode != "online":
                raise
            self._mode = "offline"
            self._warn_offline(f"can't be reached ({brief_error(error)})")
            return self._init(filed_under)

    def _choose_mode(self) -> str:
        """The mode of the user's W&B settings, but offline when online is asked for and nobody is logged in."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # W&B reads from the environment alone where its log and staged artifacts go.
        for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):
            os.environ.setdefault(variable, str(self.directory.resolve()))
        import wandb

        with keeping_exit_hooks():
            settings = wandb.setup(wandb.Settings(silent=True, console="off")).settings
        if settings.mode != "online":
            return "offline" if settings.mode == "dryrun" else str(settings.mode)
        if settings.api_key or logged_in(settings.base_url):
            return "online"
        self._warn_offline("has no login")
        return "offline"

    def _warn_offline(self, why: str) -> None:
        print_warning(
            f"W&B {why}: runs are kept offline in {self.directory}; `wandb login` and `wandb sync` send them."
        )

    def _init(self, filed_under: Json) -> Any:
        """`wandb.init`, for a run that prints nothing and looks at nothing but what it is given."""
        import wandb

        settings = wandb.Settings(
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
            host="",
            x_save_requirements=False,
            symlink=False,
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
        )
        mode: Any = self._mode
        folder = str(self.directory.resolve())
        with keeping_exit_hooks():
            return wandb.init(project=self.project, mode=mode, dir=folder, settings=settings, **filed_under)


def init_arguments(record: Record) -> Json:
    """Arguments of `wandb.init` that file a record's run; its config is all of the record but the scores."""
    spec = record.spec
    data = record.to_json()
    config = data.pop("spec") | {"method": spec.method} | {k: v for k, v in data.items() if k != "scores"}
    return {
        "group": f"{spec.task}-{spec.model.replace('/', '--')}-{spec.study or spec.tier}"[:MAX_NAME],
        "job_type": {"target": "target", "retrain": "oracle"}.get(spec.method, "unlearn"),
        "name": "-".join([spec.method, spec.task, str(spec.seed), *([f"order-{spec.order}"] if spec.order else [])])[
            :MAX_NAME
        ],
        "tags": tuple(tag[:MAX_TAG] for tag in (spec.method, spec.task, spec.tier)),
        "config": config,
    }


def group_of(score: str) -> str:
    """The summary's group of a score, by `GROUPS`."""
    return next((group for group, beginnings in GROUPS.items() if score.startswith(beginnings)), "other")


def numbers_in(prefix: str, data: Mapping[str, Any]) -> dict[str, float]:
    """The numbers in nested dictionaries, by their path joined with ``/``."""
    numbers: dict[str, float] = {}
    for key, value in data.items():
        if isinstance(value, Mapping):
            numbers |= numbers_in(f"{prefix}/{key}", value)
        elif isinstance(value, int | float):
            numbers[f"{prefix}/{key}"] = value
    return numbers


def generated_texts(responses: Responses | None) -> list[list[str]]:
    """Rows (probe, example id, prompt, reference answer, what the model said) of the generations, at most `MAX_ROWS`.

    Only of texts that are in the responses: a row without ``text`` is left out, and ``prompt`` and ``reference`` are
    empty where the row has none.
    """
    by_probe: dict[str, list[list[str]]] = {}
    for probe, examples in (responses.rows if responses else {}).items():
        for key, row in examples.items():
            if isinstance(row.get("text"), str):
                told = [probe, key, str(row.get("prompt", "")), str(row.get("reference", "")), row["text"]]
                by_probe.setdefault(probe, []).append(told)
    share = math.ceil(MAX_ROWS / max(len(by_probe), 1))
    return [row for rows in by_probe.values() for row in rows[:share]][:MAX_ROWS]


def log_curves(run: Any, curves: Curves) -> None:
    """Log every row of every stage, each stage over its own step.

    The n-th rows of all stages go in one call: a call costs W&B about half a millisecond, whatever is in it. What was no
    finite number is left out.
    """
    for stage in curves:
        step = f"train/{stage}/step"
        run.define_metric(step)
        run.define_metric(f"train/{stage}/*", step_metric=step)
    for rows in zip_longest(*curves.values(), fillvalue={}):
        named = zip(curves, rows, strict=True)
        run.log(
            {f"train/{stage}/{name}": value for stage, row in named for name, value in row.items() if value is not None}
        )


def log_trace(run: Any, trace: Sequence[Mapping[str, Any]]) -> None:
    """Log the scores on the way to a method's result over the share of the way."""
    for point in trace:
        run.define_metric("trace/share")
        run.define_metric("trace/*", step_metric="trace/share")
        run.log({"trace/share": point["share"], **{f"trace/{name}": value for name, value in point["scores"].items()}})


def log_summary(run: Any, record: Record) -> None:
    """Every score as ``group/name``, with its direction if up or down, and every number of the cost as ``cost/...``."""
    summary = numbers_in("cost", record.cost)
    for name, score in sorted(record.scores.items()):
        full = f"{group_of(name)}/{name}"
        if aggregate := AGGREGATE.get(record.metrics.get(name, {}).get("goal", "")):
            run.define_metric(full, summary=aggregate)
        summary[full] = score.value
    run.summary.update(summary)


def logged_in(base_url: str) -> bool:
    """Whether W&B would find a key or a token for its server: in the environment, else in netrc. No network."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    try:
        logins = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
    except (OSError, netrc.NetrcParseError):
        return False
    return logins.authenticators(urlsplit(base_url).netloc) is not None


@contextmanager
def keeping_exit_hooks() -> Iterator[None]:
    """Undo that W&B wraps `sys.exit` and `sys.excepthook` when its helper starts: errors would be printed twice."""
    before = sys.exit, sys.excepthook
    try:
        yield
    finally:
        sys.exit, sys.excepthook = before


def brief_error(error: BaseException) -> str:
    """The kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def print_warning(line: str) -> None:
    """Print a line for the user on stderr."""
    print(line, file=sys.stderr, flush=True)
