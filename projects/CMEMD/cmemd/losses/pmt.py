"""PMT's two losses: MSEL brings the modalities together, DCL keeps identities apart.

Shape legend: P identities, K_v visible and K_t thermal images of each, D channels.
"""

import torch
from torch import Tensor, nn

from cmemd.data.grouping import IdentityRows
from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32, without_autocast
from cmemd.losses.triplet import euclidean_distance

__all__ = ["DCLLoss", "MSELLoss", "dcl_loss", "msel_loss"]


def msel_loss(visible: Tensor, thermal: Tensor) -> Tensor:
    r"""Return the modality-shared enhancement loss: cross distances should equal inner ones.

        L = 1/2 sum_m mean_i (c_i - w_i)^2

    over both modalities m and their images i. c_i is the mean Euclidean distance of image i to the
    other modality's images of its identity, w_i that to its own modality's other images of it. A
    modality of one image an identity has no w_i and adds nothing. Identical features have value 0.

    Source: the squared difference of both means is PMT's (repository hulu88/PMT, as facts). The
    mean over images and modalities is chosen.

    Args:
        visible: (P, K_v, D).
        thermal: (P, K_t, D).

    Returns:
        Scalar, in at least float32.
    """
    visible, thermal = at_least_float32(visible), at_least_float32(thermal)
    cross = ground_cost(visible, thermal, "euclidean")  # (P, K_v, K_t)
    return (_shared(visible, cross.mean(2)) + _shared(thermal, cross.mean(1))) / 2


def _shared(images: Tensor, cross: Tensor) -> Tensor:
    """Return one modality's mean square, of its images (P, K, D) and cross distances (P, K)."""
    count = images.shape[1]
    if count == 1:
        return 0.0 * cross.sum()
    own = ground_cost(images, images, "euclidean")  # (P, K, K), an image's own distance is 0
    return (cross - own.sum(2) / (count - 1)).square().mean()


def dcl_loss(features: Tensor) -> Tensor:
    r"""Return the discriminative centre loss, a ratio of two mean distances to centres.

        L = mean_i d(h_i, c_i) / mean_i mean_{q in N_i} d(h_i, c_q)

    c_q is the mean of identity q over both modalities, c_i that of image i's own, d the Euclidean
    distance. N_i are the other centres that are at most as far from image i as other centres are on
    average; which ones these are is constant in the backward pass. Invariant to shifts, rotations
    and scale. One identity has value 0 and gradient 0.

    Source: the ratio, to centres that are closer than the average, is PMT's (repository
    hulu88/PMT, as facts). Means over images are chosen.

    Args:
        features: (P, K, D), identity by identity.

    Returns:
        Scalar, in at least float32.
    """
    features = at_least_float32(features)
    people, images = features.shape[:2]
    if people == 1:
        return 0.0 * features.sum()
    with without_autocast(features.device.type):  # the distances hold a matrix product
        distance = euclidean_distance(features.flatten(0, 1), features.mean(1))  # (P K, P)
    own = torch.eye(people, dtype=torch.bool, device=features.device)
    own = own.repeat_interleave(images, 0)
    to_own = distance.masked_fill(~own, 0.0).sum(1)
    others = distance.masked_fill(own, 0.0)
    mean = others.sum(1, keepdim=True) / (people - 1)
    # Rounding may put the mean of equal distances just below them.
    near = ((others <= mean * (1 + 1e-6)) & ~own).detach()
    closer = (others * near).sum(1) / near.sum(1)
    return to_own.mean() / closer.mean()


class MSELLoss(nn.Module):
    """``msel_loss`` of a batch."""

    def forward(self, features: Tensor, rows: IdentityRows) -> Tensor:
        """Return a scalar for features (N, D) and the batch's identities."""
        return msel_loss(features[rows.visible], features[rows.thermal])


class DCLLoss(nn.Module):
    """``dcl_loss`` over the identities of all processes."""

    def forward(self, features: Tensor, rows: IdentityRows) -> Tensor:
        """Return a scalar for features (N, D) and the batch's identities."""
        return dcl_loss(gather(at_least_float32(features)[rows.both]))
