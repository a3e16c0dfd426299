"""A model in parts, one with each process (FSDP2).

It is handed to the Trainer as one that was sharded when it was loaded: accelerate's own FSDP takes no CPU, and the same path
on CPU and GPU is what a test without a GPU can vouch for. Low-rank adapters are small: each process holds them whole, and the
processes average their gradients (`bench.engines.training.trainer`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from bench.core import distributed


def shard_model(model: nn.Module, device: str) -> None:
    """Split every parameter over the processes, in place; the blocks of a transformer are gathered one at a time.

    Adapters stay whole, and so does a model that is in parts already.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if is_in_parts(model):
        return
    base, adapters = base_of(model), adapter_parameters(model)
    mesh = init_device_mesh(device.split(":")[0], (distributed.world(),))
    blocks = tuple(getattr(base, "_no_split_modules", None) or ())
    for module in reversed(list(base.modules())):  # a block inside a block comes first
        if type(module).__name__ in blocks:
            fully_shard(module, mesh=mesh, ignored_params=adapters)
    fully_shard(base, mesh=mesh, ignored_params=adapters)


def is_in_parts(model: nn.Module) -> bool:
    """Whether this process has a part of the model alone."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def base_of(model: Any) -> Any:
    """The model inside its adapters, or the model itself where it has none."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def adapter_parameters(model: nn.Module) -> set[nn.Parameter]:
    """What is trained of a model with adapters; nothing of a model without."""
    if not hasattr(model, "get_base_model"):
        return set()
    return {parameter for parameter in model.parameters() if parameter.requires_grad}


def put_parts_back(model: nn.Module) -> None:
    """Let go of what a pass without gradients has gathered: the weights outside the blocks, which it leaves whole."""
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
