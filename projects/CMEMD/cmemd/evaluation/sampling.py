"""Gallery sampling: the queries and galleries of a protocol, as row numbers of the samples.

Shape legend: ``N`` = samples, ``Q`` = queries, ``G`` = gallery images of one trial.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cmemd.data.items import GALLERY, QUERY, TEST
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.protocols import EVERYTHING, OFFICIAL, Protocol, Side, choose_sampling
from cmemd.evaluation.samples import Samples

__all__ = [
    "Trial",
    "check_labels",
    "check_scorable",
    "ignored",
    "no_positive",
    "pairs_without_image",
    "sample_trials",
    "sort_rows",
]


_QUERIES_AT_ONCE = 256
_REMOVING = ("ignore_same_camera", "ignore_same_view", "ignore_same_tracklet", "within")


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

    A mixed protocol takes both directions, and of each side as many images as its ratio allows;
    a seeded choice leaves out the others, from each identity about the same share.

    The rows of a sampled side come by identity, then by the protocol's cameras; the images of one
    camera follow the sampling. The rows of a whole side are sorted by (identity, camera, frame).
    The samples' order does not matter.

    ``official``: row ``trial`` of the permutations, its first ``shots`` image numbers.
    ``python``: the released Python code, ``random.seed(trial)`` for trial 0..9, then
    ``random.choice`` among each (identity, camera)'s images sorted by file name.
    ``everything``: all images. Protocols of one's own seed by their seed and the trial.

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
    check_labels(samples, protocol)
    directions = [
        (
            _sample_side(samples, protocol, query, "queries", sampling, perm),
            _sample_side(samples, protocol, gallery, "gallery images", sampling, perm),
        )
        for query, gallery in protocol.sides
    ]
    if len(directions) == 1:
        return [Trial(*rows) for rows in zip(*directions[0], strict=True)]
    (queries, galleries), (more_queries, more_gallery) = directions
    return [
        Trial(
            _mixed(samples, protocol, queries[trial], more_queries[trial], f"{trial}/queries"),
            _mixed(samples, protocol, galleries[trial], more_gallery[trial], f"{trial}/gallery"),
        )
        for trial in range(protocol.trials)
    ]


def sort_rows(samples: Samples, rows: np.ndarray) -> np.ndarray:
    """Return rows sorted by (identity, camera, frame): the samples' order does not matter.

    Args:
        samples: ``N`` images.
        rows: row numbers.
    """
    # The modality counts where both are of one camera, and images of one name.
    keys = samples.modalities[rows], samples.frames[rows], samples.camids[rows], samples.pids[rows]
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
    if protocol.ignore_same_camera or protocol.ignore_same_view or protocol.ignore_same_tracklet:
        same = (query_cameras[:, None] == gallery_cameras) & (
            samples.pids[queries][:, None] == samples.pids[gallery]
        )
        if protocol.ignore_same_camera:
            mask |= same
        if protocol.ignore_same_view:
            mask |= same & _equal(samples.modalities, queries, gallery)
        if protocol.ignore_same_tracklet:
            assert samples.tracklets is not None, "checked with the sides"
            known = samples.tracklets[gallery] != ""
            mask |= same & known & _equal(samples.tracklets, queries, gallery)
    if protocol.within is not None:
        assert samples.times is not None, "checked with the sides"
        apart = samples.times[queries][:, None] - samples.times[gallery]
        mask |= np.abs(apart) > protocol.within
    return mask


def _equal(labels: np.ndarray, queries: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    return labels[queries][:, None] == labels[gallery]


def check_scorable(samples: Samples, protocol: Protocol, trials: Sequence[Trial]) -> None:
    """Raise unless each trial has a query whose identity is in its gallery.

    The rules that a user chose must leave each query a gallery.

    Args:
        samples: ``N`` images.
        protocol: gives the rules.
        trials: of ``sample_trials``.

    Raises:
        InputError: a trial has none, so that there is nothing to measure; or a query has no
            gallery image left.
    """
    chosen = [name for name in _REMOVING if getattr(protocol, name)] if protocol.rules else []
    for trial in trials:
        starts = range(0, len(trial.queries), _QUERIES_AT_ONCE)
        parts = [trial.queries[start : start + _QUERIES_AT_ONCE] for start in starts]
        if not any(_has_positive(samples, protocol, part, trial.gallery) for part in parts):
            raise no_positive(protocol, len(trial.queries))
        if not chosen:
            continue
        empty = [
            part[ignored(samples, protocol, part, trial.gallery).all(axis=1)] for part in parts
        ]
        if len(alone := np.concatenate(empty)):
            raise InputError(
                f"a gallery image for each query of {protocol.name} after {', '.join(chosen)}",
                f"none for {len(alone)} of {len(trial.queries)}, such as {samples.paths[alone[0]]}",
                "choose other options, or leave these queries out",
            )


def check_labels(samples: Samples, protocol: Protocol) -> None:
    """Raise where a rule needs labels that images lack.

    Args:
        samples: ``N`` images.
        protocol: gives the rules.

    Raises:
        InputError: a time window, and a time is missing; or no image has a tracklet.
    """
    if protocol.within is not None:
        times = samples.times
        unknown = np.arange(len(samples.pids)) if times is None else np.flatnonzero(np.isnan(times))
        if len(unknown):
            raise InputError(
                f"a time of each image for a window of {protocol.within:g} seconds",
                f"none for {len(unknown)} of {len(samples.pids)}, such as "
                f"{samples.paths[unknown[0]]}",
                "add the column time, or leave the window out",
            )
    if protocol.ignore_same_tracklet and (
        samples.tracklets is None or not (samples.tracklets != "").any()
    ):
        raise InputError(
            "tracklets to ignore those of the query",
            "no image with a tracklet",
            "add the column tracklet, or leave the option out",
        )


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
    missing = 0
    for _, side in protocol.sides:
        rows = _pool(samples, protocol, side, "gallery images")
        pids, cameras = samples.pids[rows], samples.camids[rows]
        gallery_cameras = side.cameras or np.unique(cameras)
        found = len(np.unique(np.stack([pids, cameras]), axis=1).T)
        missing += len(np.unique(pids)) * len(gallery_cameras) - found
    return missing


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
        assert perm is not None, "choose_sampling asks for the permutations"
        return _official(samples, protocol, side, groups, perm)
    seeds: Sequence[int | str] = range(protocol.trials)
    if protocol.seed is not None:
        seeds = [f"{protocol.seed}/{trial}" for trial in range(protocol.trials)]
    return [
        np.array([generator.choice(rows) for rows in groups.values()])
        for generator in map(random.Random, seeds)
    ]


def _mixed(
    samples: Samples, protocol: Protocol, first: np.ndarray, second: np.ndarray, place: str
) -> np.ndarray:
    """Return the rows of one mixed side: as many as there are in the mixture's ratio.

    Args:
        samples: ``N`` images.
        protocol: has a mixture of a ratio between 0 and 1.
        first: rows of the direction that ratio 0 is.
        second: rows of the other.
        place: trial and side, which with the protocol's seed choose the rows.
    """
    assert protocol.mixture is not None
    ratio = protocol.mixture.ratio
    size = min(len(first) / (1 - ratio), len(second) / ratio)
    parts = []
    for number, (rows, share) in enumerate(((first, 1 - ratio), (second, ratio))):
        keep = math.floor(share * size + 1e-9)  # 0.7 * 10 / 0.7 may be a little less than 10
        if not keep:
            raise InputError(
                f"images of both modalities for ratio {ratio:g} of {protocol.name}",
                f"{len(first)} and {len(second)}, too few of one",
                "choose another ratio (--ratio, or TEST.MIXED_RATIO of a configuration)",
            )
        generator = random.Random(f"{protocol.seed or 0}/{place}/{number}")
        parts.append(_thinned(samples, rows, keep, generator))
    return np.concatenate(parts)


def _thinned(samples: Samples, rows: np.ndarray, keep: int, generator: random.Random) -> np.ndarray:
    """Return ``keep`` of the rows, from each identity its share to within one image."""
    if keep == len(rows):
        return rows
    shuffled = np.array([generator.random() for _ in rows])
    by_identity = np.lexsort((shuffled, samples.pids[rows]))
    places = (np.arange(keep) + generator.random()) * len(rows) / keep
    return rows[np.sort(by_identity[places.astype(np.intp)])]


def _pool(samples: Samples, protocol: Protocol, side: Side, what: str) -> np.ndarray:
    """Return the rows of one side's images, in the samples' order."""
    if side.cameras is None:
        rows = np.flatnonzero(samples.modalities == side.modality)
    else:
        rows = np.flatnonzero(np.isin(samples.camids, side.cameras))
        _check_modality(samples, rows, side, protocol.name)
    if samples.roles is not None:
        rows = rows[np.isin(samples.roles[rows], [TEST, QUERY if what == "queries" else GALLERY])]
    if len(rows) == 0 and side.cameras:
        raise InputError(
            f"{side.modality.name.lower()} {what} from cameras {side.cameras} for {protocol.name}",
            f"images of cameras {np.unique(samples.camids).tolist()} only",
            "test on the whole split",
        )
    if len(rows) == 0:
        found = " and ".join(
            f"{np.sum(samples.modalities == modality)} {modality.name.lower()}"
            for modality in Modality
        )
        roles = "" if samples.roles is None else ", none of them for this side"
        raise InputError(
            f"{side.modality.name.lower()} {what} for {protocol.name}",
            f"{found} images{roles}",
            "add them, or choose another protocol",
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
    assert side.cameras is not None, "the protocols with permutations name their cameras"
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
