"""Names that a plug-in imports: methods, tasks and metrics, and what they are made of. Loads no torch.

A method is a `Method`: frozen fields, `summary`, `needs` and `unlearn(request, ctx)`. It trains with `Recipe` and
`Stream`s of a `Loss`, or adds checkpoints up as `Term`s; `make_streams`, `descent` and `retain_rows` are the usual rows
and losses. A task is a `Task`: fields, `summary`, `metrics`, `prepare` and `outline`; it makes a `Scenario` of `Example`s,
`Probe`s and `Metric`s for its `TaskInputs`. `LabOptions` trains history, target and oracles of a small model from nothing,
`RealOptions` target and oracles of a model that the user names. Mistakes of the user are a `UserError`, a score that can't
be had is `Absent`, and a need that can't be met is `Unmet`. `bench.conformance` checks all of them.
"""

from __future__ import annotations

from bench.core.contracts import (
    Batch,
    Coder,
    Context,
    Loss,
    Method,
    Metric,
    Opened,
    Outline,
    Preset,
    Recipe,
    Scenario,
    Schedule,
    Stream,
    Suite,
    Task,
    TaskContext,
    TaskInputs,
    Term,
    too_small,
)
from bench.core.errors import Absent, Unmet, UserError, unknown_name
from bench.core.record import Score
from bench.core.settings import combinations_of
from bench.core.types import (
    Checkpoint,
    Example,
    History,
    Json,
    Moment,
    Probe,
    Request,
    Responses,
    Validation,
    data_hash,
)
from bench.engines.training.losses import Ascent, NextToken, descent, make_streams, retain_rows, sample_like
from bench.lab.build import Architecture, LabOptions, Pretraining, TaughtRows, make_fresh_llama
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import distances, kl, kl_floors
from bench.metrics.membership import attack_probes, attacks
from bench.metrics.options import answered, mean_loss, option_logprob, token_hits
from bench.metrics.probability import (
    accuracy,
    exact_memorization,
    extraction_strength,
    normalised_probability,
    probability,
)
from bench.metrics.rouge import rouge_l
from bench.metrics.tokens import mean_logp, row_means
from bench.metrics.truth import forget_quality, model_utility, truth_ratio
from bench.real.scenario import PromptedOptions, RealOptions

__all__ = [
    "Absent",
    "Architecture",
    "Ascent",
    "Batch",
    "Checkpoint",
    "Coder",
    "Context",
    "Example",
    "History",
    "Json",
    "LabOptions",
    "Loss",
    "Method",
    "Metric",
    "Moment",
    "NextToken",
    "Opened",
    "Outline",
    "Preset",
    "Pretraining",
    "Probe",
    "PromptedOptions",
    "RealOptions",
    "Recipe",
    "Request",
    "Responses",
    "Scenario",
    "Schedule",
    "Score",
    "Stream",
    "Suite",
    "Task",
    "TaskContext",
    "TaskInputs",
    "TaughtRows",
    "Term",
    "Unmet",
    "UserError",
    "Validation",
    "accuracy",
    "answered",
    "attack_probes",
    "attacks",
    "collapsed",
    "combinations_of",
    "data_hash",
    "descent",
    "distances",
    "exact_memorization",
    "extraction_strength",
    "forget_quality",
    "kl",
    "kl_floors",
    "make_fresh_llama",
    "make_streams",
    "mean_logp",
    "mean_loss",
    "model_utility",
    "normalised_probability",
    "option_logprob",
    "probability",
    "retain_rows",
    "rouge_l",
    "row_means",
    "sample_like",
    "token_hits",
    "too_small",
    "truth_ratio",
    "unknown_name",
]
