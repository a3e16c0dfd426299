"""Generating texts: greedy or sampled with a seed, finished rows dropped, a beginning that prompts share computed once,
and the whole prompt once for all of its samples.

The choice of a row's next token depends on the row alone: greedy is the argmax, and a sampled row draws from a
generator of its own, so that no text depends on what it is batched with. Prompts are padded on the left behind what
they share; the mask and the positions come from their lengths, never from token ids. Tokens are chosen on the model's
device, and fetched from there every so many steps (`steps_between_looks`): only then are ended rows dropped, several
at a time, since each time the others' keys and values are copied.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, LinearAttentionCacheLayerMixin

from bench.core.contracts import Opened
from bench.core.errors import UserError
from bench.engines.coding import embedding_rows
from bench.engines.devices import factor_of, send, send_numbers
from bench.engines.measuring.scoring import LOGITS_BYTES, TREE_TOLERANCE, common_prefix, has_window, parameters_of
from bench.engines.positions import check_length, learnt_places, plain_reach
from bench.engines.templates import answer_end

ROWS = (64, 256)
"""Fewest and most rows of a batch on a CPU; between them as many as `CACHE_BYTES` hold the keys and values of."""
CACHE_BYTES = 1 << 29
"""On a GPU several times as many (`bench.engines.devices.factor_of`), as of `PROMPT_TOKENS`; no row is too many or too few."""
PROMPT_TOKENS = 8192
"""Bound on the padded positions of a batch's prompts, on a GPU."""
LOOK = 16
"""Steps after which a GPU is asked which texts have ended; what is written behind an end is dropped."""
ENDED, NO_NUMBER = -1, -2
"""In the place of a token: the text has ended, or the logits were no numbers."""
DROP = 8
"""Ended rows are dropped once they are more than one in so many."""
SHARED = 16
"""Prompts with as many equal first tokens, four of them or more, make batches of their own."""
Prompt = tuple[int, ...]
TRIED = ((3, 4, 5, 6, 20, 21, 22), (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14))
"""Two prompts that begin alike, to see what a model makes of a batch."""
_tried: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""Model -> whether it takes batches."""


@dataclass(frozen=True)
class Sampling:
    """Draw each token from the softmax at ``temperature``, ``repeats`` times for each prompt."""

    seed: int
    repeats: int = 1
    temperature: float = 1.0


@dataclass(frozen=True)
class GenerationSettings:
    """The way in which texts are generated."""

    max_new_tokens: int
    min_new_tokens: int = 0
    stops: tuple[str, ...] = ()
    """A text ends where the first of these begins."""
    sampling: Sampling | None = None

    @classmethod
    def of(cls, max_new_tokens: int, options: Mapping[str, Any]) -> GenerationSettings:
        """Read a probe's ``max_new_tokens`` and ``options``: ``stops``, ``min_new_tokens``, ``sample``."""
        sample = options.get("sample")
        return cls(
            max_new_tokens,
            int(options.get("min_new_tokens", 0)),
            tuple(options.get("stops", ())),
            Sampling(**sample) if sample else None,
        )


@dataclass
class GenerationCost:
    """Positions computed and tokens generated, for the record's cost and the speed benchmark."""

    prefill: int = 0
    """Prompt positions computed, padding included."""
    steps: int = 0
    """Tokens generated, of unfinished and of not yet dropped rows."""
    broken: set[Prompt] = field(default_factory=set)
    """Prompts at which the model's logits were no numbers."""


@dataclass
class LiveRow:
    """One row of a batch under way."""

    key: tuple[Prompt, int]
    tokens: list[int] = field(default_factory=list)
    done: bool = False
    broken: bool = False
    """Whether the model had no number for its next token."""


