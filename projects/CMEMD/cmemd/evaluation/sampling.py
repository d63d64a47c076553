"""Gallery sampling: the queries and galleries of a protocol, as row numbers of the samples.

Shape legend: ``N`` = samples, ``Q`` = queries, ``G`` = gallery images of one trial.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmemd.data.items import GALLERY, QUERY, TEST
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.protocols import EVERYTHING, OFFICIAL, Protocol, Side, choose_sampling
from cmemd.evaluation.samples import Samples

__all__ = [
    "Trial",
    "check_scorable",
    "ignored",
    "no_positive",
    "pairs_without_image",
    "sample_trials",
    "sort_rows",
]


_QUERIES_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Trial:
    """The rows of one gallery sampling.

    Attributes:
        queries: ``(Q,)`` row numbers.
        gallery: ``(G,)`` row numbers.
    """

    queries: np.ndarray
    gallery: np.ndarray


def sample_trials(
    samples: Samples, protocol: Protocol, sampling: str = "auto", perm: RandPermCam | None = None
) -> list[Trial]:
    """Return queries and gallery of every trial.

    The rows of a sampled side come by identity, then by the protocol's cameras; the images of one
    camera follow the sampling. The rows of a whole side are sorted by (identity, camera, frame).
    The samples' order does not matter.

    ``official``: row ``trial`` of the permutations, its first ``shots`` image numbers.
    ``python``: the released Python code, ``random.seed(trial)`` for trial 0..9, then
    ``random.choice`` among each (identity, camera)'s images sorted by file name.
    ``everything``: all images.

    Args:
        samples: ``N`` images.
        protocol: gives the cameras of each side and the number of images to sample.
        sampling: ``auto``, ``official``, ``python`` or ``everything``.
        perm: the official permutations, needed by the official sampling.

    Returns:
        One trial per sampling.

    Raises:
        InputError: the protocol does not have this sampling, a side has no image, a camera's
            images are not of its modality, or the permutations are of other images.
    """
    sampling = choose_sampling(protocol, sampling, perm)
    queries = _sample_side(samples, protocol, protocol.query, "queries", sampling, perm)
    galleries = _sample_side(samples, protocol, protocol.gallery, "gallery images", sampling, perm)
    return [Trial(*rows) for rows in zip(queries, galleries, strict=True)]


def sort_rows(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Return rows sorted by (identity, camera, frame): the samples' order does not matter.

    Args:
        samples: ``N`` images.
        rows: row numbers.
    """
    keys = samples.frames[rows], samples.camids[rows], samples.pids[rows]
    return rows[np.lexsort(keys)]


