"""Stages that keep their input alone for the backward pass, which computes them again.

A training step then needs less memory and about a third more work. Losses, gradients and running
statistics are those of the plain stage.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed", "run_stages"]


def run_stages(stages: nn.Sequential, x: Tensor, *, recompute: bool) -> Tensor:
    """Send activations through stages one after the other.

    Args:
        stages: single layers and, as ``nn.Sequential``, whole stages.
        x: the input of the first one.
        recompute: whether each whole stage, and the layers before the first one together, keep
            their input alone. It changes nothing where no gradient is asked for.
    """
    if not (recompute and torch.is_grad_enabled()):
        return stages(x)
    layers = [stage for stage in stages if not isinstance(stage, nn.Sequential)]
    if layers:
        x = recomputed(nn.Sequential(*layers), x)
    for stage in stages:
        if isinstance(stage, nn.Sequential):
            x = recomputed(stage, x)
    return x


def recomputed(stage: nn.Module, x: Tensor) -> Tensor:
    """Return ``stage(x)`` and keep ``x`` alone for the backward pass.

    The stage draws no random numbers. Its second run updates copies of its buffers: the running
    statistics of a batch norm would otherwise count a batch twice.
    """
    options: dict[str, Any] = {}
    if not torch.compiler.is_compiling():  # a compiled second run writes no buffers
        options["context_fn"] = partial(_contexts, stage)
    return checkpoint(stage, x, use_reentrant=False, preserve_rng_state=False, **options)


def _contexts(
    stage: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds the first and the second run of a stage."""
    return nullcontext(), _copied_buffers(stage)


@contextmanager
def _copied_buffers(module: nn.Module) -> Iterator[None]:
    """Let a module write to copies of its buffers, which are forgotten afterwards.

    The buffers themselves stay untouched. Autograd would refuse a backward pass through a batch
    norm whose statistics were written back in place.
    """
    originals = [(owner, dict(owner._buffers)) for owner in module.modules()]
    try:
        for owner, buffers in originals:
            for name, buffer in buffers.items():
                if buffer is not None:
                    owner._buffers[name] = buffer.clone()
        yield
    finally:
        for owner, buffers in originals:
            owner._buffers.update(buffers)
