"""Multi-Granularity Structure: global, local and accumulated local features.

Shape legend: N images, C channels of the backbone, S stripes, F features of one granularity
(global 1, local S, accumulated S - 1), D channels of a feature, M identities to classify.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import CfgNode, configurable
from fastreid.layers import get_norm, pooling
from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError

__all__ = [
    "Granularity",
    "GranularityOutput",
    "MultiGranularityHead",
    "accumulate_stripes",
    "weighted_concatenation",
]

_POWER_MEAN_POOLS = ("GeneralizedMeanPooling", "GeneralizedMeanPoolingP", "GlobalAvgPool")
_LOCAL_WEIGHTS = ("model", "image")
_GRANULARITIES = ("global", "local", "accumulated")


def accumulate_stripes(stripes: Tensor, power: Tensor | float) -> Tensor:
    """Pool stripes 1..k together for k = 2..S, from the top down.

    The power mean of a union of equally high stripes is the power mean of their power means, so no
    stripe is pooled twice. This meaning of "accumulated" is chosen, not from the paper.

    Args:
        stripes: (N, C, S) power means, positive unless the power is 1.
        power: the exponent they were pooled with; 1 is the average.

    Returns:
        (N, C, S - 1).
    """
    count = torch.arange(1, stripes.shape[-1] + 1, device=stripes.device)
    return (stripes.pow(power).cumsum(-1) / count).pow(1 / power)[..., 1:]


def weighted_concatenation(local: Tensor, weights: Tensor) -> Tensor:
    """Return the holistic feature: the weighted L2-normalised local ones, concatenated.

    Args:
        local: (N, S, D).
        weights: (N, S) or (S,), positive.

    Returns:
        (N, S * D), of norm sqrt(sum of squared weights).
    """
    return (functional.normalize(local, dim=-1) * weights[..., None]).flatten(1)


class GranularityOutput(NamedTuple):
    """The features of one granularity."""

    features: Tensor  # (N, F, D), before the BNNeck: for metric losses
    neck: Tensor  # (N, F, D), after it: for classification and search


class Granularity(nn.Module):
    """F features side by side, each with its own reduction, BNNeck and classifier.

    One BatchNorm over F * D channels is F BatchNorms over D, and one matrix per feature is a
    batched product, so there is no loop over parts.

    Args:
        features: F.
        in_dim: C.
        embedding_dim: D; 0 keeps the C channels.
        num_classes: M.
        norm: fast-reid's name of the BNNeck's norm; its bias is frozen at 0. "" for no neck.
    """

    def __init__(
        self, *, features: int, in_dim: int, embedding_dim: int, num_classes: int, norm: str
    ) -> None:
        super().__init__()
        dim = embedding_dim or in_dim
        self.reduction = nn.Parameter(torch.empty(features, dim, in_dim)) if embedding_dim else None
        self.bottleneck = get_norm(norm, features * dim, bias_freeze=True) if norm else None
        self.classifier = nn.Parameter(torch.empty(features, num_classes, dim))
        if self.reduction is not None:
            # Kaiming's fan-out, as fast-reid initialises a 1x1 reduction
            nn.init.normal_(self.reduction, std=(2 / dim) ** 0.5)
        nn.init.normal_(self.classifier, std=0.01)

    def forward(self, pooled: Tensor) -> GranularityOutput:
        """Return the features of pooled activations (N, F, C)."""
        features = pooled
        if self.reduction is not None:
            features = torch.einsum("nfc,fdc->nfd", pooled, self.reduction)
        neck = features
        if self.bottleneck is not None:
            neck = self.bottleneck(features.flatten(1)[..., None, None]).view_as(features)
        return GranularityOutput(features, neck)

    def classify(self, neck: Tensor) -> Tensor:
        """Return logits (N, F, M) of features (N, F, D)."""
        return torch.einsum("nfd,fmd->nfm", neck, self.classifier)


class MultiGranularityHead(nn.Module):
    """MGS: pools both streams into three granularities and builds the test feature.

    Paper, Fig. 2: one global, several local, several accumulated local features; the holistic
    feature concatenates the weighted local ones. Follow-up: six stripes, generalised-mean pooling,
    a BNNeck and a classifier for each, the test feature's beta. Chosen, not from the paper: what
    accumulates, how the weights are learned, the L2 normalisation of the parts.

    Args:
        feat_dim: C.
        num_classes: M.
        stripes: S, at least 1; 1 leaves no accumulated features.
        embedding_dim: channels of each local and accumulated feature; 0 keeps C.
        pool_type: fast-reid's name of a power-mean pooling.
        norm: norm of the BNNecks; "" for none.
        local_weights: "model" learns one weight per stripe, "image" computes them from the image's
            local features; both are positive and sum to 1.
        test_beta: share of the holistic part in the test feature; 1 - beta is the global part's.
        test_accumulated: whether accumulated features join the test feature's local part.
        granularities: the kinds of features, coarse to fine; ablations leave out the last one or
            two. Without local features the L2-normalised global one is the holistic feature and
            the test feature.

    Raises:
        InputError: a value outside these.
    """

    @configurable  # type: ignore[untyped-decorator]  # fast-reid has no types
    def __init__(
        self,
        *,
        feat_dim: int,
        num_classes: int,
        stripes: int,
        embedding_dim: int,
        pool_type: str,
        norm: str,
        local_weights: str,
        test_beta: float,
        test_accumulated: bool,
        granularities: Sequence[str] = _GRANULARITIES,
    ) -> None:
        super().__init__()
        if pool_type not in _POWER_MEAN_POOLS:
            raise InputError(
                "MODEL.HEADS.POOL_LAYER with a power-mean pooling",
                repr(pool_type),
                f"choose {', '.join(_POWER_MEAN_POOLS)}",
            )
        if local_weights not in _LOCAL_WEIGHTS:
            raise InputError(
                "a known MODEL.HEADS.LOCAL_WEIGHTS",
                repr(local_weights),
                f"choose {' or '.join(_LOCAL_WEIGHTS)}",
            )
        if stripes < 1:
            raise InputError(
                "MODEL.HEADS.STRIPES of at least 1", stripes, "use 6, the follow-up's best number"
            )
        if not 0 <= test_beta <= 1:
            raise InputError(
                "MODEL.HEADS.TEST_BETA in [0, 1]",
                test_beta,
                "use 0.6, the follow-up's share",
            )
        granularities = tuple(granularities)
        if not granularities or granularities != _GRANULARITIES[: len(granularities)]:
            raise InputError(
                f"MODEL.HEADS.GRANULARITIES {_GRANULARITIES} in this order",
                granularities,
                "leave out only the last one or two",
            )
        pool = getattr(pooling, pool_type)
        self.global_pool = pool()
        self.stripe_pool = pool(output_size=(stripes, 1)) if "local" in granularities else None
        shared: dict[str, Any] = {"in_dim": feat_dim, "num_classes": num_classes, "norm": norm}
        self.granularities = nn.ModuleDict(
            {"global": Granularity(features=1, embedding_dim=0, **shared)}
        )
        for name, features in (("local", stripes), ("accumulated", stripes - 1)):
            if name in granularities and features > 0:
                self.granularities[name] = Granularity(
                    features=features, embedding_dim=embedding_dim, **shared
                )
        self.weigh: nn.Module | None = None
        if "local" in granularities:
            self.weigh = (
                _ModelWeights(stripes)
                if local_weights == "model"
                else _ImageWeights(embedding_dim or feat_dim)
            )
        self.test_beta = test_beta
        self.test_accumulated = test_accumulated

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Read ``cfg.MODEL.HEADS``."""
        heads = cfg.MODEL.HEADS
        if heads.CLS_LAYER != "Linear":
            raise InputError(
                "the linear classifier of MultiGranularityHead",
                f"MODEL.HEADS.CLS_LAYER {heads.CLS_LAYER!r}",
                "set it to Linear",
            )
        return {
            "feat_dim": cfg.MODEL.BACKBONE.FEAT_DIM,
            "num_classes": heads.NUM_CLASSES,
            "stripes": heads.STRIPES,
            "embedding_dim": heads.EMBEDDING_DIM,
            "pool_type": heads.POOL_LAYER,
            "norm": heads.NORM if heads.WITH_BNNECK else "",
            "local_weights": heads.LOCAL_WEIGHTS,
            "test_beta": heads.TEST_BETA,
            "test_accumulated": heads.TEST_ACCUMULATED,
            "granularities": heads.GRANULARITIES,
        }

    def forward(self, global_map: Tensor, local_map: Tensor | None) -> dict[str, GranularityOutput]:
        """Return granularity -> features, of two maps (N, C, h, w).

        ``local_map`` may be None where there are no local features.
        """
        return self.of_pooled(*self.pool(global_map, local_map))

    def pool(self, global_map: Tensor, local_map: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return both maps pooled, (N, C, 1) and (N, C, S); None without local features."""
        overall = self.global_pool(global_map)[..., 0]
        return overall, None if self.stripe_pool is None else self.stripe_pool(local_map)[..., 0]

    def of_pooled(self, overall: Tensor, stripes: Tensor | None) -> dict[str, GranularityOutput]:
        """Return granularity -> features, of what ``pool`` returns."""
        pooled = {"global": overall}
        if "local" in self.granularities:
            assert stripes is not None
            pooled["local"] = stripes
        if "accumulated" in self.granularities:
            power = getattr(self.stripe_pool, "p", 1.0)
            pooled["accumulated"] = accumulate_stripes(pooled["local"], power)
        return {
            name: granularity(pooled[name].mT) for name, granularity in self.granularities.items()
        }

    def classify(self, outputs: dict[str, GranularityOutput]) -> dict[str, Tensor]:
        """Return granularity -> logits (N, F, M)."""
        kinds = cast("Mapping[str, Granularity]", self.granularities)
        return {name: kind.classify(outputs[name].neck) for name, kind in kinds.items()}

    def holistic(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return the holistic feature (N, S * D) of granularity -> features (N, F, D).

        Without local features, the L2-normalised global one: (N, D).
        """
        if "local" not in features:
            return functional.normalize(features["global"][:, 0], dim=-1)
        assert self.weigh is not None
        return weighted_concatenation(features["local"], self.weigh(features["local"]))

    def embed(self, outputs: dict[str, GranularityOutput]) -> Tensor:
        """Return the test feature [beta * local part, (1 - beta) * global part].

        Each part has norm 1. Without local features, the global part alone, of norm 1.
        """
        overall = functional.normalize(outputs["global"].neck.flatten(1), dim=-1)
        if "local" not in outputs:
            return overall
        parts = [self.holistic({name: out.neck for name, out in outputs.items()})]
        if self.test_accumulated and "accumulated" in outputs:
            parts.append(functional.normalize(outputs["accumulated"].neck, dim=-1).flatten(1))
        local = functional.normalize(
            torch.cat([functional.normalize(part, dim=-1) for part in parts], 1), dim=-1
        )
        return torch.cat((self.test_beta * local, (1 - self.test_beta) * overall), 1)


class _ModelWeights(nn.Module):
    """One positive weight per stripe, the same for all images; their sum is 1."""

    def __init__(self, stripes: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(stripes))

    def forward(self, local: Tensor) -> Tensor:
        """Return weights (S,); the local features (N, S, D) do not change them."""
        return self.logits.softmax(0)


class _ImageWeights(nn.Module):
    """Positive weights per stripe, scored from each image's local features; their sum is 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.zeros(dim))

    def forward(self, local: Tensor) -> Tensor:
        """Return weights (N, S) of local features (N, S, D)."""
        return (functional.normalize(local, dim=-1) @ self.score).softmax(-1)
