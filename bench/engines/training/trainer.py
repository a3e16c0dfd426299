"""The training engine: one thin subclass of `transformers.Trainer` whose loss is a function ``(model, batch) -> (B,)``.

An optimiser step is defined in examples: the rows of every step are planned from the seed before training starts, and
a data set item is one such step (or one micro-batch of it). Nothing else draws from a generator, so that batches
depend on the run's own seed alone. Under torchrun every process takes its share of each item's rows.
"""

from __future__ import annotations

import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed import all_reduce
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback, ProgressCallback
from transformers.utils import logging as transformers_logging

from bench.core import distributed, stopping
from bench.core.contracts import Coder, Recipe, Row, Stream
from bench.core.errors import Unmet, UserError
from bench.core.seals import break_seal, is_whole, seal
from bench.core.stopping import Stopped
from bench.engines.parts import adapter_parameters, base_of, is_in_parts, put_parts_back, shard_model
from bench.engines.positions import check_length, plain_reach
from bench.engines.training.gathering import write_whole
from bench.engines.training.references import Reference, read_target
from bench.engines.training.sharding import SHARDS, load_state, save_state

transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True)
class Trained:
    """Cost and course of a training run."""

    seconds: float
    tokens: int
    """Tokens of the rows trained on, padding not counted."""
    curve: tuple[dict[str, float], ...]
    """At most 200 points (`curve_of`)."""
    tokens_at: dict[int, int]
    """Tokens trained on up to each snapshot's step."""
    resumed: bool
    """Whether it went on from an interrupted run; ``seconds`` are then of the last part only."""
    steps: int
    """Optimiser steps made: fewer than the recipe's where its ``until`` was reached."""
    weights: tuple[float, ...]
    """Of the streams at the end: of one with a `Limit` its dual variable."""


def plan_rows(n: int, batch: int, steps: int, rng: random.Random) -> list[list[int]]:
    """Row indices for each step: consecutive slices of an endless sequence of shuffled epochs."""

    def endless() -> Iterator[int]:
        while True:
            order = list(range(n))
            rng.shuffle(order)
            yield from order

    rows = endless()
    return [[next(rows) for _ in range(min(batch, n))] for _ in range(steps)]


@dataclass(frozen=True)
class Part:
    """The rows of one stream in one micro-batch."""

    stream: int
    rows: tuple[int, ...]
    of: int
    """Rows of this stream in the whole optimiser step: the mean is over these."""


