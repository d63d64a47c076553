"""Build the data sets that a configuration names."""

import gc
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.datasets.bases import ImageDataset

from cmemd.data.items import ImageItem
from cmemd.data.joined import JoinedData
from cmemd.data.layouts import ALL_LAYOUTS
from cmemd.data.naming import parts_of, title_of
from cmemd.errors import InputError, reason

__all__ = [
    "RunData",
    "build_dataset",
    "build_training",
    "held_out",
    "items_under_test",
    "read_data",
    "split_files",
    "test_dataset",
    "train_dataset",
]


class RunData(NamedTuple):
    """The data sets of a run; each is listed once.

    Attributes:
        train: the data set of ``DATASETS.NAMES``, joined if there are several; None for an
            evaluation.
        test: the data set of ``DATASETS.TESTS``.
    """

    train: ImageDataset | JoinedData | None
    test: ImageDataset

    @property
    def to_train(self) -> ImageDataset | JoinedData:
        """The data set of a training, which has one."""
        assert self.train is not None, "an evaluation trains on nothing"
        return self.train


def build_dataset(cfg: CfgNode, name: str) -> ImageDataset:
    """Return a registered data set, built with the options of its own config node, if any.

    Raises:
        InputError: an unknown name, a data set without modalities, or what the data set raises.
    """
    options = {k.lower(): v for k, v in getattr(cfg.DATASETS, name.upper(), {}).items()}
    try:
        builder = DATASET_REGISTRY.get(name)
    except KeyError:
        raise InputError(
            "a data set registered with fast-reid",
            repr(name),
            f"name one in DATASETS, such as {', '.join(x.dataset for x in ALL_LAYOUTS.values())}",
        ) from None
    if builder.__module__.split(".")[0] == "fastreid":
        raise _without_modality(name)
    try:
        data = builder(
            root=os.getenv("FASTREID_DATASETS", "datasets"),
            combineall=cfg.DATASETS.COMBINEALL,
            **options,
        )
    except RuntimeError as error:  # fast-reid's own data sets raise it for a missing folder
        raise InputError(
            f"a complete data set {name!r}",
            reason(error),
            "complete the copy, or set FASTREID_DATASETS",
        ) from None
    if any(not hasattr(part[0], "modality") for part in (data.train, data.query) if part):
        raise _without_modality(name)
    return data


def _without_modality(name: str) -> InputError:
    return InputError(
        f"the modality of each image of {name!r}",
        "images without one",
        f"use a visible-thermal data set: {', '.join(x.dataset for x in ALL_LAYOUTS.values())}",
    )


def train_dataset(cfg: CfgNode) -> str:
    """Return the name of the only data set to train on.

    Raises:
        InputError: more or fewer than one.
    """
    return _only(cfg, "NAMES", "identities are held out of one data set: name it alone")


def build_training(
    cfg: CfgNode, known: Mapping[str, ImageDataset] | None = None
) -> ImageDataset | JoinedData:
    """Return the data set to train on; several names are joined.

    Args:
        cfg: the configuration.
        known: data sets that are built already, by name.

    Raises:
        InputError: no data set, one twice, one without training images, or what one raises.
    """
    names = list(cfg.DATASETS.NAMES)
    if not names or len(set(names)) < len(names):
        raise InputError(
            "one data set in DATASETS.NAMES, or several, each once", names, "name them"
        )
    known = known or {}
    parts = [known.get(name) or build_dataset(cfg, name) for name in names]
    for part in parts:
        if not part.train:
            raise InputError(
                f"training images of {title_of(part)}",
                "none",
                "add rows with split train, or leave the column out",
            )
    return parts[0] if len(parts) == 1 else JoinedData(parts)


def test_dataset(cfg: CfgNode) -> str:
    """Return the name of the data set under test.

    Raises:
        InputError: more or fewer than one.
    """
    return _only(cfg, "TESTS", "test on one: several would share TEST.PROTOCOLS and results.json")


def read_data(cfg: CfgNode, training: bool = True) -> RunData:
    """List the data sets of a configuration; one that has both uses is listed once.

    Raises:
        InputError: not one data set to test on, none to train on, or what a data set raises.
    """
    test = test_dataset(cfg)
    with _no_collection():
        data = build_dataset(cfg, test)
        return RunData(build_training(cfg, {test: data}) if training else None, data)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Stop Python's search for dead cycles: among 100,000 new rows it takes a second."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


def split_files(data: RunData) -> dict[str, str]:
    """Return the text of each file that writes down how images of one's own are split, by name."""
    parts = [*(() if data.train is None else parts_of(data.train)), data.test]
    files: dict[str, str] = {}
    for part in parts:
        files |= getattr(part, "split_files", dict)()
    return files


def held_out(cfg: CfgNode, name: str) -> tuple[str, str]:
    """Return the key and value that hold identities of a data set out of training."""
    node = name.upper()
    if "TRAIN_WITH_VAL" in getattr(cfg.DATASETS, node, {}):
        return f"DATASETS.{node}.TRAIN_WITH_VAL", "False"
    return f"DATASETS.{node}.VALIDATION_SHARE", "0.1"


def items_under_test(cfg: CfgNode, data: ImageDataset, split: str) -> list[ImageItem]:
    """Return the images of a split, "test" or "validation".

    Raises:
        InputError: a validation split without identities.
    """
    if split == "test":
        if not data.query and not data.gallery:
            raise InputError(
                f"test images of {title_of(data)}",
                "none",
                "add rows with split query, gallery or test, or raise DATASETS.OWN.TEST_SHARE",
            )
        items: list[ImageItem] = data.query + data.gallery
        return items
    if not data.validation:
        raise InputError(
            "identities held out of training for SOLVER.SELECTION validation",
            "none",
            f"set {' '.join(held_out(cfg, type(data).__name__))}",
        )
    validation: list[ImageItem] = data.validation
    return validation


def _only(cfg: CfgNode, key: str, remedy: str) -> str:
    names = cfg.DATASETS[key]
    if len(names) != 1:
        raise InputError(f"one data set in DATASETS.{key}", list(names), remedy)
    return str(names[0])
