"""Wrap the network as a graph: uint8 images and modalities -> embeddings of length 1.

Shape legend: N images of H x W; D channels of the embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from cmemd.data.modality import Modality
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["BACKBONE_PARTS", "EmbeddingGraph", "is_exported"]

BACKBONE_PARTS = ("stems", "global_stream", "local_stream")  # what a graph takes of a backbone

_NOT_EXPORTED = (".classifier", ".num_batches_tracked")  # no embedding depends on them


def is_exported(name: str) -> bool:
    """Return whether an embedding depends on the network's tensor of this name."""
    return not name.endswith(_NOT_EXPORTED)


class EmbeddingGraph(nn.Module):
    """Compute an embedding: normalisation, stems, streams, heads and the embedding's norm.

    Each stem sees only its modality's rows, as in training, so a batch of one modality costs one
    stem. An exporter cannot know whether a modality has any row. So each stem gets one extra row,
    whose result is dropped. A row whose modality is neither 0 nor 1 becomes NaN.

    Args:
        network: a trained network; put into evaluation mode and shared, not copied.
    """

    def __init__(self, network: CMEMDNet) -> None:
        super().__init__()
        # A graph's code spells each tensor's path, and "granularities.global" is no valid Python.
        # So this module holds the tensors under flat names and hides the network in a tuple.
        self._network = (_Embedding(network).eval(),)
        tensors = [*self._network[0].named_parameters(), *self._network[0].named_buffers()]
        self._flat = {name: name.replace(".", "_") for name, _ in tensors if is_exported(name)}
        for name, tensor in tensors:
            if name in self._flat:
                self.register_buffer(self._flat[name], tensor.detach())

    def forward(self, images: Tensor, modalities: Tensor) -> Tensor:
        """Return embeddings (N, D), float32.

        Args:
            images: (N, H, W, 3) uint8, RGB, N at least 1.
            modalities: (N,) int64, values of ``Modality``.
        """
        tensors = {name: getattr(self, flat) for name, flat in self._flat.items()}
        return torch.func.functional_call(self._network[0], tensors, (images, modalities))


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
        local = None if backbone.local_stream is None else backbone.local_stream(shallow)
        outputs = network.heads(backbone.global_stream(shallow), local)
        return functional.normalize(network.heads.embed(outputs), dim=-1)
