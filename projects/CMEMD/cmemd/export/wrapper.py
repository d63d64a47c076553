"""Wrap the network as a graph: images -> embeddings of length 1.

Shape legend: N images of H x W; D channels of the embedding.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.modality import Modality
from cmemd.export.resize import pillow_bicubic
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["BACKBONE_PARTS", "EmbeddingGraph", "OneModalityGraph", "is_exported"]

BACKBONE_PARTS = ("stems", "after_stems")  # what a graph takes of a backbone

_NOT_EXPORTED = (".classifier", ".num_batches_tracked")  # no embedding depends on them


def is_exported(name: str) -> bool:
    """Return whether an embedding depends on the network's tensor of this name."""
    return not name.endswith(_NOT_EXPORTED)


class _Flat(nn.Module):
    """Hold a module's tensors under names without dots.

    A graph's code spells each tensor's path, and "granularities.global" is no valid Python. So this
    module holds the tensors under flat names and hides the module in a tuple.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = (module.eval(),)
        tensors = [*module.named_parameters(), *module.named_buffers()]
        self._flat = {name: name.replace(".", "_") for name, _ in tensors if is_exported(name)}
        for name, tensor in tensors:
            if name in self._flat:
                self.register_buffer(self._flat[name], tensor.detach())

    def _run(self, *inputs: Tensor) -> Tensor:
        tensors = {name: getattr(self, flat) for name, flat in self._flat.items()}
        return torch.func.functional_call(self._module[0], tensors, inputs)


class EmbeddingGraph(_Flat):
    """Compute an embedding: normalisation, stems, streams, heads and the embedding's norm.

    Each stem sees only its modality's rows, as in training, so a batch of one modality costs one
    stem. An exporter cannot know whether a modality has any row. So each stem gets one extra row,
    whose result is dropped. A row whose modality is neither 0 nor 1 becomes NaN.

    Args:
        network: a trained network; put into evaluation mode and shared, not copied.
    """

    def __init__(self, network: CMEMDNet) -> None:
        super().__init__(_Embedding(network))

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return embeddings (N, D), float32.

        Args:
            images: (N, H, W, 3) uint8, RGB, N at least 1.
            modalities: (N,) int64, values of ``Modality``.
        """
        return self._run(images, modalities)


class OneModalityGraph(_Flat):
    """Compute an embedding as ``EmbeddingGraph``, of floats and of one modality.

    Args:
        network: a trained network; put into evaluation mode and shared, not copied.
        modality: of all images.
        resized_to: height and width to which the graph resizes images; None if it does not.
    """

    def __init__(
        self, network: CMEMDNet, modality: Modality, resized_to: Sequence[int] | None = None
    ) -> None:
        super().__init__(_OneModality(network, modality, resized_to))
        self.resized_to = resized_to

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings (N, D), float32.

        Args:
            images: (N, 3, H, W) float32, RGB in [0, 1], N at least 1.
        """
        return self._run(images)


class _Embedding(nn.Module):
    """Compute ``EmbeddingGraph`` under the network's own names."""

    def __init__(self, network: CMEMDNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        network, backbone = self.network, self.network.backbone
        grey_levels = images.permute(0, 3, 1, 2).to(torch.float32)
        normalised = (grey_levels - network.pixel_mean) / network.pixel_std
        rows = [(modalities == int(modality)).nonzero()[:, 0] for modality in Modality]
        shallow = torch.cat(
            [
                stem(normalised.index_select(0, functional.pad(own, (0, 1))))[:-1]
                for stem, own in zip(backbone.stems, rows, strict=True)
            ]
        )
        unknown = shallow.new_full((images.shape[0], *shallow.shape[1:]), torch.nan)
        shallow = unknown.index_copy(0, torch.cat(rows), shallow)
        return _embed_shallow(network, shallow)


class _OneModality(nn.Module):
    """Compute ``OneModalityGraph`` under the network's own names."""

    def __init__(
        self, network: CMEMDNet, modality: Modality, resized_to: Sequence[int] | None
    ) -> None:
        super().__init__()
        self.network = network
        self._modality = int(modality)
        self._resized_to = resized_to

    def forward(self, images: Tensor) -> Tensor:
        network = self.network
        levels = images * 255
        if self._resized_to is not None:
            levels = pillow_bicubic(levels, *self._resized_to)
        normalised = (levels - network.pixel_mean) / network.pixel_std
        return _embed_shallow(network, network.backbone.stems[self._modality](normalised))


def _embed_shallow(network: CMEMDNet, shallow: Tensor) -> Tensor:
    """Return embeddings of the stems' output."""
    outputs = network.heads(*network.backbone.after_stems(shallow))
    return functional.normalize(network.heads.embed(outputs), dim=-1)
