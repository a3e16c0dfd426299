"""Names that a plug-in imports: methods, tasks, metrics and trackers, and what they are made of. Loads no torch.

A method is a `Method`: frozen fields, `summary`, `needs` and `unlearn(request, ctx)`. It trains with `Recipe` and
`Stream`s of a `Loss`, or adds checkpoints up as `Term`s; `make_streams`, `descent` and `retain_rows` are the usual rows
and losses. A `GradientMethod` needs a `loss` alone. A task is a `Task`: fields, `summary`, `metrics`, `prepare` and
`outline`; it makes a `Scenario` of `Example`s,
`Probe`s and `Metric`s for its `TaskInputs`. `LabOptions` trains history, target and oracles of a small model from nothing,
`RealOptions` target and oracles of a model that the user names. Mistakes of the user are a `UserError`, a score that can't
be had is `Absent`, and a need that can't be met is `Unmet`. `bench.conformance` checks all of them. A `Tracker` shows
each `Record` to people.
"""

from bench.core.boxes import Scale as Scale
from bench.core.contracts import Batch as Batch
from bench.core.contracts import Coder as Coder
from bench.core.contracts import Context as Context
from bench.core.contracts import Judge as Judge
from bench.core.contracts import Limit as Limit
from bench.core.contracts import Loss as Loss
from bench.core.contracts import Method as Method
from bench.core.contracts import Metric as Metric
from bench.core.contracts import Opened as Opened
from bench.core.contracts import Outline as Outline
from bench.core.contracts import Preset as Preset
from bench.core.contracts import Recipe as Recipe
from bench.core.contracts import References as References
from bench.core.contracts import Scenario as Scenario
from bench.core.contracts import Schedule as Schedule
from bench.core.contracts import Stream as Stream
from bench.core.contracts import Suite as Suite
from bench.core.contracts import Task as Task
from bench.core.contracts import TaskContext as TaskContext
from bench.core.contracts import TaskInputs as TaskInputs
from bench.core.contracts import Term as Term
from bench.core.contracts import too_small as too_small
from bench.core.errors import Absent as Absent
from bench.core.errors import Unmet as Unmet
from bench.core.errors import UserError as UserError
from bench.core.errors import unknown_name as unknown_name
from bench.core.record import Record as Record
from bench.core.record import RunSpec as RunSpec
from bench.core.record import Score as Score
from bench.core.trackers import Tracker as Tracker
from bench.core.types import Checkpoint as Checkpoint
from bench.core.types import Example as Example
from bench.core.types import History as History
from bench.core.types import Json as Json
from bench.core.types import Moment as Moment
from bench.core.types import Probe as Probe
from bench.core.types import Request as Request
from bench.core.types import Responses as Responses
from bench.core.types import Validation as Validation
from bench.core.types import data_hash as data_hash
from bench.engines.training.gradient import GradientMethod as GradientMethod
from bench.engines.training.losses import Ascent as Ascent
from bench.engines.training.losses import NextToken as NextToken
from bench.engines.training.losses import descent as descent
from bench.engines.training.losses import make_streams as make_streams
from bench.engines.training.losses import retain_rows as retain_rows
from bench.engines.training.losses import sample_like as sample_like
from bench.lab.build import Architecture as Architecture
from bench.lab.build import LabOptions as LabOptions
from bench.lab.build import Pretraining as Pretraining
from bench.lab.build import TaughtRows as TaughtRows
from bench.lab.build import make_fresh_llama as make_fresh_llama
from bench.metrics.collapse import collapsed as collapsed
from bench.metrics.divergence import distances as distances
from bench.metrics.divergence import kl as kl
from bench.metrics.divergence import kl_floors as kl_floors
from bench.metrics.membership import attack_probes as attack_probes
from bench.metrics.membership import attacks as attacks
from bench.metrics.options import answered as answered
from bench.metrics.options import mean_loss as mean_loss
from bench.metrics.options import option_logprob as option_logprob
from bench.metrics.options import token_hits as token_hits
from bench.metrics.probability import accuracy as accuracy
from bench.metrics.probability import exact_memorization as exact_memorization
from bench.metrics.probability import extraction_strength as extraction_strength
from bench.metrics.probability import normalised_probability as normalised_probability
from bench.metrics.probability import probability as probability
from bench.metrics.rouge import rouge_l as rouge_l
from bench.metrics.tokens import mean_logp as mean_logp
from bench.metrics.tokens import row_means as row_means
from bench.metrics.truth import forget_quality as forget_quality
from bench.metrics.truth import model_utility as model_utility
from bench.metrics.truth import truth_ratio as truth_ratio
from bench.real.scenario import PromptedOptions as PromptedOptions
from bench.real.scenario import RealOptions as RealOptions

# For `help` and the star import; type checkers read the aliases.
globals()["__all__"] = [name for name in dir() if not name.startswith("_")]
