"""The meta-architecture: the whole method on one page.

Shape legend: N images of H x W; D channels of the test feature.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import CfgNode, configurable
from fastreid.modeling.backbones import build_backbone
from fastreid.modeling.heads import build_heads
from fastreid.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.grouping import IdentityRows, group_by_identity
from cmemd.errors import InputError
from cmemd.losses.build import WeightedLoss, build_losses
from cmemd.losses.distributed import check_split
from cmemd.losses.interface import LossInputs
from cmemd.losses.precision import at_least_float32, without_autocast
from cmemd.modeling.multi_granularity import GranularityOutput, MultiGranularityHead
from cmemd.modeling.two_stream_resnet import TwoStreamResNet

__all__ = ["CMEMDNet", "modality_gap"]


class CMEMDNet(nn.Module):
    """Images of both modalities -> loss terms (training) or embeddings (evaluation).

    Total loss = identity losses + lambda_align * CM-EMD + lambda_dl * CM-DL; arXiv 2203.01675.
    Baselines replace CM-EMD, and add triplets or centre clusters on the global feature. The table
    of all losses is ``cmemd.losses.build.LOSSES``.

    Args:
        backbone: maps images and modalities to a global and a local feature map; also the batch's
            rows, if its ``forward`` has an argument ``rows``.
        heads: maps those to the features of each granularity.
        losses: name -> loss and weight, from ``build_losses``.
        align_neck: whether metric losses compare features after the BNNeck instead of before it.
        pixel_mean: per channel, in grey levels 0..255.
        pixel_std: per channel, in grey levels.
        channels_last: whether filters and activations lie in memory channel by channel of each
            pixel.
        frozen: whether the backbone and the powers of the pooling stay as they are: no gradients,
            and the statistics of evaluation.

    Attributes:
        watched: name -> scalar of the last training batch, on the device, for a log line.
        epoch_length: iterations of an epoch, which the trainer sets; a loss that starts after some
            epochs needs it.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable  # type: ignore[untyped-decorator]  # fast-reid has no types
    def __init__(
        self,
        *,
        backbone: TwoStreamResNet,
        heads: MultiGranularityHead,
        losses: Mapping[str, WeightedLoss],
        align_neck: bool,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        channels_last: bool = False,
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.heads = heads
        self.loss_modules = nn.ModuleDict({name: loss.module for name, loss in losses.items()})
        self.losses = losses
        self.align_neck = align_neck
        self.watched: dict[str, Tensor] = {}
        self.epoch_length: int | None = None
        self._backbone_takes_rows = "rows" in inspect.signature(backbone.forward).parameters
        if heads.weigh is not None and not any("holistic" in x.reads for x in losses.values()):
            heads.weigh.requires_grad_(False)  # the holistic feature alone trains local weights
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            self.register_buffer(name, torch.tensor(values).view(1, -1, 1, 1), persistent=False)
        self._frozen = frozen
        if frozen:
            for part in (self.backbone, heads.global_pool, heads.stripe_pool):
                if part is not None:
                    part.requires_grad_(False)
        self._channels_last = channels_last
        if channels_last:
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # lacks it

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, object]:
        """Read ``cfg.MODEL``."""
        if cfg.MODEL.HEADS.NECK_FEAT not in ("before", "after"):
            raise InputError(
                "a known MODEL.HEADS.NECK_FEAT",
                repr(cfg.MODEL.HEADS.NECK_FEAT),
                "choose before or after",
            )
        return {
            "backbone": build_backbone(cfg),
            "heads": build_heads(cfg),
            "losses": build_losses(cfg),
            "align_neck": cfg.MODEL.HEADS.NECK_FEAT == "after",
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "channels_last": cfg.MODEL.CHANNELS_LAST,
            "frozen": cfg.MODEL.BACKBONE.FROZEN,
        }

    def train(self, mode: bool = True) -> "CMEMDNet":
        """Change all parts to training mode, or to evaluation; a frozen backbone stays there."""
        super().train(mode)
        if self._frozen:
            self.backbone.eval()
        return self

    @property
    def device(self) -> torch.device:
        """The device of the parameters; fast-reid's ``DefaultPredictor`` reads it."""
        return self.pixel_mean.device

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor] | Tensor:
        """Return the losses or the embeddings of a batch.

        Args:
            batch: "images" (N, 3, H, W) in grey levels 0..255; "modalities" (N,) values of
                ``Modality``, in any order; in training "targets" (N,) identity labels. "rows", an
                ``IdentityRows``, saves the search for the rows of each identity and modality, for
                which the host waits for the device. "pairs" (M, 2), the rows of both views of
                each visible image, if there are two. "pooled" in place of "images": what ``pool``
                returns for them. The batch stays unchanged.

        Returns:
            In training, loss term -> weighted scalar. Otherwise embeddings (N, D), in the input's
            order.

        Raises:
            InputError: a batch without modalities, or a training batch of one modality.
        """
        if not isinstance(batch, Mapping) or "modalities" not in batch:
            raise InputError(
                "a batch with 'images' and 'modalities', since each modality has its own stem",
                "no 'modalities'",
                "use a data set of this plugin",
            )
        rows: IdentityRows | None = batch.get("rows")
        if rows is not None:
            rows = rows.to(self.device)
        if "pooled" in batch:
            pooled = batch["pooled"].to(self.device)
            with without_autocast(self.device.type):
                return self._after_heads(self.heads.of_pooled(*_parts(pooled)), rows, batch)
        maps = self._maps(batch, rows)
        with without_autocast(self.device.type):  # half precision ends with the backbone
            return self._after_heads(self.heads(*maps), rows, batch)

    @torch.no_grad()
    def pool(self, batch: Mapping[str, Any]) -> Tensor:
        """Return the pooled maps (N, C, F) of a batch: the global one, then those of the stripes.

        Args:
            batch: "images" and "modalities", as in ``forward``.
        """
        overall, stripes = self.heads.pool(*self._maps(batch, None))
        return overall if stripes is None else torch.cat((overall, stripes), -1)

    def _maps(
        self, batch: Mapping[str, Any], rows: IdentityRows | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the maps of both streams, in at least float32."""
        # A loader's batch is channels last in memory; sums in that order would round differently.
        memory = torch.channels_last if self._channels_last else torch.contiguous_format
        images = batch["images"].to(self.device).contiguous(memory_format=memory)
        images = (images - self.pixel_mean) / self.pixel_std
        overall, local = self.backbone(images, batch["modalities"], *self._routing(rows))
        with without_autocast(self.device.type):
            return at_least_float32(overall), None if local is None else at_least_float32(local)

    def _after_heads(
        self,
        outputs: dict[str, GranularityOutput],
        rows: IdentityRows | None,
        batch: Mapping[str, Any],
    ) -> dict[str, Tensor] | Tensor:
        """Return what ``forward`` does, of the heads' outputs."""
        if not self.training:
            return self.heads.embed(outputs)
        targets = batch["targets"].to(self.device)
        # PreciseBN's batch has no labels: it only updates batch statistics. It comes without
        # gradients. A training step, which must not wait for the device, comes with them.
        if (rows is None or not torch.is_grad_enabled()) and (targets < 0).any():
            return {}
        if rows is None:
            rows = group_by_identity(targets, batch["modalities"].to(self.device))
            check_split(targets, rows)
        pairs = batch.get("pairs")
        pairs = None if pairs is None else pairs.to(self.device)
        return self._losses(outputs, targets, rows, pairs)

    def _routing(self, rows: IdentityRows | None) -> tuple[IdentityRows, ...]:
        """Return what the backbone takes beside images and modalities."""
        return (rows,) if rows is not None and self._backbone_takes_rows else ()

    def _losses(
        self,
        outputs: dict[str, GranularityOutput],
        targets: Tensor,
        rows: IdentityRows,
        pairs: Tensor | None,
    ) -> dict[str, Tensor]:
        """Return weighted terms, e.g. "loss_align_local"; keep scalars to watch beside them."""
        kind = "neck" if self.align_neck else "features"
        inputs = LossInputs(
            features={name: getattr(output, kind) for name, output in outputs.items()},
            logits=self.heads.classify(outputs),
            targets=targets,
            rows=rows,
            concatenate=self.heads.holistic,
            pairs=pairs,
        )
        watched = {
            "cls_accuracy": (inputs.logits["global"][:, 0].argmax(1) == targets).float().mean(),
            "modality_gap": modality_gap(inputs.global_feature, rows),
        }
        terms = {}
        for name, loss in self.losses.items():
            output = loss(inputs)
            terms[name] = output.terms
            watched |= output.watched
        self.watched = {name: value.detach() for name, value in watched.items()}
        if all(loss.is_constant for loss in self.losses.values()):
            return self._weighted(terms, 0)
        now: dict[str, Tensor] = self._weighted_now(terms)
        return now

    def _weighted(
        self, terms: Mapping[str, Mapping[str, Tensor]], iteration: int
    ) -> dict[str, Tensor]:
        """Return each loss's terms times its weight at an iteration, under their full names."""
        return {
            f"loss_{name}_{term}" if term else f"loss_{name}": weight * value
            for name, weight in self._weights(iteration).items()
            for term, value in terms[name].items()
        }

    def _weights(self, iteration: int) -> dict[str, float]:
        """Return each loss's weight at an iteration."""
        if self.epoch_length is None and any(loss.start_epoch for loss in self.losses.values()):
            raise InputError(
                "the number of iterations of an epoch, for a START_EPOCH of MODEL.LOSSES",
                "none",
                "train with cmemd.Trainer, or set the network's epoch_length",
            )
        length = self.epoch_length or 1
        return {name: loss.weight_at(iteration, length) for name, loss in self.losses.items()}

    # Compiled, a graph would hold the iteration as a constant.
    @torch.compiler.disable  # type: ignore[untyped-decorator]  # PyTorch's lacks types
    def _weighted_now(self, terms: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        return self._weighted(terms, get_event_storage().iter)


def _parts(pooled: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the global feature (N, C, 1), and those of the stripes, if there are any."""
    stripes = pooled[..., 1:].contiguous() if pooled.shape[-1] > 1 else None
    return pooled[..., :1].contiguous(), stripes


@torch.no_grad()
def modality_gap(features: Tensor, rows: IdentityRows) -> Tensor:
    """Return the distance of the modalities' centres, of L2-normalised features (N, D)."""
    features = functional.normalize(features.float(), dim=-1)
    centres = [features[own.flatten()].mean(0) for own in rows]
    gap: Tensor = (centres[0] - centres[1]).norm()
    return gap
