"""The trainer: fast-reid's, with this plugin's loaders, evaluator and choice of a checkpoint."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.transforms import build_transforms
from fastreid.engine import DefaultTrainer, hooks
from fastreid.evaluation import inference_on_dataset, print_csv_format
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from torch import Tensor, nn

from cmemd.data.build import build_dataset, items_under_test, test_dataset, train_dataset
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.items import ImageItem
from cmemd.data.sampler import CrossModalitySampler
from cmemd.engine.checkpoint import WholeCheckpointer, check_weights, read_checkpoint, read_record
from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.engine.hooks import Checkpoints, Evaluations, WatchedPrinter
from cmemd.engine.provenance import (
    SELECTED_BY,
    UNTRAINED,
    Weights,
    describe_run,
    guard,
    training_record,
)
from cmemd.engine.record import RECORD
from cmemd.errors import InputError
from cmemd.evaluation.protocols import PROTOCOLS, get_protocol
from cmemd.evaluation.scoring import Reranking

__all__ = ["Trainer", "evaluate", "train"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """fast-reid's DefaultTrainer on visible-thermal data.

    Its hooks work unchanged but for two: every checkpoint carries a training record, and
    ``model_best`` is saved only where ``SOLVER.SELECTION`` asks for it, by that rule.
    """

    def __init__(self, cfg) -> None:
        self._given = cfg  # fast-reid's own copy gets the number of classes filled in
        self._best = -math.inf
        super().__init__(cfg)
        self.record = training_record(cfg, build_dataset(cfg, train_dataset(cfg)))
        self.checkpointer = WholeCheckpointer(
            self.checkpointer.model,
            self.checkpointer.save_dir,
            save_to_disk=self.checkpointer.save_to_disk,
            **self.checkpointer.checkpointables,
            **{RECORD: self.record},
        )

    @classmethod
    def build_train_loader(cls, cfg):
        """Endless batches of P x (K_v + K_t) images.

        Raises:
            InputError: for more or fewer than one data set, one that is not of this plugin, a
                sampler other than ``CrossModalitySampler``, or data that do not fill a batch.
        """
        if cfg.DATALOADER.SAMPLER_TRAIN != CrossModalitySampler.__name__:
            raise InputError(
                f"expected DATALOADER.SAMPLER_TRAIN {CrossModalitySampler.__name__}, got "
                f"{cfg.DATALOADER.SAMPLER_TRAIN}: CM-EMD needs both modalities of each identity"
            )
        items = build_dataset(cfg, train_dataset(cfg)).train
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
                f"{len(items)} training images do not fill a batch of {cfg.SOLVER.IMS_PER_BATCH}: "
                "lower SOLVER.IMS_PER_BATCH or add data"
            )
        return build_reid_train_loader(
            VisibleThermalDataset(items, build_transforms(cfg, is_train=True), relabel=True),
            sampler=sampler,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        """All query and gallery images of a data set, and the number of queries."""
        data = build_dataset(cfg, dataset_name)
        return _build_test_loader(cfg, items_under_test(cfg, data, "test"), len(data.query))

    @classmethod
    def build_evaluator(
        cls, cfg, dataset_name, output_dir=None, *, weights: Weights | None = None, split="test"
    ):
        """A loader and the evaluator of ``TEST.PROTOCOLS``, once the leak guard lets them pass.

        Args:
            cfg: the configuration.
            dataset_name: as registered.
            output_dir: default ``OUTPUT_DIR``, for the validation split its folder "validation".
            weights: what is known of those to be scored.
            split: "test", or "validation": the identities held out of training.

        Raises:
            InputError: if the weights know somebody under test, for an empty validation split or
                protocols of another data set, or what the data set or the evaluator raises.
        """
        data = build_dataset(cfg, dataset_name)
        check_protocols(cfg, data)
        items = items_under_test(cfg, data, split)
        weights = weights or Weights()
        leak_guard = guard(cfg, data, items, split, weights)
        loader, _ = _build_test_loader(cfg, items, len(data.query))
        run = None
        if comm.is_main_process():
            run = describe_run(
                cfg, data, items, split=split, weights=weights, leak_guard=leak_guard
            )
        test, rerank = split == "test", cfg.TEST.RERANK
        evaluator = VisibleThermalEvaluator(
            protocols=cfg.TEST.PROTOCOLS,
            rand_perm_cam=data.rand_perm_cam,
            draw=cfg.TEST.DRAW,
            metric=cfg.TEST.METRIC,
            output_dir=output_dir or str(Path(cfg.OUTPUT_DIR, *([] if test else [split]))),
            ranked_gallery_queries=cfg.TEST.RANKED_GALLERY if test else 0,
            run=run,
            save_features=cfg.TEST.SAVE_FEATURES and test,
            reranking=Reranking(rerank.K1, rerank.K2, rerank.LAMBDA) if rerank.ENABLED else None,
        )
        return loader, evaluator

    @classmethod
    def test(cls, cfg, model, *, weights: Weights | None = None, split="test"):
        """Scores a network on the data set of ``DATASETS.TESTS``; see ``build_evaluator``.

        Raises:
            InputError: for more or fewer than one data set, and what ``build_evaluator`` raises.
        """
        name = test_dataset(cfg)
        loader, evaluator = cls.build_evaluator(cfg, name, weights=weights, split=split)
        if cfg.TEST.FLIP.ENABLED:
            model = _Mirrored(model)
        results = inference_on_dataset(model, loader, evaluator)
        if comm.is_main_process():
            results["dataset"] = name
            print_csv_format(results)  # takes the name out again
        return results

    def resume_or_load(self, resume: bool = True) -> None:
        """fast-reid's, which would carry on with weights that do not fit.

        Raises:
            InputError: if the checkpoint is unreadable or of another architecture, or a resumed
                one was trained on other identities.
        """
        resuming = resume and self.checkpointer.has_checkpoint()
        path = self.checkpointer.get_checkpoint_file() if resuming else self.cfg.MODEL.WEIGHTS
        if path:
            checkpoint = read_checkpoint(path)
            check_weights(self.checkpointer.model, checkpoint["model"], path)
            record = read_record(checkpoint)
            if record is None or not resuming:
                self.record.start_from(record)
        super().resume_or_load(resume)
        if resuming and self._rule != "last":
            self._best = self._best_so_far()

    def train(self):
        """Trains from ``start_epoch`` on, then scores the selected checkpoint on the test set.

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
        self.checkpointer.load(str(path), checkpointables=[])
        weights = Weights.read(path, final=True)
        logger.info("Testing %s, of epoch %s", path, weights.epoch)
        return self.test(self._given, self.model, weights=weights)

    def evaluation_due(self, epoch: int) -> bool:
        """Whether the network is evaluated after so many epochs."""
        return epoch % self.cfg.TEST.EVAL_PERIOD == 0 or epoch >= self.max_epoch

    def evaluate(self, epoch: int) -> Mapping[str, object]:
        """Scores the network after so many epochs; keeps it if it is the rule's best so far."""
        final = self._rule == "last" and epoch == self.max_epoch
        weights = Weights(
            file=Path(self.cfg.OUTPUT_DIR, "model_final.pth") if final else None,
            record=self.record,
            rule=self._rule,
            epoch=epoch,
            final=final,
        )
        split = "validation" if self._rule == "validation" else "test"
        results = self.test(self._given, self.model, weights=weights, split=split)
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
        record = read_record(checkpoint)
        mine = SELECTED_BY in checkpoint and record is not None and record.comparable(self.record)
        return checkpoint["metric"] if mine else -math.inf

    def build_hooks(self):
        """fast-reid's, with checkpoints and evaluations by this trainer's rules.

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

    def build_writers(self):
        """fast-reid's writers, and a console line of what is watched beside the losses."""
        return [*super().build_writers(), WatchedPrinter()]


