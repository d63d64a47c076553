"""Triplets of a batch: each image nearer to its own identity's images than to others'.

Shape legend: N images, D channels.
"""

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.modeling.losses.triplet_loss import hard_example_mining
from fastreid.modeling.losses.utils import cosine_dist, euclidean_dist
from torch import Tensor, autocast, nn
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32

__all__ = ["TripletLoss", "triplet_loss"]


def triplet_loss(
    features: Tensor, targets: Tensor, margin: float, normalize: bool, hard: bool
) -> Tensor:
    r"""Triplet loss with fast-reid's distances and options, mean over anchors.

        L = mean_a [margin + d_ap - d_an]_+,  or, for margin 0,  mean_a ln(1 + exp(d_ap - d_an))

    With hard mining d_ap is the anchor's largest distance to its own identity and d_an its smallest
    to another. Else they are means under softmax(d) and softmax(-d): with margin 0 and features as
    they are, AGW's weighted regularised triplet loss (TPAMI 2021).

    fast-reid's own weighted mining divides by a sum of exp(-d) to which it adds 1e-6, so that its
    d_an falls to 0 as distances grow beyond 14 or so, which those of a ResNet-50 do; and its soft
    margin overflows. Here both hold at any distance; everything else is fast-reid's.

    A batch of one identity has no triplets: value 0, gradient 0.

    Args:
        features: (N, D).
        targets: (N,) identity labels.
        margin: at least 0.
        normalize: whether d is 2 - 2 cos instead of the Euclidean distance.
        hard: whether only the hardest pairs count.

    Returns:
        Scalar, in at least float32.
    """
    same = targets[:, None] == targets
    if same.all():
        return 0.0 * at_least_float32(features).sum()
    with autocast(features.device.type, enabled=False):  # the distances hold a matrix product
        features = at_least_float32(features)
        distance = (cosine_dist if normalize else euclidean_dist)(features, features)
    if hard:
        d_ap, d_an = hard_example_mining(distance, same.to(distance), (~same).to(distance))
    else:
        d_ap = (distance * distance.masked_fill(~same, float("-inf")).softmax(1)).sum(1)
        d_an = (distance * (-distance).masked_fill(same, float("-inf")).softmax(1)).sum(1)
    gap = d_ap - d_an
    return (functional.softplus(gap) if margin == 0 else (margin + gap).relu()).mean()


class TripletLoss(nn.Module):
    """``triplet_loss`` on the batch of all processes.

    Args:
        margin: see ``triplet_loss``.
        normalize: see ``triplet_loss``.
        hard: see ``triplet_loss``.

    Raises:
        InputError: for a negative margin.
    """

    def __init__(self, margin: float = 0.3, normalize: bool = False, hard: bool = False) -> None:
        super().__init__()
        if not margin >= 0:
            raise InputError(f"expected MODEL.LOSSES.TRI.MARGIN of at least 0, got {margin}")
        self.margin, self.normalize, self.hard = margin, normalize, hard

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Returns a scalar for features (N, D) and targets (N,)."""
        return triplet_loss(
            gather(features), gather(targets), self.margin, self.normalize, self.hard
        )
