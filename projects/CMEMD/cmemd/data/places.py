"""Each drawn image has a place in the stream of a training, and its augmentation depends on that.

So the pixels of a batch depend on the seed and the iteration alone: not on the number of loader
workers or processes, nor on where a run was interrupted.
"""

import itertools
from collections.abc import Iterator

from torch.utils.data import Sampler

__all__ = ["PlacedSampler"]


class PlacedSampler(Sampler[tuple[int, int]]):
    """Image indices of a sampler, each with its place in the stream over all processes.

    Args:
        sampler: an endless stream of this process's indices, batch by batch, which starts anew at
            each iteration over it.
        batch: number of images in this process's part of a batch.
        rank: this process's number.
        world_size: number of processes.

    Attributes:
        start: number of batches to skip; a resumed run sets it before it iterates.
    """

    def __init__(
        self, sampler: Sampler[int], *, batch: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.start = 0
        self._sampler = sampler
        self._batch = batch
        self._rank = rank
        self._world_size = world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield (index, place) without end."""
        skipped = self.start * self._batch
        for number, index in enumerate(itertools.islice(self._sampler, skipped, None), skipped):
            batch, within = divmod(number, self._batch)
            yield index, (batch * self._world_size + self._rank) * self._batch + within