class _Mirrored(nn.Module):
    """A network that sees its images mirrored too; fast-reid's flip test keeps only the mean.

    The result is ``(B, 2, D)``: the images' features, and the means of those and their mirror
    images'.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Mapping[str, object]) -> Tensor:
        plain = self.model(batch)
        mirrored = self.model({**batch, "images": batch["images"].flip(dims=[3])})
        return torch.stack([plain, (plain + mirrored) / 2], dim=1)


def train(cfg, resume: bool = False) -> Mapping[str, object]:
    """Trains and tests the selected checkpoint; of a finished run that is tested again."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    return trainer.train()


def evaluate(cfg) -> Mapping[str, object]:
    """Scores ``MODEL.WEIGHTS``; without any, warns and scores the network as training starts it."""
    if not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: scoring the untrained network")
        return Trainer.test(cfg, Trainer.build_model(cfg), weights=UNTRAINED)
    given = cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.PRETRAIN = False  # about to be overwritten
    cfg.freeze()
    model = Trainer.build_model(cfg)
    check_weights(model, read_checkpoint(cfg.MODEL.WEIGHTS)["model"], cfg.MODEL.WEIGHTS)
    Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return Trainer.test(given, model, weights=Weights.read(cfg.MODEL.WEIGHTS))


def check_protocols(cfg, data) -> None:
    """Refuses protocols of another data set; one that is not ours may take what fits it."""
    layout = getattr(data, "layout", None)
    other = [p.name for p in map(get_protocol, cfg.TEST.PROTOCOLS) if p.dataset != layout]
    if layout and other:
        own = [name for name, protocol in PROTOCOLS.items() if protocol.dataset == layout]
        raise InputError(
            f"expected TEST.PROTOCOLS of the data set under test, {type(data).__name__}: "
            f"{', '.join(own)}; got {', '.join(other)}"
        )


def _build_test_loader(cfg, items: Sequence[ImageItem], num_query: int):
    return build_reid_test_loader(
        VisibleThermalDataset(items, build_transforms(cfg, is_train=False), relabel=False),
        test_batch_size=cfg.TEST.IMS_PER_BATCH,
        num_query=num_query,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
