"""The evaluator that fast-reid's test loop drives.

Shape legend: ``B`` = images of a batch, ``D`` = feature dimension.
"""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  # adapts Python and PyTorch to fast-reid

import numpy as np
import torch
from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm

from cmemd.data.splits import read_rand_perm_cam
from cmemd.errors import InputError
from cmemd.evaluation.protocols import choose_draw, get_protocol
from cmemd.evaluation.ranked_gallery import draw_ranked_gallery
from cmemd.evaluation.results import HEADINGS, format_table, results_document, write_results
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import check_metric, score_all

logger = logging.getLogger(__name__)


class VisibleThermalEvaluator(DatasetEvaluator):
    """Scores a test set's features under visible-thermal protocols.

    Queries and galleries are chosen by camera from all images of the test set, so the loader's
    order and fast-reid's ``num_query`` do not matter. Leaves ``results.json`` and
    ``ranked_gallery.png`` in the output folder; a later evaluation replaces them.

    Args:
        protocols: Names of at least one protocol; the first one gives ``metric`` and the picture.
        rand_perm_cam: The official permutations' file, where the user has it.
        draw: ``auto``, ``official`` or ``python``.
        metric: ``euclidean`` or ``cosine``.
        output_dir: Folder for the two files.
        ranked_gallery_queries: Rows of the picture; 0 for none.

    Raises:
        InputError: Unknown protocol, draw or metric; a protocol without the permutations that it
            needs; an unreadable file. Before any image is looked at.
    """

    def __init__(
        self,
        *,
        protocols: Sequence[str],
        rand_perm_cam: Path | None,
        draw: str,
        metric: str,
        output_dir: str,
        ranked_gallery_queries: int,
    ) -> None:
        if not protocols:
            raise InputError("expected at least one protocol to test under; got none")
        self._protocols = [get_protocol(name) for name in protocols]
        self._perm = None if rand_perm_cam is None else read_rand_perm_cam(rand_perm_cam)
        for protocol in self._protocols:
            choose_draw(protocol, draw, self._perm)
        check_metric(metric)
        self._draw = draw
        self._metric = metric
        self._output_dir = Path(output_dir)
        self._ranked_gallery_queries = ranked_gallery_queries
        self._batches: list[dict[str, Any]] = []

    def reset(self) -> None:
        """Forget all images."""
        self._batches = []

    def process(self, inputs: Mapping[str, Any], outputs: torch.Tensor) -> None:
        """Take in one batch.

        Args:
            inputs: ``targets`` (identities), ``camids`` (genuine camera numbers) and
                ``modalities``, ``(B,)`` each, and ``img_paths``, ``B`` strings.
            outputs: ``(B, D)`` features.

        Raises:
            InputError: A file name that is not an image number.
        """
        self._batches.append(
            {
                "features": outputs.detach().to("cpu", torch.float32).numpy(),
                "pids": _column(inputs["targets"]),
                "camids": _column(inputs["camids"]),
                "modalities": _column(inputs["modalities"]),
                "frames": np.array([_frame(path) for path in inputs["img_paths"]]),
                "paths": np.array(inputs["img_paths"]),
            }
        )

    def evaluate(self) -> OrderedDict[str, float] | dict[str, float]:
        """Score the images of all processes, write the files, log the table.

        Returns:
            On the main process ``<protocol>/Rank-1`` and its kind, in percent, and ``metric``:
            (Rank-1 + mAP) / 2 of the first protocol, as fast-reid's own evaluator defines it.
            Elsewhere nothing.

        Raises:
            InputError: See ``score_all`` and ``draw_ranked_gallery``.
        """
        comm.synchronize()
        gathered = comm.gather(self._batches, dst=0)
        if not comm.is_main_process():
            return {}
        samples = _samples(list(itertools.chain.from_iterable(gathered)))
        scores = score_all(samples, self._protocols, self._draw, self._perm, self._metric)
        document = results_document(scores)
        self._log(document)
        write_results(document, self._output_dir / "results.json")
        if self._ranked_gallery_queries > 0:
            draw_ranked_gallery(
                samples,
                self._protocols[0],
                self._output_dir / "ranked_gallery.png",
                perm=self._perm,
                draw=self._draw,
                metric=self._metric,
                queries=self._ranked_gallery_queries,
            )
        return _flat(document, self._protocols[0].name)

    def _log(self, document: Mapping[str, Any]) -> None:
        logger.info(
            "Mean ± standard deviation over trials, in percent (%s distance):\n%s",
            self._metric,
            format_table(document),
        )
        for name, entry in document["protocols"].items():
            logger.info(
                "%s: %d queries, %d of them without a positive and not counted; gallery of %d",
                name,
                entry["queries"],
                entry["queries_without_positive"],
                entry["gallery"],
            )


def _column(values: torch.Tensor | Sequence[int]) -> np.ndarray:
    return torch.as_tensor(values).cpu().numpy()  # fast-reid's loader puts labels on the GPU


def _frame(path: str) -> int:
    stem = Path(path).stem
    if not stem.isdecimal():
        raise InputError(
            f"expected an image number as file name, as in 0001.jpg; got {path}; "
            "take foreign files out of the data set"
        )
    return int(stem)


def _samples(batches: Sequence[Mapping[str, Any]]) -> Samples:
    """All batches as one, each image once: a padding sampler hands some out twice."""
    if not batches:
        raise InputError("expected test images; got none; is the test set empty?")
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    _, first = np.unique(columns["paths"], return_index=True)
    return Samples(**{name: column[np.sort(first)] for name, column in columns.items()})


def _flat(document: Mapping[str, Any], first: str) -> OrderedDict[str, float]:
    flat = OrderedDict()
    for name, entry in document["protocols"].items():
        for figure, heading in HEADINGS.items():
            flat[f"{name}/{heading}"] = entry[figure]
    flat["metric"] = (flat[f"{first}/Rank-1"] + flat[f"{first}/mAP"]) / 2
    return flat
