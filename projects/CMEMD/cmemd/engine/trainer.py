"""The trainer: fast-reid's, with this plugin's loaders, evaluator and choice of a checkpoint."""

import logging
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.data import build_reid_train_loader
from fastreid.data.datasets.bases import ImageDataset
from fastreid.data.transforms import build_transforms
from fastreid.engine import DefaultTrainer, hooks
from fastreid.utils import comm
from torch import nn
from torch.utils.data import DataLoader

from cmemd.data.build import build_dataset, test_dataset, train_dataset
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.sampler import CrossModalitySampler
from cmemd.engine.checkpoint import WholeCheckpointer, load_weights, read_checkpoint
from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.engine.hooks import Checkpoints, Evaluations, WatchedPrinter
from cmemd.engine.provenance import SELECTED_BY, UNTRAINED, Weights, training_record
from cmemd.engine.record import RECORD
from cmemd.engine.setup import RunData, Start, read_data
from cmemd.engine.testing import build_evaluator, build_test_loader, score_network
from cmemd.errors import InputError

__all__ = ["Trainer", "train"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """fast-reid's DefaultTrainer on visible-thermal data.

    Its hooks work unchanged but for two: every checkpoint carries a training record, and
    ``model_best`` is saved only where ``SOLVER.SELECTION`` asks for it, by that rule.

    Args:
        cfg: the configuration as it was given.
        data: its data sets; they are listed here if they are not given.
        weights: of ``MODEL.WEIGHTS``; they are read here if they are not given.
    """

    def __init__(
        self, cfg: CfgNode, data: RunData | None = None, weights: Weights | None = None
    ) -> None:
        self._given = cfg  # fast-reid's own copy gets the number of classes filled in
        self._best = -math.inf
        self._data = read_data(cfg) if data is None else data
        if weights is None:
            weights = Weights.read(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else UNTRAINED
        self._weights = weights
        # fast-reid calls build_train_loader with the configuration alone, which would list the
        # images again.
        self.build_train_loader = partial(_build_train_loader, type(self), cfg, self._data.train)
        super().__init__(cfg)
        self.record = training_record(cfg, self._data.train)
        self.checkpointer = WholeCheckpointer(
            self.checkpointer.model,
            self.checkpointer.save_dir,
            save_to_disk=self.checkpointer.save_to_disk,
            **self.checkpointer.checkpointables,
            **{RECORD: self.record},
        )

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, data: ImageDataset | None = None) -> DataLoader:
        """Return a loader of endless batches of P x (K_v + K_t) images.

        Args:
            cfg: the configuration.
            data: the data set; that of ``DATASETS.NAMES`` if it is not given.

        Raises:
            InputError: more or fewer than one data set, one that is not of this plugin, a sampler
                other than ``CrossModalitySampler``, or data that do not fill a batch.
        """
        if cfg.DATALOADER.SAMPLER_TRAIN != CrossModalitySampler.__name__:
            raise InputError(
                f"DATALOADER.SAMPLER_TRAIN {CrossModalitySampler.__name__}",
                cfg.DATALOADER.SAMPLER_TRAIN,
                "CM-EMD needs images of both modalities of each identity: leave the key out",
            )
        items = (build_dataset(cfg, train_dataset(cfg)) if data is None else data).train
        each = cfg.DATALOADER.NUM_VISIBLE + cfg.DATALOADER.NUM_THERMAL
        sampler = CrossModalitySampler(
            items,
            identities=cfg.SOLVER.IMS_PER_BATCH // each,
            num_visible=cfg.DATALOADER.NUM_VISIBLE,
            num_thermal=cfg.DATALOADER.NUM_THERMAL,
            seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        if len(items) < cfg.SOLVER.IMS_PER_BATCH:
            raise InputError(
                f"training images for a batch of SOLVER.IMS_PER_BATCH {cfg.SOLVER.IMS_PER_BATCH}",
                len(items),
                "lower SOLVER.IMS_PER_BATCH or add data",
            )
        return build_reid_train_loader(
            VisibleThermalDataset(items, build_transforms(cfg, is_train=True), relabel=True),
            sampler=sampler,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> tuple[DataLoader, int]:
        """Return a loader of a data set's query and gallery images, and the number of queries."""
        data = build_dataset(cfg, dataset_name)
        return build_test_loader(cfg, data.query + data.gallery, len(data.query))

    @classmethod
    def build_evaluator(
        cls,
        cfg: CfgNode,
        dataset_name: str,
        output_dir: str | None = None,
        *,
        data: ImageDataset | None = None,
        weights: Weights | None = None,
        split: str = "test",
    ) -> tuple[DataLoader, VisibleThermalEvaluator]:
        """Return a loader and the evaluator of ``TEST.PROTOCOLS``.

        Args:
            cfg: the configuration as it was given.
            dataset_name: as registered.
            output_dir: see ``cmemd.engine.testing.build_evaluator``, as all that follows.
            data: the data set; it is listed if it is not given.
            weights: by default nothing is known of them.
            split: "test" or "validation".

        Raises:
            InputError: see ``cmemd.engine.testing.build_evaluator``.
        """
        data = build_dataset(cfg, dataset_name) if data is None else data
        return build_evaluator(cfg, data, weights or Weights(), split, output_dir)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, **known: object) -> Mapping[str, object]:
        """Return a network's results on the data set of ``DATASETS.TESTS``.

        Args:
            cfg: the configuration as it was given.
            model: the network.
            known: ``data``, ``weights`` and ``split`` of ``build_evaluator``.

        Raises:
            InputError: more or fewer than one data set, and what ``build_evaluator`` raises.
        """
        return score_network(cfg, model, *cls.build_evaluator(cfg, test_dataset(cfg), **known))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``.

        fast-reid would carry on with weights that do not fit.

        Raises:
            InputError: the checkpoint is unreadable or of another architecture, or a resumed one
                was trained on other identities.
        """
        if resume and self.checkpointer.has_checkpoint():
            self._resume()
        elif self._weights.checkpoint is not None:
            load_weights(self.checkpointer.model, self._weights.checkpoint)
            self.record.start_from(self._weights.record)

    def _resume(self) -> None:
        path = self.checkpointer.get_checkpoint_file()
        checkpoint = read_checkpoint(path, named_by=f"{self.cfg.OUTPUT_DIR}/last_checkpoint")
        load_weights(self.checkpointer.model, checkpoint)
        if checkpoint.record is None:
            self.record.start_from(None)
        for name, kept in self.checkpointer.checkpointables.items():
            if name in checkpoint.entries:
                kept.load_state_dict(checkpoint.entries[name])
        self.start_epoch = checkpoint.epoch or 0
        if self._rule != "last":
            self._best = self._best_so_far()

    def train(self) -> Mapping[str, object]:
        """Train from ``start_epoch`` on, then score the selected checkpoint on the test set.

        Returns:
            The results on the main process.
        """
        resumed = self.start_epoch > 0 and self._rule != "last"
        if resumed and self.evaluation_due(self.start_epoch):
            self.evaluate(self.start_epoch)  # the interruption may have come before it
        if self.start_epoch < self.max_epoch:
            results = super().train()
            if self._rule == "last":
                return results  # those of the last epoch
        path = self.checkpointer.get_checkpoint_file() if self._rule == "last" else self._best_file
        comm.synchronize()  # the main process has just written it
        weights = Weights.read(path, final=True)
        load_weights(self.checkpointer.model, weights.checkpoint)
        logger.info("Testing %s, of epoch %s", path, weights.epoch)
        return self._test(weights)

    def _test(self, weights: Weights, split: str = "test") -> Mapping[str, object]:
        known = {"data": self._data.test, "weights": weights, "split": split}
        return self.test(self._given, self.model, **known)

    def evaluation_due(self, epoch: int) -> bool:
        """Return whether the network is evaluated after so many epochs."""
        return epoch % self.cfg.TEST.EVAL_PERIOD == 0 or epoch >= self.max_epoch

    def evaluate(self, epoch: int) -> Mapping[str, object]:
        """Score the network after so many epochs; keep it if it is the rule's best so far."""
        final = self._rule == "last" and epoch == self.max_epoch
        weights = Weights(
            file=Path(self.cfg.OUTPUT_DIR, "model_final.pth") if final else None,
            record=self.record,
            rule=self._rule,
            epoch=epoch,
            final=final,
        )
        results = self._test(weights, "validation" if self._rule == "validation" else "test")
        self._last_eval_results = results
        if self._rule != "last" and comm.is_main_process() and results["metric"] > self._best:
            self._best = float(results["metric"])
            chosen = {SELECTED_BY: self._rule, "metric": self._best}
            self.checkpointer.save("model_best", epoch=epoch - 1, **chosen)
        return results

    @property
    def _rule(self) -> str:
        return self._given.SOLVER.SELECTION

    @property
    def _best_file(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR, "model_best.pth")

    def _best_so_far(self) -> float:
        """Score of the run's ``model_best``, if it was chosen as this run would choose."""
        if not self._best_file.is_file():
            return -math.inf
        checkpoint = read_checkpoint(self._best_file)
        record, entries = checkpoint.record, checkpoint.entries
        mine = SELECTED_BY in entries and record is not None and record.comparable(self.record)
        return entries["metric"] if mine else -math.inf

    def build_hooks(self) -> list[hooks.HookBase]:
        """Return fast-reid's hooks, with checkpoints and evaluations by this trainer's rules.

        fast-reid's checkpointer forgets the best score when a run is resumed, and takes an older
        evaluation's score for that of the weights it saves.
        """
        built = []
        for hook in super().build_hooks():
            if isinstance(hook, hooks.EvalHook):
                built += [Checkpoints(), Evaluations(0, lambda: self.evaluate(self.epoch + 1))]
            elif not isinstance(hook, hooks.PeriodicCheckpointer):
                built.append(hook)
        return built

    def build_writers(self) -> list:
        """Return fast-reid's writers, and a console line of what is watched beside the losses."""
        return [*super().build_writers(), WatchedPrinter()]


def _build_train_loader(
    trainer: type[Trainer], given: CfgNode, data: ImageDataset, cfg: CfgNode
) -> DataLoader:
    """Return a loader of ``data``, unless ``cfg`` names another data set, as for PreciseBN."""
    same = tuple(cfg.DATASETS.NAMES) == tuple(given.DATASETS.NAMES)
    return trainer.build_train_loader(cfg, data if same else None)


def train(start: Start, resume: bool = False) -> Mapping[str, object]:
    """Train and test the selected checkpoint; test a finished run again if it is resumed."""
    trainer = Trainer(*start)
    trainer.resume_or_load(resume=resume)
    return trainer.train()