class StepData(list[list[Part]]):
    """A data set whose item i is micro-batch i; a step has ``accumulation`` of them."""

    def __init__(self, streams: Sequence[Stream], steps: int, seed: int, micro: int | None) -> None:
        plans = [
            plan_rows(len(stream.examples), stream.batch, steps, random.Random(f"{seed}/{i}"))
            for i, stream in enumerate(streams)
        ]
        largest = max(len(plan[0]) for plan in plans)
        self.accumulation = -(-largest // micro) if micro else 1
        for step in range(steps):
            rows_of_step = [plan[step] for plan in plans]
            for first in range(self.accumulation):
                shares = [tuple(rows[first :: self.accumulation]) for rows in rows_of_step]
                numbered = enumerate(zip(shares, rows_of_step, strict=True))
                self.append([Part(i, share, len(rows)) for i, (share, rows) in numbered if share])


class StepTrainer(Trainer):
    """The Trainer with the loss, the order and the logging replaced; everything else is the library's."""

    streams: Sequence[Stream]
    coder: Coder
    encoded: Sequence[Sequence[Row]]
    references: Sequence[Reference]
    weights: list[float]
    """Of the streams; of one with a `Limit` it moves."""
    step_losses: list[list[tuple[Tensor, int]]]
    """Of the step under way, by stream: each micro-batch's summed loss, on the device, and the rows of its mean."""

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def training_step(self, model: nn.Module, inputs: dict[str, Any], *rest: Any) -> Tensor:
        """A forward and backward pass; of streams with a sharpness where the weights have moved up their loss."""
        sharp = [part for part in inputs["parts"] if self.streams[part.stream].sharpness]
        if not sharp:
            return super().training_step(model, inputs, *rest)
        radius = max(self.streams[part.stream].sharpness for part in sharp)
        with self.moved_uphill(model, sharp, radius):
            loss = super().training_step(model, {"parts": sharp}, *rest)
        others = [part for part in inputs["parts"] if part not in sharp]
        return loss + super().training_step(model, {"parts": others}, *rest) if others else loss

    @contextmanager
    def moved_uphill(self, model: nn.Module, parts: Sequence[Part], radius: float) -> Iterator[None]:
        """While this lasts the weights stand ``radius`` further along the normalised gradient of the parts' loss."""
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        before = [list(losses) for losses in self.step_losses]
        with self.compute_loss_context_manager():
            loss = self.compute_loss(model, {"parts": parts})
        slopes = torch.autograd.grad(loss, weights, allow_unused=True)
        self.step_losses[:] = before
        norm = torch.linalg.vector_norm(torch.stack([slope.norm() for slope in slopes if slope is not None]))
        kept = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, slope in zip(weights, slopes, strict=True):
                if slope is not None:
                    weight.add_(slope * (radius / norm.clamp(min=1e-12)))
        del slopes, loss
        try:
            yield
        finally:
            with torch.no_grad():
                for weight, value in zip(weights, kept, strict=True):
                    weight.copy_(value)

    def compute_loss(self, model: nn.Module, inputs: dict[str, Any], *_: Any, **__: Any) -> Tensor:
        """Sum over streams of weight times the mean of the stream's losses."""
        losses: list[Tensor] = []
        for part in inputs["parts"]:
            stream = self.streams[part.stream]
            own = distributed.take_share(part.rows)
            rows = own or part.rows[:1]  # without a row of its own a process still takes part in gathering the weights
            batch = self.coder.collate([self.encoded[part.stream][row] for row in rows], self.args.device)
            self.references[part.stream].attach(batch, rows)
            each = stream.loss(model, batch)
            if not own:
                each = each * 0.0
            self.step_losses[part.stream].append((each.detach().sum(), part.of))
            losses.append(self.weights[part.stream] * each.sum() / part.of)
        # training_step divides by the accumulation, since it takes micro-batch means; ours sum to the step's mean.
        # Gradients and logged losses are means over the processes; ours sum to the whole.
        return torch.stack(losses).sum() * self.current_gradient_accumulation_steps * distributed.world()


class ShardedTrainer(StepTrainer):
    """`StepTrainer` for a model in parts, one with each process; no process has rows that another one hasn't."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All items, on every process."""
        return DataLoader(self.train_dataset, batch_size=1, collate_fn=self.data_collator)

    def _defer_fsdp_gradient_reduction(self) -> AbstractContextManager[None]:
        """Defer nothing: after every micro-batch each process has its part of the gradients, and not the whole."""
        return nullcontext()

    def _sync_replicated_trainable_parameters(self, model: nn.Module) -> None:
        """Average the gradients of adapters, which every process holds whole, at the end of a step."""

        def average(parameter: Tensor) -> None:
            if self.accelerator.sync_gradients and parameter.grad is not None:
                all_reduce(parameter.grad)
                parameter.grad.div_(distributed.world())

        for parameter in adapter_parameters(model):
            parameter.register_post_accumulate_grad_hook(average)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Do nothing: the weights are in the state that is written next."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        save_state(Path(output_dir), self.model, self.optimizer, self.lr_scheduler)

    def _load_from_checkpoint(self, *_: Any, **__: Any) -> None:
        """Do nothing: there is no optimizer yet, and weights come with its state."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            load_state(Path(checkpoint), self.model, self.optimizer, self.lr_scheduler)


class StepEnd(TrainerCallback):
    """Acts after an optimiser step: snapshots, a report, and the end where `Recipe.until` is reached."""

    def __init__(
        self,
        trainer: StepTrainer,
        until: float,
        snapshots: Sequence[int],
        save_step: Callable[[int], None],
        report: Callable[[int, int], None],
        watch: Callable[[dict[str, float]], None],
    ) -> None:
        self.trainer, self.until, self.snapshots = trainer, until, set(snapshots)
        self.save_step, self.report, self.watch = save_step, report, watch
        self.watched = 0
        """Points of the curve that were passed on."""
        self.parts: list[list[Tensor]] = []
        """Since the last point, by step: each stream's mean loss, of this process's rows, on the device."""
        stream = trainer.streams[0]
        rows = len(stream.examples)
        self.window = -(-rows // min(stream.batch, rows))
        """Steps in one pass over the first stream."""
        self.stopped = False
        """Whether training ended before its time, with its state written (`bench.core.stopping`)."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Take up the weights that an interrupted run had come to."""
        kept = [entry["weights"] for entry in state.log_history if "weights" in entry]
        if kept:
            self.trainer.weights[:] = kept[-1]

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Set the weights that go on a straight line."""
        for i, stream in enumerate(self.trainer.streams):
            if stream.last_weight is not None:
                share = state.global_step / max(1, state.max_steps - 1)
                self.trainer.weights[i] = stream.weight + share * (stream.last_weight - stream.weight)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Move the weights, snapshot, report, and stop early."""
        losses, self.trainer.step_losses[:] = list(self.trainer.step_losses), [[] for _ in self.trainer.streams]
        self.move_weights(state, losses)
        if len(losses) > 1:
            self.parts.append([sum_losses(each, args.device) for each in losses])
        if state.global_step in self.snapshots:
            self.save_step(state.global_step)
        self.report(state.global_step, state.max_steps)
        if self.is_enough(state, losses[0]):
            control.should_training_stop = True
            control.should_save = False  # going on from a state of this step would make another one
        elif state.global_step < state.max_steps and stopping.is_asked():
            control.should_training_stop = control.should_save = self.stopped = True

    def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add the streams' losses to the point that was just logged, and pass on what is new of the curve."""
        if "loss" not in state.log_history[-1]:
            return
        if self.parts:  # one transfer a point
            means = torch.stack([torch.stack(step) for step in self.parts]).mean(0).tolist()
            names = name_losses(self.trainer.streams)
            state.log_history[-1] |= {
                name: distributed.sum_over_processes(mean) for name, mean in zip(names, means, strict=True)
            }
            self.parts.clear()
        curve = curve_of(state.log_history)
        for point in curve[self.watched :]:  # of a training that goes on, what came before the interruption too
            self.watch(point)
        self.watched = len(curve)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Seal the resumable state, once every process has written its part."""
        distributed.call_on_all(lambda: None)
        if distributed.is_first():
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")

    def move_weights(self, state: Any, losses: Sequence[Sequence[tuple[Tensor, int]]]) -> None:
        """Move the weight of each stream with a `Limit` by how far its loss was from it."""
        limited = [(i, stream.limit) for i, stream in enumerate(self.trainer.streams) if stream.limit]
        for i, limit in limited:
            mean = mean_over_processes(losses[i])
            if state.global_step > limit.after:
                self.trainer.weights[i] = max(0.0, self.trainer.weights[i] + limit.rate * (mean - limit.most))
        if limited:  # in the state it outlives an interruption
            state.log_history.append({"step": state.global_step, "weights": list(self.trainer.weights)})

    def is_enough(self, state: Any, losses: Sequence[tuple[Tensor, int]]) -> bool:
        """Whether the first stream's mean loss over the last pass, in nats per token, is at most ``until``."""
        if not self.until:
            return False
        mean = mean_over_processes(losses)
        state.log_history.append({"step": state.global_step, "first": mean})  # there it outlives an interruption
        means = [entry["first"] for entry in state.log_history if "first" in entry]
        return len(means) >= self.window and sum(means[-self.window :]) / self.window <= self.until


def mean_over_processes(losses: Sequence[tuple[Tensor, int]]) -> float:
    """A stream's mean loss in a step, from the micro-batches of all processes."""
    return distributed.sum_over_processes(sum(float(each) / rows for each, rows in losses))


def sum_losses(losses: Sequence[tuple[Tensor, int]], device: torch.device) -> Tensor:
    """A stream's mean loss in a step, of this process's rows, (), float32."""
    each = [loss.float() / rows for loss, rows in losses]
    return torch.stack(each).sum() if each else torch.zeros((), device=device)


def name_losses(streams: Sequence[Stream]) -> list[str]:
    """``loss_`` and the loss's name for each stream: ``loss_npo``, ``loss_next_token``, ``loss_next_token_2``."""
    names: list[str] = []
    for stream in streams:
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", type(stream.loss).__name__.removesuffix("Loss"))
        name = "_".join(["loss", *words]).lower()
        count = sum(re.fullmatch(rf"{name}(_\d+)?", other) is not None for other in names)
        names.append(f"{name}_{count + 1}" if count else name)
    return names


CURVE = {"step": "step", "loss": "loss", "lr": "learning_rate", "grad_norm": "grad_norm"}
"""What a curve's points hold -> the Trainer's name for it."""


def curve_of(history: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    """The points of a training: ``step``, ``loss`` and, where there are several streams, each one's own, unweighted
    (``loss_...``), as means over the steps since the last point; ``lr`` and ``grad_norm`` (before clipping) of the last step.
    """
    points = [entry for entry in history if "loss" in entry]
    return [
        {own: entry[theirs] for own, theirs in CURVE.items() if theirs in entry}
        | {name: value for name, value in entry.items() if name.startswith("loss_")}
        for entry in points
    ]


def train(
    model: nn.Module,
    coder: Coder,
    streams: Sequence[Stream],
    recipe: Recipe,
    *,
    seed: int,
    out: Path,
    scratch: Path,
    snapshots: Sequence[int] = (),
    save_every: int = 0,
    micro: int | None = None,
    autocast: bool = False,
    checkpointing: bool = False,
    use_cpu: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
    watch: Callable[[dict[str, float]], None] = lambda point: None,
) -> Trained:
    """Train ``model`` in place and write it to ``out`` (and to ``out/step-N`` for each snapshot).

    ``scratch`` holds the Trainer's own checkpoints, written every ``save_every`` steps; training goes on from the last
    of them, to the bit, when there is one, and writes one more when it is asked to stop (`Stopped`). ``micro``
    bounds the rows of a stream in one forward pass; ``checkpointing``
    computes activations again in the backward pass instead of keeping them. Where several processes work together
    (`bench.core.distributed`), each must call this, and each is told by ``watch`` of every point of the curve as it comes;
    the model is left in parts, and the first process writes it whole.
    """
    assert streams and all(stream.examples for stream in streams), "every stream needs rows to train on"
    began = time.perf_counter()
    encoded = [[coder.encode(example.payload) for example in stream.examples] for stream in streams]
    check_processes(use_cpu)
    if distributed.world() > 1 and any(stream.sharpness for stream in streams):
        raise UserError("Sharpness-aware minimisation moves whole weights: run it in one process, without torchrun.")
    check_reach(model, [each.length for rows in encoded for row in rows for each in answers_of(row)])
    freeze_others(model, recipe.only)
    if checkpointing:
        cast(Any, model).gradient_checkpointing_enable({"use_reentrant": False})  # the Trainer's name for it changes
    data = StepData(streams, recipe.steps, seed, micro and micro * distributed.world())
    arguments = trainer_arguments(recipe, seed, scratch, data.accumulation, save_every, autocast, use_cpu)
    trainer = make_trainer(model, coder, streams, encoded, data, arguments)
    early = scratch / "snapshots"  # beside the resumable state, so that they outlive an interruption

    def save_step(step: int) -> None:
        place = early / f"step-{step:06d}"
        if distributed.is_first():
            shutil.rmtree(place, ignore_errors=True)  # what a killed process left of it
        save_model(model, coder, place)
        if distributed.is_first():
            seal(place)

    end = StepEnd(trainer, recipe.until, snapshots, save_step, report, watch)
    trainer.add_callback(end)
    resume = distributed.call_on_first(lambda: resumable_checkpoint(scratch, snapshots))
    trainer.train(resume_from_checkpoint=resume)
    if end.stopped:
        raise Stopped(further=True)
    save_model(model, coder, out)
    if distributed.is_first():
        for step in snapshots:
            break_seal(early / f"step-{step:06d}")
            shutil.move(early / f"step-{step:06d}", out / f"step-{step:06d}")
    steps = trainer.state.global_step
    items = data[: steps * data.accumulation]
    lengths = [[sum(each.length for each in answers_of(row)) for row in rows] for rows in encoded]
    spent = [sum(lengths[part.stream][row] for part in parts for row in part.rows) for parts in items]
    return Trained(
        seconds=time.perf_counter() - began,
        tokens=sum(spent),
        curve=tuple(curve_of(trainer.state.log_history)),
        tokens_at={step: sum(spent[: step * data.accumulation]) for step in snapshots},
        resumed=resume is not None,
        steps=steps,
        weights=tuple(trainer.weights),
    )


def answers_of(row: Row) -> tuple[Row, ...]:
    """A row, and the same prompt with its other answer where it has one: each goes through the model."""
    return (row, row.alternate) if row.alternate else (row,)


def freeze_others(model: Any, only: str) -> None:
    """Leave all weights alone but those whose whole name the regular expression ``only`` matches; empty: train all.

    `Unmet` where the model has no such weights, or adapters in their place.
    """
    if not only:
        return
    if base_of(model) is not model:
        raise Unmet("it trains some of the weights alone, and with --lora adapters are trained in their place")
    chosen = [name for name, _ in model.named_parameters() if re.fullmatch(only, name)]
    if not chosen:
        raise Unmet(f"it trains the weights whose names match {only!r} alone, and this model has none")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)


SCHEDULES = {"constant": "constant_with_warmup", "wsd": "warmup_stable_decay"}
"""Schedules that the Trainer calls by another name."""


def trainer_arguments(
    recipe: Recipe, seed: int, scratch: Path, accumulation: int, save_every: int, autocast: bool, use_cpu: bool
) -> TrainingArguments:
    """The recipe in the Trainer's words; all that the harness does itself is switched off."""
    return TrainingArguments(
        output_dir=str(scratch),
        max_steps=recipe.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=accumulation,
        learning_rate=recipe.lr,
        lr_scheduler_type=SCHEDULES.get(recipe.schedule, recipe.schedule),
        lr_scheduler_kwargs={"num_decay_steps": recipe.steps - recipe.stable_steps, "decay_type": "linear"}
        if recipe.schedule == "wsd"
        else {},
        warmup_steps=round(recipe.warmup * recipe.steps),
        weight_decay=recipe.weight_decay,
        adam_beta1=0.9,
        adam_beta2=recipe.beta2,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        seed=seed,
        bf16=autocast,
        use_cpu=use_cpu,
        report_to="none",
        disable_tqdm=True,
        logging_strategy="steps",
        logging_steps=max(1, recipe.steps // 100),
        logging_nan_inf_filter=False,
        save_strategy="steps" if save_every else "no",
        save_steps=save_every or 500,
        save_total_limit=2,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
    )


def make_trainer(
    model: nn.Module,
    coder: Coder,
    streams: Sequence[Stream],
    encoded: Sequence[Sequence[Row]],
    data: StepData,
    arguments: TrainingArguments,
) -> StepTrainer:
    """The Trainer of this process, its model split where several processes work together, its references computed."""
    several = distributed.world() > 1
    trainer = (ShardedTrainer if several else StepTrainer)(
        model=model, args=arguments, train_dataset=data, data_collator=lambda items: {"parts": items[0]}
    )
    trainer.streams, trainer.coder, trainer.encoded = streams, coder, encoded
    trainer.weights, trainer.step_losses = [stream.weight for stream in streams], [[] for _ in streams]
    if several:
        shard_model(model, arguments.device.type)
    trainer.references = read_target(model, coder, streams, encoded, arguments.device)
    if several:
        put_parts_back(model)
        trainer.is_distributed_loading_by_transformers = True  # nobody is to wrap it once more
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return trainer


def check_processes(use_cpu: bool) -> None:
    """Raise `UserError` for processes and devices that nothing can be trained with."""
    if distributed.count_launched() > distributed.world():
        raise UserError(
            "Under torchrun there are `python -m bench run` and `reproduce`: start anything else without it."
        )
    if distributed.world() == 1 and not use_cpu and torch.cuda.device_count() > 1:
        raise UserError(
            "Training in one process runs on one device: give it one GPU (CUDA_VISIBLE_DEVICES), or start one process "
            "a GPU with `torchrun --nproc-per-node N -m bench run ...`."
        )


def check_reach(model: Any, lengths: Sequence[int]) -> None:
    """`UserError` for a text without places of its own, or whose positions would depend on the texts beside it."""
    check_length(getattr(model, "config", None), max(lengths))
    if max(lengths) > (reach := plain_reach(model)):
        raise UserError(
            f"A text of {max(lengths)} tokens can't be trained on: beyond {reach} tokens this model's positions (dynamic or "
            "longrope) depend on the longest text of a batch; take shorter rows, or a model with plain positions."
        )


def save_model(model: Any, coder: Any, folder: Path) -> None:
    """Weights (safetensors), config, and what the coder keeps (a tokenizer); adapters are merged into what is written alone.

    Of a model in parts the first process writes the whole, tensor by tensor; the others return when it is there.
    """
    if is_in_parts(model) or base_of(model) is not model:
        write_whole(model, folder)
        distributed.call_on_first(lambda: coder.save_pretrained(folder))
        return
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    coder.save_pretrained(folder)


def resumable_checkpoint(scratch: Path, snapshots: Sequence[int] = ()) -> str | None:
    """The newest whole checkpoint in ``scratch`` or None; `UserError` where this kind of run can't go on from it."""
    found = last_checkpoint(scratch, snapshots)
    if found and (Path(found) / SHARDS).exists() != (distributed.world() > 1):
        several, one = "several processes (torchrun)", "one process (no torchrun)"
        made, now = (several, one) if distributed.world() == 1 else (one, several)
        raise UserError(
            f"This training was interrupted while {made} worked on it, and {now} can't go on from there: start it as "
            f"before, or delete '{scratch}' to begin again."
        )
    return found


def last_checkpoint(scratch: Path, snapshots: Sequence[int] = ()) -> str | None:
    """The Trainer's newest checkpoint in ``scratch`` that is whole, as are the snapshots before it; None without one.

    What isn't sealed, or isn't what was sealed, is passed over: it was being written, or it is damaged.
    """
    states = {int(path.name.split("-")[1]): path for path in scratch.glob("checkpoint-*") if path.name[11:].isdecimal()}
    for step in sorted(states, reverse=True):
        kept = [scratch / "snapshots" / f"step-{early:06d}" for early in snapshots if early <= step]
        if all(map(is_whole, [states[step], *kept])):
            return str(states[step])
    return None
