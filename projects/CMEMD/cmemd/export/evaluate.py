"""Score an exported model on the test set, with the evaluation that training uses."""

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

__all__ = ["evaluate_model"]


def evaluate_model(embed: Embed, cfg: CfgNode, weights: Weights) -> dict[str, Any]:
    """Return the results of a model on the data set of ``DATASETS.TESTS``.

    Args:
        embed: the model.
        cfg: the configuration as the user gave it.
        weights: facts about the checkpoint from which the model was exported.

    Raises:
        InputError: the data set is missing; or as ``build_evaluator``.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.RANKED_GALLERY, cfg.TEST.SAVE_FEATURES, cfg.TEST.REMEDIES = 0, False, False
    cfg.TEST.TENSORBOARD = False
    cfg.freeze()
    with tempfile.TemporaryDirectory() as folder:
        data = build_dataset(cfg, test_dataset(cfg))
        loader, evaluator = build_evaluator(cfg, data, weights, output_dir=folder)
        inference_on_dataset(_AsNetwork(embed), loader, evaluator)
        return read_results(Path(folder, "results.json"))


class _AsNetwork(nn.Module):
    """Present a model to fast-reid's test loop as a network."""

    def __init__(self, embed: Embed) -> None:
        super().__init__()
        self._embed = embed

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        images = batch["images"].permute(0, 2, 3, 1).numpy().astype(np.uint8)
        return torch.from_numpy(self._embed(images, batch["modalities"].numpy()))
