"""The one table of losses: what each reads, how it is built, and what switches it on.

A new loss is a file of its own, a row of ``LOSSES`` and its configuration keys.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from cmemd.errors import InputError
from cmemd.losses.alignment import build_alignment
from cmemd.losses.centre_cluster import CentreClusterLoss
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.hetero_centre_triplet import HeteroCentreTripletLoss
from cmemd.losses.identity import IdentityLoss
from cmemd.losses.interface import LossInputs, LossOutput
from cmemd.losses.pmt import DCLLoss, MSELLoss
from cmemd.losses.soft_labels import SoftLabelLoss
from cmemd.losses.soft_rank import SoftRankLoss
from cmemd.losses.triplet import TripletLoss, WeightedTripletLoss

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = ["LOSSES", "LossRow", "WeightedLoss", "build_losses"]


class LossRow(NamedTuple):
    """A loss in the table."""

    node: str  # its options: MODEL.LOSSES.<node>
    weight: str  # the key of its weight there
    build: Callable[["CfgNode"], nn.Module | None]  # options -> module; None for no loss
    reads: tuple[str, ...]  # the fields of ``LossInputs`` that the module takes, in this order


# Name -> row. Terms are logged as loss_<name>, or loss_<name>_<term> if there are several.
LOSSES: dict[str, LossRow] = {
    "id": LossRow(
        "CE", "SCALE", lambda options: IdentityLoss(options.EPSILON), ("logits", "targets")
    ),
    "align": LossRow("ALIGN", "WEIGHT", build_alignment, ("features", "rows")),
    "dl": LossRow("DL", "WEIGHT", lambda options: CMDLLoss(options.EPS), ("holistic", "rows")),
    "tri": LossRow(
        "TRI",
        "SCALE",
        lambda options: TripletLoss(options.MARGIN, options.NORM_FEAT, options.HARD_MINING),
        ("global_feature", "targets"),
    ),
    "soft": LossRow("SOFT_LABELS", "WEIGHT", lambda options: SoftLabelLoss(), ("logits", "pairs")),
    "rank": LossRow(
        "RANK",
        "WEIGHT",
        lambda options: SoftRankLoss(options.STRENGTH),
        ("global_feature", "targets", "rows"),
    ),
    "centre": LossRow(
        "CENTRE",
        "WEIGHT",
        lambda options: CentreClusterLoss(options.MARGIN, options.NORMALIZE),
        ("global_feature", "rows"),
    ),
    "wrt": LossRow(
        "WRT",
        "WEIGHT",
        lambda options: WeightedTripletLoss(options.SQUARED),
        ("global_feature", "targets"),
    ),
    "hct": LossRow(
        "HCT",
        "WEIGHT",
        lambda options: HeteroCentreTripletLoss(options.MARGIN),
        ("features", "rows"),
    ),
    "msel": LossRow("MSEL", "WEIGHT", lambda options: MSELLoss(), ("global_feature", "rows")),
    "dcl": LossRow("DCL", "WEIGHT", lambda options: DCLLoss(), ("global_feature", "rows")),
}

# fast-reid switches its own losses on by a list of names instead of a weight.
_FASTREID_NAMES = {"CrossEntropyLoss": "id", "TripletLoss": "tri"}


class WeightedLoss(NamedTuple):
    """A loss, what it reads, and its factor in the total."""

    module: nn.Module
    reads: tuple[str, ...]  # fields of ``LossInputs``
    weight: float
    warmup_iters: int = 0
    start_epoch: int = 0

    def __call__(self, inputs: LossInputs) -> LossOutput:
        """Return the unweighted terms of a batch."""
        return LossOutput.of(self.module(*(getattr(inputs, name) for name in self.reads)))

    @property
    def is_constant(self) -> bool:
        """Whether the factor is the same at all iterations."""
        return not (self.warmup_iters or self.start_epoch)

    def weight_at(self, iteration: int, epoch_length: int = 1) -> float:
        """Return the factor at an iteration, from 0.

        It is 0 in the first ``start_epoch`` epochs, and then rises linearly from 0 to ``weight``.
        It depends on the iteration alone, so that a resumed run has the same.

        Args:
            iteration: number of the iteration.
            epoch_length: iterations of an epoch; it matters only with a ``start_epoch``.
        """
        done = iteration - self.start_epoch * epoch_length
        if done < 0:
            return 0.0
        if done >= self.warmup_iters:
            return self.weight
        return self.weight * done / self.warmup_iters


def build_losses(cfg: "CfgNode") -> dict[str, WeightedLoss]:
    """Build the losses that ``cfg.MODEL.LOSSES`` switches on.

    A loss is on if its weight is above 0. Identity classification is always on: it trains the
    classifiers. The options of a loss that is off are not checked.

    Returns:
        Name -> loss, in the order of the table.

    Raises:
        InputError: an unknown name, a negative weight or a bad option of a loss that is on.
    """
    losses = cfg.MODEL.LOSSES
    weights = _weights(losses)
    built = {}
    for name, row in LOSSES.items():
        if weights[name] == 0 and name != "id":
            continue
        options = losses[row.node]
        times = {key: options.get(key, 0) for key in ("WARMUP_ITERS", "START_EPOCH")}
        for key, time in times.items():
            if time < 0:
                raise InputError(
                    f"MODEL.LOSSES.{row.node}.{key} of at least 0",
                    time,
                    "give 0 for a constant weight",
                )
        module = row.build(options)
        if module is not None:
            built[name] = WeightedLoss(module, row.reads, weights[name], *times.values())
    return built


def _weights(losses: "CfgNode") -> dict[str, float]:
    """Return the weight of each loss: 0 for one of fast-reid's that NAME does not list."""
    listed = {_FASTREID_NAMES.get(name) for name in losses.NAME}
    if None in listed or "id" not in listed:
        raise InputError(
            "MODEL.LOSSES.NAME with CrossEntropyLoss, and TripletLoss or no other",
            list(losses.NAME),
            "switch other losses on by their weights in MODEL.LOSSES",
        )
    weights = {}
    for name, row in LOSSES.items():
        off = name in _FASTREID_NAMES.values() and name not in listed
        weights[name] = 0.0 if off else losses[row.node][row.weight]
        if not weights[name] >= 0:
            raise InputError(
                f"MODEL.LOSSES.{row.node}.{row.weight} of at least 0",
                weights[name],
                "give 0 to switch the loss off",
            )
    return weights
