"""Two streams: a stem for each modality, then a global and a local stream that both share.

Shape legend: N images of H x W, C channels of the last layer, h x w its feature map.
"""

import copy

import torch
from torch import Tensor, nn

from cmemd.data.grouping import IdentityRows
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.modeling.recomputation import run_stages

__all__ = ["TwoStream"]


class TwoStream(nn.Module):
    """Sends images through the stem of their modality, then through what the modalities share.

    Paper, Fig. 2: shallow layers for each modality, deep ones shared, of which the global and the
    local stream hold a copy each.

    Args:
        stem: the first layers; each modality gets a copy. Empty if the modalities share all layers.
        trunk: what both streams share, between the stems and them; None for nothing.
        global_stream: the last layers, which return the map for the global feature.
        local_stream: those for the local features; None where there are none.
        feat_dim: C.
        depth: number of blocks, in which ``layer_of`` counts.
        embedding: number of layers before the first block.
        recompute: whether a training keeps the input of each stage alone; see
            ``cmemd.modeling.recomputation``.
    """

    def __init__(
        self,
        *,
        stem: nn.Sequential,
        global_stream: nn.Sequential,
        local_stream: nn.Sequential | None,
        feat_dim: int,
        depth: int,
        embedding: int,
        trunk: nn.Sequential | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self._recompute = recompute
        self._embedding = embedding
        self.depth = depth
        self.stems = nn.ModuleList(copy.deepcopy(stem) for _ in Modality)
        self.trunk = trunk
        self.global_stream = global_stream
        self.local_stream = local_stream
        self.feat_dim = feat_dim

    def forward(
        self, images: Tensor, modalities: Tensor, rows: IdentityRows | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the feature maps of both streams, in the order of the input.

        Args:
            images: (N, 3, H, W), normalised.
            modalities: (N,) values of ``Modality``, in any order. Training mode needs both, for
                batch statistics and losses; evaluation mode does not. Not read if ``rows`` is
                given.
            rows: the rows of each modality, on the images' device, where they are known. Found
                otherwise, for which the host waits for the device of ``modalities``.

        Returns:
            The global map and the local map, (N, C, h, w) each; None without a local stream.

        Raises:
            InputError: an image has no modality, or a training batch has one modality alone.
        """
        if rows is None:
            own = self._rows(modalities, len(images))
            own = [rows_of_one.to(images.device) for rows_of_one in own]
        else:
            # In increasing order, as found: batch statistics add up in the order of the rows.
            own = [rows_of_one.flatten().sort().values for rows_of_one in rows]
            if sum(map(len, own)) != len(images):
                raise _wrong_modalities(len(images), [len(x) for x in own])
        shallow = torch.cat(
            [
                self._run(stem, _take(images, rows_of_one))
                for stem, rows_of_one in zip(self.stems, own, strict=True)
                if len(rows_of_one)
            ]
        )
        return self.after_stems(_take(shallow, torch.cat(own).argsort()))

    def after_stems(self, shallow: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the global and the local map of what the stems return."""
        if self.trunk is not None:
            shallow = self._run(self.trunk, shallow)
        return (
            self._run(self.global_stream, shallow),
            None if self.local_stream is None else self._run(self.local_stream, shallow),
        )

    def layer_of(self, name: str) -> int:
        """Return the number of the layer that a parameter belongs to.

        0 are the layers before the first block; blocks count from 1 to ``depth``. What follows the
        last block counts as a part of it.

        Args:
            name: of the parameter, as in ``named_parameters``.
        """
        part, first, *rest = name.split(".")
        before = 0
        if part == "stems":
            first = rest[0]
        else:
            before += len(list(self.stems[0].children()))
            if part != "trunk" and self.trunk is not None:
                before += len(self.trunk)
        return min(max(before + int(first) - self._embedding + 1, 0), self.depth)

    def _run(self, stages: nn.Module, x: Tensor) -> Tensor:
        assert isinstance(stages, nn.Sequential)
        return run_stages(stages, x, recompute=self._recompute)

    def _rows(self, modalities: Tensor, images: int) -> list[Tensor]:
        """Return the row numbers of each modality, and check them."""
        # int: compiled, a comparison of a tensor with an IntEnum's member is False throughout.
        rows = [(modalities == int(modality)).nonzero()[:, 0] for modality in Modality]
        if modalities.shape != (images,) or sum(map(len, rows)) != images:
            raise _wrong_modalities(images, modalities.tolist())
        if self.training and any(len(own) == 0 for own in rows):
            counts = {m.name.lower(): len(own) for m, own in zip(Modality, rows, strict=True)}
            raise InputError(
                "images of both modalities in a training batch",
                counts,
                "set DATALOADER.SAMPLER_TRAIN to CrossModalitySampler",
            )
        return rows


def _wrong_modalities(images: int, got: object) -> InputError:
    return InputError(
        f"one of the modalities {[int(m) for m in Modality]} for each of {images} images",
        got,
        "use the values of cmemd.data.modality.Modality",
    )


def _take(maps: Tensor, rows: Tensor) -> Tensor:
    """Return some of the maps (N, C, h, w) or tokens (N, L, C).

    Maps and their gradients keep the memory format; ``index_select`` alone would return both as
    (N, C, h, w) in memory.
    """
    if maps.ndim != 4 or not maps.is_contiguous(memory_format=torch.channels_last):
        return maps.index_select(0, rows)
    return maps.permute(0, 2, 3, 1).index_select(0, rows).permute(0, 3, 1, 2)
