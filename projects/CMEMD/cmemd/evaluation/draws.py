"""Queries, galleries and ignored pairs of a protocol, as row numbers of the samples.

Shape legend: ``N`` = samples, ``Q`` = queries, ``G`` = gallery images of one trial.
"""

import random
from dataclasses import dataclass

import numpy as np

from cmemd.data.layouts.permutations import RandPermCam
from cmemd.errors import InputError
from cmemd.evaluation.protocols import EVERYTHING, OFFICIAL, Protocol, Side, choose_draw
from cmemd.evaluation.samples import Samples


@dataclass(frozen=True, eq=False)
class Trial:
    """One draw.

    Attributes:
        queries: ``(Q,)`` rows that ask.
        gallery: ``(G,)`` rows that are searched.
    """

    queries: np.ndarray
    gallery: np.ndarray


def draw_trials(
    samples: Samples, protocol: Protocol, draw: str = "auto", perm: RandPermCam | None = None
) -> list[Trial]:
    """Draw queries and gallery of every trial.

    Where a side of the protocol is drawn, its rows come in the draw's order: identities rise, the
    cameras of one identity follow the protocol, the images of one camera follow the draw. All
    other rows are sorted by (identity, camera, frame). Nothing hangs on the samples' order.

    ``official``: row ``trial`` of the permutations, its first ``shots`` image numbers.
    ``python``: the released Python code, ``random.seed(trial)`` for trial 0..9, then
    ``random.choice`` among each (identity, camera)'s images sorted by file name.
    ``everything``: all images.

    Args:
        samples: ``N`` images.
        protocol: Says who asks, who is searched and how many images of each are drawn.
        draw: ``auto``, ``official``, ``python`` or ``everything``.
        perm: The official permutations, needed by the official draw.

    Returns:
        One trial per draw.

    Raises:
        InputError: The draw is not to be had, no query or no gallery image, a camera's images are
            not of its modality, or the images are not those that the permutations were made for.
    """
    draw = choose_draw(protocol, draw, perm)
    queries = _draw_side(samples, protocol, protocol.query, "queries", draw, perm)
    galleries = _draw_side(samples, protocol, protocol.gallery, "gallery images", draw, perm)
    return [Trial(*rows) for rows in zip(queries, galleries, strict=True)]


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


def ignored(
    samples: Samples, protocol: Protocol, queries: np.ndarray, gallery: np.ndarray
) -> np.ndarray:
    """Which gallery images do not exist for which query.

    Args:
        samples: ``N`` images.
        protocol: Names the rules.
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


def pairs_without_image(samples: Samples, protocol: Protocol) -> int:
    """Count the (identity, camera) that a gallery draw finds empty.

    Not everybody appears under every camera; of the identities that have a gallery image at all,
    and the cameras that are searched, these pairs have none.

    Args:
        samples: ``N`` images.
        protocol: Says who is searched.

    Returns:
        The number of empty pairs.
    """
    rows = _pool(samples, protocol, protocol.gallery, "gallery images")
    pids, cameras = samples.pids[rows], samples.camids[rows]
    searched = protocol.gallery.cameras or np.unique(cameras)
    found = len(np.unique(np.stack([pids, cameras]), axis=1).T)
    return len(np.unique(pids)) * len(searched) - found


def _draw_side(
    samples: Samples,
    protocol: Protocol,
    side: Side,
    what: str,
    draw: str,
    perm: RandPermCam | None,
) -> list[np.ndarray]:
    pool = _pool(samples, protocol, side, what)
    if draw == EVERYTHING or side.shots is None:
        return [sort_rows(samples, pool)] * protocol.trials
    groups = _images_of_pairs(samples, pool, side)
    if draw == OFFICIAL:
        return _official(samples, protocol, side, groups, perm)
    return [
        np.array([generator.choice(rows) for rows in groups.values()])
        for generator in map(random.Random, range(protocol.trials))
    ]


def _pool(samples: Samples, protocol: Protocol, side: Side, what: str) -> np.ndarray:
    """Rows of one side's images, in the samples' order."""
    if side.cameras is None:
        rows = np.flatnonzero(samples.modalities == side.modality)
    else:
        rows = np.flatnonzero(np.isin(samples.camids, side.cameras))
        _check_modality(samples, rows, side, protocol.name)
    if len(rows) == 0:
        wanted = f"from cameras {side.cameras}" if side.cameras else "of its modality"
        raise InputError(
            f"expected {side.modality.name.lower()} {what} {wanted} for {protocol.name}; got "
            f"images of cameras {np.unique(samples.camids).tolist()} only; test on the whole split"
        )
    return rows


def _images_of_pairs(
    samples: Samples, pool: np.ndarray, side: Side
) -> dict[tuple[int, int], np.ndarray]:
    """Rows of each (identity, camera) that has images, by frame; keys in the draw's order."""
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
            [rows[permutations[pair][trial, : side.shots]] for pair, rows in groups.items()]
        )
        for trial in range(protocol.trials)
    ]


def _check_modality(samples: Samples, rows: np.ndarray, side: Side, protocol: str) -> None:
    wrong = rows[samples.modalities[rows] != side.modality]
    if len(wrong):
        raise InputError(
            f"expected {side.modality.name.lower()} images from camera {samples.camids[wrong[0]]} "
            f"in {protocol}; got another modality for {samples.paths[wrong[0]]}; pass the data "
            "set's own camera numbers (relabel=False), not renumbered ones"
        )
