"""Triplet loss: each image nearer to images of its own identity than to images of others.

Shape legend: N images, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32, without_autocast

__all__ = [
    "TripletLoss",
    "WeightedTripletLoss",
    "cosine_distance",
    "euclidean_distance",
    "triplet_loss",
    "weighted_triplet_loss",
]


def euclidean_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return ||x_i - y_j|| of every pair, (N, D) and (M, D) -> (N, M).

    By the expanded square, at least 1e-6: bit for bit fast-reid's, in value and gradient.
    """
    square = x.square().sum(1, keepdim=True) + y.square().sum(1, keepdim=True).t()
    return (square - 2 * (x @ y.t())).clamp(min=1e-12).sqrt()


def cosine_distance(x: Tensor, y: Tensor) -> Tensor:
    """Return 2 - 2 cos(x_i, y_j) of every pair, (N, D) and (M, D) -> (N, M); fast-reid's."""
    return 2 - 2 * (functional.normalize(x, dim=1) @ functional.normalize(y, dim=1).t())


def triplet_loss(
    features: Tensor, targets: Tensor, margin: float, normalize: bool, hard: bool
) -> Tensor:
    r"""Return the triplet loss with fast-reid's distances and options, mean over anchors.

        L = mean_a [margin + d_ap - d_an]_+,  or, for margin 0,  mean_a ln(1 + exp(d_ap - d_an))

    With hard mining d_ap is the anchor's largest distance to its own identity and d_an its smallest
    to another. Otherwise they are means under softmax(d) and softmax(-d): with margin 0 and without
    normalising, AGW's weighted regularised triplet loss (TPAMI 2021).

    fast-reid's own weighted mining adds 1e-6 to a sum of exp(-d) and divides by it. Its d_an
    therefore falls to 0 as distances grow beyond about 14, which those of a ResNet-50 do; and its
    soft margin overflows. Here both hold at any distance. Everything else is fast-reid's.

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
    same = targets[:, None] == targets  # (N, N)
    alone = same.all()  # one identity: what follows is finite, but means nothing
    with without_autocast(features.device.type):  # the distances hold a matrix product
        features = at_least_float32(features)
        distance = (cosine_distance if normalize else euclidean_distance)(features, features)
    if hard:
        d_ap = distance.masked_fill(~same, 0.0).max(1).values
        d_an = distance.masked_fill(same & ~alone, torch.inf).min(1).values
    else:
        d_ap, d_an = _weighted(distance, same, alone)
    gap = d_ap - d_an
    loss = (functional.softplus(gap) if margin == 0 else (margin + gap).relu()).mean()
    # Chosen on the device: the host would have to wait for it.
    return torch.where(alone, torch.zeros_like(loss), loss)


def _weighted(distance: Tensor, same: Tensor, alone: Tensor) -> tuple[Tensor, Tensor]:
    """Return means of distances under softmax(d) to the own identity, softmax(-d) to others: (N,).

    Args:
        distance: (N, N).
        same: (N, N), whether two images are of one identity.
        alone: 0-dim, whether all are; the second mean then means nothing, but is finite.
    """
    d_ap = (distance * distance.masked_fill(~same, -torch.inf).softmax(1)).sum(1)
    d_an = (distance * (-distance).masked_fill(same & ~alone, -torch.inf).softmax(1)).sum(1)
    return d_ap, d_an


def weighted_triplet_loss(features: Tensor, targets: Tensor, squared: bool = False) -> Tensor:
    r"""Return the weighted regularised triplet loss (WRT), mean over anchors.

        g_a = sum_p w_ap d_ap - sum_n w_an d_an,  w_ap = softmax_p(d_ap),  w_an = softmax_n(-d_an)
        L = mean_a ln(1 + exp(g_a)),  or squared,  mean_a ln(1 + exp(sign(g_a) g_a^2))

    over the anchor's positives p, itself among them, and negatives n, with Euclidean distances d.
    No margin; invariant to rotations and shifts, not to scale. A batch of one identity has no
    triplets: value 0, gradient 0. Plain, it is ``triplet_loss`` with margin 0, soft mining and
    without normalising.

    Source: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook" (AGW),
    arXiv 2001.04193; the squared form is that of the released code of Ye et al., "Channel Augmented
    Joint Learning for Visible-Infrared Recognition" (CAJ), ICCV 2021. That code caps g_a^2 at 88,
    beyond which its exponential overflows and no gradient is left; here it needs no cap.

    Args:
        features: (N, D).
        targets: (N,) identity labels.
        squared: whether the gap is squared, with its sign kept.

    Returns:
        Scalar, in at least float32.
    """
    if not squared:
        return triplet_loss(features, targets, 0.0, normalize=False, hard=False)
    same = targets[:, None] == targets  # (N, N)
    alone = same.all()
    with without_autocast(features.device.type):  # the distances hold a matrix product
        features = at_least_float32(features)
        distance = euclidean_distance(features, features)
    d_ap, d_an = _weighted(distance, same, alone)
    gap = d_ap - d_an
    loss = functional.softplus(gap * gap.abs()).mean()
    return torch.where(alone, torch.zeros_like(loss), loss)


class WeightedTripletLoss(nn.Module):
    """``weighted_triplet_loss`` on the batch of all processes.

    Args:
        squared: see ``weighted_triplet_loss``.
    """

    def __init__(self, squared: bool = False) -> None:
        super().__init__()
        self.squared = squared

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return a scalar for features (N, D) and targets (N,)."""
        return weighted_triplet_loss(gather(features), gather(targets), self.squared)


class TripletLoss(nn.Module):
    """``triplet_loss`` on the batch of all processes.

    Args:
        margin: see ``triplet_loss``.
        normalize: see ``triplet_loss``.
        hard: see ``triplet_loss``.

    Raises:
        InputError: a negative margin.
    """

    def __init__(self, margin: float = 0.3, normalize: bool = False, hard: bool = False) -> None:
        super().__init__()
        if not margin >= 0:
            raise InputError(
                "MODEL.LOSSES.TRI.MARGIN of at least 0", margin, "use 0 for the soft margin"
            )
        self.margin, self.normalize, self.hard = margin, normalize, hard

    def forward(self, features: Tensor, targets: Tensor) -> Tensor:
        """Return a scalar for features (N, D) and targets (N,)."""
        return triplet_loss(
            gather(features), gather(targets), self.margin, self.normalize, self.hard
        )
