"""A data set of one's own, from lists or folders, as a fast-reid data set."""

import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.checks import check_both_modalities, find_folder, log_left_out
from cmemd.data.image_files import Tally
from cmemd.data.items import GALLERY, QUERY, TEST, ImageItem
from cmemd.data.layouts import own
from cmemd.data.modality import Modality
from cmemd.errors import InputError, printable

__all__ = ["Own"]

_LAYOUT = own.LAYOUT
_logger = logging.getLogger(__name__)
_SHOWN = 3
_Faults = list[own.ListFault]


class Own(ImageDataset):
    """Images of one's own cameras. For lists and folders see ``cmemd.data.layouts.own``.

    Identities and cameras are texts; they are numbered from 1 in the order of their names. Images
    without a camera get one of their modality. Validation identities (``val``) are held out of
    training, as ``validation``.

    Query: test images that the list calls ``query``, and the thermal ones that it calls ``test``.
    Gallery: the others; protocols choose by modality and role.

    Args:
        root: folder that holds the data sets.
        list: the lists, from the working folder; none to list ``folder`` by its names.
        folder: where relative paths of lists start, default each list's folder; without lists the
            folder of images below ``root``.
        name: the data set's name in results.
        naming: whose identities these are: one naming for all lists, or one for each list. Default
            the name. Lists of one naming share their identities.
        licence: of the images, in the user's words.
        test_share: of the identities, to test on where the lists have no split.
        validation_share: of the training identities to hold out, where the lists have no ``val``.
        split_seed: of both choices.
        combineall: fast-reid's COMBINEALL; must be False.

    Attributes:
        lists: naming and content of each list, every row with its split.

    Raises:
        InputError: names the rows with mistakes, or says what is missing.
    """

    dataset_name = _LAYOUT.dataset_name
    layout = _LAYOUT.name  # of its protocols
    rand_perm_cam: Path | None = None
    trial: int | None = None

    def __init__(
        self,
        root: str = "datasets",
        list: Sequence[str] = (),
        folder: str = "",
        name: str = _LAYOUT.dataset,
        naming: Sequence[str] = (),
        licence: str = "",
        test_share: float = 0.3,
        validation_share: float = 0.0,
        split_seed: int = 0,
        combineall: bool = False,
        **kwargs: object,
    ) -> None:
        self.title = self.record_name = name
        self.licence = licence or _LAYOUT.licence
        self.folder, lists = _read(root, tuple(list), folder, combineall)
        self.lists = _named(lists, tuple(naming), name)
        faults: _Faults = []
        own.check_lists(self.lists, faults.append)
        own.raise_faults(faults, [listed.file for _, listed in self.lists])
        self._split(test_share, validation_share, split_seed)
        items = self._items()
        train = items[own.TRAIN]
        if train:
            check_both_modalities(train, "training", self.folder)
        self.validation = items[own.VALIDATION]
        test = [item for role in (QUERY, GALLERY, TEST) for item in items[role]]
        query = {QUERY: Modality, TEST: (Modality.THERMAL,), GALLERY: ()}
        super().__init__(
            train,
            query=[item for item in test if item.modality in query[item.role]],
            gallery=[item for item in test if item.modality not in query[item.role]],
            **kwargs,
        )

    def person(self, pid: int) -> own.Person:
        """Return the naming and the name of an identity."""
        return self._people[pid - 1]

    def camera(self, camid: int) -> str:
        """Return the name of a camera."""
        return self._cameras[camid - 1]

    def place(self, item: ImageItem) -> str:
        """Return an image's key below the folder; the whole key where it is elsewhere."""
        return item.key.removeprefix(f"{self.folder}{os.sep}")

    def split_files(self) -> dict[str, str]:
        """Return the lists as they are used, by the names of files for them.

        Each is a list itself, with absolute paths and a split in every row.
        """
        name, _, suffix = own.SPLIT_FILE.partition(".")
        numbers = [""] if len(self.lists) == 1 else [f"-{n}" for n in range(1, 1 + len(self.lists))]
        return {
            f"{name}{number}.{suffix}": own.write_list(listed)
            for number, (_, listed) in zip(numbers, self.lists, strict=True)
        }

    def _split(self, test_share: float, validation_share: float, seed: int) -> None:
        """Give each row a split where the lists have none, and hold out validation identities."""
        splits: dict[own.Person, str] = {}
        people: dict[own.Person, set[Modality]] = defaultdict(set)
        given = False
        for naming, listed in self.lists:
            for row in listed.rows:
                person = naming, row.identity
                given = given or bool(row.split)
                splits[person] = row.split or own.TRAIN
                people[person].add(row.modality)
        if not given:
            _check_share("TEST_SHARE", test_share)
            splits |= dict.fromkeys(own.held_people(people, test_share, seed), TEST)
        if validation_share > 0:
            _check_share("VALIDATION_SHARE", validation_share)
            if own.VALIDATION in splits.values():
                raise InputError(
                    "DATASETS.OWN.VALIDATION_SHARE 0 with lists that have their own val rows",
                    validation_share,
                    "leave it out",
                )
            training = {p: people[p] for p, split in splits.items() if split == own.TRAIN}
            held = own.held_people(training, validation_share, seed)
            splits |= dict.fromkeys(held, own.VALIDATION)
        self.lists = [
            (naming, listed._replace(rows=[_with_split(naming, r, splits) for r in listed.rows]))
            for naming, listed in self.lists
        ]

    def _items(self) -> dict[str, list[ImageItem]]:
        """Return the images of each split; number identities and cameras."""
        rows = [(naming, listed, row) for naming, listed in self.lists for row in listed.rows]
        self._people = sorted({(naming, row.identity) for naming, _, row in rows})
        self._cameras = sorted({_camera(row) for _, _, row in rows})
        pids = {person: pid for pid, person in enumerate(self._people, 1)}
        camids = {camera: camid for camid, camera in enumerate(self._cameras, 1)}
        items: dict[str, list[ImageItem]] = {split: [] for split in own.SPLITS}
        for naming, listed, row in rows:
            items[row.split].append(
                ImageItem(
                    row.path,
                    pids[naming, row.identity],
                    camids[_camera(row)],
                    row.modality,
                    row.box,
                    row.frame,
                    row.time,
                    row.tracklet,
                    row.split if row.split in (QUERY, GALLERY) else TEST,
                    listed.where(row),
                )
            )
        return items


