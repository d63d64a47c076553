"""CM-DL: keeps identities apart while alignment brings the modalities together.

Shape legend: N images, P identities, K images of each (both modalities), D channels.
"""

import torch
from torch import Tensor, nn

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.distributed import gather
from cmemd.losses.precision import at_least_float32

__all__ = ["CMDLLoss", "cm_dl_loss"]


def cm_dl_loss(features: Tensor, eps: float = 1e-6) -> Tensor:
    r"""Return the ratio of the variance within identities to that between them.

        c_p = mean of identity p's features over both modalities,  c = mean of the c_p
        S_intra = mean_i ||h_i - c_{y_i}||^2,   S_inter = mean_p ||c_p - c||^2
        L = S_intra / (S_inter + eps (S_intra + S_inter))

    The paper's abstract gives the ratio and that it is on the holistic feature; the estimators and
    eps are chosen, not from the paper. Eps is relative, so the loss is invariant to scale; it is
    also invariant to shifts and rotations, and at most 1/eps. One identity has value 0 and gradient
    0, and so have identical features.

    Args:
        features: (P, K, D), identity by identity.
        eps: bounds the ratio where the identities' centres coincide.

    Returns:
        Scalar, in at least float32.
    """
    features = at_least_float32(features)
    if len(features) == 1:
        return 0.0 * features.sum()
    # A shift changes nothing but rounding: without it, identical features could have a ratio of two
    # rounding errors, up to 1/eps, instead of 0.
    features = features - features[0, 0].detach()
    centres = features.mean(1)  # (P, D)
    intra = (features - centres[:, None]).square().sum(-1).mean()
    inter = (centres - centres.mean(0)).square().sum(-1).mean()
    denominator = inter + eps * (intra + inter)
    # Dividing by 1 where the denominator is 0 keeps value and gradient 0 instead of NaN.
    return intra / torch.where(denominator > 0, denominator, torch.ones_like(denominator))


class CMDLLoss(nn.Module):
    """CM-DL on the holistic feature of a batch, over the identities of all processes.

    Args:
        eps: see ``cm_dl_loss``.

    Raises:
        InputError: an eps that is not positive.
    """

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        if not eps > 0:
            raise InputError("MODEL.LOSSES.DL.EPS above 0", eps, "use 1e-6, a bound of 1e6")
        self.eps = eps

    def forward(self, holistic: Tensor, rows: IdentityRows) -> Tensor:
        """Return a scalar for features (N, D) and the batch's identities."""
        return cm_dl_loss(gather(holistic[rows.both]), self.eps)
