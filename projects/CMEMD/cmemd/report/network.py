"""What the network itself shows: transport plans, stripe weights, activation maps.

Shape legend: K = images of an identity and modality, N = images, F features of a granularity, D
channels, S stripes, h x w = size of a feature map.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
import yaml
from fastreid.config import CfgNode
from torch import Tensor
from torch.nn import functional

from cmemd.config import default_config
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.engine.checkpoint import read_checkpoint
from cmemd.errors import InputError
from cmemd.export.images import read_images
from cmemd.export.network import CMEMD, inference_config, load_network
from cmemd.losses.cm_emd import ground_cost, plan_saving
from cmemd.losses.transport import exact_plan
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.report.run import Run

__all__ = ["Activation", "Plan", "Seen", "look_into"]

_PEOPLE = 8  # identities of which plans are compared
_IMAGES = 4  # of each modality in a plan
_SHOWN = 3  # identities with activation maps


@dataclass(frozen=True, eq=False)
class Plan:
    """The transport of one feature of one identity.

    Attributes:
        granularity: "global", "local" or "accumulated".
        title: the feature, in words.
        cost: ``(K, K)`` ground cost, visible by thermal images.
        plan: ``(K, K)`` optimal masses for uniform marginals.
        saving: share of the uniform plan's cost that it saves.
    """

    granularity: str
    title: str
    cost: np.ndarray
    plan: np.ndarray
    saving: float


@dataclass(frozen=True, eq=False)
class Activation:
    """What both streams answer to one image.

    Attributes:
        row: of the run's samples.
        pixels: ``(H, W, 3)`` bytes, as the network sees it.
        maps: stream -> ``(h, w)`` from 0 to 1: the norm over channels of its last feature map.
    """

    row: int
    pixels: np.ndarray
    maps: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Seen:
    """Everything that the page shows of the network.

    Attributes:
        pid: the identity of the plans.
        compared: number of identities among which it was chosen.
        visible: ``(K,)`` rows of its visible images.
        thermal: ``(K,)`` rows of its thermal images.
        plans: a plan for each feature.
        distance: ground distance, as configured.
        weights: ``(S,)`` weights of the stripes, or ``(N, S)`` of each image; None without stripes.
        learned: whether training changed them.
        activations: a few images.
    """

    pid: int
    compared: int
    visible: np.ndarray
    thermal: np.ndarray
    plans: list[Plan]
    distance: str
    weights: np.ndarray | None
    learned: bool
    activations: list[Activation]


def look_into(run: Run, seed: int) -> Seen:
    """Embed images of a few identities with the run's checkpoint, and look at what it computes.

    Args:
        run: with features, results and images.
        seed: of the choice of identities and images.

    Raises:
        InputError: no checkpoint, another one than was scored, or one that does not fit its
            configuration; no identity with images of both modalities at hand.
    """
    network, cfg = _network(run)
    chosen = list(_people(run, seed))
    if not chosen:
        raise InputError(
            f"an identity with two images of each modality at hand in {run.folder}",
            "none",
            "name the data set's folder with --images",
        )
    rows = np.array([np.concatenate(own) for own in chosen])  # (P, 2K)
    flat = rows.flatten()
    items = [_item(run, row) for row in flat.tolist()]
    pixels = read_images(items, cfg)  # (N, H, W, 3)
    features, maps, weights = _forward(network, pixels, [item.modality for item in items])
    align = cfg.MODEL.LOSSES.ALIGN
    costs = {
        name: _costs(of.view(*rows.shape, *of.shape[1:]), align.DISTANCE, align.NORMALIZE)
        for name, of in features.items()
    }
    savings = [
        float(plan_saving(cost, exact_plan(cost)))
        for cost in costs["global"]  # (F, K, K) of an identity
    ]
    middle = int(np.argsort(savings, kind="stable")[len(savings) // 2])
    visible, thermal = rows[middle].reshape(2, -1)
    per_person = rows.shape[1]
    activations = [
        Activation(
            int(flat[place]),
            pixels[place],
            {name: _normalised(of[place]) for name, of in maps.items()},
        )
        for person in range(min(_SHOWN, len(rows)))
        for place in (person * per_person, person * per_person + per_person // 2)
    ]
    return Seen(
        pid=int(run.samples.pids[visible[0]]),
        compared=len(chosen),
        visible=visible,
        thermal=thermal,
        plans=[plan for name, cost in costs.items() for plan in _plans(name, cost[middle])],
        distance=_words(align.DISTANCE, align.NORMALIZE),
        weights=weights,
        learned=any("holistic" in loss.reads for loss in network.losses.values()),
        activations=activations,
    )


def _network(run: Run) -> tuple[CMEMDNet, CfgNode]:
    checkpoint = run.facts.get("checkpoint")
    if not checkpoint:
        raise InputError(
            f"the checkpoint of the results in {run.folder}",
            "none: an untrained network was scored",
            "take the folder of a training",
        )
    name = str(checkpoint["file"]).replace("\\", "/").rpartition("/")[2]
    stored = read_checkpoint(run.folder / name, named_by="the run's folder")
    if stored.sha256 != checkpoint["sha256"]:
        raise InputError(
            f"the checkpoint that was scored, in {run.folder / name}",
            "another one",
            "evaluate the run again (--eval-only)",
        )
    text = yaml.safe_dump(_nested(run.config))
    network = load_network({"name": CMEMD, "config": text}, stored.model, run.folder / name)
    cfg = default_config()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(text)))
    return network, inference_config(cfg)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return keys such as MODEL.HEADS.NAME as a tree."""
    tree: dict[str, Any] = {}
    for key, value in flat.items():
        *folders, name = key.split(".")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        node[name] = value
    return tree


