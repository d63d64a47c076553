"""Stages that keep their input alone for the backward pass, which computes them again.

A training step then needs less memory and about a third more work. Losses, gradients and running
statistics are those of the plain stage.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

__all__ = ["recomputed", "run_stages"]


def run_stages(stages: nn.Sequential, x: Tensor, *, recompute: bool) -> Tensor:
    """Send activations through stages one after the other.

    Args:
        stages: whole stages, which have layers of their own, and single layers.
        x: the input of the first one.
        recompute: whether each whole stage, and the layers between two of them together, keep
            their input alone. It changes nothing where no gradient is asked for.
    """
    if not (recompute and torch.is_grad_enabled()):
        return stages(x)
    for whole, group in groupby(stages, _is_stage):
        if whole:
            for stage in group:
                x = recomputed(stage, x)
        else:
            x = recomputed(nn.Sequential(*group), x)
    return x


def _is_stage(module: nn.Module) -> bool:
    return next(module.children(), None) is not None


def recomputed(stage: nn.Module, x: Tensor) -> Tensor:
    """Return ``stage(x)`` and keep ``x`` alone for the backward pass.

    The second run draws the random numbers of the first one again, where the stage draws some. It
    updates copies of its buffers: the running statistics of a batch norm would otherwise count a
    batch twice.
    """
    options: dict[str, Any] = {}
    if not torch.compiler.is_compiling():  # a compiled second run writes no buffers
        options["context_fn"] = partial(_contexts, stage)
    return checkpoint(
        stage, x, use_reentrant=False, preserve_rng_state=_is_random(stage), **options
    )


def _is_random(stage: nn.Module) -> bool:
    """Return whether a stage has dropout, or drops paths, as timm calls it."""
    return any(
        isinstance(module, nn.Dropout) and module.p > 0 or getattr(module, "drop_prob", 0) > 0
        for module in stage.modules()
    )


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
