"""Several data sets as one to train on."""

from bisect import bisect_right
from collections.abc import Sequence

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.items import ImageItem
from cmemd.data.naming import person_of, place_of, record_name, title_of

__all__ = ["JoinedData"]


class JoinedData:
    """The training images of several data sets, one after the other.

    Identities and cameras of each data set get numbers above those of the ones before it, so that
    equal numbers of two data sets stay two people. Only the leak guard's names can be equal: lists
    of one's own may share the naming of another data set.

    Args:
        parts: the data sets, at least two, of different names.

    Attributes:
        train: images to train on.
        validation: images of identities that a data set holds out.
        trial: number of the split of the data set that has several, or None.
    """

    def __init__(self, parts: Sequence[ImageDataset]) -> None:
        self.parts = tuple(parts)
        self.dataset_name = "+".join(part.dataset_name for part in parts)
        self.title = " + ".join(map(title_of, parts))
        self.record_name = " + ".join(map(record_name, parts))
        self.trial = next((p.trial for p in parts if p.trial is not None), None)
        self.train: list[ImageItem] = []
        self.validation: list[ImageItem] = []
        self._starts: list[int] = []
        pid, camid = 0, 0
        for part in self.parts:
            self._starts.append(pid)
            items = [*part.train, *part.validation]
            self.train += _moved(part.train, pid, camid)
            self.validation += _moved(part.validation, pid, camid)
            pid += 1 + max((item.pid for item in items), default=0)
            camid += 1 + max((item.camid for item in items), default=0)

    def person(self, pid: int) -> tuple[str, object]:
        """Return the naming of an identity, and the identity in it."""
        number = self._part(pid)
        return person_of(self.parts[number], pid - self._starts[number])

    def place(self, item: ImageItem) -> str:
        """Return the name of an image's data set, and the image's place in it."""
        number = self._part(item.pid)
        part = self.parts[number]
        own = item._replace(pid=item.pid - self._starts[number])
        return f"{part.dataset_name}/{place_of(part, own)}"

    def _part(self, pid: int) -> int:
        return bisect_right(self._starts, pid) - 1


def _moved(items: Sequence[ImageItem], pid: int, camid: int) -> list[ImageItem]:
    return [item._replace(pid=item.pid + pid, camid=item.camid + camid) for item in items]
