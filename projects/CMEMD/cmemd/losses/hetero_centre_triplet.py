"""Hetero-centre triplet loss: triplets of the identities' centres in each modality.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each, F features of one
granularity, D channels.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32
from cmemd.losses.triplet import triplet_loss

__all__ = ["HeteroCentreTripletLoss", "hetero_centre_triplet_loss"]


def hetero_centre_triplet_loss(centres: Tensor, margin: float = 0.3) -> Tensor:
    r"""Return the hardest-pair triplet loss over the centres of each identity and modality.

        L = mean_a [margin + d_a+ - d_a-]_+

    over the 2P centres a. d_a+ is the Euclidean distance to the centre of the same identity in the
    other modality, d_a- the smallest one to a centre of another identity. One identity has value 0
    and gradient 0. The hetero-centre loss itself, without triplets, is the alignment "centre".

    Source: the repository hijune6/Hetero-center-triplet-loss-for-VT-Re-ID, as facts.

    Args:
        centres: (P, 2, D), the visible and the thermal centre of each identity.
        margin: above 0.

    Returns:
        Scalar, in the dtype of the centres.
    """
    people = torch.arange(len(centres), device=centres.device).repeat_interleave(2)
    return triplet_loss(centres.flatten(0, 1), people, margin, normalize=False, hard=True)


class HeteroCentreTripletLoss(nn.Module):
    """``hetero_centre_triplet_loss`` of every feature, over the identities of all processes.

    Args:
        margin: see ``hetero_centre_triplet_loss``.

    Raises:
        InputError: a margin that is not above 0.
    """

    def __init__(self, margin: float = 0.3) -> None:
        super().__init__()
        if not margin > 0:  # a margin of 0 is the soft margin of ``triplet_loss``
            raise InputError(
                "MODEL.LOSSES.HCT.MARGIN above 0", margin, "use 0.3, as its authors do"
            )
        self.margin = margin

    def forward(self, features: Mapping[str, Tensor], rows: IdentityRows) -> dict[str, Tensor]:
        """Return granularity -> scalar, summed over its features (N, F, D)."""
        return {
            name: torch.stack(
                [hetero_centre_triplet_loss(one, self.margin) for one in _centres(of, rows)]
            ).sum()
            for name, of in features.items()
        }


def _centres(feature: Tensor, rows: IdentityRows) -> tuple[Tensor, ...]:
    """Return the centres (P, 2, D) of each of the features (N, F, D), of all processes."""
    feature = at_least_float32(feature)
    both = [feature[of_one].mean(1) for of_one in (rows.visible, rows.thermal)]
    return gather(torch.stack(both, 1)).unbind(2)
