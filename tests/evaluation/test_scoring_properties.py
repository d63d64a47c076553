"""Changes of the samples that do not change a score."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cmemd.data.modality import Modality
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import METRICS, score_all

# Protocols of each data set, LLCM's with its three samplings.
NAMES = (
    *("sysu-all-1shot", "sysu-indoor-1shot", "regdb-v2t", "regdb-t2v"),
    *("llcm-v2t-paper", "llcm-t2v-released", "llcm-v2t-full-gallery"),
    *("own-v2t", "own-t2v"),
)
CAMERAS = {
    "sysu": {1: 0, 2: 0, 3: 1, 4: 0, 5: 0, 6: 1},
    "regdb": {1: 0, 2: 1},
    "llcm": {1: 0, 2: 0, 11: 1, 12: 1},
    "own": {1: 0, 2: 0, 11: 1, 12: 1},
}


def people(dataset, seed, count=5, images=2, dim=3):
    """Each person under every camera, features at random."""
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


def metrics(samples, protocols):
    scores = score_all(samples, protocols).values()
    return [np.array([score.trials[name] for name in METRICS]) for score in scores]


def groups():
    """Protocols of one data set and one gallery camera: they can share samples."""
    groups = {}
    for protocol in map(get_protocol, NAMES):
        side = protocol.gallery
        camera = (side.cameras or (1 if side.modality is Modality.VISIBLE else 2,))[0]
        groups.setdefault((protocol.dataset, int(side.modality), camera), []).append(protocol)
    return groups.items()


def test_one_of_each_data_set_is_here():
    assert {get_protocol(name).dataset for name in NAMES} == {
        protocol.dataset for protocol in PROTOCOLS.values()
    }


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shift=st.floats(-3, 3),
    scale=st.floats(0.1, 10),
    more=st.integers(1, 4),
)
def test_neither_order_nor_pose_of_the_features_nor_far_strangers_matter(seed, shift, scale, more):
    rotation = np.linalg.qr(np.random.default_rng(seed + 1).normal(size=(3, 3))).Q
    for (dataset, modality, camera), protocols in groups():
        samples = people(dataset, seed)
        rows, features = rows_of(samples), samples.features
        order = np.random.default_rng(seed).permutation(len(rows))
        # Identities after all others, so that the sampling of the others stays the same.
        far = np.array([(100 + k, camera, modality, 1) for k in range(more)])
        changed = {
            "order": samples_of(rows[order], features[order]),
            "rotation, reflection, shift, scale": samples_of(
                rows, scale * (features @ rotation + shift)
            ),
            "strangers": samples_of(
                np.concatenate([rows, far]), np.concatenate([features, np.full((more, 3), 1e3)])
            ),
        }
        expected = metrics(samples, protocols)
        for change, others in changed.items():
            for protocol, got, wanted in zip(
                protocols, metrics(others, protocols), expected, strict=True
            ):
                case = f"{protocol.name}: {change}"
                if change == "order":
                    np.testing.assert_array_equal(got, wanted, case)
                else:
                    np.testing.assert_allclose(got, wanted, err_msg=case)


def test_perfect_features_score_100_and_blank_ones_by_the_rule_for_ties():
    for (dataset, *_), protocols in groups():
        samples = people(dataset, 0)
        perfect = samples_of(rows_of(samples), np.eye(6)[samples.pids])
        # All alike: the gallery's order decides, so person k of five is at rank k by identities.
        blank = samples_of(rows_of(samples), np.ones((len(samples.pids), 2)))
        for protocol, best, tied in zip(
            protocols, metrics(perfect, protocols), metrics(blank, protocols), strict=True
        ):
            assert (best == 1).all(), protocol.name
            np.testing.assert_allclose(tied[0], 1 / 5, err_msg=protocol.name)
            if protocol.cmc == "identities":
                np.testing.assert_allclose(tied[1], 1, err_msg=protocol.name)
