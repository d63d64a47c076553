"""The one table of losses: name -> module, weight.

What each is computed on is the meta-architecture's page.
"""

from typing import NamedTuple

from torch import nn

from cmemd.errors import InputError
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.cm_emd import CMEMDLoss
from cmemd.losses.identity import IdentityLoss

__all__ = ["WeightedLoss", "build_losses"]


class WeightedLoss(NamedTuple):
    """A loss and its factor in the total."""

    module: nn.Module
    weight: float


def build_losses(cfg) -> dict[str, WeightedLoss]:
    """Reads ``cfg.MODEL.LOSSES``: a loss of weight 0 is left out.

    Returns:
        Name ("id", "emd", "dl") -> loss. Identity classification is always there.

    Raises:
        InputError: for a negative weight or a bad option of a loss.
    """
    losses = cfg.MODEL.LOSSES
    table = {
        "id": WeightedLoss(IdentityLoss(losses.CE.EPSILON), losses.CE.SCALE),
        "emd": WeightedLoss(
            CMEMDLoss(losses.EMD.DISTANCE, losses.EMD.NORMALIZE), losses.EMD.WEIGHT
        ),
        "dl": WeightedLoss(CMDLLoss(losses.DL.EPS), losses.DL.WEIGHT),
    }
    for name, loss in table.items():
        if not loss.weight >= 0:
            raise InputError(f"expected a weight >= 0 for loss {name!r}, got {loss.weight}")
    return {name: loss for name, loss in table.items() if loss.weight > 0 or name == "id"}