def ignored(
    samples: Samples, protocol: Protocol, queries: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Return which gallery images are removed from which query's ranking.

    Args:
        samples: ``N`` images.
        protocol: gives the rules.
        queries: ``(Q,)`` rows.
        gallery: ``(G,)`` rows.

    Returns:
        ``(Q, G)`` booleans.
    """
    query_cameras, gallery_cameras = samples.camids[queries], samples.camids[gallery]
    mask = np.zeros((len(queries), len(gallery)), dtype=bool)
    for query_camera, gallery_camera in protocol.ignored_pairs:
        mask |= np.outer(query_cameras == query_camera, gallery_cameras == gallery_camera)
    if protocol.ignore_same_camera:
        mask |= (query_cameras[:, None] == gallery_cameras) & (
            samples.pids[queries][:, None] == samples.pids[gallery]
        )
    return mask


def check_scorable(samples: Samples, protocol: Protocol, trials: Sequence[Trial]) -> None:
    """Raise unless each trial has a query whose identity is in its gallery.

    Args:
        samples: ``N`` images.
        protocol: gives the rules.
        trials: of ``sample_trials``.

    Raises:
        InputError: a trial has none, so that there is nothing to measure.
    """
    for trial in trials:
        starts = range(0, len(trial.queries), _QUERIES_AT_ONCE)
        parts = (trial.queries[start : start + _QUERIES_AT_ONCE] for start in starts)
        if not any(_has_positive(samples, protocol, part, trial.gallery) for part in parts):
            raise no_positive(protocol, len(trial.queries))


def no_positive(protocol: Protocol, queries: int) -> InputError:
    """Return the error of a trial in which no query has a positive."""
    return InputError(
        f"a query whose identity is in the gallery of {protocol.name}",
        f"none among {queries}",
        "take queries and gallery from one split",
    )


def _has_positive(
    samples: Samples, protocol: Protocol, queries: np.ndarray, gallery: np.ndarray
) -> bool:
    same = samples.pids[queries][:, None] == samples.pids[gallery]
    return bool((same & ~ignored(samples, protocol, queries, gallery)).any())


def pairs_without_image(samples: Samples, protocol: Protocol) -> int:
    """Count the (identity, camera) pairs for which a gallery sampling finds no image.

    Pairs are of the gallery's identities and the gallery's cameras. An identity need not appear
    under every camera.

    Args:
        samples: ``N`` images.
        protocol: gives the gallery's side.
    """
    rows = _pool(samples, protocol, protocol.gallery, "gallery images")
    pids, cameras = samples.pids[rows], samples.camids[rows]
    gallery_cameras = protocol.gallery.cameras or np.unique(cameras)
    found = len(np.unique(np.stack([pids, cameras]), axis=1).T)
    return len(np.unique(pids)) * len(gallery_cameras) - found


def _sample_side(
    samples: Samples,
    protocol: Protocol,
    side: Side,
    what: str,
    sampling: str,
    perm: RandPermCam | None,
) -> list[np.ndarray]:
    pool = _pool(samples, protocol, side, what)
    if sampling == EVERYTHING or side.shots is None:
        return [sort_rows(samples, pool)] * protocol.trials
    groups = _images_of_pairs(samples, pool, side)
    if sampling == OFFICIAL:
        return _official(samples, protocol, side, groups, perm)
    return [
        np.array([generator.choice(rows) for rows in groups.values()])
        for generator in map(random.Random, range(protocol.trials))
    ]


def _pool(samples: Samples, protocol: Protocol, side: Side, what: str) -> np.ndarray:
    """Return the rows of one side's images, in the samples' order."""
    if side.cameras is None:
        rows = np.flatnonzero(samples.modalities == side.modality)
    else:
        rows = np.flatnonzero(np.isin(samples.camids, side.cameras))
        _check_modality(samples, rows, side, protocol.name)
    if samples.roles is not None:
        rows = rows[np.isin(samples.roles[rows], [TEST, QUERY if what == "queries" else GALLERY])]
    if len(rows) == 0:
        wanted = f"from cameras {side.cameras}" if side.cameras else "of its modality"
        raise InputError(
            f"{side.modality.name.lower()} {what} {wanted} for {protocol.name}",
            f"images of cameras {np.unique(samples.camids).tolist()} only",
            "test on the whole split",
        )
    return rows


def _images_of_pairs(
    samples: Samples, pool: np.ndarray, side: Side
) -> dict[tuple[int, int], np.ndarray]:
    """Return each (identity, camera)'s rows by frame, identities in order, cameras as the side's.

    Pairs without an image are left out.
    """
    cameras = side.cameras or np.unique(samples.camids[pool]).tolist()
    groups = {}
    for pid in np.unique(samples.pids[pool]):
        of_pid = pool[samples.pids[pool] == pid]
        for camera in cameras:
            rows = of_pid[samples.camids[of_pid] == camera]
            if len(rows):
                groups[int(pid), camera] = rows[np.argsort(samples.frames[rows], kind="stable")]
    return groups


def _official(
    samples: Samples,
    protocol: Protocol,
    side: Side,
    groups: dict[tuple[int, int], np.ndarray],
    perm: RandPermCam,
) -> list[np.ndarray]:
    permutations = {}
    for pid in {pid for pid, _ in groups}:
        for camera in side.cameras:
            rows = groups.get((pid, camera), np.empty(0, dtype=np.int64))
            permutation = perm.permutations(camera, pid)
            # A missing image would silently shift every number after it.
            if not np.array_equal(samples.frames[rows], np.arange(1, permutation.shape[1] + 1)):
                raise InputError(
                    f"images 1..{permutation.shape[1]} of id {pid} under camera {camera}, as "
                    "rand_perm_cam.mat lists them",
                    f"{len(rows)} images",
                    "complete the data set, or use the python sampling (--draw python)",
                )
            permutations[pid, camera] = permutation - 1
    return [
        np.concatenate(
            [rows[permutations[pair][trial, : side.shots]] for pair, rows in groups.items()]
        )
        for trial in range(protocol.trials)
    ]


def _check_modality(samples: Samples, rows: np.ndarray, side: Side, protocol: str) -> None:
    wrong = rows[samples.modalities[rows] != side.modality]
    if len(wrong):
        raise InputError(
            f"{side.modality.name.lower()} images from camera {samples.camids[wrong[0]]} in "
            f"{protocol}",
            f"another modality for {samples.paths[wrong[0]]}",
            "pass the data set's own camera numbers (relabel=False), not renumbered ones",
        )
