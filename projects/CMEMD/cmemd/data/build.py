"""Data sets as a configuration asks for them."""

import os

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data.datasets import DATASET_REGISTRY

from cmemd.data.items import ImageItem
from cmemd.errors import InputError

__all__ = ["build_dataset", "held_out", "items_under_test", "test_dataset", "train_dataset"]


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
    return _only(cfg, "NAMES", "identities of several share their numbers")


def test_dataset(cfg) -> str:
    """The name of the data set under test.

    Raises:
        InputError: for more or fewer than one.
    """
    return _only(cfg, "TESTS", "several would share TEST.PROTOCOLS and results.json")


def held_out(cfg, name: str) -> tuple[str, str]:
    """Key and value that keep identities of a data set out of training, for validation."""
    node = name.upper()
    if "TRAIN_WITH_VAL" in getattr(cfg.DATASETS, node, {}):
        return f"DATASETS.{node}.TRAIN_WITH_VAL", "False"
    return f"DATASETS.{node}.VALIDATION_SHARE", "0.1"


def items_under_test(cfg, data, split: str) -> list[ImageItem]:
    """Images of a split, "test" or "validation".

    Raises:
        InputError: for a validation split without identities.
    """
    if split == "test":
        return data.query + data.gallery
    if not data.validation:
        raise InputError(
            "expected identities held out of training for SOLVER.SELECTION validation, got none: "
            f"set {' '.join(held_out(cfg, type(data).__name__))}"
        )
    return data.validation


def _only(cfg, key: str, reason: str) -> str:
    names = cfg.DATASETS[key]
    if len(names) != 1:
        raise InputError(
            f"expected one data set in DATASETS.{key}, since {reason}; got {list(names)}"
        )
    return names[0]
