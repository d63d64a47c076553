import random

import numpy as np
import pytest

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import ignored, pairs_without_image, sample_trials

ALL = get_protocol("sysu-all-1shot")


def gallery_rows(*arguments):
    return [trial.gallery for trial in sample_trials(*arguments)]


def query_rows(samples, protocol):
    every = [trial.queries for trial in sample_trials(samples, protocol, "python")]
    assert all(rows.tolist() == every[0].tolist() for rows in every)
    return every[0]


def test_queries_are_all_images_of_cameras_3_and_6(random_samples):
    samples = random_samples(0)
    rows = query_rows(samples, ALL)
    assert sorted(rows) == sorted(np.flatnonzero(np.isin(samples.camids, (3, 6))))
    keys = list(zip(samples.pids[rows], samples.camids[rows], samples.frames[rows], strict=True))
    assert keys == sorted(keys)


def test_the_official_sampling_takes_the_first_images_of_the_trials_row(make_samples):
    samples = make_samples(
        [(1, 1, frame, 0.0) for frame in (3, 1, 2)] + [(1, 2, 1, 0.0), (1, 3, 1, 0.0)]
    )
    orders = np.array([[(trial + k) % 3 + 1 for k in range(3)] for trial in range(10)])
    one, none = np.ones((10, 1), dtype=int), np.empty((10, 0), dtype=int)
    perm = RandPermCam([[orders], [one], [one], [none], [none], [none]])
    sampled = gallery_rows(samples, ALL, "official", perm)
    # Trial 0 takes image 1, trial 1 image 2, ...; camera 2 has one image.
    assert [samples.frames[rows].tolist() for rows in sampled[:4]] == [
        [1, 1],
        [2, 1],
        [3, 1],
        [1, 1],
    ]
    assert samples.camids[sampled[0]].tolist() == [1, 2]
    ten = gallery_rows(samples, get_protocol("sysu-indoor-10shot"), "official", perm)
    assert samples.frames[ten[1]].tolist() == [2, 3, 1, 1]  # all three, then camera 2


def test_the_python_sampling_is_that_of_the_released_code(golden_samples, golden_expected_python):
    for setting in ("all", "indoor"):
        protocol = get_protocol(f"sysu-{setting}-1shot")
        sampled = gallery_rows(golden_samples, protocol, "python")
        first = golden_expected_python[f"sysu_python_{setting}_1shot"]["first_gallery_paths_trial0"]
        assert golden_samples.paths[sampled[0][: len(first)]].tolist() == first


def test_the_python_sampling_chooses_as_the_seeded_global_generator_and_leaves_it_alone(
    random_samples,
):
    samples = random_samples(1)
    before = random.getstate()
    sampled = gallery_rows(samples, ALL, "python")
    assert random.getstate() == before
    for trial, rows in enumerate(sampled):
        random.seed(trial)
        files = [
            sorted(samples.paths[(samples.pids == pid) & (samples.camids == camera)])
            for pid in range(1, 9)
            for camera in (1, 2, 4, 5)
        ]
        assert samples.paths[rows].tolist() == [random.choice(paths) for paths in files if paths]
    random.setstate(before)


def test_a_folder_named_like_a_camera_above_the_data_does_no_harm(make_samples):
    rows = [(pid, camera, 1, float(pid)) for pid in (1, 2) for camera in (1, 3)]
    plain, nested = make_samples(rows), make_samples(rows, folder="/data/cam1/0002/")
    for rows in (gallery_rows(plain, ALL, "python"), gallery_rows(nested, ALL, "python")):
        assert rows[0].tolist() == [0, 2]
    assert query_rows(nested, ALL).tolist() == query_rows(plain, ALL).tolist() == [1, 3]


def test_a_cam3_query_ignores_all_of_cam2_and_nothing_else(make_samples):
    rows = [(pid, camera, 1, 0.0) for pid, camera in enumerate((3, 6, 1, 2, 4, 5, 2), 1)]
    mask = ignored(make_samples(rows), ALL, np.arange(2), np.arange(2, 7))
    assert mask.tolist() == [[False, True, False, False, True], [False] * 5]


def test_the_official_sampling_refuses_an_incomplete_camera_folder(
    random_samples, shuffled_perm, make_samples
):
    samples = random_samples(0)
    perm = shuffled_perm(samples)
    fields = ("features", "pids", "camids", "modalities", "frames", "paths")
    for missing in (1, 3):
        gone = (samples.pids == 2) & (samples.camids == 1) & (samples.frames == missing)
        rest = Samples(**{name: getattr(samples, name)[~gone] for name in fields})
        with pytest.raises(InputError, match=r"images 1..3 of id 2 under camera 1.*got 2 images"):
            gallery_rows(rest, ALL, "official", perm)
    # A whole folder is missing.
    samples = make_samples([(1, 1, 1, 0.0), (1, 3, 1, 0.0)])
    one, none = np.ones((10, 1), dtype=int), np.empty((10, 0), dtype=int)
    perm = RandPermCam([[one], [one], [one], [none], [none], [none]])
    with pytest.raises(InputError, match="id 1 under camera 2.*got 0 images"):
        gallery_rows(samples, ALL, "official", perm)


