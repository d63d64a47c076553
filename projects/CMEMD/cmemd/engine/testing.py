"""Tests: a network, a data set and ``TEST.PROTOCOLS`` give results; no trainer is needed."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset
from fastreid.evaluation import inference_on_dataset, print_csv_format
from fastreid.modeling import build_model
from fastreid.utils import comm
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cmemd.data.build import items_under_test
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.items import TEST, ImageItem
from cmemd.data.layouts.own import LAYOUT as OWN
from cmemd.data.loader import build_loader
from cmemd.data.naming import title_of
from cmemd.data.transform import build_sensor, build_transform
from cmemd.engine.checkpoint import load_weights
from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.engine.provenance import Weights, describe_run, guard
from cmemd.errors import InputError
from cmemd.evaluation.protocols import PROTOCOLS, Options, get_protocol
from cmemd.evaluation.scoring import Reranking

__all__ = [
    "build_evaluator",
    "build_test_loader",
    "check_protocols",
    "check_test",
    "evaluate",
    "score_network",
]

logger = logging.getLogger(__name__)


def evaluate(cfg: CfgNode, data: ImageDataset, weights: Weights) -> Mapping[str, object]:
    """Test the weights; where there are none, warn and test the network as training starts it.

    Args:
        cfg: the configuration as it was given.
        data: the data set under test.
        weights: of ``MODEL.WEIGHTS``, or ``UNTRAINED``.

    Raises:
        InputError: the weights are of another architecture, or what ``build_evaluator`` raises.
    """
    if weights.checkpoint is None:
        logger.warning("MODEL.WEIGHTS is empty: scoring the untrained network")
        return score_network(cfg, build_model(cfg), *build_evaluator(cfg, data, weights))
    bare = cfg.clone()
    bare.defrost()
    bare.MODEL.BACKBONE.PRETRAIN = False  # about to be overwritten
    bare.freeze()
    model = build_model(bare)
    load_weights(model, weights.checkpoint)
    identity = weights.checkpoint.identity
    run = {} if identity is None else {"identity": identity.digest}
    return score_network(cfg, model, *build_evaluator(cfg, data, weights, run=run))


def score_network(
    cfg: CfgNode, model: nn.Module, loader: DataLoader[Any], evaluator: VisibleThermalEvaluator
) -> Mapping[str, object]:
    """Return the results of a network on a loader's images, with test-time flip where wanted."""
    if cfg.TEST.FLIP.ENABLED:
        model = _Mirrored(model)
    if evaluator.validation:
        held = build_test_loader(cfg, evaluator.validation, 0)[0]
        keys = [item.key for item in evaluator.validation]
        if not comm.is_main_process():
            keys = [keys[row] for batch in _own_batches(cfg, len(keys)) for row in batch]
        inference_on_dataset(model, held, evaluator.for_validation(keys))
    results = inference_on_dataset(model, loader, evaluator)
    if comm.is_main_process():
        name = cfg.DATASETS.TESTS[0]
        results["dataset"] = getattr(cfg.DATASETS, name.upper(), {}).get("NAME", name)
        print_csv_format(results)  # takes the name out again
    return results


def build_evaluator(
    cfg: CfgNode,
    data: ImageDataset,
    weights: Weights,
    split: str = "test",
    output_dir: str | None = None,
    run: Mapping[str, object] | None = None,
) -> tuple[DataLoader[Any], VisibleThermalEvaluator]:
    """Return a loader and the evaluator of ``TEST.PROTOCOLS``, if the leak guard permits it.

    Args:
        cfg: the configuration as it was given.
        data: the data set under test.
        weights: what is known of those to be tested.
        split: "test", or "validation": the identities held out of training.
        output_dir: default ``OUTPUT_DIR``, for the validation split its folder "validation".
        run: further facts for the results file.

    Raises:
        InputError: the weights were trained on identities under test, the validation split is
            empty, the protocols are of another data set, or what the evaluator raises.
    """
    items, leak_guard = _items_and_guard(cfg, data, weights, split)
    facts = None
    if comm.is_main_process():
        facts = describe_run(cfg, data, items, split=split, weights=weights, leak_guard=leak_guard)
        facts |= run or {}
    folder = output_dir or str(Path(cfg.OUTPUT_DIR, *([] if split == "test" else [split])))
    shown = items
    if not comm.is_main_process():
        shown = [items[row] for batch in _own_batches(cfg, len(items)) for row in batch]
    held = _items_for_remedies(cfg, data, weights, split)
    return build_test_loader(cfg, items, len(data.query))[0], _evaluator(
        cfg, data, split, folder, facts, shown, held
    )


def check_test(
    cfg: CfgNode, data: ImageDataset, weights: Weights, split: str = "test"
) -> list[ImageItem]:
    """Raise what ``build_evaluator`` and an evaluation would raise, without reading images.

    Returns:
        The images under test.
    """
    items, _ = _items_and_guard(cfg, data, weights, split)
    held = _items_for_remedies(cfg, data, weights, split)
    evaluator = _evaluator(cfg, data, split, cfg.OUTPUT_DIR, None, items, held)
    evaluator.check(items)
    if held:
        evaluator.check(held)
    return items


