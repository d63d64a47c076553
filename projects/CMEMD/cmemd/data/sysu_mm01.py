"""SYSU-MM01, in its genuine layout, as a fast-reid data set."""

from pathlib import Path
from typing import NamedTuple

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.images import list_images
from cmemd.data.modality import SYSU_CAMERAS, Modality
from cmemd.data.splits import read_ids
from cmemd.errors import InputError

__all__ = ["ImageItem", "SYSUMM01"]


class ImageItem(NamedTuple):
    """fast-reid's (path, pid, camid), and the modality, which its loaders would lose.

    fast-reid renumbers cameras for training, so modality cannot be told from the camera later.
    """

    path: str
    pid: int
    camid: int
    modality: Modality


class SYSUMM01(ImageDataset):
    """SYSU-MM01: Wu et al., ICCV 2017.

    Layout: ``cam{1..6}/{id:04d}/{n:04d}.jpg``, ``exp/{train,val,test}_id.{txt,mat}``, and, for the
    official gallery draw, ``exp/rand_perm_cam.mat``. Visible cameras 1, 2, 4, 5; thermal (near
    infrared) cameras 3, 6. Not everybody appears under every camera.

    Statistics: 491 identities, 30,071 visible and 15,792 thermal images; 296 train, 99 val and 96
    test identities. Train + val: 395 identities, 22,258 visible and 11,909 thermal images. Test:
    3803 queries (cameras 3, 6), 6775 visible images to draw galleries from.

    Query: all thermal images of the test identities. Gallery: all their visible images; protocols
    draw from it.

    Args:
        root: folder that holds the data set's.
        folder: the data set's folder in it.
        train_with_val: train on the validation identities too, as the field does.
        combineall: fast-reid's wish to train on the test set too; refused.

    Raises:
        InputError: if a folder or list is missing or empty, lists overlap, or one modality has no
            training or no test image.
    """

    dataset_name = "sysumm01"

    def __init__(
        self,
        root: str = "datasets",
        folder: str = "SYSU-MM01",
        train_with_val: bool = True,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        if combineall:
            raise InputError("DATASETS.COMBINEALL would train SYSUMM01 on its test identities")
        self.folder = Path(root, folder)
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            raise InputError(
                f"expected SYSU-MM01 in {self.folder}, got "
                f"{'an empty' if self.folder.is_dir() else 'no such'} folder: put the data set "
                "there, or set FASTREID_DATASETS or DATASETS.SYSUMM01.FOLDER (datasets/README.md)"
            )
        ids = {name: read_ids(self.exp_dir, f"{name}_id") for name in ("train", "val", "test")}
        shared = (set(ids["train"]) | set(ids["val"])) & set(ids["test"])
        if shared:
            raise InputError(
                f"test identities {sorted(shared)[:5]} of {self.exp_dir} are also training or "
                "validation identities: take the lists from the data set again"
            )
        train = self._items(ids["train"] + (ids["val"] if train_with_val else []), "training")
        test = self._items(ids["test"], "test")
        super().__init__(
            train,
            query=[item for item in test if item.modality == Modality.THERMAL],
            gallery=[item for item in test if item.modality == Modality.VISIBLE],
            **kwargs,
        )

    @property
    def exp_dir(self) -> Path:
        """Folder of the identity lists."""
        return self.folder / "exp"

    @property
    def rand_perm_cam(self) -> Path | None:
        """The official gallery permutations, where the user has them."""
        path = self.exp_dir / "rand_perm_cam.mat"
        return path if path.is_file() else None

    def _items(self, ids: list[int], use: str) -> list[ImageItem]:
        items = [
            ImageItem(str(path), pid, camera, modality)
            for camera, modality in SYSU_CAMERAS.items()
            for pid in sorted(ids)
            for folder in [self.folder / f"cam{camera}" / f"{pid:04d}"]
            if folder.is_dir()
            for path in list_images(folder)
        ]
        for modality in Modality:
            if not any(item.modality == modality for item in items):
                cameras = [c for c, m in SYSU_CAMERAS.items() if m == modality]
                raise InputError(
                    f"expected {modality.name.lower()} {use} images in cameras {cameras} of "
                    f"{self.folder}, got none: the data set needs both modalities"
                )
        return items
