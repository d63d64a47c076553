"""The meta-architecture: the whole method on one page.

Shape legend: N images of H x W; D channels of the test feature.
"""

from collections.abc import Mapping, Sequence

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn import functional

from cmemd.errors import InputError
from cmemd.losses.build import WeightedLoss, build_losses
from cmemd.losses.cm_emd import plan_saving, plan_sharpness
from cmemd.losses.distributed import check_split
from cmemd.losses.grouping import IdentityRows, group_by_identity
from cmemd.modeling.multi_granularity import GranularityOutput, MultiGranularityHead
from cmemd.modeling.two_stream_resnet import TwoStreamResNet

__all__ = ["CMEMDNet", "modality_gap"]


class CMEMDNet(nn.Module):
    """Images of both modalities -> loss terms (training) or embeddings (evaluation).

    Total loss = identity losses + lambda_align * CM-EMD + lambda_dl * CM-DL; arXiv 2203.01675.
    Baselines replace CM-EMD and add triplets or centre clusters, on the global feature.

    Args:
        backbone: maps images and modalities to a global and a local feature map.
        heads: maps those to the features of each granularity.
        losses: name -> loss and weight, as ``build_losses`` makes them.
        align_neck: whether all losses but identity's see features after the BNNeck, not before it.
        pixel_mean: per channel, in grey levels 0..255.
        pixel_std: likewise.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: TwoStreamResNet,
        heads: MultiGranularityHead,
        losses: Mapping[str, WeightedLoss],
        align_neck: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.loss_modules = nn.ModuleDict({name: loss.module for name, loss in losses.items()})
        self.losses = losses
        self.align_neck = align_neck
        if "dl" not in losses and heads.weigh is not None:
            heads.weigh.requires_grad_(False)  # CM-DL alone trains the local weights
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)

    @classmethod
    def from_config(cls, cfg) -> dict[str, object]:
        """Reads ``cfg.MODEL``."""
        if cfg.MODEL.HEADS.NECK_FEAT not in ("before", "after"):
            raise InputError(
                f"expected MODEL.HEADS.NECK_FEAT before or after, got {cfg.MODEL.HEADS.NECK_FEAT!r}"
            )
        return {
            "backbone": build_backbone(cfg),
            "heads": build_heads(cfg),
            "losses": build_losses(cfg),
            "align_neck": cfg.MODEL.HEADS.NECK_FEAT == "after",
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }

    @property
    def device(self) -> torch.device:
        """Where the parameters are; ``DefaultPredictor`` asks."""
        return self.pixel_mean.device

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor] | Tensor:
        """Runs a batch of a fast-reid loader.

        Args:
            batch: "images" (N, 3, H, W) in grey levels 0..255, left as they are; "modalities" (N,)
                values of ``Modality``, in any order; in training "targets" (N,) identity labels.

        Returns:
            In training, loss term -> weighted scalar; else embeddings (N, D) in the input's order.

        Raises:
            InputError: if the batch lacks its modalities, or a training batch one of them.
        """
        if not isinstance(batch, Mapping) or "modalities" not in batch:
            raise InputError(
                "the network has one stem per modality: expected a batch with 'images' and "
                "'modalities', got none of the latter; use a data set of this plugin"
            )
        images = (batch["images"].to(self.device) - self.pixel_mean) / self.pixel_std
        outputs = self.heads(*self.backbone(images, batch["modalities"]))
        if not self.training:
            return self.heads.embed(outputs)
        targets = batch["targets"].to(self.device)
        if (targets < 0).any():
            return {}  # PreciseBN's mark: it wants batch statistics and has no labels
        return self._losses(outputs, targets, batch["modalities"].to(self.device))

    def _losses(
        self, outputs: dict[str, GranularityOutput], targets: Tensor, modalities: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms by name, e.g. "loss_align_local"; figures worth watching go to the log."""
        rows = group_by_identity(targets, modalities)
        check_split(targets, rows)
        logits = self.heads.classify(outputs)
        metric = {
            name: out.neck if self.align_neck else out.features for name, out in outputs.items()
        }
        terms = {f"id_{k}": v for k, v in self.loss_modules["id"](logits, targets).items()}
        watched = {
            "cls_accuracy": (logits["global"][:, 0].argmax(1) == targets).float().mean(),
            "modality_gap": modality_gap(metric["global"][:, 0], rows),
        }
        if "align" in self.loss_modules:
            aligned = self.loss_modules["align"](metric, rows)
            terms |= {f"align_{k}": v for k, v in aligned.losses.items()}
            if aligned.plan is not None:
                watched["plan_sharpness"] = plan_sharpness(aligned.plan)
                watched["plan_saving"] = plan_saving(aligned.cost, aligned.plan)
        if "dl" in self.loss_modules:
            terms["dl"] = self.loss_modules["dl"](self.heads.holistic(metric), rows)
        if "tri" in self.loss_modules:
            terms["tri"] = self.loss_modules["tri"](metric["global"][:, 0], targets)
        if "centre" in self.loss_modules:
            terms["centre"] = self.loss_modules["centre"](metric["global"][:, 0], rows)
        storage = get_event_storage()
        storage.put_scalars(**{k: v.item() for k, v in watched.items()})
        weights = {name: loss.weight_at(storage.iter) for name, loss in self.losses.items()}
        return {f"loss_{k}": weights[k.split("_")[0]] * v for k, v in terms.items()}


@torch.no_grad()
def modality_gap(features: Tensor, rows: IdentityRows) -> Tensor:
    """Distance between the two modalities' centres, of L2-normalised features (N, D): scalar."""
    features = functional.normalize(features.float(), dim=-1)
    centres = [features[own.flatten()].mean(0) for own in rows]
    return (centres[0] - centres[1]).norm()
