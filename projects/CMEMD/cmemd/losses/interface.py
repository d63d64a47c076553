"""What the network offers each loss, and what each loss returns.

Shape legend: N images, F features of one granularity, D channels, C identities to classify,
S stripes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from cmemd.data.grouping import IdentityRows

__all__ = ["LossInputs", "LossOutput"]


@dataclass(frozen=True)
class LossInputs:
    """What a loss can read of a training batch.

    Args:
        features: granularity -> (N, F, D), what metric losses compare.
        logits: granularity -> (N, F, C).
        targets: (N,) identity labels.
        rows: the batch's rows by identity and modality.
        concatenate: makes the holistic feature (N, S * D) of ``features``.
        pairs: (M, 2), the rows of both views of each visible image; None without second views.
    """

    features: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    targets: Tensor
    rows: IdentityRows
    concatenate: Callable[[Mapping[str, Tensor]], Tensor]
    pairs: Tensor | None = None

    @property
    def global_feature(self) -> Tensor:
        """The one feature (N, D) of the whole image."""
        return self.features["global"][:, 0]

    @property
    def holistic(self) -> Tensor:
        """The holistic feature (N, S * D); computed for each loss that reads it."""
        return self.concatenate(self.features)


@dataclass(frozen=True)
class LossOutput:
    """The terms of a loss, and scalars worth logging beside them."""

    terms: Mapping[str, Tensor]  # name -> scalar; the name of a single term is ""
    watched: Mapping[str, Tensor] = field(default_factory=dict)  # name -> scalar

    @classmethod
    def of(cls, result: "Tensor | Mapping[str, Tensor] | LossOutput") -> "LossOutput":
        """Return what a loss module returned, as terms: a scalar is a single term."""
        if isinstance(result, Tensor):
            return cls({"": result})
        return result if isinstance(result, LossOutput) else cls(result)
