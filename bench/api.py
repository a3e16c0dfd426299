"""All that a plug-in imports: methods, tasks and metrics, and what they are made of. Loads no torch.

A method is a `Method`: frozen fields, `summary`, `needs` and `unlearn(request, ctx)`. It trains with `Recipe` and
`Stream`s of a `Loss`, or adds checkpoints up as `Term`s; `make_streams`, `descent` and `retain_rows` are the usual rows and
losses. A task is a `Task`: fields, `summary`, `metrics`, `prepare` and `outline`; it makes a `Scenario` of `Example`s,
`Probe`s and `Metric`s for a `TaskInputs`. Mistakes of the user are a `UserError`, a score that can't be had is `Absent`, and
a need that can't be met is `Unmet`. `bench.conformance` checks all of them.
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
from bench.metrics.collapse import collapsed
from bench.metrics.divergence import kl, kl_floors
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

__all__ = [
    "Absent",
    "Ascent",
    "Batch",
    "Checkpoint",
    "Coder",
    "Context",
    "Example",
    "History",
    "Json",
    "Loss",
    "Method",
    "Metric",
    "Moment",
    "NextToken",
    "Opened",
    "Outline",
    "Preset",
    "Probe",
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
    "exact_memorization",
    "extraction_strength",
    "forget_quality",
    "kl",
    "kl_floors",
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
