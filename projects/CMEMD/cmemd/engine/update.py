"""From losses to new parameters: scaled gradients, clipping, the optimizer, and EMA weights."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.amp import GradScaler

from cmemd.engine.averaging import AveragedWeights
from cmemd.engine.precision import build_scaler, half_type

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = ["Clipping", "Update", "build_update"]


@dataclass(frozen=True)
class Clipping:
    """Bounds gradients; the device is never waited for.

    Attributes:
        kind: "norm": all gradients together are scaled down to a norm of at most ``limit``;
            "value": each number is cut to [-limit, limit].
        limit: above 0.
        norm: p of the norm; infinity takes the largest number.
    """

    kind: str
    limit: float
    norm: float = 2.0

    @classmethod
    def of(cls, cfg: "CfgNode") -> "Clipping | None":
        """Return what ``SOLVER.CLIP_GRADIENTS`` asks for; None where it is off."""
        keys = cfg.SOLVER.CLIP_GRADIENTS
        return cls(keys.CLIP_TYPE, keys.CLIP_VALUE, keys.NORM_TYPE) if keys.ENABLED else None

    def __call__(self, parameters: Iterable[nn.Parameter]) -> None:
        """Change the gradients of parameters in place."""
        if self.kind == "norm":
            torch.nn.utils.clip_grad_norm_(parameters, self.limit, self.norm)
        else:
            torch.nn.utils.clip_grad_value_(parameters, self.limit)


class Update:
    """What a step does after its losses.

    Args:
        optimizer: of the network's parameters.
        scaler: of float16 gradients, or None. Where a gradient overflows, the optimizer skips the
            step and the scaler halves its scale.
        clipping: of the gradients of a whole step, after the scaler is taken out; or None.
        averages: EMA weights, or None.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        scaler: GradScaler | None = None,
        clipping: Clipping | None = None,
        averages: AveragedWeights | None = None,
    ) -> None:
        self.optimizer = optimizer
        self.scaler = scaler
        self.averages = averages
        self._clipping = clipping

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss to those of the step."""
        (loss if self.scaler is None else self.scaler.scale(loss)).backward()

    def step(self) -> None:
        """Change the parameters by the gradients of the step."""
        if self._clipping is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            groups = self.optimizer.param_groups
            self._clipping([p for group in groups for p in group["params"] if p.grad is not None])
        if self.scaler is None:
            self.optimizer.step()
        else:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        if self.averages is not None:
            self.averages.update()


def build_update(cfg: "CfgNode", network: nn.Module, optimizer: torch.optim.Optimizer) -> Update:
    """Return what ``cfg.SOLVER`` says of a step after its losses.

    Args:
        cfg: the configuration.
        network: the trained network on its device, without wrappers.
        optimizer: of its parameters.
    """
    decay = cfg.SOLVER.EMA.DECAY
    return Update(
        optimizer,
        scaler=build_scaler(next(network.parameters()).device.type, half_type(cfg)),
        clipping=Clipping.of(cfg),
        averages=AveragedWeights(network, decay) if decay > 0 else None,
    )