def test_renumbered_cameras_are_refused(make_samples):
    good = make_samples([(1, camera, 1, 0.0) for camera in range(1, 7)])
    renumbered = Samples(
        good.features, good.pids, good.camids - 1, good.modalities, good.frames, good.paths
    )
    with pytest.raises(InputError, match="relabel=False"):
        query_rows(renumbered, ALL)
    with pytest.raises(InputError, match="relabel=False"):
        gallery_rows(renumbered, ALL, "python")


def test_no_query_and_no_gallery_are_refused(make_samples):
    with pytest.raises(InputError, match="expected thermal queries from cameras"):
        query_rows(make_samples([(1, 1, 1, 0.0)]), ALL)
    with pytest.raises(InputError, match="expected visible gallery images from cameras"):
        gallery_rows(make_samples([(1, 3, 1, 0.0)]), ALL, "python")


def test_pairs_without_an_image_are_counted(make_samples):
    # Ids 1 and 2 are in the gallery: of 2 x 4 pairs three have an image. Id 3 is a query only.
    rows = [(1, 1, 1, 0.0), (1, 2, 1, 0.0), (1, 2, 2, 0.0), (2, 4, 1, 0.0), (3, 3, 1, 0.0)]
    assert pairs_without_image(make_samples(rows), ALL) == 5


def test_a_side_without_shots_is_every_image_of_its_modality(llcm_samples):
    full = sample_trials(llcm_samples, get_protocol("llcm-v2t-full-gallery"))
    assert len(full) == 1
    visible = llcm_samples.modalities == 0
    assert sorted(full[0].queries) == np.flatnonzero(visible).tolist()
    assert sorted(full[0].gallery) == np.flatnonzero(~visible).tolist()


def test_llcm_samples_one_image_per_identity_and_camera_as_the_seeded_global_generator(
    llcm_samples,
):
    samples = llcm_samples
    state = random.getstate()
    # The near-infrared gallery of one variant, the visible queries of the other.
    for variant, side, modality in (("paper", "gallery", 1), ("released", "queries", 0)):
        trials = sample_trials(samples, get_protocol(f"llcm-v2t-{variant}"))
        files = [
            sorted(samples.paths[here & (samples.camids == camera)])
            for pid in np.unique(samples.pids)
            for here in [(samples.modalities == modality) & (samples.pids == pid)]
            for camera in range(1, 10)
        ]
        for trial, rows in enumerate(trials):
            random.seed(trial)
            expected = [random.choice(paths) for paths in files if paths]
            assert samples.paths[getattr(rows, side)].tolist() == expected, (variant, trial)
            other = getattr(rows, "queries" if side == "gallery" else "gallery")
            assert len(other) == np.sum(samples.modalities == 1 - modality), (variant, trial)
    random.setstate(state)


def test_an_llcm_query_ignores_its_own_identity_under_its_own_camera(make_samples):
    samples = make_samples([(1, 1, 1, 0.0), (1, 3, 1, 0.0), (2, 3, 1, 0.0), (1, 6, 1, 0.0)])
    samples = Samples(
        samples.features, samples.pids, np.array([4, 4, 4, 5]), *list(vars(samples).values())[3:]
    )
    mask = ignored(samples, get_protocol("llcm-v2t-paper"), np.array([0]), np.array([1, 2, 3]))
    assert mask.tolist() == [[True, False, False]]


def test_roles_keep_images_out_of_the_other_side():
    """Of each pair of modality and role: who may be a query, and who may be in the gallery."""
    roles = ["query", "gallery", "test"] * 2
    samples = Samples(
        features=np.ones((6, 2)),
        pids=np.zeros(6, int),
        camids=np.arange(6),
        modalities=[0, 0, 0, 1, 1, 1],
        frames=np.arange(6),
        paths=[str(row) for row in range(6)],
        roles=roles,
    )
    (trial,) = sample_trials(samples, get_protocol("own-t2v"))
    assert (trial.queries.tolist(), trial.gallery.tolist()) == ([3, 5], [1, 2])
    (trial,) = sample_trials(samples, get_protocol("own-v2t"))
    assert (trial.queries.tolist(), trial.gallery.tolist()) == ([0, 2], [4, 5])
