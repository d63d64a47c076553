"""Centre-cluster loss: identities as tight clusters with distant centres.

Shape legend: N images, P identities, K images of each (both modalities), D channels.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32

__all__ = ["CentreClusterLoss", "centre_cluster_loss"]


def centre_cluster_loss(features: Tensor, margin: float = 0.7) -> Tensor:
    r"""Return the loss that pulls images to their centre and pushes centres apart to a margin.

        c_p = mean of identity p's features over both modalities
        L = mean_i ||h_i - c_{y_i}|| + mean_{p < q} [margin - ||c_p - c_q||]_+

    One identity has the first term alone. Identical features have the value of the margin and
    gradient 0.

    Source: Wu et al., "Discover Cross-Modality Nuances for Visible-Infrared Person
    Re-Identification" (MPANet), CVPR 2021, with the margin of its released code.

    Args:
        features: (P, K, D), identity by identity.
        margin: at least 0.

    Returns:
        Scalar, in at least float32.
    """
    features = at_least_float32(features)
    centres = features.mean(1)  # (P, D)
    pull = (features - centres[:, None]).norm(dim=-1).mean()
    if len(features) == 1:
        return pull
    return pull + (margin - torch.pdist(centres)).relu().mean()


class CentreClusterLoss(nn.Module):
    """``centre_cluster_loss`` on the batch of all processes.

    Args:
        margin: see ``centre_cluster_loss``.
        normalize: whether features are L2-normalised first (chosen).

    Raises:
        InputError: a negative margin.
    """

    def __init__(self, margin: float = 0.7, normalize: bool = True) -> None:
        super().__init__()
        if not margin >= 0:
            raise InputError(
                "MODEL.LOSSES.CENTRE.MARGIN of at least 0", margin, "use 0.7, as its authors do"
            )
        self.margin, self.normalize = margin, normalize

    def forward(self, features: Tensor, rows: IdentityRows) -> Tensor:
        """Return a scalar for features (N, D) and the batch's identities."""
        features = at_least_float32(features)
        if self.normalize:
            features = functional.normalize(features, dim=-1)
        return centre_cluster_loss(gather(features[rows.both]), self.margin)
