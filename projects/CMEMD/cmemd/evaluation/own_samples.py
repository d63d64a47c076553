"""Samples from embeddings with texts as labels, as ``cmemd embed --output`` writes them.

Shape legend: ``N`` = images, ``D`` = size of the embedding.
"""

from collections.abc import Mapping

import numpy as np

from cmemd.data.items import GALLERY, QUERY, TEST
from cmemd.data.modality import Modality
from cmemd.data.times import parse_seconds
from cmemd.errors import InputError
from cmemd.evaluation.features_file import order_by_name
from cmemd.evaluation.samples import Samples

__all__ = ["check_disjoint", "check_side", "own_samples"]

Columns = Mapping[str, np.ndarray]
_LABELS = ("modality", "identity", "camera", "time", "tracklet")


def own_samples(queries: Columns, gallery: Columns) -> Samples:
    """Return images of two sides as samples with roles.

    Identities and cameras are numbered from 1 in the order of their names. Images without a camera
    get one of their modality.

    Args:
        queries: ``vector`` (N, D), ``path``, ``modality``, ``identity``, ``camera``, ``time``,
            ``tracklet`` and ``model``, ``(N,)`` strings each; "" for an unknown label.
        gallery: the same. An image of both sides is there once, as both.

    Raises:
        InputError: a side is empty, an identity is missing, an image is twice on one side or
            differs between the sides, or the embeddings are of several models.
    """
    for name, side in (("queries", queries), ("gallery", gallery)):
        check_side(name, side)
    models = {*queries["model"].tolist(), *gallery["model"].tolist()}
    if len(models) > 1 or queries["vector"].shape[1] != gallery["vector"].shape[1]:
        raise InputError(
            "embeddings of one model for queries and gallery",
            ", ".join(sorted(model[:16] or "unknown" for model in models)),
            "embed all images with one model",
        )
    place = {path: row for row, path in enumerate(queries["path"].tolist())}
    shared = [place.get(path, -1) for path in gallery["path"].tolist()]
    both = np.array(shared) >= 0
    of_queries = np.array(shared)[both]
    for name in ("vector", *_LABELS):
        first, second = queries[name][of_queries], gallery[name][both]
        same = first == second
        same = same.all(axis=1) if same.ndim == 2 else same
        if not same.all():
            wrong = gallery["path"][both][np.argmin(same)]
            raise InputError(
                "the same embedding and labels for an image that is query and gallery",
                f"another {name} for {wrong}",
                "embed it once, and name that file for both",
            )
    roles = np.full(len(queries["path"]), QUERY, dtype="U7")
    roles[of_queries] = TEST
    columns = {
        name: np.concatenate([queries[name], gallery[name][~both]])
        for name in ("vector", "path", *_LABELS)
    }
    times = [parse_seconds(text) if text else np.nan for text in columns["time"].tolist()]
    cameras = np.where(columns["camera"] == "", columns["modality"], columns["camera"])
    return Samples(
        features=columns["vector"],
        pids=1 + np.unique(columns["identity"], return_inverse=True)[1],
        camids=1 + np.unique(cameras, return_inverse=True)[1],
        modalities=np.array([int(Modality[name.upper()]) for name in columns["modality"]]),
        frames=order_by_name(columns["path"]),
        paths=columns["path"],
        roles=np.concatenate([roles, np.full(int(np.sum(~both)), GALLERY)]),
        times=np.array(times, dtype=float),
        tracklets=columns["tracklet"],
    )


def check_disjoint(validation: Columns, *sides: Columns) -> None:
    """Raise where an identity is under validation and under test.

    Raises:
        InputError: names one of them.
    """
    tested = {identity for side in sides for identity in side["identity"].tolist()}
    shared = sorted(tested.intersection(validation["identity"].tolist()))
    if shared:
        raise InputError(
            "validation identities that are not under test",
            f"{len(shared)} that are, such as {shared[0]!r}",
            "choose parameters on other people than those scored",
        )


def check_side(name: str, side: Columns) -> None:
    """Raise unless every image of the queries, probes or gallery has an identity and stands once.

    Args:
        name: of the side, for messages.
        side: columns ``path`` and ``identity``.

    Raises:
        InputError: names an image, or says that there is none.
    """
    if not len(side["path"]):
        raise InputError(f"embeddings as {name}", "none", "name files that have some")
    unknown = side["path"][side["identity"] == ""]
    if len(unknown):
        raise InputError(
            f"an identity for every image of the {name}",
            f"{len(unknown)} without, such as {unknown[0]}",
            "embed them with a list or a --pattern that gives identities",
        )
    paths, times = np.unique(side["path"], return_counts=True)
    if len(twice := paths[times > 1]):
        raise InputError(
            f"each image of the {name} once",
            f"{len(twice)} more often, such as {twice[0]}",
            "name each file and each image once",
        )
