"""The optimiser of a training: PyTorch's, on the parameters themselves.

fast-reid copies all parameters into flat buffers first (``ContiguousParams``). These fix the memory
format of every weight, and an optimiser sees a buffer instead of parameters.
"""

from typing import Any, NamedTuple

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import CfgNode
from fastreid.solver.build import get_default_optimizer_params
from torch import nn
from torch.optim import Optimizer

from cmemd.errors import InputError

__all__ = ["Optimization", "build_optimizer", "kernel", "layer_factors"]

# Optimisers that update all parameters in one kernel, and the devices on which they can.
_FUSED = {
    "SGD": ("cpu", "cuda"),
    "Adam": ("cpu", "cuda"),
    "AdamW": ("cpu", "cuda"),
    "Adagrad": ("cpu",),
}


class Optimization(NamedTuple):
    """An optimiser, and what it leaves alone at first."""

    optimizer: Optimizer
    frozen: list[nn.Parameter]  # of MODEL.FREEZE_LAYERS
    freeze_iters: int  # they stay as they are for so many iterations


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimization:
    """Return the optimiser of ``cfg.SOLVER``, with fast-reid's rates and decays.

    Parameters with the same rate, decay and freezing make one group, in the order of the network.

    Args:
        cfg: the configuration.
        model: the network, on its device.

    Raises:
        InputError: ``SOLVER.LAYER_DECAY`` with a backbone that does not number its layers.
    """
    solver = cfg.SOLVER
    single = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        heads_lr_factor=solver.HEADS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        freeze_layers=cfg.MODEL.FREEZE_LAYERS if solver.FREEZE_ITERS > 0 else [],
    )
    if solver.LAYER_DECAY != 1:
        factors = layer_factors(model, solver.LAYER_DECAY)
        for one in single:
            one["lr"] *= factors.get(one["params"][0], 1.0)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for one in single:
        alike = {name: value for name, value in one.items() if name != "params"}
        group = groups.setdefault(tuple(alike.items()), {**alike, "params": []})
        group["params"] += one["params"]
    options = {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    optimizer = getattr(torch.optim, solver.OPT)(
        list(groups.values()),
        **(options if solver.OPT == "SGD" else {}),
        **kernel(solver.OPT, single[0]["params"][0].device),
    )
    frozen = [
        parameter
        for group in groups.values()
        if group["freeze_status"] == "freeze"
        for parameter in group["params"]
    ]
    return Optimization(optimizer, frozen, solver.FREEZE_ITERS if frozen else 0)


def layer_factors(model: nn.Module, decay: float) -> dict[nn.Parameter, float]:
    """Return each parameter of the backbone -> the factor on its rate.

    The last of L blocks has the factor d, the first one d^L, and what is before it d^(L + 1), as
    timm's ``param_groups_layer_decay`` counts for transformers. The heads have 1.

    Args:
        model: with a ``backbone`` as ``cmemd.modeling.two_stream.TwoStream``.
        decay: d.

    Raises:
        InputError: the backbone does not number its layers.
    """
    backbone: Any = getattr(model, "backbone", None)
    if not hasattr(backbone, "layer_of"):
        raise InputError(
            "a MODEL.BACKBONE.NAME that numbers its layers for SOLVER.LAYER_DECAY",
            type(backbone).__name__,
            "give it depth and layer_of as two_stream.py has them, or set LAYER_DECAY to 1",
        )
    return {
        parameter: decay ** (backbone.depth + 1 - backbone.layer_of(name))
        for name, parameter in backbone.named_parameters()
    }


def kernel(name: str, device: torch.device) -> dict[str, bool]:
    """Return the arguments that make an optimiser fast on a device.

    Args:
        name: of the optimiser, in ``torch.optim``.
        device: of the parameters.

    Returns:
        fused=True where PyTorch has that. Otherwise PyTorch takes its multi-tensor way on a GPU,
        and a loop over parameters on the CPU. capturable=True for ASGD on a GPU, which would read
        its rate from there in each step.
    """
    if name == "ASGD" and device.type == "cuda":
        return {"capturable": True}
    return {"fused": True} if device.type in _FUSED.get(name, ()) else {}
