"""Identity classification on every feature.

Shape legend: N images, F features of one granularity, C identities to classify.
"""

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError

__all__ = ["IdentityLoss", "identity_loss"]


def identity_loss(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return the cross-entropy, mean over images, plain sum over features (the follow-up's).

    The paper's Fig. 2 puts an identity loss on the global, local and accumulated features.

    Args:
        logits: (N, F, C).
        targets: (N,) identity labels in [0, C).
        label_smoothing: share of the target spread over all identities; 0 is the follow-up's.

    Returns:
        Scalar.
    """
    features = logits.shape[1]
    return features * functional.cross_entropy(
        logits.flatten(0, 1), targets.repeat_interleave(features), label_smoothing=label_smoothing
    )


class IdentityLoss(nn.Module):
    """``identity_loss`` on each granularity.

    Args:
        label_smoothing: see ``identity_loss``.

    Raises:
        InputError: a label smoothing outside [0, 1].
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if not 0 <= label_smoothing <= 1:
            raise InputError(
                "MODEL.LOSSES.CE.EPSILON in [0, 1]", label_smoothing, "use 0 for no smoothing"
            )
        self.label_smoothing = label_smoothing

    def forward(self, logits: Mapping[str, Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Return granularity -> scalar for granularity -> logits (N, F, C) and targets (N,)."""
        return {
            name: identity_loss(logit, targets, self.label_smoothing)
            for name, logit in logits.items()
        }
