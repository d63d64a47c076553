"""The protocol's published constants, from SYSU-MM01's own split files, which we may not ship.

CMEMD_SYSU_SPLITS=<folder with rand_perm_cam.mat and test_id.mat> pytest tests/evaluation
"""

import os
from pathlib import Path

import numpy as np
import pytest

from cmemd.data.layouts import sysu
from cmemd.data.layouts.identity_lists import read_ids
from cmemd.data.layouts.permutations import read_rand_perm_cam
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import ignored, sample_trials

SPLITS = Path(os.environ.get("CMEMD_SYSU_SPLITS", "datasets/SYSU-MM01/exp"))

pytestmark = pytest.mark.skipif(
    not (SPLITS / "rand_perm_cam.mat").is_file(),
    reason="SYSU-MM01's split files are not here: set CMEMD_SYSU_SPLITS to their folder",
)


@pytest.fixture(scope="module")
def perm():
    return read_rand_perm_cam(SPLITS / "rand_perm_cam.mat")


@pytest.fixture(scope="module")
def samples(perm):
    """A row for every genuine test image, with a meaningless feature."""
    rows = np.array(
        [
            (pid, camera, frame)
            for pid in read_ids(SPLITS, "test_id")
            for camera in sysu.CAMERAS
            for frame in range(1, perm.permutations(camera, pid).shape[1] + 1)
        ]
    )
    return Samples(
        features=np.random.default_rng(0).normal(size=(len(rows), 2)),
        pids=rows[:, 0],
        camids=rows[:, 1],
        modalities=[sysu.CAMERAS[camera] for camera in rows[:, 1].tolist()],
        frames=rows[:, 2],
        paths=[f"cam{camera}/{pid:04d}/{frame:04d}.jpg" for pid, camera, frame in rows.tolist()],
    )


def test_images_and_identities_per_camera(samples):
    found = {
        camera: (
            int(np.sum(samples.camids == camera)),
            len(np.unique(samples.pids[samples.camids == camera])),
        )
        for camera in sysu.CAMERAS
    }
    assert [found[camera] for camera in (1, 2, 4, 5)] == [
        (1374, 56),
        (1565, 56),
        (1918, 94),
        (1918, 95),
    ]
    assert [found[camera][0] for camera in (3, 6)] == [1883, 1920]


def test_queries_galleries_and_queries_with_a_positive(samples, perm):
    expected = {  # gallery, queries with a positive
        "sysu-all-1shot": (301, 3803),
        "sysu-all-10shot": (3010, 3803),
        "sysu-indoor-1shot": (112, 2208),
        "sysu-indoor-10shot": (1120, 2208),
    }
    published = [p for p in PROTOCOLS.values() if p.dataset == "sysu" and p.mixture is None]
    assert set(expected) == {p.name for p in published}
    for name, (gallery, with_positive) in expected.items():
        protocol = get_protocol(name)
        for sampling in protocol.samplings:
            for trial in sample_trials(samples, protocol, sampling, perm):
                assert (len(trial.queries), len(trial.gallery)) == (3803, gallery), name
                same = samples.pids[trial.queries][:, None] == samples.pids[trial.gallery]
                same &= ~ignored(samples, protocol, trial.queries, trial.gallery)
                assert np.sum(same.any(axis=1)) == with_positive, name
