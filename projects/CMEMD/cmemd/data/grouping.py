"""The rows of a batch by identity and modality.

Shape legend: N images, P identities, K_v visible and K_t thermal images of each.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["IdentityRows", "group_by_identity"]


class IdentityRows(NamedTuple):
    """Row numbers of a batch; identities in increasing order of their label."""

    visible: Tensor  # (P, K_v)
    thermal: Tensor  # (P, K_t)

    @property
    def both(self) -> Tensor:
        """All rows of each identity, visible ones first, (P, K_v + K_t)."""
        return torch.cat((self.visible, self.thermal), 1)

    def to(self, device: torch.device) -> "IdentityRows":
        """Return the row numbers on a device."""
        return IdentityRows(self.visible.to(device), self.thermal.to(device))


def group_by_identity(targets: Tensor, modalities: Tensor) -> IdentityRows:
    """Return the rows of each identity and modality. On a GPU, the host waits for it.

    Args:
        targets: (N,) integer identity labels.
        modalities: (N,) values of ``Modality``.

    Raises:
        InputError: the identities do not all have the same number K_v >= 1 of visible images
            and the same number K_t >= 1 of thermal ones.
    """
    identities = targets.unique(sorted=True)
    return IdentityRows(
        *(_rows(targets, modalities, identities, modality) for modality in Modality)
    )


def _rows(targets: Tensor, modalities: Tensor, identities: Tensor, modality: Modality) -> Tensor:
    # int: compiled, a comparison of a tensor with an IntEnum's member is False throughout.
    member = (targets == identities[:, None]) & (modalities == int(modality))  # (P, N)
    counts = member.sum(1)
    if counts.min() != counts.max() or counts.min() == 0:
        raise InputError(
            f"the same number of {modality.name.lower()} images, at least one, of every identity "
            "in a training batch",
            counts.tolist(),
            "set DATALOADER.SAMPLER_TRAIN to CrossModalitySampler",
        )
    return member.nonzero()[:, 1].view(len(identities), -1)
