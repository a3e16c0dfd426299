"""The state of a training run that several processes make together, on disk and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from bench.engines.parts import adapter_parameters

SHARDS = "shards"
"""Folder of a resumable state that several processes have written."""


def own_state(model: nn.Module, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    """This process's part of a training run's state; of a model with adapters theirs alone."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(model, optimizer)
    frozen = {name for name, each in model.named_parameters(remove_duplicate=False) if not each.requires_grad}
    trained = {name: tensor for name, tensor in weights.items() if name not in frozen}
    return {"weights": trained, "moments": moments, "scheduler": scheduler.state_dict()}


def save_state(folder: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Write what going on needs, each process its own part: weights, the optimiser's moments, the schedule."""
    import torch.distributed.checkpoint as files

    files.save(own_state(model, optimizer, scheduler), checkpoint_id=folder / SHARDS)


def load_state(folder: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Read what `save_state` wrote back into the model and its optimiser; the number of processes may be another one."""
    import torch.distributed.checkpoint as files
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_state_dict

    state = own_state(model, optimizer, scheduler)
    files.load(state, checkpoint_id=folder / SHARDS)
    set_state_dict(
        model,
        optimizer,
        model_state_dict=state["weights"],
        optim_state_dict=state["moments"],
        options=StateDictOptions(strict=not adapter_parameters(model)),  # what is frozen is as it was opened
    )
    scheduler.load_state_dict(state["scheduler"])
