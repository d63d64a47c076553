"""Queries, galleries and ignored pairs of a protocol, as row numbers of the samples.

Shape legend: ``N`` = samples, ``Q`` = queries, ``G`` = gallery images of one trial.
"""

import random

import numpy as np

from cmemd.data.modality import Modality
from cmemd.data.splits import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.protocols import OFFICIAL, Protocol, choose_draw
from cmemd.evaluation.samples import Samples


def query_rows(samples: Samples, protocol: Protocol) -> np.ndarray:
    """Rows of all queries, sorted by (identity, camera, frame).

    Args:
        samples: ``N`` images.
        protocol: Says which cameras ask.

    Returns:
        ``(Q,)`` row numbers, the same images in whatever order the samples came.

    Raises:
        InputError: No query, or a camera's images are not of its modality.
    """
    rows = np.flatnonzero(np.isin(samples.camids, protocol.query_cameras))
    _check_modality(samples, rows, protocol.query_modality, protocol.name)
    if len(rows) == 0:
        raise InputError(
            f"expected queries from cameras {protocol.query_cameras} for {protocol.name}; got "
            f"images of cameras {np.unique(samples.camids).tolist()} only; test on the whole split"
        )
    return sort_rows(samples, rows)


def sort_rows(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Sort rows by (identity, camera, frame), so that nothing hangs on the samples' order.

    Args:
        samples: ``N`` images.
        rows: Row numbers.

    Returns:
        The same row numbers in that order.
    """
    keys = samples.frames[rows], samples.camids[rows], samples.pids[rows]
    return rows[np.lexsort(keys)]


def gallery_rows(
    samples: Samples, protocol: Protocol, draw: str = "auto", perm: RandPermCam | None = None
) -> list[np.ndarray]:
    """Draw the gallery of every trial.

    Identities rise, the cameras of one identity follow the protocol's order, the images of one
    camera follow the draw: also the order in which equal distances are ranked.

    ``official``: row ``trial`` of the permutations, its first ``shots`` image numbers.
    ``python``: the released Python protocol, ``random.seed(trial)`` for trial 0..9, then
    ``random.choice`` among each (identity, camera)'s images sorted by file name.

    Args:
        samples: ``N`` images.
        protocol: Says which cameras are searched and how many images of each are drawn.
        draw: ``auto``, ``official`` or ``python``.
        perm: The official permutations, needed by the official draw.

    Returns:
        One ``(G,)`` array of row numbers per trial.

    Raises:
        InputError: The draw is not to be had, the gallery is empty, a camera's images are not of
            its modality, or the images are not those that the permutations were made for.
    """
    draw = choose_draw(protocol, draw, perm)
    groups = _images_of_pairs(samples, protocol)
    if draw == OFFICIAL:
        return _official(samples, protocol, groups, perm)
    return [
        np.array([generator.choice(rows) for rows in groups.values()])
        for generator in map(random.Random, range(protocol.trials))
    ]


def ignored(
    protocol: Protocol, query_cameras: np.ndarray, gallery_cameras: np.ndarray
) -> np.ndarray:
    """Which gallery images do not exist for which query.

    Args:
        protocol: Names the pairs of cameras.
        query_cameras: ``(Q,)`` camera numbers.
        gallery_cameras: ``(G,)`` camera numbers.

    Returns:
        ``(Q, G)`` booleans.
    """
    mask = np.zeros((len(query_cameras), len(gallery_cameras)), dtype=bool)
    for query_camera, gallery_camera in protocol.ignored_pairs:
        mask |= np.outer(query_cameras == query_camera, gallery_cameras == gallery_camera)
    return mask


def _images_of_pairs(samples: Samples, protocol: Protocol) -> dict[tuple[int, int], np.ndarray]:
    """Rows of each (identity, camera) that has images, by frame; keys in gallery order."""
    pool = np.flatnonzero(np.isin(samples.camids, protocol.gallery_cameras))
    _check_modality(samples, pool, protocol.gallery_modality, protocol.name)
    if len(pool) == 0:
        raise InputError(
            f"expected gallery images from cameras {protocol.gallery_cameras} for {protocol.name};"
            f" got images of cameras {np.unique(samples.camids).tolist()} only; test on the whole "
            "split"
        )
    groups = {}
    for pid in np.unique(samples.pids[pool]):
        of_pid = pool[samples.pids[pool] == pid]
        for camera in protocol.gallery_cameras:
            rows = of_pid[samples.camids[of_pid] == camera]
            if len(rows):
                groups[int(pid), camera] = rows[np.argsort(samples.frames[rows], kind="stable")]
    return groups


def _official(
    samples: Samples,
    protocol: Protocol,
    groups: dict[tuple[int, int], np.ndarray],
    perm: RandPermCam,
) -> list[np.ndarray]:
    permutations = {}
    for pid in {pid for pid, _ in groups}:
        for camera in protocol.gallery_cameras:
            rows = groups.get((pid, camera), np.empty(0, dtype=np.int64))
            permutation = perm.permutations(camera, pid)
            # A missing image would quietly shift every number after it.
            if not np.array_equal(samples.frames[rows], np.arange(1, permutation.shape[1] + 1)):
                raise InputError(
                    f"expected images 1..{permutation.shape[1]} of id {pid} under camera {camera},"
                    f" as rand_perm_cam.mat lists them; got {len(rows)} images; complete the data "
                    "set, or use the python draw"
                )
            permutations[pid, camera] = permutation - 1
    return [
        np.concatenate(
            [rows[permutations[pair][trial, : protocol.shots]] for pair, rows in groups.items()]
        )
        for trial in range(protocol.trials)
    ]


def _check_modality(samples: Samples, rows: np.ndarray, modality: Modality, protocol: str) -> None:
    wrong = rows[samples.modalities[rows] != modality]
    if len(wrong):
        raise InputError(
            f"expected {modality.name.lower()} images from camera {samples.camids[wrong[0]]} in "
            f"{protocol}; got another modality for {samples.paths[wrong[0]]}; pass the data set's "
            "own camera numbers (relabel=False), not renumbered ones"
        )
