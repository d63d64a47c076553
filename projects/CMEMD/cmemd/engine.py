"""The trainer: fast-reid's, with this plugin's loaders and evaluator."""

import logging
import os
from collections.abc import Mapping

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import build_reid_test_loader, build_reid_train_loader
from fastreid.data.datasets import DATASET_REGISTRY
from fastreid.data.transforms import build_transforms
from fastreid.engine import DefaultTrainer
from fastreid.utils import comm
from fastreid.utils.checkpoint import Checkpointer
from fastreid.utils.events import EventWriter, get_event_storage

from cmemd.checkpoint import check_weights
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.sampler import CrossModalitySampler
from cmemd.errors import InputError
from cmemd.evaluation.evaluator import VisibleThermalEvaluator

__all__ = ["Trainer", "build_dataset", "evaluate", "train"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """fast-reid's DefaultTrainer on visible-thermal data; its hooks work unchanged."""

    @classmethod
    def build_train_loader(cls, cfg):
        """Endless batches of P x (K_v + K_t) images.

        Raises:
            InputError: for a data set that is not of this plugin, a sampler other than
                ``CrossModalitySampler``, or data that do not fill a batch.
        """
        if cfg.DATALOADER.SAMPLER_TRAIN != CrossModalitySampler.__name__:
            raise InputError(
                f"expected DATALOADER.SAMPLER_TRAIN {CrossModalitySampler.__name__}, got "
                f"{cfg.DATALOADER.SAMPLER_TRAIN}: CM-EMD needs both modalities of each identity"
            )
        if len(cfg.DATASETS.NAMES) != 1:
            raise InputError(
                "expected one data set in DATASETS.NAMES, since identities of several share their "
                f"numbers; got {list(cfg.DATASETS.NAMES)}"
            )
        items = build_dataset(cfg, cfg.DATASETS.NAMES[0]).train
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
        items = data.query + data.gallery
        return build_reid_test_loader(
            VisibleThermalDataset(items, build_transforms(cfg, is_train=False), relabel=False),
            test_batch_size=cfg.TEST.IMS_PER_BATCH,
            num_query=len(data.query),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_dir=None):
        """A loader and the evaluator of ``TEST.PROTOCOLS``."""
        loader, _ = cls.build_test_loader(cfg, dataset_name)
        evaluator = VisibleThermalEvaluator(
            protocols=cfg.TEST.PROTOCOLS,
            rand_perm_cam=build_dataset(cfg, dataset_name).rand_perm_cam,
            draw=cfg.TEST.DRAW,
            metric=cfg.TEST.METRIC,
            output_dir=output_dir or cfg.OUTPUT_DIR,
            ranked_gallery_queries=cfg.TEST.RANKED_GALLERY,
        )
        return loader, evaluator

    def resume_or_load(self, resume: bool = True) -> None:
        """fast-reid's, which would carry on with weights that do not fit.

        Raises:
            InputError: if the checkpoint is unreadable or of another architecture.
        """
        resuming = resume and self.checkpointer.has_checkpoint()
        path = self.checkpointer.get_checkpoint_file() if resuming else self.cfg.MODEL.WEIGHTS
        if path:
            check_weights(self.checkpointer.model, path)
        super().resume_or_load(resume)

    def build_writers(self):
        """fast-reid's writers, and a console line of what is watched beside the losses."""
        return [*super().build_writers(), _WatchedPrinter()]


class _WatchedPrinter(EventWriter):
    """Prints the scalars that fast-reid's printer, which looks for "loss", leaves out."""

    _NAMES = ("modality_gap", "plan_sharpness", "plan_saving", "cls_accuracy")

    def write(self) -> None:
        histories = get_event_storage().histories()
        logger.info(
            " watched: %s",
            "  ".join(
                f"{n}: {histories[n].median(200):.4g}" for n in self._NAMES if n in histories
            ),
        )


def build_dataset(cfg, name: str):
    """A registered data set with the options of its own config node, if it has one.

    Raises:
        InputError: for an unknown name, a data set of one modality, or what the data set raises.
    """
    options = {k.lower(): v for k, v in getattr(cfg.DATASETS, name.upper(), {}).items()}
    try:
        builder = DATASET_REGISTRY.get(name)
    except KeyError:
        raise InputError(f"no data set named {name!r} is registered with fast-reid") from None
    try:
        data = builder(
            root=os.getenv("FASTREID_DATASETS", "datasets"),
            combineall=cfg.DATASETS.COMBINEALL,
            **options,
        )
    except RuntimeError as error:  # how fast-reid's own data sets miss a folder
        raise InputError(f"data set {name!r}: {error}") from None
    if not data.train or not hasattr(data.train[0], "modality"):
        raise InputError(f"data set {name!r} does not say which image is visible or thermal")
    return data


def train(cfg, resume: bool = False) -> Mapping[str, object]:
    """Trains and returns the last evaluation's results; a finished run is evaluated again."""
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=resume)
    if trainer.start_epoch >= trainer.max_epoch:
        logger.info("All %d epochs are done: evaluating the last checkpoint", trainer.max_epoch)
        return Trainer.test(cfg, trainer.model)
    return trainer.train()


def evaluate(cfg) -> Mapping[str, object]:
    """Scores ``MODEL.WEIGHTS``; without any, warns and scores the network as training starts it."""
    cfg = cfg.clone()
    if cfg.MODEL.WEIGHTS:
        cfg.defrost()
        cfg.MODEL.BACKBONE.PRETRAIN = False  # about to be overwritten
        cfg.freeze()
    else:
        logger.warning("MODEL.WEIGHTS is empty: scoring the untrained network")
    model = Trainer.build_model(cfg)
    if cfg.MODEL.WEIGHTS:
        check_weights(model, cfg.MODEL.WEIGHTS)
        Checkpointer(model).load(cfg.MODEL.WEIGHTS)
    return Trainer.test(cfg, model)
