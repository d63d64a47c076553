"""The tests' parts that need no training."""

import torch
from torch import nn

from cmemd.engine.testing import _Mirrored


class FirstColumn(nn.Module):
    """Its features are the leftmost pixels."""

    def forward(self, batch):
        return batch["images"][:, 0, :, 0]


def test_a_mirrored_network_keeps_plain_and_mean_apart():
    images = torch.tensor([[[[1.0, 2.0, 5.0], [3.0, 4.0, 7.0]]]])  # (1, 1, 2, 3)
    batch = {"images": images, "modalities": torch.tensor([0])}
    both = _Mirrored(FirstColumn())(batch)
    assert both.tolist() == [[[1.0, 3.0], [(1 + 5) / 2, (3 + 7) / 2]]]
    assert batch["images"] is images
