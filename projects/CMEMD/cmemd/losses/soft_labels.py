"""Soft labels between the views of an image: the second view teaches the first.

Shape legend: N rows, F features of one granularity, C identities to classify, M images of two
views.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from cmemd.errors import InputError

__all__ = ["SoftLabelLoss", "soft_label_loss"]


def soft_label_loss(logits: Tensor, pairs: Tensor) -> Tensor:
    r"""Return the cross-entropy of first views against the identities that second views see.

        L = -1/M sum_i sum_c p_ic log q_ic,  p_i = softmax(z_i2),  q_i = softmax(z_i1)

    for the logits z of both views; mean over images, plain sum over features. p has no gradient.
    It is CAJ+'s (TPAMI 2023): view 2 has its colour channels exchanged. The least value is the
    entropy of p, where q = p.

    Args:
        logits: (N, F, C).
        pairs: (M, 2), the rows of both views of each image. Without images L is 0.

    Returns:
        Scalar.
    """
    first, second = (logits.index_select(0, rows) for rows in pairs.unbind(1))
    entropy = -(second.detach().softmax(-1) * first.log_softmax(-1)).sum((1, 2))  # (M,)
    return entropy.sum() / max(len(entropy), 1)


class SoftLabelLoss(nn.Module):
    """``soft_label_loss`` on each granularity."""

    def forward(self, logits: Mapping[str, Tensor], pairs: Tensor | None) -> dict[str, Tensor]:
        """Return granularity -> scalar for granularity -> logits (N, F, C) and pairs (M, 2).

        Raises:
            InputError: the batch has no second views.
        """
        if pairs is None:
            raise InputError(
                "a batch with two views of each visible image for MODEL.LOSSES.SOFT_LABELS",
                "one view",
                "set DATALOADER.VISIBLE_VIEWS to 2",
            )
        return {name: soft_label_loss(logit, pairs) for name, logit in logits.items()}
