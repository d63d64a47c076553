"""Scores an exported model on the test set, by the evaluation that training uses."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.evaluation import inference_on_dataset
from torch import Tensor, nn

from cmemd.data.build import build_dataset, test_dataset
from cmemd.engine.provenance import Weights
from cmemd.engine.testing import build_evaluator
from cmemd.evaluation.results import read_results
from cmemd.export.formats import Embed

__all__ = ["score"]


def score(embed: Embed, cfg: CfgNode, weights: Weights) -> dict[str, Any]:
    """The result card of a model on the data set of ``DATASETS.TESTS``.

    Args:
        embed: the model.
        cfg: the configuration as it was given.
        weights: what is known of those that it was exported from.

    Raises:
        InputError: without the data set, or what ``build_evaluator`` raises.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.RANKED_GALLERY, cfg.TEST.SAVE_FEATURES = 0, False
    cfg.freeze()
    with tempfile.TemporaryDirectory() as folder:
        data = build_dataset(cfg, test_dataset(cfg))
        loader, evaluator = build_evaluator(cfg, data, weights, output_dir=folder)
        inference_on_dataset(_AsNetwork(embed), loader, evaluator)
        return read_results(Path(folder, "results.json"))


class _AsNetwork(nn.Module):
    """A model as fast-reid's test loop wants it."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self._embed = embed

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        images = batch["images"].permute(0, 2, 3, 1).numpy().astype(np.uint8)
        return torch.from_numpy(self._embed(images, batch["modalities"].numpy()))
