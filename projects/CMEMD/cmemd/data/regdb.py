"""RegDB, in its genuine layout, as a fast-reid data set."""

from functools import partial
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import check_disjoint, find_folder, hold_out
from cmemd.data.items import ImageItem
from cmemd.data.layouts.index_files import read_index, regdb_identity
from cmemd.data.modality import REGDB_CAMERAS, Modality
from cmemd.errors import InputError

__all__ = ["RegDB"]

_TRIALS = range(1, 11)
_FOLDERS = {Modality.VISIBLE: "Visible", Modality.THERMAL: "Thermal"}


class RegDB(ImageDataset):
    """RegDB: Nguyen et al., Sensors 2017.

    Layout: ``Visible/<n>/*.bmp``, ``Thermal/<n>/*.bmp`` and ten splits,
    ``idx/{train,test}_{visible,thermal}_{1..10}.txt``, with a line ``relative/path label`` per
    image. Identities are the folders' numbers, the same in all splits; labels are numbered anew in
    each. Camera 1 is the visible one, camera 2 the thermal one [C].

    Statistics: 412 identities, each with 10 visible and 10 thermal images; in every split 206 of
    them for training and 206 for testing, with 2060 images of each modality.

    Query: all visible test images. Gallery: all thermal ones; protocols turn this round by
    themselves.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        trial: which split, 1 to 10. A network trained on one has seen about half of another's
            test identities.
        validation_share: share of the training identities to hold out.
        combineall: fast-reid's wish to train on the test set too; refused.

    Raises:
        InputError: if a folder, list or listed image is missing, or a list malformed; if the two
            lists of a split name different identities, or training and test lists share one; for
            another trial or share.
    """

    dataset_name = "regdb"
    layout = "regdb"  # whose protocols are for it
    rand_perm_cam: Path | None = None

    def __init__(
        self,
        root: str = "datasets",
        folder: str = "RegDB",
        trial: int = 1,
        validation_share: float = 0.0,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.folder = find_folder("RegDB", root, folder, combineall)
        self._check_trial(trial)
        self.trial: int | None = trial
        train, test = self._items("train"), self._items("test")
        check_disjoint(
            (item.pid for item in train),
            (item.pid for item in test),
            "training and test",
            self.folder / f"idx/*_{trial}.txt",
        )
        train, self.validation = hold_out(train, validation_share)
        super().__init__(
            train,
            query=[item for item in test if item.modality is Modality.VISIBLE],
            gallery=[item for item in test if item.modality is Modality.THERMAL],
            **kwargs,
        )

    def _check_trial(self, trial: int) -> None:
        if trial not in _TRIALS:
            idx = self.folder / "idx"
            found = [k for k in _TRIALS if (idx / f"train_visible_{k}.txt").is_file()]
            raise InputError(
                f"expected DATASETS.REGDB.TRIAL from {_TRIALS[0]} to {_TRIALS[-1]}, got {trial}: "
                f"{idx} has the splits {', '.join(map(str, found)) or 'none'}"
            )

    def _items(self, part: str) -> list[ImageItem]:
        """The images of the split's two lists of a part, visible ones first."""
        items = [
            ImageItem(str(entry.path), entry.pid, camera, modality)
            for camera, modality in REGDB_CAMERAS.items()
            for entry in read_index(
                self.folder,
                f"idx/{part}_{modality.name.lower()}_{self.trial}.txt",
                partial(regdb_identity, folder=_FOLDERS[modality]),
                f"{_FOLDERS[modality]}/<identity>/<image>",
            )
        ]
        visible, thermal = ({i.pid for i in items if i.modality is m} for m in Modality)
        if visible != thermal:
            raise InputError(
                f"expected the same identities in {self.folder / f'idx/{part}_*_{self.trial}.txt'},"
                f" got {sorted(visible ^ thermal)[:5]} in one of the two only: take both from the "
                "data set again"
            )
        return items
