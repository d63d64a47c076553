"""Golden features with their official metrics, and builders of small samples."""

import json
from pathlib import Path

import numpy as np
import pytest

from cmemd.data.layouts import sysu
from cmemd.data.layouts.permutations import RandPermCam, read_rand_perm_cam
from cmemd.evaluation.features_file import read_features
from cmemd.evaluation.protocols import PROTOCOLS
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import Score, score_all

GOLDENS = Path(__file__).parents[1] / "golden"
GOLDEN = GOLDENS / "sysu_small"


@pytest.fixture(scope="session")
def golden_samples() -> Samples:
    return read_features(GOLDEN / "features.npz", "sysu")


@pytest.fixture(scope="session")
def regdb_samples() -> Samples:
    return read_features(GOLDENS / "regdb_small" / "features.npz", "regdb")


@pytest.fixture(scope="session")
def llcm_samples() -> Samples:
    return read_features(GOLDENS / "llcm_small" / "features.npz", "llcm")


@pytest.fixture(scope="session")
def golden_perm() -> RandPermCam:
    return read_rand_perm_cam(GOLDEN / "rand_perm_cam.mat")


@pytest.fixture(scope="session")
def official(golden_samples: Samples, golden_perm: RandPermCam) -> dict[str, Score]:
    """Scores of the golden features under SYSU-MM01's protocols, official sampling."""
    protocols = [p for p in PROTOCOLS.values() if p.dataset == "sysu" and not p.mixture]
    return score_all(golden_samples, protocols, "official", golden_perm)


@pytest.fixture(scope="session")
def llcm_scores(llcm_samples: Samples) -> dict[str, Score]:
    """Scores of LLCM's golden features under all its protocols."""
    protocols = [protocol for protocol in PROTOCOLS.values() if protocol.dataset == "llcm"]
    return score_all(llcm_samples, protocols)


@pytest.fixture(scope="session")
def golden_perm_path() -> Path:
    return GOLDEN / "rand_perm_cam.mat"


@pytest.fixture(scope="session")
def golden_expected() -> dict:
    return json.loads((GOLDEN / "expected.json").read_text())


@pytest.fixture(scope="session")
def golden_expected_python() -> dict:
    return json.loads((GOLDEN / "expected_python_protocol.json").read_text())


@pytest.fixture(scope="session")
def golden_expected_of():
    return lambda dataset: json.loads((GOLDENS / f"{dataset}_small" / "expected.json").read_text())


@pytest.fixture(scope="session")
def make_samples():
    """Samples from rows (pid, camera, frame, feature)."""

    def make(rows, folder: str = "") -> Samples:
        pids, camids, frames, features = zip(*rows, strict=True)
        return Samples(
            features=np.array(features, dtype=np.float64).reshape(len(rows), -1),
            pids=pids,
            camids=camids,
            modalities=[sysu.CAMERAS[camera] for camera in camids],
            frames=frames,
            paths=[
                f"{folder}cam{camera}/{pid:04d}/{frame:04d}.jpg" for pid, camera, frame, _ in rows
            ],
        )

    return make


@pytest.fixture(scope="session")
def random_samples(make_samples):
    """Samples of six cameras without equal distances; some ids are missing under some cameras."""

    def make(seed: int, ids: int = 8, images: int = 3) -> Samples:
        rng = np.random.default_rng(seed)
        return make_samples(
            [
                (pid, camera, frame, rng.normal(size=4))
                for pid in range(1, ids + 1)
                for camera in range(1, 7)
                if (pid + camera) % 5
                for frame in range(1, images + 1)
            ]
        )

    return make


@pytest.fixture(scope="session")
def shuffled_perm():
    """Permutations that fit given samples."""

    def make(samples: Samples, seed: int = 0) -> RandPermCam:
        rng = np.random.default_rng(seed)

        def cell(camera: int, pid: int) -> np.ndarray:
            count = int(np.sum((samples.camids == camera) & (samples.pids == pid)))
            return np.array([rng.permutation(count) + 1 for _ in range(10)]).reshape(10, count)

        ids = range(1, int(samples.pids.max()) + 1)
        return RandPermCam([[cell(camera, pid) for pid in ids] for camera in range(1, 7)])

    return make
