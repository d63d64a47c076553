"""The evaluator that fast-reid's test loop drives.

Shape legend: ``B`` = images of a batch, ``D`` = feature dimension.
"""

import copy
import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cmemd.compat  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.evaluation import DatasetEvaluator
from fastreid.utils import comm

from cmemd.data.images import read_rgb
from cmemd.data.items import ImageItem
from cmemd.data.layouts import ALL_LAYOUTS
from cmemd.data.layouts.permutations import read_rand_perm_cam
from cmemd.engine.feature_table import FeatureTable
from cmemd.engine.ranks import wait_for_main
from cmemd.engine.room import check_reranking
from cmemd.errors import InputError
from cmemd.evaluation.distances import check_distance
from cmemd.evaluation.features_file import SavedFeatures, order_by_name, write_features
from cmemd.evaluation.protocols import Options, choose_sampling, get_protocols, with_options
from cmemd.evaluation.remedies import check_remedies, choose_remedies
from cmemd.evaluation.results import Column, results_document, write_results
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import check_scorable, sample_trials
from cmemd.evaluation.scoring import Reranking, score, score_all
from cmemd.evaluation.tables import HEADINGS, format_open_set, format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["VisibleThermalEvaluator"]

logger = logging.getLogger(__name__)


class VisibleThermalEvaluator(DatasetEvaluator):
    """Score a test set's features under visible-thermal protocols.

    It chooses queries and galleries by modality and camera from all images of the test set. The
    loader's order and fast-reid's ``num_query`` do not matter. The output folder gets
    ``results.json``, ``results.per_query.npz``, ``ranked_gallery.png``, and ``det.png`` where there
    are open-set metrics; a later evaluation replaces them.

    Attributes:
        protocols: as the options make them.
        validation: see below.

    Args:
        protocols: names of at least one protocol, all of one data set; the first one gives
            ``metric`` and the picture.
        rand_perm_cam: file of the official permutations, where the user has it.
        draw: gallery sampling: ``auto``, ``official``, ``python`` or ``everything``.
        metric: ``euclidean`` or ``cosine``.
        output_dir: folder for the files.
        ranked_gallery_queries: rows of the picture; 0 for no picture.
        run: facts of the run, for the results file.
        save_features: whether to write ``features.npz`` too, as ``cmemd score`` reads it.
        tensorboard: whether to write pictures for TensorBoard into the output folder.
        reranking: score once more with k-reciprocal re-ranking, as a row of its own.
        paths: of the images that come, in the order in which they are scored and saved; on the main
            process those of all processes. Memory for their features is claimed once. Of a box in
            a frame it is the key.
        labels: further labels by their name in ``Samples`` (roles, times, tracklets): of each image
            by its key.
        options: what the user chose of protocols of one's own, and the ratio of mixed ones.
        validation: images of validation identities, on which the parameters of remedies for mixed
            protocols are chosen; none for no remedies.

    Raises:
        InputError: unknown protocol, gallery sampling or metric; protocols of several data sets; a
            protocol without the permutations that it needs; an unreadable file. This happens
            before any image is read.
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
        run: Mapping[str, Any] | None = None,
        save_features: bool = False,
        tensorboard: bool = False,
        reranking: Reranking | None = None,
        paths: Sequence[str] = (),
        labels: Mapping[str, Mapping[str, Any]] | None = None,
        options: Options | None = None,
        validation: Sequence[ImageItem] = (),
    ) -> None:
        self._options = options or Options()
        self.protocols = with_options(get_protocols(protocols), self._options)
        if validation:
            check_remedies(self.protocols)
        self._perm = None if rand_perm_cam is None else read_rand_perm_cam(rand_perm_cam)
        for protocol in self.protocols:
            choose_sampling(protocol, draw, self._perm)
        check_distance(metric)
        self._draw = draw
        self._metric = metric
        self._output_dir = Path(output_dir)
        self._ranked_gallery_queries = ranked_gallery_queries
        self._run = run
        self._save_features = save_features
        self._tensorboard = tensorboard
        self._rerankings = [None] if reranking is None else [None, reranking]
        self._paths = paths
        self._labels = labels or {}
        self.validation = validation
        self._of_validation: Samples | None = None
        self._of: VisibleThermalEvaluator | None = None  # whose validation images these are
        self._table = FeatureTable(paths)

    def check(self, items: Sequence[ImageItem]) -> None:
        """Find what would stop ``evaluate`` on these images, whatever their features.

        Raises:
            InputError: a protocol finds no query, no gallery or no query with a positive; images
                do not fit the protocol or its sampling; or re-ranking needs more memory than is
                free.
        """
        columns = {
            "features": np.zeros((1, len(items), 1), np.float32),
            "pids": np.array([item.pid for item in items]),
            "camids": np.array([item.camid for item in items]),
            "modalities": np.array([int(item.modality) for item in items]),
            "paths": np.array([item.key for item in items]),
        }
        samples = self._samples(columns)[False]
        for protocol in self.protocols:
            trials = sample_trials(samples, protocol, self._draw, self._perm)
            check_scorable(samples, protocol, trials)
            if self._rerankings[-1] is not None:
                check_reranking(protocol.name, max(len(t.queries) + len(t.gallery) for t in trials))

    def for_validation(self, keys: Sequence[str]) -> "VisibleThermalEvaluator":
        """Return what takes the validation images' features for this evaluator's remedies.

        Args:
            keys: of the images, as ``paths``.
        """
        other = copy.copy(self)
        other._of, other._paths = self, keys
        other.reset()
        return other

    def reset(self) -> None:
        """Forget all images."""
        self._table = FeatureTable(self._paths)

    def process(self, inputs: Mapping[str, Any], outputs: torch.Tensor) -> None:
        """Add one batch.

        Args:
            inputs: ``targets`` (identities), ``camids`` (genuine camera numbers) and
                ``modalities``, ``(B,)`` each, and ``img_paths``, ``B`` strings.
            outputs: ``(B, D)`` features; or ``(B, 2, D)``: features of the image, and means over
                the image and its mirror image. Both are scored.
        """
        features = outputs.detach().to("cpu", torch.float32).numpy()
        labels = {"pids": "targets", "camids": "camids", "modalities": "modalities"}
        self._table.add(
            list(inputs["img_paths"]),
            {name: _column(inputs[key]) for name, key in labels.items()},
            features.reshape(len(features), -1, features.shape[-1]),
        )

    def evaluate(self) -> OrderedDict[str, float] | dict[str, float]:
        """Score the images of all processes, write the files, log the table.

        Returns:
            On the main process ``<protocol>/Rank-1`` and so on, in percent, and ``metric``:
            (Rank-1 + mAP) / 2 of the first protocol, as fast-reid's own evaluator defines it. An
            empty dictionary on other processes.

        Raises:
            InputError: see ``score_all`` and ``draw_ranked_gallery``.
        """
        self._table.gather()
        results = self._score() if comm.is_main_process() else {}
        wait_for_main()
        return results

    def _score(self) -> OrderedDict[str, float]:
        by_flip = self._samples(self._table.columns())
        if self._of is not None:
            self._of._of_validation = by_flip[False]
            return OrderedDict()
        columns = [
            Column(score, flip)
            for flip, samples in by_flip.items()
            for reranking in self._rerankings
            for score in score_all(
                samples, self.protocols, self._draw, self._perm, self._metric, reranking
            ).values()
        ]
        columns += self._remedied(by_flip[False])
        document = results_document(columns, self._run)
        self._log(document)
        samples = by_flip[False]
        if self._save_features:
            first = self.protocols[0]
            saved = SavedFeatures(
                samples,
                layout=first.dataset,
                flip=False,
                mirrored=by_flip.get(True),
                metric=self._metric,
                draw=choose_sampling(first, self._draw, self._perm),
                reranking=self._rerankings[-1],
            )
            write_features(saved, self._output_dir / "features.npz")
        if any(column.score.open_set is not None for column in columns):
            from cmemd.evaluation.det import draw_scores  # loads matplotlib

            scores = [column.score for column in columns]
            draw_scores(scores, self._options.name, self._output_dir / "det.png")
        write_results(document, self._output_dir / "results.json", columns, samples)
        if self._ranked_gallery_queries > 0:
            from cmemd.evaluation.ranked_gallery import draw_ranked_gallery  # loads matplotlib

            draw_ranked_gallery(
                samples,
                self.protocols[0],
                self._output_dir / "ranked_gallery.png",
                perm=self._perm,
                sampling=self._draw,
                distance=self._metric,
                queries=self._ranked_gallery_queries,
            )
        if self._tensorboard:
            self._write_pictures(samples)
        return _flat(document)

    def _write_pictures(self, samples: Samples) -> None:
        """Write the CMC, the distances of pairs and the ranked gallery for TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter

        from cmemd.evaluation.details import cmc_curves, pair_distances
        from cmemd.evaluation.figures import draw_cmc, draw_distances

        step = ((self._run or {}).get("selection") or {}).get("epoch") or 0
        first, label = self.protocols[0], f"{self._metric} distance"
        curves = cmc_curves(samples, first, self._draw, self._perm, self._metric)
        figures = {"cmc": draw_cmc({first.name: curves})}
        for name, pairs in pair_distances(samples, self._metric).items():
            if len(pairs.other):
                title = f"distances/{name}"
                figures[title] = draw_distances(pairs.same, pairs.other, title, label)
        with SummaryWriter(str(self._output_dir)) as writer:
            for name, figure in figures.items():
                figure.set_facecolor("white")
                writer.add_image(f"test/{name}", _pixels(figure), step, dataformats="HWC")
            if self._ranked_gallery_queries > 0:
                picture = np.asarray(read_rgb(self._output_dir / "ranked_gallery.png"))
                writer.add_image("test/ranked_gallery", picture, step, dataformats="HWC")

    def _samples(self, columns: Mapping[str, np.ndarray]) -> dict[bool, Samples]:
        """Return the columns of a ``FeatureTable`` by flip; features are not copied."""
        paths, labels = columns["paths"], {**columns}
        numbered = ALL_LAYOUTS[self.protocols[0].dataset].numbered
        labels["frames"] = (
            np.array([_frame(path) for path in paths]) if numbered else order_by_name(paths)
        )
        for name, of_key in self._labels.items():
            labels[name] = np.array([of_key[path] for path in paths.tolist()])
        return {
            bool(flip): Samples(**{**labels, "features": of_flip})
            for flip, of_flip in enumerate(columns["features"])
        }

    def _remedied(self, samples: Samples) -> list[Column]:
        """Return a score of each remedy, for features without flip."""
        if self._of_validation is None:
            return []
        settings = self._draw, self._perm, self._metric
        return [
            Column(score(samples, protocol, *settings, remedy), False)
            for protocol in self.protocols
            for remedy in choose_remedies(self._of_validation, protocol, *settings)
        ]

    def _log(self, document: Mapping[str, Any]) -> None:
        logger.info(
            "%sMean ± standard deviation over trials, in percent:\n%s",
            f"{self._options.name}: " if self._options.name else "",
            format_table(document),
        )
        if rates := format_open_set(document):
            logger.info("Searches for people who may not be in the gallery, in percent:\n%s", rates)
        for entry in document["scores"]:
            counts = entry["counts"]
            logger.info(
                "%s: %d queries, %d of them without a positive and not counted; gallery of %d",
                entry["protocol"],
                counts["queries"],
                counts["queries_without_positive"],
                counts["gallery"],
            )
        bad = max(entry["counts"]["non_finite_features"] for entry in document["scores"])
        if bad:
            logger.warning(
                "The features of %d images hold NaN or infinity and are scored as the worst "
                "answer: the network may have diverged",
                bad,
            )


def _pixels(figure: "Figure") -> np.ndarray:
    """Return a figure as ``(height, width, 3)`` bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def _column(values: torch.Tensor | Sequence[int]) -> np.ndarray:
    return torch.as_tensor(values).cpu().numpy()  # fast-reid's loader puts labels on the GPU


def _frame(path: str) -> int:
    stem = Path(path).stem
    if not stem.isdecimal():
        raise InputError(
            "an image number as file name, as in 0001.jpg",
            path,
            "remove files that are not part of the data set",
        )
    return int(stem)


def _flat(document: Mapping[str, Any]) -> OrderedDict[str, float]:
    flat = OrderedDict()
    for entry in document["scores"]:
        name = entry["protocol"]
        name += "/flip" if entry["flip"] else ""
        name += "/re-ranked" if entry["reranking"] else ""
        name += f"/{entry['remedy']['name']}" if "remedy" in entry else ""
        for metric, heading in HEADINGS.items():
            flat[f"{name}/{heading}"] = entry["mean"][metric]
    first = document["scores"][0]["mean"]
    flat["metric"] = (first["rank1"] + first["mAP"]) / 2
    return flat
