"""The table of features: rows in order, each image once, memory claimed once."""

import tracemalloc

import numpy as np
import pytest

from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.engine.feature_table import FeatureTable
from cmemd.errors import InputError

RNG = np.random.default_rng(0)
FEATURES = RNG.random((10, 2, 3), np.float32)
PATHS = [f"{place}.jpg" for place in range(10)]
LABELS = {"pids": np.arange(10) // 2, "camids": np.arange(10) % 3, "modalities": np.arange(10) % 2}


def add(table, places):
    labels = {name: column[places] for name, column in LABELS.items()}
    table.add([PATHS[place] for place in places], labels, FEATURES[places])


def check(columns, places, case):
    assert columns["paths"].tolist() == [PATHS[place] for place in places], case
    np.testing.assert_array_equal(columns["features"], FEATURES[places].swapaxes(0, 1), case)
    for name, column in LABELS.items():
        np.testing.assert_array_equal(columns[name], column[places], case)


def test_images_stand_in_the_announced_order_or_in_that_of_their_arrival():
    batches = ([7, 2], [0, 1, 9], [3], [4, 5, 6, 8])
    arrival = sum(batches, [])
    for case, announced, expected in (
        ("all", PATHS, list(range(10))),
        ("none", [], arrival),
        ("some", PATHS[:3], [0, 1, 2, 7, 9, 3, 4, 5, 6, 8]),
    ):
        table = FeatureTable(announced)
        for batch in batches:
            add(table, batch)
        check(table.columns(), expected, case)


def test_an_image_stays_as_it_came_first_and_a_missing_one_has_no_row():
    for announced in (PATHS, []):
        table = FeatureTable(announced)
        add(table, [1, 3, 1])
        labels = {name: column[[3, 5]] for name, column in LABELS.items()}
        table.add([PATHS[3], PATHS[5]], labels, FEATURES[[0, 5]])
        check(table.columns(), [1, 3, 5], announced)


def test_an_empty_table_is_refused():
    with pytest.raises(InputError, match="expected test images, got none"):
        FeatureTable(PATHS).columns()


def test_announced_features_are_held_once(tmp_path):
    """From the first batch to the samples that are scored, of announced images; 1 MB an array."""
    images, dimension = 1000, 256
    features = np.ones((images, 1, dimension), np.float32)
    paths = [f"cam1/0001/{place:04d}.jpg" for place in range(images)]
    batch = {name: np.zeros(50, np.int64) for name in LABELS}
    evaluator = VisibleThermalEvaluator(
        protocols=["sysu-all-1shot"],
        rand_perm_cam=None,
        draw="auto",
        metric="euclidean",
        output_dir=str(tmp_path),
        ranked_gallery_queries=0,
        paths=paths,
    )
    tracemalloc.start()
    try:
        for start in range(0, images, 50):
            rows = slice(start, start + 50)
            evaluator._table.add(paths[rows], batch, features[rows])
        evaluator._samples(evaluator._table.columns())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One array, the labels (0.15 MB here: rows are short), a mask of finite features (a quarter).
    assert peak < 1.8 * features.nbytes