def generate(
    opened: Opened,
    prompts: Sequence[Prompt],
    asking: GenerationSettings,
    device: str = "cpu",
    cost: GenerationCost | None = None,
) -> list[list[str]]:
    """The texts after each prompt, special tokens dropped and cut at the stops: one, or `Sampling.repeats`.

    Each distinct prompt is computed once. A text ends at the ids of `ends_of`; nothing else of the generation config is
    used. Texts that would get other positions in a batch (`bench.engines.positions`), and those of a model without a
    cache of keys and values, are written one by one. A prompt at which the model's logits are no numbers is named in
    ``cost.broken``, and its text is not one to be scored.
    """
    repeats, spent = asking.sampling.repeats if asking.sampling else 1, cost or GenerationCost()
    written: dict[tuple[Prompt, int], str] = {}
    reach = plain_reach(opened.model) if takes_cache(opened.model) and takes_batches(opened.model, device) else 0
    together = [prompt for prompt in dict.fromkeys(prompts) if len(prompt) + asking.max_new_tokens <= reach]
    rows = [
        row
        for batch in batch_prompts(together, repeats, partial(rows_of, opened.model, asking.max_new_tokens))
        for row in run_batch(opened, batch, asking, device, spent)
    ]
    for prompt in dict.fromkeys(prompts):
        if len(prompt) + asking.max_new_tokens > reach:
            rows += [write_alone(opened, (prompt, k), asking, device, spent) for k in range(repeats)]
    for row in rows:
        text = opened.tokenizer.decode(row.tokens, skip_special_tokens=True)
        written[row.key] = cut_at_stops(text, asking.stops)
        if row.broken:
            spent.broken.add(row.key[0])
    return [[written[prompt, repeat] for repeat in range(repeats)] for prompt in prompts]


def cut_at_stops(text: str, stops: Sequence[str]) -> str:
    """``text`` up to the first of ``stops``."""
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