def check_protocols(cfg: CfgNode, data: ImageDataset) -> None:
    """Raise for protocols of another data set; a data set of a user's own may take any that fit.

    Raises:
        InputError: a protocol is of another data set.
    """
    layout = getattr(data, "layout", None)
    other = [p.name for p in map(get_protocol, cfg.TEST.PROTOCOLS) if p.dataset != layout]
    if layout and other:
        own = [name for name, protocol in PROTOCOLS.items() if protocol.dataset == layout]
        raise InputError(
            f"TEST.PROTOCOLS of the data set under test, {title_of(data)}",
            ", ".join(other),
            f"choose out of {', '.join(own)}",
        )


def build_test_loader(
    cfg: CfgNode, items: Sequence[ImageItem], num_query: int
) -> tuple[DataLoader[Any], int]:
    """Return a loader of images with the test transform, and ``num_query`` as it was given.

    Batches hold ``TEST.IMS_PER_BATCH`` images whatever the number of processes, which take turns:
    the sums behind a feature may depend on its batch, and so metrics do not depend on processes.
    """
    images = VisibleThermalDataset(
        items, build_transform(cfg, training=False), relabel=False, sensor=build_sensor(cfg)
    )
    loader = build_loader(
        images,
        _own_batches(cfg, len(items)),
        cfg.DATALOADER.NUM_WORKERS,
        device=cfg.MODEL.DEVICE,
        prefetch=cfg.DATALOADER.PREFETCH,
    )
    return loader, num_query


def _own_batches(cfg: CfgNode, images: int) -> list[range]:
    """Return this process's batches of all images."""
    size = cfg.TEST.IMS_PER_BATCH
    batches = [range(start, min(start + size, images)) for start in range(0, images, size)]
    return batches[comm.get_rank() :: comm.get_world_size()]


def _items_and_guard(
    cfg: CfgNode, data: ImageDataset, weights: Weights, split: str
) -> tuple[list[ImageItem], dict[str, Any]]:
    check_protocols(cfg, data)
    items = items_under_test(cfg, data, split)
    return items, guard(cfg, data, items, split, weights)


def _labels(items: Sequence[ImageItem]) -> dict[str, dict[str, object]]:
    """Return what only the items know of each image, by its key; a label that none has is left out.

    Returns:
        By the name in ``Samples``: roles, times and tracklets.
    """
    labels: dict[str, dict[str, object]] = {}
    if any(item.role != TEST for item in items):
        labels["roles"] = {item.key: item.role for item in items}
    if any(item.time is not None for item in items):
        labels["times"] = {
            item.key: math.nan if item.time is None else float(item.time) for item in items
        }
    if any(item.tracklet for item in items):
        labels["tracklets"] = {item.key: item.tracklet for item in items}
    return labels


def _items_for_remedies(
    cfg: CfgNode, data: ImageDataset, weights: Weights, split: str
) -> list[ImageItem]:
    """Return images of the validation identities where a test has remedies, else none."""
    if not cfg.TEST.REMEDIES or split != "test":
        return []
    return _items_and_guard(cfg, data, weights, "validation")[0]


def _options(cfg: CfgNode, data: ImageDataset) -> Options:
    """Return what a configuration says of protocols."""
    own = cfg.TEST.OWN
    return Options(
        name=title_of(data) if getattr(data, "layout", None) == OWN.name else "",
        trials=own.TRIALS,
        seed=own.SEED,
        ignore_same_camera=own.IGNORE_SAME_CAMERA,
        ignore_same_tracklet=own.IGNORE_SAME_TRACKLET,
        within=own.WITHIN,
        cmc=own.CMC,
        fpir=tuple(own.FPIR),
        ratio=cfg.TEST.MIXED_RATIO,
    )


def _evaluator(
    cfg: CfgNode,
    data: ImageDataset,
    split: str,
    folder: str,
    run: Mapping[str, object] | None,
    items: Sequence[ImageItem],
    held: Sequence[ImageItem],
) -> VisibleThermalEvaluator:
    test, rerank = split == "test", cfg.TEST.RERANK
    return VisibleThermalEvaluator(
        protocols=cfg.TEST.PROTOCOLS,
        rand_perm_cam=data.rand_perm_cam,
        draw=cfg.TEST.DRAW,
        metric=cfg.TEST.METRIC,
        output_dir=folder,
        ranked_gallery_queries=cfg.TEST.RANKED_GALLERY if test else 0,
        run=run,
        save_features=cfg.TEST.SAVE_FEATURES and test,
        tensorboard=cfg.TEST.TENSORBOARD and test,
        reranking=Reranking(rerank.K1, rerank.K2, rerank.LAMBDA) if rerank.ENABLED else None,
        paths=[item.key for item in items],
        labels=_labels([*items, *held]),
        options=_options(cfg, data),
        validation=held,
    )


class _Mirrored(nn.Module):
    """A network that sees its images mirrored too; fast-reid's flip test keeps only the mean.

    The result is ``(B, 2, D)``: the images' features, and the means of those and their mirror
    images'.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, Any]) -> Tensor:
        plain = self.model(batch)
        mirrored = self.model({**batch, "images": batch["images"].flip(dims=[3])})
        return torch.stack([plain, (plain + mirrored) / 2], dim=1)