def _read(
    root: str, lists: tuple[str, ...], folder: str, combineall: bool
) -> tuple[Path, list[own.OwnList]]:
    """Return the folder below which most images are, and the lists."""
    if lists:
        if combineall:
            find_folder(_LAYOUT.dataset, root, folder, combineall)  # raises
        base = find_folder(_LAYOUT.dataset, root, folder, False) if folder else None
        read = [own.read_list(file, base) for file in lists]
        return read[0].folder, read
    base = find_folder(_LAYOUT.dataset, root, folder or _LAYOUT.folder, combineall)
    tally = Tally()
    listed, unmatched = own.read_folder(base, tally=tally)
    log_left_out(_LAYOUT.dataset, tally)
    if unmatched:
        _logger.warning(
            "%s: left out, not named as %s (%d): %s",
            _LAYOUT.dataset,
            own.PATTERN,
            len(unmatched),
            ", ".join(map(printable, unmatched[:_SHOWN])),
        )
    return listed.folder, [listed]


def _named(
    lists: Sequence[own.OwnList], naming: tuple[str, ...], name: str
) -> list[tuple[str, own.OwnList]]:
    """Return each list with its naming.

    Raises:
        InputError: another number of namings than lists; or lists that share identities, and
            nothing says whether these are the same people.
    """
    if len(naming) > 1 and len(naming) != len(lists):
        raise InputError(
            f"one DATASETS.OWN.NAMING, or one for each of {len(lists)} lists",
            len(naming),
            "lists of one naming share their identities",
        )
    seen: dict[str, Path] = {}
    for listed in lists if not naming else ():
        for identity in {row.identity for row in listed.rows}:
            first = seen.setdefault(identity, listed.file)
            if first is not listed.file:
                raise InputError(
                    "DATASETS.OWN.NAMING for lists that share identities",
                    f"identity {identity!r} in {first} and {listed.file}, and no naming",
                    "give one naming if they are the same people, or one for each list",
                )
    names = naming * len(lists) if len(naming) == 1 else naming or (name,) * len(lists)
    return [*zip(names, lists, strict=True)]


def _check_share(key: str, share: float) -> None:
    if not 0 <= share < 1:
        raise InputError(f"DATASETS.OWN.{key} of 0 to below 1", share, "choose a share such as 0.3")


def _with_split(naming: str, row: own.Row, splits: dict[own.Person, str]) -> own.Row:
    """Return a row with its split; query and gallery of one person stay as they are."""
    chosen = splits[naming, row.identity]
    return row._replace(split=chosen) if not row.split or chosen == own.VALIDATION else row


def _camera(row: own.Row) -> str:
    return row.camera or row.modality.name.lower()
