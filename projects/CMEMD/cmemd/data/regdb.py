"""RegDB, in its genuine layout, as a fast-reid data set."""

from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import check_disjoint, find_folder, hold_out, log_left_out, once_each
from cmemd.data.image_files import Tally
from cmemd.data.items import ImageItem
from cmemd.data.layouts import regdb
from cmemd.data.modality import Modality
from cmemd.errors import InputError

__all__ = ["RegDB"]

_LAYOUT = regdb.LAYOUT


class RegDB(ImageDataset):
    """RegDB: Nguyen et al., Sensors 2017. For folders and files see ``cmemd.data.layouts.regdb``.

    Identities are the folders' numbers, the same in all splits; the lists' labels are numbered
    anew in each. Camera 1 is the visible one, camera 2 the thermal one [C].

    Statistics: 412 identities, each with 10 visible and 10 thermal images; in every split 206 of
    them for training and 206 for testing, with 2060 images of each modality.

    Query: all visible test images. Gallery: all thermal ones; the thermal-to-visible protocol
    exchanges them.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        trial: number of the split, 1 to 10. About half of another split's test identities are
            training identities of this one.
        validation_share: share of the training identities to hold out.
        combineall: fast-reid's COMBINEALL; must be False.

    Raises:
        InputError: a missing folder, list or listed image, a malformed list, lists of a split
            that name different identities, training and test lists that share one, or an invalid
            trial or share.
    """

    dataset_name = _LAYOUT.dataset_name
    layout = _LAYOUT.name  # of its protocols
    rand_perm_cam: Path | None = None

    def __init__(
        self,
        root: str = "datasets",
        folder: str = _LAYOUT.folder,
        trial: int = 1,
        validation_share: float = 0.0,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.folder = find_folder(_LAYOUT.dataset, root, folder, combineall)
        self._tally = Tally()
        self._check_trial(trial)
        self.trial: int | None = trial
        train, test = self._items("train", trial), self._items("test", trial)
        check_disjoint(
            (item.pid for item in train),
            (item.pid for item in test),
            "training and test",
            self.folder / _LAYOUT.list_folder / f"*_{trial}.txt",
        )
        train, self.validation = hold_out(train, validation_share)
        log_left_out(_LAYOUT.dataset, self._tally)
        super().__init__(
            train,
            query=[item for item in test if item.modality is Modality.VISIBLE],
            gallery=[item for item in test if item.modality is Modality.THERMAL],
            **kwargs,
        )

    def _check_trial(self, trial: int) -> None:
        if trial not in regdb.SPLITS:
            first = {k: regdb.split_list("train", Modality.VISIBLE, k) for k in regdb.SPLITS}
            found = [str(k) for k, name in first.items() if (self.folder / name).is_file()]
            raise InputError(
                f"DATASETS.REGDB.TRIAL from {regdb.SPLITS[0]} to {regdb.SPLITS[-1]}",
                trial,
                f"choose a split in {self.folder / _LAYOUT.list_folder}: "
                f"{', '.join(found) or 'it has none'}",
            )

    def _items(self, part: str, trial: int) -> list[ImageItem]:
        """Return the images of a part's two lists, visible ones first."""
        items = [
            ImageItem(str(entry.path), entry.pid, camera, modality)
            for modality, (camera,) in _LAYOUT.cameras.items()
            for entry in once_each(
                regdb.read_split(self.folder, part, modality, trial),
                regdb.split_list(part, modality, trial),
                self._tally,
            )
        ]
        visible, thermal = ({i.pid for i in items if i.modality is m} for m in Modality)
        if visible != thermal:
            lists = self.folder / _LAYOUT.list_folder / f"{part}_*_{trial}.txt"
            raise InputError(
                f"the same identities in {lists}",
                f"{sorted(visible ^ thermal)[:5]} in one of the two only",
                "take both lists from the data set again",
            )
        return items
