"""What the plan moves: the share of its mass on pairs seen from one side.

Stand-in data say from which side each image shows its person. If transport favours pairs of small
intra-identity variation, as the paper says, its plans put more mass on same-view pairs than the
uniform plan does, which pairs at random. Where pairing at random has done damage, images of a
query's own side should answer it worse than they could.

Shape legend: N images, D channels, P identities, K images of each modality in a draw.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.samples import Samples
from cmemd.losses.cm_dl import cm_dl_loss
from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.transport import exact_plan

__all__ = ["Measures", "measure", "read_views"]


@dataclass(frozen=True)
class Measures:
    """Of L2-normalised features.

    Attributes:
        same_view_mass: share of the optimal plans' mass on pairs of one view, in [0, 1].
        uniform_mass: the uniform plans' share, on the same draws.
        modality_gap: distance of the modalities' centres.
        variance_ratio: variance within identities over that between them (CM-DL's, eps 0).
        same_view_rank1: share of thermal images whose nearest visible image of their own view, out
            of everybody's, is of their person.
        other_view_rank1: the same among the visible images of other views.
    """

    same_view_mass: float
    uniform_mass: float
    modality_gap: float
    variance_ratio: float
    same_view_rank1: float
    other_view_rank1: float


def read_views(root: Path | str) -> dict[str, str]:
    """Path of each image below a stand-in's folder -> the side it shows.

    Raises:
        InputError: if the folder is no stand-in.
    """
    meta = Path(root, "meta.jsonl")
    if not meta.is_file():
        raise InputError(
            f"expected a stand-in, which knows its views, in {root}; got no meta.jsonl: draw one "
            "with `cmemd synth`"
        )
    lines = [json.loads(line) for line in meta.read_text(encoding="utf-8").splitlines()[1:]]
    return {line["path"]: line["view"] for line in lines}


def measure(
    samples: Samples, views: dict[str, str], *, images: int = 4, draws: int = 25, seed: int = 0
) -> Measures:
    """Measures features of a stand-in's images.

    Args:
        samples: N images; their paths end as those of ``views`` do.
        views: of ``read_views``.
        images: K, of each identity and modality in a draw.
        draws: of K + K images of each identity; with replacement between draws, not within.
        seed: of the draws.

    Raises:
        InputError: for an image without a view, or no identity with K images of each modality.
    """
    side = np.array([_view_of(path, views) for path in samples.paths.tolist()])
    features = functional.normalize(torch.from_numpy(samples.features).double(), dim=-1)
    rng = np.random.default_rng(seed)
    rows = []  # (2, K) of each identity and draw
    for pid in np.unique(samples.pids):
        own = [
            np.flatnonzero((samples.pids == pid) & (samples.modalities == modality))
            for modality in Modality
        ]
        if min(map(len, own)) >= images:
            rows += [[rng.choice(of, images, replace=False) for of in own] for _ in range(draws)]
    if not rows:
        raise InputError(
            f"expected an identity with {images} images of each modality; got none: draw a "
            "stand-in with more --per-camera"
        )
    visible, thermal = np.array(rows).swapaxes(0, 1)  # (P x draws, K)
    plan = exact_plan(ground_cost(features[visible], features[thermal])).numpy()
    same = side[visible][:, :, None] == side[thermal][:, None]  # (P x draws, K, K)
    centres = [features[samples.modalities == modality].mean(0) for modality in Modality]
    batch = features[np.concatenate([visible[::draws], thermal[::draws]], axis=1)]  # (P, 2K, D)
    same_rank1, other_rank1 = _first_matches(features.numpy(), samples, side)
    return Measures(
        same_view_mass=float((plan * same).sum() / len(plan)),
        uniform_mass=float(same.mean()),
        modality_gap=float((centres[0] - centres[1]).norm()),
        variance_ratio=float(cm_dl_loss(batch, eps=1e-12)),
        same_view_rank1=same_rank1,
        other_view_rank1=other_rank1,
    )


def _first_matches(features: np.ndarray, samples: Samples, side: np.ndarray) -> list[float]:
    """Rank-1 of thermal images (N, D) among visible ones of their side, and of other sides."""
    visible, thermal = (np.flatnonzero(samples.modalities == modality) for modality in Modality)
    scores = features[thermal] @ features[visible].T
    same = side[thermal][:, None] == side[visible]
    found = [np.where(of, scores, -np.inf).argmax(axis=1) for of in (same, ~same)]
    return [float((samples.pids[visible][best] == samples.pids[thermal]).mean()) for best in found]


def _view_of(path: str, views: dict[str, str]) -> str:
    """By the path below the data set's folder, however long that is."""
    parts = Path(path).parts
    for start in range(len(parts)):
        if view := views.get("/".join(parts[start:])):
            return view
    raise InputError(
        f"expected images of the stand-in's meta.jsonl; got {path}, which is not there"
    )
