"""A model in parts, one with each process (FSDP2), and its way to disk and back.

The model is sharded here and handed to the Trainer as one that was sharded when it was loaded: accelerate's own FSDP
takes no CPU, and the same path on CPU and GPU is what a test without a GPU can vouch for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from bench.core import distributed

SHARDS = "shards"
"""Folder of a resumable state that several processes have written."""


def shard_model(model: nn.Module, device: str) -> None:
    """Split every parameter over the processes, in place; the blocks of a transformer are gathered one at a time."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.split(":")[0], (distributed.world(),))
    blocks = tuple(getattr(model, "_no_split_modules", None) or ())
    for module in list(model.modules()):
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def whole_state(model: nn.Module) -> dict[str, Any]:
    """All weights on the first process, on its CPU; nothing on the others. Every process must call it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    state = dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True)))
    first: dict[int, str] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        kept = first.setdefault(id(parameter), name)
        if name in state:
            state[name] = state[kept]  # tied weights were gathered apart, and are one tensor again
    return state


def own_state(model: nn.Module, optimizer: Any, scheduler: Any) -> dict[str, Any]:
    """This process's part of a training run's state."""
    from torch.distributed.checkpoint.state_dict import get_state_dict

    weights, moments = get_state_dict(model, optimizer)
    return {"weights": weights, "moments": moments, "scheduler": scheduler.state_dict()}


def save_state(folder: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Write what going on needs, each process its own part: weights, the optimiser's moments, the schedule."""
    import torch.distributed.checkpoint as files

    files.save(own_state(model, optimizer, scheduler), checkpoint_id=folder / SHARDS)


def load_state(folder: Path, model: nn.Module, optimizer: Any, scheduler: Any) -> None:
    """Read what `save_state` wrote back into the model and its optimiser; the number of processes may be another one."""
    import torch.distributed.checkpoint as files
    from torch.distributed.checkpoint.state_dict import set_state_dict

    state = own_state(model, optimizer, scheduler)
    files.load(state, checkpoint_id=folder / SHARDS)
    set_state_dict(model, optimizer, model_state_dict=state["weights"], optim_state_dict=state["moments"])
    scheduler.load_state_dict(state["scheduler"])
