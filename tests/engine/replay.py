"""Rates as fast-reid sets them: its scheduler under its hook, in the order of its loop."""

from types import SimpleNamespace
from typing import Any

import torch
from fastreid.engine.hooks import LRScheduler
from fastreid.solver import build_lr_scheduler

__all__ = ["replayed"]


def replayed(cfg: Any, images: int) -> list[float]:
    """Return the rate of each iteration of a training on so many images."""
    length = images // cfg.SOLVER.IMS_PER_BATCH
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    hook = LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer, length))
    hook.trainer = trainer = SimpleNamespace(
        grad_scaler=None,
        warmup_iters=cfg.SOLVER.WARMUP_ITERS,
        delay_epochs=cfg.SOLVER.DELAY_EPOCHS,
        iter=0,
        storage=SimpleNamespace(put_scalar=lambda *_, **__: None),
    )
    found = []
    for trainer.epoch in range(cfg.SOLVER.MAX_EPOCH):
        for _ in range(length):
            hook.before_step()
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            hook.after_step()
            trainer.iter += 1  # before after_epoch, as in fast-reid's loop
        hook.after_epoch()
    return found