def rows_of(model: Any, further: int, prompt: int) -> int:
    """Rows of a batch whose longest prompt has ``prompt`` tokens, by the keys and values of that many and ``further`` ones."""
    config = model.config.get_text_config()
    heads = getattr(config, "num_attention_heads", 1)
    width = getattr(config, "head_dim", None) or getattr(config, "hidden_size", 1 << 12) // heads
    kept = 2 * (getattr(config, "num_key_value_heads", None) or heads) * width * getattr(config, "num_hidden_layers", 1)
    times = factor_of(model)
    rows = times * CACHE_BYTES // max(1, kept * (prompt + further) * model.dtype.itemsize)
    if model.device.type == "cpu":
        return max(ROWS[0], min(ROWS[1], rows))
    return max(1, min(rows, times * PROMPT_TOKENS // prompt, times * LOGITS_BYTES // (4 * embedding_rows(model))))


def batch_prompts(
    prompts: Sequence[Prompt], repeats: int, most: Callable[[int], int]
) -> Iterator[list[tuple[Prompt, int]]]:
    """Batches of prompts of similar length, ``most(longest)`` rows at most; those that share their beginning come together."""
    heads: dict[Prompt, list[Prompt]] = {}
    for prompt in prompts:
        heads.setdefault(prompt[:SHARED], []).append(prompt)
    together = [group for group in heads.values() if len(group) >= 4]
    alone = [prompt for group in heads.values() if len(group) < 4 for prompt in group]
    for group in [*together, alone]:
        batch: list[tuple[Prompt, int]] = []
        for prompt in sorted(group, key=lambda p: (len(p), p)):
            for k in range(repeats):
                if batch and len(batch) >= most(len(prompt)):
                    yield batch
                    batch = []
                batch.append((prompt, k))
        if batch:
            yield batch


def ends_of(opened: Opened) -> frozenset[int]:
    """Tokens at which a text ends: the generation config's, the tokenizer's eos, and the end of a chat template's turn.

    Those that the model has no row for can't be written, and are left out. They are those at which an answer ends in
    training and in scoring (`bench.engines.templates.encode`).
    """
    given = getattr(opened.model.generation_config, "eos_token_id", None)
    listed = given if isinstance(given, list | tuple) else [given]
    ends = {token for token in (*listed, opened.tokenizer.eos_token_id) if isinstance(token, int)}
    with suppress(UserError):  # a chat template that nobody asks with may be broken
        ends |= set(answer_end(opened.tokenizer)[-1:])
    return frozenset(end for end in ends if 0 <= end < embedding_rows(opened.model))


def takes_cache(model: Any) -> bool:
    """Whether a model keeps keys and values, and nothing that padding or a shared beginning would change."""
    if "past_key_values" not in parameters_of(model) or getattr(model, "_is_stateful", False):
        return False
    layers = DynamicCache(config=model.config).layers
    return not any(isinstance(layer, LinearAttentionCacheLayerMixin) for layer in layers)


@torch.no_grad()
def takes_batches(model: Any, device: str) -> bool:
    """Whether two prompts side by side, with a cache, get the logits of plain passes; tried once for a model.

    A model that raises an error of its own there says no.
    """
    if min(learnt_places(model.config), plain_reach(model)) <= len(TRIED[1]):
        return True
    if model not in _tried:
        _tried[model] = distance_in_batch(model, device) <= TREE_TOLERANCE.get(model.dtype, 1)  # rounding
    return _tried[model]


def distance_in_batch(model: Any, device: str) -> float:
    """Nats between the next tokens of `TRIED` in a batch and alone, in the mean over what is likely; infinite if it fails."""
    prompts = [tuple(token % embedding_rows(model) for token in prompt) for prompt in TRIED]
    try:
        cache = roomy_cache(model, max(map(len, prompts)) + 1)
        first, mask = prefill(model, cache, prompts, device, GenerationCost())
        mask, ids = torch.cat([mask, mask.new_ones((2, 1))], dim=1), torch.zeros_like(mask[:, :1])
        second = last_logits(model, cache, ids, mask, mask.sum(1, keepdim=True) - 1)
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever a model's own code makes of a cache that it doesn't know
        return math.inf
    apart = 0.0
    for found, prompt in zip(torch.stack([first, second], dim=1), prompts, strict=True):
        whole = torch.tensor([[*prompt, 0]], device=device)
        right = model(input_ids=whole, use_cache=False).logits[0, -2:].float().log_softmax(-1)
        away = (found.float().log_softmax(-1) - right).abs().nan_to_num()  # a wreck is told of where it writes
        apart = max(apart, float((right.exp().nan_to_num() * away).sum(-1).max()))
    return apart


@torch.no_grad()
def write_alone(
    opened: Opened, key: tuple[Prompt, int], asking: GenerationSettings, device: str, cost: GenerationCost
) -> LiveRow:
    """Generate one text without a cache: every token from a plain pass over all that stands before it."""
    row, choose = LiveRow(key), Choice.of(opened, [key], asking, device)
    for step in range(asking.max_new_tokens):
        whole = [*key[0], *row.tokens]
        check_length(opened.model.config, len(whole))
        logits = opened.model(input_ids=send_numbers([whole], device), use_cache=False).logits[:, -1]
        cost.prefill, cost.steps = cost.prefill + len(whole), cost.steps + 1
        take_tokens(row, choose(logits, step).tolist(), opened.tokenizer, asking.stops)
        if row.done:
            break
    return row


def take_tokens(row: LiveRow, chosen: Sequence[int], tokenizer: Any, stops: Sequence[str]) -> None:
    """Add tokens to a row's text, and end it where one of them or a stop says so, or where there is no token to be had."""
    said = list(takewhile(lambda token: token >= 0, chosen))
    row.tokens += said
    if ends_in_stop(tokenizer, row.tokens, stops, len(said)):
        row.done = True
    elif len(said) < len(chosen):
        row.done, row.broken = True, chosen[len(said)] == NO_NUMBER


def steps_between_looks(model: Any, longest: int) -> int:
    """Steps until ended rows are dropped: one where the host needn't wait, or where a text could leave its positions."""
    return LOOK if model.device.type != "cpu" and longest <= learnt_places(model.config) else 1


@torch.no_grad()
def run_batch(
    opened: Opened, batch: Sequence[tuple[Prompt, int]], asking: GenerationSettings, device: str, cost: GenerationCost
) -> list[LiveRow]:
    """Generate for one batch until every row has ended."""
    rows, choose = [LiveRow(key) for key in batch], Choice.of(opened, batch, asking, device)
    longest = max(len(prompt) for prompt, _ in batch)
    check_length(opened.model.config, longest)
    look = steps_between_looks(opened.model, longest + asking.max_new_tokens)
    may_stay = longest + asking.max_new_tokens <= learnt_places(opened.model.config)
    cache = roomy_cache(opened.model, longest + asking.max_new_tokens)
    logits, mask = prefill_distinct(opened.model, cache, [prompt for prompt, _ in batch], device, cost)
    live, fresh = list(rows), list[Tensor]()
    for step in range(asking.max_new_tokens):
        fresh.append(choose(logits, step))
        if (step + 1) % look == 0 or step == asking.max_new_tokens - 1:
            for row, chosen in zip(live, torch.stack(fresh, 1).tolist(), strict=True):
                if not row.done:
                    take_tokens(row, chosen, opened.tokenizer, asking.stops)
            keep = [i for i, row in enumerate(live) if not row.done]
            if not keep or step == asking.max_new_tokens - 1:
                break
            if len(live) - len(keep) > (len(live) // DROP if may_stay else 0):
                kept = send_numbers(keep, device)
                cache.batch_select_indices(kept)
                choose.select(kept)
                mask, fresh, live = mask[kept], [fresh[-1][kept]], [live[i] for i in keep]
            check_length(opened.model.config, max(len(row.key[0]) + len(row.tokens) for row in live))
            ids, fresh = fresh[-1], []
        else:
            ids = fresh[-1]
        mask = torch.cat([mask, mask.new_ones((len(live), 1))], dim=1)
        cost.steps += len(live)
        ids = ids[:, None].clamp(min=0)  # behind an end anything may stand
        logits = last_logits(opened.model, cache, ids, mask, mask.sum(1, keepdim=True) - 1)
    return rows


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer with room for ``most`` tokens: a further one doesn't copy all before it."""

    keys: Tensor
    values: Tensor

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Those held, with the new ones behind them."""
        if self.get_seq_length() == 0:
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys, self.values = append(self.keys, key_states, self.most), append(self.values, value_states, self.most)
        return self.keys, self.values


def append(held: Tensor, new: Tensor, most: int) -> Tensor:
    """``held`` with ``new`` behind it, (..., T, D): written into the room that ``held`` is the beginning of, if there is some.

    Otherwise into one for ``most`` tokens, or as many as there are.
    """
    length, whole, room = held.shape[-2], held.shape[-2] + new.shape[-2], held._base
    if room is None or room.shape[:-2] != held.shape[:-2] or room.shape[-2] < whole:
        room = held.new_empty(*held.shape[:-2], max(whole, most), held.shape[-1])
        room[..., :length, :] = held
    room[..., length:whole, :] = new
    return room[..., :whole, :]


def roomy_cache(model: Any, most: int) -> DynamicCache:
    """An empty cache of the model's; layers that keep everything have room for ``most`` tokens."""
    cache = DynamicCache(config=model.config)
    cache.layers = [RoomyLayer(most) if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def prefill_distinct(
    model: Any, cache: Any, prompts: Sequence[Prompt], device: str, cost: GenerationCost
) -> tuple[Tensor, Tensor]:
    """As `prefill`, each distinct prompt once: the samples of one prompt share its keys and values."""
    distinct = list(dict.fromkeys(prompts))
    logits, mask = prefill(model, cache, distinct, device, cost)
    if len(distinct) == len(prompts):
        return logits, mask
    number = {prompt: i for i, prompt in enumerate(distinct)}
    rows = send_numbers([number[prompt] for prompt in prompts], device)
    cache.batch_select_indices(rows)
    return logits[rows], mask[rows]


def prefill(
    model: Any, cache: Any, prompts: Sequence[Prompt], device: str, cost: GenerationCost
) -> tuple[Tensor, Tensor]:
    """Fill the cache; the logits after each prompt (B, V) and the mask (B, T) of what in the cache is real."""
    shared = min(common_prefix(prompts[0], prompt) for prompt in prompts)
    shared = min(shared, *(len(prompt) - 1 for prompt in prompts))
    if shared > 0 and len(prompts) > 1 and not has_window(model.config):
        cost.prefill += shared
        head = send_numbers([prompts[0][:shared]], device)
        last_logits(model, cache, head, torch.ones_like(head), torch.arange(shared, device=device)[None])
        cache.batch_repeat_interleave(len(prompts))
    else:
        shared = 0
    width = max(map(len, prompts)) - shared
    pads = [width + shared - len(prompt) for prompt in prompts]
    ids = send_numbers(([0] * pad + list(prompt[shared:]) for pad, prompt in zip(pads, prompts, strict=True)), device)
    place, padded = torch.arange(shared + width, device=device), send_numbers(pads, device)[:, None]
    mask = ((place < shared) | (place >= shared + padded)).long()
    cost.prefill += ids.numel()
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
    return last_logits(model, cache, ids, mask, positions), mask


def last_logits(model: Any, cache: Any, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """One step: the logits after the last of ``ids`` (B, V); ``mask`` is over everything in the cache and ``ids``."""
    inputs = {"attention_mask": mask, "position_ids": positions, "logits_to_keep": 1}
    taken = {name: value for name, value in inputs.items() if name in parameters_of(model)}
    found: Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True, **taken).logits[:, -1]
    return found


def draw(sampling: Sampling, key: tuple[Prompt, int], count: int) -> Tensor:
    """A row's own random numbers, one a step, by the seed, the repeat and the prompt."""
    seed = hashlib.sha256(repr((sampling.seed, *key)).encode()).digest()
    source = torch.Generator().manual_seed(int.from_bytes(seed[:8], "big") >> 1)
    return torch.rand(count, generator=source, dtype=torch.float64)


@dataclass
class Choice:
    """How the next token of each row of a batch is chosen, all on the device."""

    ends: Tensor
    asking: GenerationSettings
    ongoing: Tensor  # (B,) whether a row's text hasn't ended
    draws: Tensor | None  # (B, steps)

    @classmethod
    def of(cls, opened: Opened, keys: Sequence[tuple[Prompt, int]], asking: GenerationSettings, device: str) -> Choice:
        """At the beginning of a batch."""
        sampling, draws = asking.sampling, None
        if sampling:
            draws = send(torch.stack([draw(sampling, key, asking.max_new_tokens) for key in keys]), device)
        ongoing = torch.ones(len(keys), dtype=torch.bool, device=device)
        return cls(send_numbers(sorted(ends_of(opened)), device), asking, ongoing, draws)

    def select(self, kept: Tensor) -> None:
        """Go on with some rows alone."""
        self.ongoing = self.ongoing[kept]
        self.draws = self.draws if self.draws is None else self.draws[kept]

    def __call__(self, logits: Tensor, step: int) -> Tensor:
        """Each row's token (B,), `ENDED` from its end on, or `NO_NUMBER`; no end before the least number of tokens."""
        logits = logits.float()
        if step < self.asking.min_new_tokens:
            tokens = torch.arange(logits.shape[-1], device=logits.device)
            logits = logits.masked_fill(torch.isin(tokens, self.ends), -torch.inf)
        if self.asking.sampling is None or self.draws is None:
            best = logits.argmax(-1, keepdim=True)  # of a row with a NaN it is the NaN's place
            found, sound = best[:, 0], logits.gather(-1, best).isfinite()[:, 0]
        else:
            shares = (logits / self.asking.sampling.temperature).softmax(-1).double().cumsum(-1)
            at = torch.searchsorted(shares, self.draws[:, step : step + 1] * shares[:, -1:])
            found, sound = at.clamp(max=shares.shape[-1] - 1)[:, 0], shares[:, -1].isfinite()
        found = found.masked_fill(torch.isin(found, self.ends), ENDED).masked_fill(~sound, NO_NUMBER)
        found = found.masked_fill(~self.ongoing, ENDED)
        self.ongoing = found >= 0
        return found


def ends_in_stop(tokenizer: Any, tokens: Sequence[int], stops: Sequence[str], new: int = 1) -> bool:
    """Whether a stop stands in what was written; only the last tokens are ``new``, so only the end is read."""
    if not (stops and new):
        return False
    tail = tokenizer.decode(tokens[-(max(map(len, stops)) + 7 + new) :], skip_special_tokens=True)
    return any(stop in tail for stop in stops)