def _people(run: Run, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of K visible and K thermal images of identities, with one K for all."""
    samples, rng = run.samples, np.random.default_rng(seed)
    found = []
    for pid in rng.permutation(np.unique(samples.pids)):
        sides = []
        for modality in Modality:
            own = np.flatnonzero((samples.pids == pid) & (samples.modalities == modality))
            there = [r for r in rng.permutation(own) if run.images.find(str(samples.paths[r]))]
            sides.append(np.array(there[:_IMAGES], dtype=int))
        if min(map(len, sides)) >= 2:
            found.append(sides)
        if len(found) == _PEOPLE:
            break
    images = min((len(side) for sides in found for side in sides), default=0)
    for sides in found:
        visible, thermal = (np.sort(side[:images]) for side in sides)
        yield visible, thermal


def _item(run: Run, row: int) -> ImageItem:
    samples = run.samples
    found = run.images.find(str(samples.paths[row]))
    assert found is not None, "_people yields images that are at hand"
    return ImageItem(
        found.path,
        int(samples.pids[row]),
        int(samples.camids[row]),
        Modality(int(samples.modalities[row])),
        box=found.box,
    )


@torch.no_grad()
def _forward(
    network: CMEMDNet, pixels: np.ndarray, modalities: list[Modality]
) -> tuple[dict[str, Tensor], dict[str, np.ndarray], np.ndarray | None]:
    """Return features (N, F, D) that losses compare, maps (N, h, w), and stripe weights."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
    images = (images - network.pixel_mean) / network.pixel_std
    streams = network.backbone(images, torch.tensor([int(m) for m in modalities]))
    outputs = network.heads(*streams)
    kind = "neck" if network.align_neck else "features"
    features = {name: getattr(output, kind) for name, output in outputs.items()}
    maps = {
        name: of.norm(dim=1).numpy()
        for name, of in zip(("global", "local"), streams, strict=True)
        if of is not None
    }
    weigh = network.heads.weigh
    weights = None if weigh is None else weigh(outputs["local"].features).numpy()
    return features, maps, weights


def _costs(features: Tensor, distance: str, normalise: bool) -> Tensor:
    """Return ground costs (P, F, K, K) of features (P, 2K, F, D)."""
    features = features.transpose(1, 2)  # (P, F, 2K, D)
    if normalise:
        features = functional.normalize(features, dim=-1)
    visible, thermal = features.chunk(2, dim=2)
    return ground_cost(visible, thermal, distance)


def _plans(granularity: str, costs: Tensor) -> Iterator[Plan]:
    """Yield a plan for each feature of costs (F, K, K)."""
    for number, (cost, plan) in enumerate(zip(costs, exact_plan(costs), strict=True)):
        titles = {
            "global": "Global",
            "local": f"Local: stripe {number + 1} of {len(costs)}",
            "accumulated": f"Accumulated: stripes 1 to {number + 2}",
        }
        yield Plan(
            granularity,
            titles[granularity],
            cost.numpy(),
            plan.numpy(),
            float(plan_saving(cost, plan)),
        )


def _normalised(values: np.ndarray) -> np.ndarray:
    span = values.max() - values.min()
    return (values - values.min()) / (span if span > 0 else 1)


def _words(distance: str, normalise: bool) -> str:
    words = {
        "sqeuclidean": "squared Euclidean distance",
        "euclidean": "Euclidean distance",
        "manhattan": "Manhattan distance",
        "kernel": "squared distance under MMD's kernel",
    }
    of = "L2-normalised features" if normalise else "features"
    return f"{words.get(distance, 'cosine distance')} of {of}"
