"""Soft ranks between the modalities: images of the own identity first, all others last.

Shape legend: Q queries of one modality, G gallery images of the other, D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32, without_autocast

__all__ = ["SoftRankLoss", "soft_rank_loss", "soft_ranks"]


def soft_ranks(distance: Tensor, strength: float) -> Tensor:
    r"""Return the soft ranks of distances in each row: (Q, G) -> (Q, G), rows sum to G (G + 1) / 2.

        r_i = (d_i - mean_j d_j) / strength + (G + 1) / 2

    It is the projection of d / strength onto the permutahedron of 1..G, the soft rank with l2
    regularisation of Blondel et al. (ICML 2020), where the distances of a row differ by no more
    than strength G / 2. Beyond that the projection would reach the permutahedron's border, and this
    formula leaves it.

    Why: the projection is z - y for z = d / strength, sorted downwards, and y the decreasing
    sequence nearest to z - (G, ..., 1). The first k numbers of (G, ..., 1) are on average G / 2
    above the others. So where means of z differ by at most G / 2, y is one constant.

    Args:
        distance: the smallest gets the smallest rank.
        strength: of the regularisation, above 0; as it falls to 0, ranks become whole.
    """
    mean = distance.mean(1, keepdim=True)
    return (distance - mean) / strength + (distance.shape[1] + 1) / 2


def soft_rank_loss(
    queries: Tensor,
    query_targets: Tensor,
    gallery: Tensor,
    gallery_targets: Tensor,
    strength: float = 0.5,
) -> Tensor:
    r"""Return the mean difference of soft ranks from 1 for the own identity and G for others.

        L = 1 / (Q G) sum_qg |r_qg - t_qg|,  d_qg = (1 - cos(q, g)) / 2

    It is the cross-modal retrieval loss of MCJA (workingcoder/MCJA), for one direction. As d lies
    in [0, 1], ``soft_ranks`` is exact for G >= 2 / strength: 4 images and more with the authors'
    strength. All ranks then lie in [1, G], and L is linear in the cosines.

    Queries all of whose gallery, or none, is of their identity have no ranking; they are left out.
    Without any other query the loss and its gradient are 0.

    Args:
        queries: (Q, D) features, of any length.
        query_targets: (Q,) identity labels.
        gallery: (G, D).
        gallery_targets: (G,).
        strength: see ``soft_ranks``.

    Returns:
        Scalar, in at least float32.
    """
    with without_autocast(queries.device.type):  # the cosines are a matrix product
        q, g = (functional.normalize(at_least_float32(x), dim=1) for x in (queries, gallery))
        distance = (1 - q @ g.t()) / 2
    match = query_targets[:, None] == gallery_targets  # (Q, G)
    target = torch.where(match, 1.0, float(len(gallery)))
    ranked = (match.any(1) & ~match.all(1)).to(distance.dtype)  # (Q,)
    difference = (soft_ranks(distance, strength) - target).abs().mean(1)
    return (difference * ranked).sum() / ranked.sum().clamp(min=1)


class SoftRankLoss(nn.Module):
    """``soft_rank_loss`` on the batch of all processes, mean of both directions.

    Args:
        strength: see ``soft_ranks``.

    Raises:
        InputError: a strength that is not above 0.
    """

    def __init__(self, strength: float = 0.5) -> None:
        super().__init__()
        if not strength > 0:
            raise InputError("MODEL.LOSSES.RANK.STRENGTH above 0", strength, "0.5 is MCJA's")
        self.strength = strength

    def forward(self, features: Tensor, targets: Tensor, rows: IdentityRows) -> Tensor:
        """Return a scalar for features (N, D), targets (N,) and the batch's identities."""
        visible, thermal = (
            (gather(features[own.flatten()]), gather(targets[own.flatten()])) for own in rows
        )
        forth = soft_rank_loss(*visible, *thermal, self.strength)
        return (forth + soft_rank_loss(*thermal, *visible, self.strength)) / 2
