"""What must not change a score, whatever the features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cmemd.data.modality import Modality
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import METRICS, score

# Of each data set one protocol, LLCM's in the three ways of drawing.
NAMES = (
    *("sysu-all-1shot", "sysu-indoor-1shot", "regdb-v2t", "regdb-t2v"),
    *("llcm-v2t-paper", "llcm-t2v-released", "llcm-v2t-full-gallery"),
)
CAMERAS = {
    "sysu": {1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 1},
    "regdb": {1: 0, 2: 1},
    "llcm": {1: 0, 2: 0, 11: 1, 12: 1},
}


def people(dataset, seed, count=5, images=2, dim=3):
    """Everybody under every camera, features at random."""
    rng = np.random.default_rng(seed)
    rows = [
        (pid, camera, modality, frame)
        for pid in range(1, count + 1)
        for camera, modality in CAMERAS[dataset].items()
        for frame in range(1, images + 1)
    ]
    return samples_of(np.array(rows), rng.normal(size=(len(rows), dim)))


def samples_of(rows, features):
    pids, camids, modalities, frames = rows.T
    # LLCM's cameras see both modalities; here 11 is camera 1's other half.
    return Samples(
        features=features,
        pids=pids,
        camids=camids % 10,
        modalities=modalities,
        frames=frames,
        paths=[f"{m}/{c}/{p}/{f}" for p, c, m, f in rows.tolist()],
    )


def rows_of(samples):
    return np.stack([samples.pids, samples.camids, samples.modalities, samples.frames], axis=1)


def figures(samples, protocol):
    result = score(samples, protocol)
    return np.array([result.trials[name] for name in METRICS])


@pytest.fixture(params=NAMES)
def protocol(request):
    return get_protocol(request.param)


def test_one_of_each_data_set_is_here():
    assert {get_protocol(name).dataset for name in NAMES} == {
        protocol.dataset for protocol in PROTOCOLS.values()
    }


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_queries_and_gallery_does_not_matter(seed):
    for name in NAMES:
        protocol = get_protocol(name)
        samples = people(protocol.dataset, seed)
        order = np.random.default_rng(seed).permutation(len(samples.pids))
        shuffled = samples_of(rows_of(samples)[order], samples.features[order])
        np.testing.assert_array_equal(figures(shuffled, protocol), figures(samples, protocol))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), shift=st.floats(-3, 3), scale=st.floats(0.1, 10))
def test_neither_rotations_nor_reflections_nor_shifts_nor_scale_matter(seed, shift, scale):
    rotation = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(3, 3))).Q
    for name in NAMES:
        protocol = get_protocol(name)
        samples = people(protocol.dataset, seed)
        moved = samples_of(rows_of(samples), scale * (samples.features @ rotation + shift))
        np.testing.assert_allclose(figures(moved, protocol), figures(samples, protocol))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), more=st.integers(1, 4))
def test_isolated_gallery_images_of_strangers_do_not_matter(seed, more):
    for name in NAMES:
        protocol = get_protocol(name)
        samples = people(protocol.dataset, seed)
        side = protocol.gallery
        camera = (side.cameras or (1 if side.modality is Modality.VISIBLE else 2,))[0]
        # Numbered behind everybody, so that the draws of the others stay as they were.
        far = np.array([(100 + k, camera, int(side.modality), 1) for k in range(more)])
        with_strangers = samples_of(
            np.concatenate([rows_of(samples), far]),
            np.concatenate([samples.features, np.full((more, 3), 1e3)]),
        )
        np.testing.assert_allclose(figures(with_strangers, protocol), figures(samples, protocol))


def test_perfect_features_score_100(protocol):
    samples = people(protocol.dataset, 0)
    perfect = samples_of(rows_of(samples), np.eye(6)[samples.pids])
    assert (figures(perfect, protocol) == 1).all()


def test_features_that_say_nothing_score_by_the_rule_for_ties(protocol):
    # All alike: the gallery's order decides, so person k of five is at rank k by identities.
    samples = people(protocol.dataset, 0)
    blank = samples_of(rows_of(samples), np.ones((len(samples.pids), 2)))
    rank1, rank5 = figures(blank, protocol)[:2]
    np.testing.assert_allclose(rank1, 1 / 5)
    if protocol.cmc == "identities":
        np.testing.assert_allclose(rank5, 1)
