"""Sample batches of P identities x (K_v visible + K_t thermal) images."""

import itertools
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import Sampler

from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["SAMPLERS", "CameraDiverseSampler", "CrossModalitySampler", "check_identities"]

logger = logging.getLogger(__name__)


class CrossModalitySampler(Sampler[int]):
    """An endless stream of image indices, batch after batch.

    A batch lists its identities one by one: K_v visible images, then K_t thermal ones. Identities
    come in random order, each once before any comes again. An identity's images of one modality
    are shuffled, with the cameras taking turns, and used one after the other. They are shuffled
    anew when fewer than needed are left. So an image repeats within a batch only if the identity
    has fewer than K of that modality.

    Identities without images of one modality are skipped; a warning counts them. All ranks sample
    the same batches from the seed, and each takes its own identities of them. So an identity is
    whole on one rank, and a run does not depend on the number of ranks. The stream depends on the
    seed and the items alone, without ``set_epoch``.

    Args:
        items: the training images, in the order of the data set's indices.
        identities: P, over all ranks.
        num_visible: K_v.
        num_thermal: K_t.
        seed: the same on all ranks.
        rank: this process's number.
        world_size: number of processes; divides P.

    Raises:
        InputError: fewer than P identities have both modalities, or ``world_size`` does not
            divide P.
    """

    def __init__(
        self,
        items: Sequence[ImageItem],
        *,
        identities: int,
        num_visible: int,
        num_thermal: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if identities % world_size:
            raise InputError(
                f"a number of identities a batch, P, that {world_size} processes divide",
                identities,
                "change SOLVER.IMS_PER_BATCH, which is P x (K_v + K_t)",
            )
        self._wanted = {Modality.VISIBLE: num_visible, Modality.THERMAL: num_thermal}
        self._by_camera = _index(items)
        self._pids = check_identities(items, identities)
        skipped = len({item.pid for item in items}) - len(self._pids)
        if skipped:
            logger.warning(
                "%d of %d training identities have images of one modality only: they are skipped",
                skipped,
                skipped + len(self._pids),
            )
        self._identities = identities
        self._seed = seed
        share = identities // world_size
        self._own = slice(rank * share, (rank + 1) * share)

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices of one batch after the other, without end."""
        rng = random.Random(self._seed)
        unused = {key: self._open(images, rng) for key, images in sorted(self._by_camera.items())}
        queue: list[int] = []
        while True:
            if len(queue) < self._identities:
                # Identities left over come last in the new round, so a batch never repeats one.
                fresh = rng.sample(self._pids, len(self._pids))
                queue += sorted(fresh, key=set(queue).__contains__)
            pids, queue = queue[: self._identities], queue[self._identities :]
            batch = [self._sample(pid, unused, rng) for pid in pids]
            yield from itertools.chain.from_iterable(batch[self._own])

    def _sample(
        self, pid: int, unused: dict[tuple[int, Modality], list[int]], rng: random.Random
    ) -> list[int]:
        sampled: list[int] = []
        for modality, count in self._wanted.items():
            key = pid, modality
            sampled += self._take(count, self._by_camera[key], unused[key], rng)
        return sampled

    def _open(self, cameras: dict[int, list[int]], rng: random.Random) -> Any:
        """Return what a stream remembers of an identity's images of one modality."""
        return _shuffle(cameras, rng)

    def _take(
        self, count: int, cameras: dict[int, list[int]], unused: Any, rng: random.Random
    ) -> list[int]:
        """Return the next images of an identity and a modality, and change ``unused``."""
        while len(unused) < count:
            if sum(map(len, cameras.values())) >= count:
                unused.clear()
            unused += _shuffle(cameras, rng)
        taken = unused[:count]
        del unused[:count]
        return taken


class CameraDiverseSampler(CrossModalitySampler):
    """As ``CrossModalitySampler``, but each batch spreads an identity's images over its cameras.

    Chosen here, not from the paper. Of K images of a modality, the cameras of that modality that
    saw the identity give equal numbers. Where K does not divide by them, the cameras take turns in
    giving one more; where a camera has too few images, the others give more. So two cameras differ
    by more than one image only if the smaller number is all that its camera has.

    A camera's images are shuffled, used one after the other, and shuffled anew when fewer than
    needed are left: images of cameras with few of them are seen more often. An image repeats within
    a batch only if the identity has fewer than K of that modality. Arguments are those of
    ``CrossModalitySampler``, and all else is as there.
    """

    def _open(self, cameras: dict[int, list[int]], rng: random.Random) -> Any:
        """Return the cameras of the present round, and the unused images of each."""
        return [], {camera: _shuffle({0: indices}, rng) for camera, indices in cameras.items()}

    def _take(
        self, count: int, cameras: dict[int, list[int]], unused: Any, rng: random.Random
    ) -> list[int]:
        """Return images of as many cameras as there are."""
        turns, images = unused
        taken: list[int] = []
        for camera, number in _spread(count, cameras, turns, rng).items():
            taken += super()._take(number, {0: cameras[camera]}, images[camera], rng)
        return taken


# The choices of DATALOADER.SAMPLER_TRAIN.
SAMPLERS: dict[str, type[CrossModalitySampler]] = {
    sampler.__name__: sampler for sampler in (CrossModalitySampler, CameraDiverseSampler)
}


def _spread(
    count: int, cameras: dict[int, list[int]], turns: list[int], rng: random.Random
) -> Counter[int]:
    """Return camera -> number of images to take, ``count`` in all.

    Args:
        count: of the images.
        cameras: camera -> its images.
        turns: cameras that give one more before the others give one again; it changes.
        rng: random numbers.
    """
    numbers: Counter[int] = Counter()
    left = dict.fromkeys(cameras, 0)
    while count:
        if not any(left.values()):
            left = {camera: len(indices) for camera, indices in sorted(cameras.items())}
        able = [camera for camera, images in left.items() if images]
        chosen = able if count >= len(able) else _next_turns(count, able, turns, rng)
        for camera in chosen:
            numbers[camera] += 1
            left[camera] -= 1
        count -= len(chosen)
    return numbers


def _next_turns(count: int, able: list[int], turns: list[int], rng: random.Random) -> list[int]:
    """Return ``count`` of the cameras that can give an image, those first whose turn it is."""
    chosen: list[int] = []
    while len(chosen) < count:
        camera = next((c for c in turns if c in able and c not in chosen), None)
        if camera is None:
            turns += rng.sample(able, len(able))
        else:
            turns.remove(camera)
            chosen.append(camera)
    return chosen


def check_identities(items: Sequence[ImageItem], identities: int) -> list[int]:
    """Return the identities that have images of both modalities, sorted.

    Args:
        items: training images.
        identities: of a batch.

    Raises:
        InputError: they are too few for a batch.
    """
    seen = {(item.pid, item.modality) for item in items}
    pids = sorted({item.pid for item in items})
    both = [pid for pid in pids if all((pid, modality) in seen for modality in Modality)]
    if len(both) < identities:
        raise InputError(
            f"{identities} training identities with images of both modalities for a batch",
            len(both),
            "lower SOLVER.IMS_PER_BATCH or add data",
        )
    return both


def _index(items: Sequence[ImageItem]) -> dict[tuple[int, Modality], dict[int, list[int]]]:
    """Return (pid, modality) -> camera -> indices."""
    index: dict[tuple[int, Modality], dict[int, list[int]]]
    index = defaultdict(lambda: defaultdict(list))
    for i, item in enumerate(items):
        index[item.pid, item.modality][item.camid].append(i)
    return dict(index)


def _shuffle(cameras: dict[int, list[int]], rng: random.Random) -> list[int]:
    """Return all indices once, the cameras taking turns in random order."""
    columns = [rng.sample(indices, len(indices)) for _, indices in sorted(cameras.items())]
    rounds = []
    for row in itertools.zip_longest(*columns):
        turn = [index for index in row if index is not None]
        rounds.append(rng.sample(turn, len(turn)))
    return list(itertools.chain.from_iterable(rounds))
