"""The share of the optimal plan's mass on pairs of images that show one view of a person.

Stand-in data record the view of each image: the side from which it shows its person. The paper says
that transport favours pairs of small intra-identity variation. If so, its plans put more mass on
same-view pairs than the uniform plan, which pairs at random. If pairing at random does damage,
Rank-1 among images of the query's own view falls.

Shape legend: ``N`` = images, ``D`` = channels, ``P`` = identities, ``K`` = images of each modality
in a subset, ``R`` = subsets of all identities.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from cmemd.data.modality import Modality
from cmemd.errors import InputError, reason
from cmemd.evaluation.samples import Samples
from cmemd.losses.cm_dl import cm_dl_loss
from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.transport import exact_plan
from cmemd.paths import check_input

__all__ = ["PlanMeasures", "measure_plans", "read_views"]


@dataclass(frozen=True)
class PlanMeasures:
    """Measures of L2-normalised features.

    Attributes:
        same_view_mass: share of the optimal plans' mass on pairs of one view, in [0, 1].
        uniform_mass: the uniform plans' share, on the same subsets.
        modality_gap: distance between the modalities' centres.
        variance_ratio: variance within identities over that between them (CM-DL's, eps 0).
        same_view_rank1: share of thermal images whose nearest visible image is of their person,
            in a gallery of one image of each person, all of the query's own view. The people are
            those with a visible image of every view; NaN if there are none.
        other_view_rank1: the same in galleries of each other view, which have as many images.
    """

    same_view_mass: float
    uniform_mass: float
    modality_gap: float
    variance_ratio: float
    same_view_rank1: float
    other_view_rank1: float


def read_views(root: Path | str) -> dict[str, str]:
    """Return path below a stand-in's folder -> view, of each image.

    Raises:
        InputError: the folder is not a stand-in.
    """
    meta = Path(root, "meta.jsonl")
    what = f"a stand-in, which records its views, in {root}"
    remedy = "draw a stand-in with `cmemd synth`"
    if not meta.exists():
        raise InputError(what, "no meta.jsonl", remedy)
    check_input(meta, what, remedy)
    try:
        text = meta.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()[1:]]
        views = {line["path"]: line["view"] for line in lines}
        if not all(isinstance(view, str) for view in views.values()):
            raise TypeError("a view that is no word")
    except OSError as error:
        raise InputError(what, f"{reason(error)} for {meta.name}", remedy) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        got = f"another or damaged {meta.name} ({type(error).__name__}: {reason(error, 80)})"
        raise InputError(what, got, remedy) from error
    return views


def measure_plans(
    samples: Samples, views: dict[str, str], *, images: int = 4, subsets: int = 25, seed: int = 0
) -> PlanMeasures:
    """Measure the optimal plans, and Rank-1 by view, of features of a stand-in's images.

    Rank-1 is the mean over as many galleries of each view as there are subsets.

    Args:
        samples: ``N`` images; their paths end as those of ``views`` do.
        views: of ``read_views``.
        images: ``K``, images of each identity and modality in a subset.
        subsets: number of subsets of each identity; an image is at most once in a subset.
        seed: of the choice of subsets.

    Raises:
        InputError: an image without a view, or no identity with ``K`` images of each modality.
    """
    view = np.array([_view_of(path, views) for path in samples.paths.tolist()])
    features = functional.normalize(torch.from_numpy(samples.features).double(), dim=-1)
    rng = np.random.default_rng(seed)
    rows = []  # (2, K) of each identity and subset
    for pid in np.unique(samples.pids):
        own = [
            np.flatnonzero((samples.pids == pid) & (samples.modalities == modality))
            for modality in Modality
        ]
        if min(map(len, own)) >= images:
            rows += [[rng.choice(of, images, replace=False) for of in own] for _ in range(subsets)]
    if not rows:
        raise InputError(
            f"an identity with {images} images of each modality",
            "none",
            "draw a stand-in with more --per-camera, or lower --images",
        )
    visible, thermal = np.array(rows).swapaxes(0, 1)  # (R, K)
    plan = exact_plan(ground_cost(features[visible], features[thermal])).numpy()
    same = view[visible][:, :, None] == view[thermal][:, None]  # (R, K, K)
    centres = [features[samples.modalities == modality].mean(0) for modality in Modality]
    batch = features[np.concatenate([visible[::subsets], thermal[::subsets]], axis=1)]  # (P, 2K, D)
    same_rank1, other_rank1 = _first_matches(features.numpy(), samples, view, subsets, rng)
    return PlanMeasures(
        same_view_mass=float((plan * same).sum() / len(plan)),
        uniform_mass=float(same.mean()),
        modality_gap=float((centres[0] - centres[1]).norm()),
        variance_ratio=float(cm_dl_loss(batch, eps=1e-12)),
        same_view_rank1=same_rank1,
        other_view_rank1=other_rank1,
    )


def _first_matches(
    features: np.ndarray,
    samples: Samples,
    view: np.ndarray,
    subsets: int,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return Rank-1 of thermal images in galleries of their own view, and of each other view.

    A gallery has one visible image of each person, all of one view. So every gallery has as many
    candidates, and as many right ones, and the two shares can be compared.
    """
    visible, thermal = (np.flatnonzero(samples.modalities == modality) for modality in Modality)
    shown = np.unique(view)
    images = {
        pid: [visible[(samples.pids[visible] == pid) & (view[visible] == side)] for side in shown]
        for pid in np.unique(samples.pids)
    }
    people = [pid for pid, of_side in images.items() if all(map(len, of_side))]
    queries = thermal[np.isin(samples.pids[thermal], people)]
    if not queries.size:
        return math.nan, math.nan
    own = view[queries] == shown[:, None]  # (sides, queries)
    found = np.zeros(own.shape)
    for _ in range(subsets):
        for side in range(len(shown)):
            gallery = np.array([rng.choice(images[pid][side]) for pid in people], dtype=np.intp)
            best = gallery[(features[queries] @ features[gallery].T).argmax(axis=1)]
            found[side] += samples.pids[best] == samples.pids[queries]
    return float(found[own].mean() / subsets), float(found[~own].mean() / subsets)


def _view_of(path: str, views: dict[str, str]) -> str:
    """Return the view of the longest end of a path that ``views`` has."""
    parts = Path(path).parts
    for start in range(len(parts)):
        if found := views.get("/".join(parts[start:])):
            return found
    raise InputError(
        "images of the stand-in's meta.jsonl",
        f"{path}, which is not there",
        "give the stand-in from which the features were made",
    )
