"""What a method and a task must offer, and what they are given.

A method is a frozen dataclass of hyperparameters with one `unlearn`; a task prepares a `Scenario`. Both reach the
harness only through a `Context`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from bench.core.boxes import Box
from bench.core.errors import UserError
from bench.core.record import Score
from bench.core.settings import FromFile
from bench.core.settings import Preset as Preset
from bench.core.types import Checkpoint, Example, History, Json, Probe, Request, Responses, Validation
from bench.core.types import Recipe as Recipe
from bench.core.types import Retraining as Retraining

if TYPE_CHECKING:
    from torch import Tensor, nn


class Row(Protocol):
    """One example as its model's coder has encoded it."""

    @property
    def length(self) -> int:
        """Tokens of the example; an image or a node is one."""

    @property
    def alternate(self) -> Row | None:
        """The same prompt with another answer, where the example has one."""


class Target(Protocol):
    """The model as it was before training, called as the model is."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        """What the model gave."""

    def squared_distance(self, model: Any) -> Tensor:
        """``|theta - theta_D|^2`` over all weights of ``model``, with its gradient; `Unmet` where adapters are trained."""


class Batch(Protocol):
    """Rows that go through a model together."""

    reference: Tensor | None
    """Of a loss that reads `References`: (B,) summed answer log-probs under the target, or (B, K) of each token, in nats."""
    target: Target | None
    """Of a loss that reads the target itself: the model as it was before training, for `answer_logits` and the like."""
    beside: Callable[..., Any] | None
    """Of a stream with another checkpoint beside it (`Stream.beside`): that model, never trained."""
    alternate: Batch | None
    """The same prompts with their other answers, where the rows have any (``alternate`` of an example's payload)."""

    def answer_log_probs(self, model: Any) -> AnswerLogProbs:
        """Log-probs of the answers under ``model``: of each token, or of the label."""

    def answer_mask(self) -> Tensor:
        """Where the tokens of the answers stand in what `answer_log_probs` gives, (B, K)."""

    def answer_logits(self, model: Any) -> AnswerLogits:
        """The logits that the answers are predicted with under ``model``, at these places and at no others."""

    def answer_states(self, model: Any, blocks: Sequence[int]) -> AnswerStates:
        """Outputs of the decoder blocks ``blocks`` where the answers are predicted; `Unmet` of a model without such blocks."""


class Coder(Protocol):
    """An encoder of a kind of model's examples into rows and batches."""

    def encode(self, payload: Mapping[str, Any]) -> Any:
        """An example as a `Row`."""

    def collate(self, rows: Sequence[Any], device: Any = "cpu") -> Batch:
        """Rows as one batch."""

    def save_pretrained(self, folder: Path) -> None:
        """Whatever must lie beside the weights for the same coder to come back."""


References = Literal["", "sums", "tokens", "model"]


class Loss(Protocol):
    """An objective: one number per example. A frozen dataclass, so that its fields enter the cache key."""

    reference: ClassVar[References]
    """What it reads of the target: nothing; ``sums`` or ``tokens``, the answers' log-probs, computed once before training;
    or ``model``, the target itself, which lies in memory beside the model (with ``--lora`` it is the model without its
    adapters)."""
    version: ClassVar[int]

    def __call__(self, model: nn.Module, batch: Batch) -> Tensor:
        """The loss of each example, (B,)."""


@dataclass(frozen=True)
class Limit:
    """A bound on a stream's mean loss, kept by a dual variable: the stream's weight.

    After each step the weight becomes ``max(0, weight + rate * (loss - most))`` (dual ascent).
    """

    most: float
    """Nats."""
    rate: float
    after: int = 0
    """Steps before the weight begins to move."""


@dataclass(frozen=True)
class Stream:
    """Rows that enter every optimiser step with their own batch size, loss and weight."""

    examples: tuple[Example, ...]
    batch: int
    """Examples of this stream in one optimiser step, over all processes."""
    loss: Loss
    weight: float = 1.0
    """The step's loss is the sum over streams of weight times the mean over the stream's examples."""
    limit: Limit | None = None
    """Where the weight isn't constant."""
    sharpness: float = 0.0
    """Radius rho of sharpness-aware minimisation: the gradient of this stream's loss is taken where the weights have moved
    by rho along its normalised gradient; 0: where they are. Of each micro-batch by itself."""
    beside: Checkpoint | None = None
    """Another checkpoint that the loss reads, in memory beside the model (`Batch.beside`)."""
    last_weight: float | None = None
    """The weight in the last step, which it goes to on a straight line; None: the weight stays."""


class Term(NamedTuple):
    """One term of a weighted sum: its coefficient for every entry is ``float32(coefficient + weighted * w)``."""

    coefficient: float
    checkpoint: Checkpoint
    weighted: float = 0.0
    """Times the entry of the sum's ``weights`` (`bench.engines.arithmetic.sums.combine`)."""


class Context(Protocol):
    """The engines and facts that a method may use beside its `Request`."""

    seed: int
    """Of the run; all randomness of a method comes from it."""

    def train(
        self, start: Checkpoint, streams: Sequence[Stream], recipe: Recipe, label: str, keep: Sequence[int] = ()
    ) -> Checkpoint:
        """Fine-tune from ``start``; a cached node, shared by whoever asks for the same.

        ``keep``: steps whose weights are kept and measured too, of an attack that is looked at on its way.
        """

    def combine(self, terms: Sequence[Any], label: str, weights: Checkpoint | None = None) -> Checkpoint:
        """Sum of coefficient times weights, tensor by tensor (`bench.engines.arithmetic.sums.combine`); a cached node."""

    def cast(self, checkpoint: Checkpoint, dtype: str) -> Checkpoint:
        """Convert a checkpoint's weights to another dtype; a cached node."""

    def scrambled(self, before: Checkpoint, tuned: Checkpoint, kind: str) -> Checkpoint:
        """``before`` plus a control in the place of ``tuned - before`` (`bench.engines.arithmetic.sums.write_scrambled`)."""

    def quantise(self, checkpoint: Checkpoint, kind: str, group: int = 0) -> Checkpoint:
        """Round the linear layers of the decoder blocks (`bench.engines.arithmetic.rounding.write_rounded`); a cached node."""

    def compare_rounded(self, one: Checkpoint, other: Checkpoint, kind: str, group: int = 0) -> Json:
        """Shares of the entries that differ once both are rounded so (`bench.engines.arithmetic.rounding.count_differing`)."""

    def describe_update(self, before: Checkpoint, after: Checkpoint) -> Json:
        """Relative norm and stable rank of ``after - before`` by block (`bench.engines.arithmetic.updates.describe_update`)."""

    def influence(
        self, checkpoint: Checkpoint, forget: Sequence[Example], retain: Sequence[Example], kind: str
    ) -> Checkpoint:
        """A weight for each parameter, from what the rows make of the loss there (`bench.engines.training.influence`)."""

    def open(self, checkpoint: Checkpoint) -> Opened:
        """A checkpoint's model and coder in memory, on the run's device and in evaluation mode, to be read alone."""

    def sample(
        self,
        checkpoint: Checkpoint,
        rows: Sequence[Example],
        count: int,
        tokens: int,
        stops: Sequence[str] = (),
        temperature: float = 1.0,
    ) -> list[list[str]]:
        """``count`` answers of a checkpoint to each row's prompt, of at most so many ``tokens`` and cut at the ``stops``.

        Drawn with the run's seed at ``temperature``; a cached node.
        """

    def note(self, **facts: Any) -> None:
        """Say something beside the scores: plain JSON, into the record's ``facts``."""

    def cached(
        self, fields: Json, build: Callable[[Path], Json | None], label: str, rows: Sequence[Example] = ()
    ) -> Path:
        """A folder named by the hash of ``fields`` and of the ``rows`` it is made of; ``build`` fills it when first needed."""


@dataclass(frozen=True)
class Node:
    """A published folder of the store, and what is known of how it was made."""

    key: str
    path: Path
    info: Json
    """``fields``, ``label``, ``seconds``, ``bytes``, ``hash``, ``provenance`` and what the build returned as ``meta``."""


class TaskContext(Context, Protocol):
    """The part of the harness that `Task.prepare` may use: all that a method may, and the store's nodes themselves."""

    device: str
    """``cpu``, ``cuda`` or ``cuda:N``."""

    @property
    def models(self) -> Path:
        """The folder with the models that were fetched."""

    def node(
        self,
        fields: Json,
        make: Callable[[Path], Json | None],
        label: str,
        expect: Callable[[], float] | None = None,
        shared: bool = False,
    ) -> Node:
        """The node of ``fields``; ``make`` fills its folder if it isn't there, and what it returns is the node's ``meta``.

        ``expect`` gives the seconds that it may take, and is asked only when it is built. Under torchrun ``make`` runs on
        every process where the node is ``shared``, else on the first alone.
        """

    def checkpoint_node(
        self, fields: Json, write: Callable[[Path], None], label: str, used: Sequence[Checkpoint]
    ) -> Node:
        """The node of a checkpoint that ``write`` makes of others, none of which may be sealed."""

    def train_node(
        self,
        start: Checkpoint,
        streams: Sequence[Stream],
        recipe: Recipe,
        label: str,
        snapshots: Sequence[int] = (),
        seed: int | None = None,
    ) -> Node:
        """The node of a training run; ``snapshots`` are steps whose weights are kept beside the last ones."""

    def fitted(self, recipe: Recipe) -> Recipe:
        """The recipe with the run's dtype and adapters, where it has none of its own."""

    def on_behalf_of(self, owner: str) -> TaskContext:
        """A context whose nodes belong to another owner, such as ``measure``."""


@dataclass(frozen=True)
class Method:
    """Turns one checkpoint into another; a frozen dataclass of hyperparameters, all with defaults.

    A new method writes four things: its fields, each with its meaning under it, `summary`, `needs` and `unlearn`.
    Everything else has a default here.
    """

    summary: ClassVar[str]
    """One line: what it does, and the paper."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """Of ``history``, ``retain``, ``instructions``; a task that can't meet one makes a skip with a reason."""
    optional: ClassVar[frozenset[str]] = frozenset()
    """Of ``needs``, what the default setting leaves unused."""
    reads: ClassVar[str] = "weights"
    """What it works from: ``log-probs`` or ``logits`` of answers, ``hidden states``, or ``weights`` alone."""
    paper: ClassVar[str] = ""
    """Where it was published, such as ``arXiv 2404.05868``."""
    version: ClassVar[int] = 1
    """Raised when the same parameters give another result."""
    presets: ClassVar[Mapping[str, Preset]] = FromFile()  # type: ignore[assignment]
    """Named settings; ``<tier>-<task>`` is the default there. From the settings file (`bench.core.settings`)."""
    space: ClassVar[Mapping[str, Box]] = FromFile()  # type: ignore[assignment]
    """Per ``<tier>-<task>``, per tier, or per variant of a place: the box that `bench tune` searches. From that file."""
    variants: ClassVar[tuple[str, ...]] = ()
    """Presets that `--methods all` runs beside the default, as ``name@variant``."""
    in_all: ClassVar[bool] = True
    """Whether `--methods all` runs it."""
    is_sum: ClassVar[bool] = False
    """Whether it ends in a sum of checkpoints, whose shares ``--trace`` measures in the place of a training's snapshots."""
    attack: ClassVar[bool] = False
    """Whether it unlearns nothing, and tries what another method has left (`bench attack`)."""
    together: ClassVar[int] = 1
    """Streams of rows whose losses are added up before a backward pass, for the estimate of memory."""

    def unlearn(self, request: Request, ctx: Context) -> Checkpoint:
        """The unlearned checkpoint; the target on disk stays untouched."""
        raise NotImplementedError

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return []

    def named(self) -> str:
        """The name of the variant that the parameters make; empty where they make none."""
        return ""

    def rows(self, forget: int, retain: int) -> int:
        """Rows that enter a forward and backward pass with so many forget and retain rows, for the estimate of time."""
        return 0

    def holds_target(self) -> bool:
        """Whether its training holds the target beside the model, for the estimate of memory."""
        return False

    def holds_beside(self) -> int:
        """Other checkpoints that its training holds beside the model, for the estimate of memory."""
        return 0

    def holds_twice(self) -> bool:
        """Whether its training holds what it trains a second time, for the estimate of memory."""
        return False

    def adapters(self) -> int:
        """Rank of the adapters that it trains by itself, for the estimate of memory; 0: as the run trains everything."""
        return 0

    def against_adapters(self) -> str:
        """Why it can't train adapters in the place of the weights (``--lora``): the reason of a skip; empty where it can."""
        return ""

    def files(self) -> Mapping[str, str]:
        """Parameter -> path of a file of the user's that it reads; what is in there enters the run's key."""
        return {}

    def checkpoints(self) -> int:
        """Checkpoints that it leaves in the store, for the estimate of disk."""
        return 1


def too_small(owner: str, component: Any, least: Mapping[str, int]) -> list[str]:
    """A sentence for each parameter of ``component`` that is below its least value."""
    return [
        f"{owner}.{name} must be at least {bound}, not {getattr(component, name)}."
        for name, bound in least.items()
        if getattr(component, name) < bound
    ]


def not_positive(owner: str, component: Any, *names: str) -> list[str]:
    """A sentence for each of the parameters that is not above 0."""
    values = {name: getattr(component, name) for name in names}
    return [f"{owner}.{name} must be above 0, not {value}." for name, value in values.items() if not value > 0]


@dataclass(frozen=True)
class MislabelledRows:
    """The rows that a method is given as forget and retain rows."""

    forget: tuple[Example, ...]
    retain: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """The checkpoints of a scenario, each built when it is first asked for."""

    target: Callable[[], Checkpoint]
    oracles: tuple[Callable[[], Checkpoint], ...]
    """Retrained on the same schedule without the forget set; they differ in initial data order."""
    history: Callable[[], History] | None
    reference: Callable[[], Checkpoint] | None = None
    """A model that never saw the forget set, for membership by comparison: the last checkpoint before exposure."""
    retraining: Retraining | None = None
    """How an oracle is trained, for methods that do a share of it; None where nothing is retrained."""


@dataclass(frozen=True, kw_only=True)
class Scenario(Stages):
    """One seed's rows, probes, metrics and checkpoints, as a task prepares them."""

    label: str
    """Section title: ``tofu (lab)``, or a subset with its size."""
    forget: tuple[Example, ...]
    """What really is to be forgotten."""
    retain: tuple[Example, ...]
    validation: Validation
    probes: tuple[Probe, ...]
    metrics: tuple[Metric, ...]
    oracle_rows: tuple[Example, ...]
    """Every row that the oracles were trained on; none of them is a forget row, which a test proves."""
    asks: str = "logprob"
    """Kind of the probes that validation rows are asked with; its rows hold ``answer`` as logprob's do."""
    told: MislabelledRows | None = None
    """What a method is told of forget and retain rows, where that isn't the truth (a mislabelled forget set)."""
    lineage: Mapping[str, Any] = field(default_factory=dict)
    """Hashes of data sets and the like, for the record."""
    utility: tuple[str, ...] = ()
    """Names of the scores that make the utility axis of the plots (goal up)."""
    forgetting: tuple[str, ...] = ()
    """Names of the scores that make the forgetting axis (goal oracle)."""
    instructions: tuple[Example, ...] = ()
    """Rows of general instructions for a repair after unlearning; a method that needs ``instructions`` gets them."""
    headline: tuple[str, ...] = ()
    """Columns of the leaderboard, in order; every other score is in the records."""
    questions: tuple[Example, ...] = ()
    """What attacks ask of the forget set: a prompt and the answer that was to be forgotten, as a generate probe of the
    task's own asks it; none: the task can't be attacked so. References, where the task has them: ``paraphrased`` (other
    prompts for the same answer), ``accepted`` (answers of which one must be given exactly), ``statement`` (the fact told),
    ``opening`` (how an answer begins in the task's own words), ``solved`` (the question with its answer, as it stands
    before another one)."""
    about: Mapping[str, float] = field(default_factory=dict)
    """What a reader must know of the data, by name, such as the share of retained answers that are forgotten ones too."""
    primary: Mapping[str, str] = field(default_factory=dict)
    """The score of each role (`bench.core.record.PRIMARY`) that methods are compared by, fixed before any run; without a
    role nothing is compared by it."""
    fact_of: Callable[[str], str] = str
    """The fact that a row or a probe's example of this id is about: whoever learnt one learnt the other."""


@dataclass(frozen=True)
class TaskInputs:
    """The surroundings that a task is prepared on: the tier, and the model and data folders of the real one."""

    tier: str
    model_path: str = ""
    model_hash: str = ""
    data: str = ""
    """Folder or hub id of the benchmark's rows."""
    history: str = ""
    """File or folder with the model's past (`bench.assets.history_file.load_history`); empty: nothing is known but the model."""
    model: str = ""
    """Its name: known, a hub id, or its folder's own."""
    dtype: str = "float32"
    """Of the weights in memory and of the checkpoints that are made."""
    target: Checkpoint | None = None
    """A target that was trained elsewhere; None: the task trains it."""
    oracles: tuple[Checkpoint, ...] = ()
    """Retrained models from elsewhere; none: the task trains them."""

    @property
    def before(self) -> Checkpoint:
        """The model as it was given: the last checkpoint before the forget set."""
        return Checkpoint(self.model_path, self.model_hash, dtype=self.dtype, label="history-0")


@dataclass(frozen=True)
class Outline:
    """The size of a scenario's work, in rows through a forward and backward pass."""

    parameters: int
    row_tokens: float
    """Mean tokens of a row."""
    stages: Mapping[str, int]
    """Rows trained on for ``history``, ``target``, ``oracle-0`` ..."""
    forget: int
    retain: int
    probe_rows: int
    """Texts scored or generated when a checkpoint is measured."""
    recipe: Recipe | None = None
    """How the stages are trained, where that may have a dtype or adapters of its own."""


ALL_KINDS = frozenset({"logprob", "generate", "divergence", "gradnorm", "reference", "depth", "lm-eval", "judge"})
"""Kinds of probes that a language model can be asked."""


@dataclass(frozen=True)
class Suite:
    """The probes and metrics of a benchmark's complete evaluation, for `bench eval`."""

    probes: tuple[Probe, ...]
    """The id of every example ends in ``-<row>``, the row's number in its configuration."""
    metrics: tuple[Metric, ...]
    absent: Mapping[str, str] = field(default_factory=dict)
    """Names of the suite's metrics that these data can't give, with the reason."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What a reader must know of the data: rows of each configuration, which benchmark it is or isn't."""


@dataclass(frozen=True)
class Task:
    """Says what must be forgotten and how to look, in the lab or on a real model; a frozen dataclass of parameters, all
    with defaults.

    A new task writes five things: its fields, each with its meaning under it, `summary`, `metrics`, `prepare` and
    `outline`. Everything else has a default here. A benchmark with a lab and a real tier is two classes under one name.
    """

    summary: ClassVar[str]
    """One line: what is forgotten, and the paper."""
    version: ClassVar[int] = 1
    """Raised when the same parameters give another scenario."""
    data: ClassVar[str] = "generated"
    """Where the rows of the lab come from."""
    answers: ClassVar[frozenset[str]] = ALL_KINDS
    """Kinds of probes that its models can be asked."""
    files: ClassVar[bool] = False
    """Whether ``--data`` names files of the user's own."""
    presets_of: ClassVar[str] = ""
    """The task whose presets methods take here; empty: this one's."""
    judged: ClassVar[bool] = False
    """Whether `bench eval --judge` can name who judges the answers of its suite."""

    def metrics(self) -> tuple[Metric, ...]:
        """Every score of the task; needs no scenario, so that scores can be computed again."""
        raise NotImplementedError

    def prepare(self, work: TaskContext, setting: TaskInputs) -> Scenario:
        """Data, probes and lazily built checkpoints for ``work.seed``."""
        raise NotImplementedError

    def outline(self, setting: TaskInputs) -> Outline:
        """Sizes, for the estimate of `bench plan`; loads no model."""
        raise NotImplementedError

    def offers(self, setting: TaskInputs) -> frozenset[str]:
        """Which of a method's possible needs this task can meet there."""
        return frozenset({"history", "retain"})

    def problems(self) -> list[str]:
        """Sentences about parameters that it refuses."""
        return []

    def check(self, setting: TaskInputs) -> list[str]:
        """Sentences about the real tier's model or data, found before anything is trained."""
        return []

    def suite(self, data: str, split: str = "", judge: str = "") -> Suite:
        """The benchmark's complete suite on the rows of ``data``, for `bench eval`; each argument may be left empty."""
        raise UserError("The task has no suite to evaluate a model on.")


@dataclass
class AnswerLogProbs:
    """Log-probs of the answer tokens: ``values`` (B, K) in nats and float32, 0 outside ``mask`` (B, K)."""

    values: Tensor
    mask: Tensor

    @property
    def sums(self) -> Tensor:
        """Summed over the answer, (B,)."""
        return self.values.sum(-1)

    @property
    def means(self) -> Tensor:
        """Mean over the answer's tokens, (B,)."""
        return self.sums / self.mask.sum(-1).clamp(min=1)

    def weighted_means(self, weights: Tensor) -> Tensor:
        """The mean over the answer's tokens of weight times log-prob, (B,); the weights (B, K) have no gradient."""
        return AnswerLogProbs(weights.detach() * self.values, self.mask).means


@dataclass
class AtAnswers:
    """What a model has at the places where the answers' tokens are predicted: a row for each true entry of ``mask``,
    N of them.
    """

    mask: Tensor
    """(B, K)."""

    def row_means(self, each: Tensor) -> Tensor:
        """The mean over each row's tokens, (B,), of one number a token, (N,)."""
        return spread(each, self.mask).sum(-1) / self.mask.sum(-1).clamp(min=1)


@dataclass
class AnswerLogits(AtAnswers):
    """Logits there."""

    values: Tensor
    """(N, V) in float32."""
    labels: Tensor
    """(N,) the answers' tokens."""


@dataclass
class AnswerStates(AtAnswers):
    """Hidden states there."""

    values: tuple[Tensor, ...]
    """(N, D) of each block that was asked for, in float32."""


def spread(each: Tensor, mask: Tensor) -> Tensor:
    """One number for each true entry of ``mask`` (B, K) in its place, and 0 elsewhere."""
    return each.new_zeros(mask.shape).masked_scatter(mask, each)


@dataclass(frozen=True)
class Schedule:
    """The streams and the recipe that a stage is trained with."""

    streams: tuple[Stream, ...]
    recipe: Recipe


def steps_kept(steps: int, points: int) -> list[int]:
    """At which of ``steps`` steps a checkpoint is kept."""
    return sorted({max(1, round(steps * k / points)) for k in range(1, points + 1)})


@dataclass(frozen=True)
class Opened:
    """A model in memory, in evaluation mode, and what turns its examples into inputs."""

    model: Any
    tokenizer: Any = None
    """Of a model of texts."""
    coder: Any = None
    """Rows and batches of its examples (`bench.core.contracts.Coder`); it can't be trained without one."""
    adaptable: str | list[str] = "all-linear"
    """The layers that low-rank adapters go on, as peft names them: all linear ones but the head."""


class Judge:
    """Compares answers by their facts; a plug-in derives from it (entry points ``msa_bench.judges``, made without arguments)."""

    name: str
    """Stands beside every score: ``similarity``, ``chat:<model>``."""
    version: int
    """Raised whenever the same answers may get other grades."""
    accepts: float | None = None
    """Grade from which a single answer counts as given; None: it only compares, and can't accept one alone."""

    def grade(self, question: str, answer: str, options: Mapping[str, str]) -> dict[str, float]:
        """Grade how well each option fits the ``answer`` of a model, by the option's name; the highest is the pick.

        Only grades of one call compare. The names say nothing: a judge must not look at them.
        """
        raise NotImplementedError


Scoring = Callable[[Responses, Sequence[Responses]], Score]
"""(responses of the measured checkpoint, responses of the oracles that are other checkpoints) -> Score."""

PerExample = Callable[[Responses, Sequence[Responses]], dict[str, Any]]
"""The same arguments -> example id -> the example's own value: a number, several, or several by name."""


@dataclass(frozen=True)
class Metric:
    """A named, versioned number with a direction."""

    name: str
    compute: Scoring
    goal: str | float
    """``up``, ``down``, ``oracle`` (the nearer to the oracle's value the better) or a value to approach (PrivLeak: 0)."""
    version: int = 1
    needs_oracle: bool = False
    unit: str = ""
    examples: PerExample | None = None
    """The values behind the score, one for each example; None where the score has none (a harmonic mean, a p-value)."""
    description: str = ""
    """One line for `bench ls metrics`."""
    source: str = ""
    """Where the definition comes from, and where this one differs."""
    tasks: tuple[str, ...] = ()
    """Of a plug-in's metric: the tasks whose runs it scores; empty for all. Our own are named by the tasks."""
    late: bool = False
    """Whether it joined its task when records were published: it is no part of a run's key, and a record may lack it."""

    def to_json(self) -> dict[str, Any]:
        """The metric's entry in a record: version, goal, unit and whether it needs an oracle."""
        return {"version": self.version, "goal": self.goal, "unit": self.unit, "needs_oracle": self.needs_oracle}
