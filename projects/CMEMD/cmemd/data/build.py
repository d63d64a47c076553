"""Data sets as a configuration asks for them."""

import os

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets import DATASET_REGISTRY

from cmemd.data.items import ImageItem
from cmemd.errors import InputError

__all__ = ["build_dataset", "items_under_test", "test_dataset", "train_dataset"]


def build_dataset(cfg, name: str):
    """A registered data set with the options of its own config node, if it has one.

    Raises:
        InputError: for an unknown name, a data set of one modality, or what the data set raises.
    """
    options = {k.lower(): v for k, v in getattr(cfg.DATASETS, name.upper(), {}).items()}
    try:
        builder = DATASET_REGISTRY.get(name)
    except KeyError:
        raise InputError(f"no data set named {name!r} is registered with fast-reid") from None
    try:
        data = builder(
            root=os.getenv("FASTREID_DATASETS", "datasets"),
            combineall=cfg.DATASETS.COMBINEALL,
            **options,
        )
    except RuntimeError as error:  # how fast-reid's own data sets miss a folder
        raise InputError(f"data set {name!r}: {error}") from None
    if not data.train or not hasattr(data.train[0], "modality"):
        raise InputError(f"data set {name!r} does not say which image is visible or thermal")
    return data


def train_dataset(cfg) -> str:
    """The name of the data set to train on.

    Raises:
        InputError: for more or fewer than one.
    """
    if len(cfg.DATASETS.NAMES) != 1:
        raise InputError(
            "expected one data set in DATASETS.NAMES, since identities of several share their "
            f"numbers; got {list(cfg.DATASETS.NAMES)}"
        )
    return cfg.DATASETS.NAMES[0]


def test_dataset(cfg) -> str:
    """The name of the data set under test.

    Raises:
        InputError: for more or fewer than one.
    """
    if len(cfg.DATASETS.TESTS) != 1:
        raise InputError(
            "expected one data set in DATASETS.TESTS, since several would share TEST.PROTOCOLS and "
            f"results.json; got {list(cfg.DATASETS.TESTS)}"
        )
    return cfg.DATASETS.TESTS[0]


def items_under_test(cfg, data, split: str) -> list[ImageItem]:
    """Images of a split, "test" or "validation".

    Raises:
        InputError: for a validation split without identities.
    """
    if split == "test":
        return data.query + data.gallery
    if not data.validation:
        node = type(data).__name__.upper()
        options = getattr(cfg.DATASETS, node, {})
        remedy = "TRAIN_WITH_VAL False" if "TRAIN_WITH_VAL" in options else "VALIDATION_SHARE 0.1"
        raise InputError(
            "expected identities held out of training for SOLVER.SELECTION validation, got none: "
            f"set DATASETS.{node}.{remedy}"
        )
    return data.validation
