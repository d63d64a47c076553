"""The trainer: fast-reid's, with this plugin's loaders, evaluator and choice of a checkpoint."""

import logging
import math
import signal
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.data.datasets.bases import ImageDataset
from fastreid.engine import DefaultTrainer, TrainerBase, hooks
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.events import EventStorage
from torch import nn
from torch.utils.data import BatchSampler, DataLoader

from cmemd.data.build import RunData, build_dataset, build_training, read_data, test_dataset
from cmemd.data.collate import collate_with_rows
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.loader import build_loader
from cmemd.data.places import PlacedSampler
from cmemd.data.random_state import kept_random_state, load_random_state, random_state
from cmemd.data.sampler import SAMPLERS
from cmemd.data.transform import build_sensor, build_views
from cmemd.engine.averaging import EMA
from cmemd.engine.caching import open_cache, open_features
from cmemd.engine.checkpoint import (
    BEST,
    FINAL,
    WITHIN_EPOCH,
    Checkpoint,
    WholeCheckpointer,
    last_checkpoint,
    load_weights,
    read_checkpoint,
)
from cmemd.engine.children import is_orphan
from cmemd.engine.evaluator import VisibleThermalEvaluator
from cmemd.engine.hooks import (
    Checkpoints,
    DivergenceWarning,
    Evaluations,
    ReadScalars,
    WatchedPrinter,
)
from cmemd.engine.identity import IDENTITY, RunLog, flat_config
from cmemd.engine.log_state import EMPTY_LOG, load_log_state, log_state
from cmemd.engine.optimizer import Optimization, build_optimizer
from cmemd.engine.precision import half_type
from cmemd.engine.provenance import SELECTED_BY, UNTRAINED, Weights, training_record
from cmemd.engine.ranks import wait_for_main
from cmemd.engine.record import RECORD
from cmemd.engine.schedule import Schedule
from cmemd.engine.setup import Start, draw_seed, run_identity, with_seed
from cmemd.engine.step import TrainingStep, distribute
from cmemd.engine.stopping import Stop, stop_at_signals
from cmemd.engine.testing import build_evaluator, build_test_loader, score_network
from cmemd.engine.trackers import build_trackers
from cmemd.engine.update import build_update
from cmemd.errors import InputError, Stopped
from cmemd.modeling.cmemd_net import CMEMDNet

__all__ = ["Trainer", "train"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """fast-reid's DefaultTrainer on visible-thermal data.

    Its hooks work unchanged but for two: every checkpoint carries a training record, the run's
    identity and all that a resumed run needs; ``model_best`` is saved only where
    ``SOLVER.SELECTION`` asks for it, by that rule. A resumed run ends with the weights and results
    of one that was never interrupted, bit for bit on a CPU.

    Args:
        cfg: the configuration as it was given.
        data: its data sets; they are listed here if they are not given.
        weights: of ``MODEL.WEIGHTS``; they are read here if they are not given.
        run: the run's record; a new one if it is not given.

    Attributes:
        warnings: what the results file should say, such as a loss that diverged.
        first_loss: the total loss of the first iteration.
    """

    def __init__(
        self,
        cfg: CfgNode,
        data: RunData | None = None,
        weights: Weights | None = None,
        run: RunLog | None = None,
    ) -> None:
        cfg = cfg if cfg.SEED >= 0 else with_seed(cfg, draw_seed())
        self._given = cfg  # fast-reid's own copy gets the number of classes filled in
        self._best = -math.inf
        self.warnings: list[str] = []
        self.first_loss: float | None = None
        self._data = read_data(cfg) if data is None else data
        if weights is None:
            weights = Weights.read(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else UNTRAINED
        self._weights = weights
        self._stop = Stop()
        self._log_state = EMPTY_LOG
        self.start_iter = 0
        self._run = RunLog(run_identity(cfg, self._data, weights)) if run is None else run
        # fast-reid calls build_train_loader with the configuration alone, which would list the
        # images again.
        loader = partial(_build_train_loader, type(self), cfg, self._data.train)
        self.build_train_loader = loader  # type: ignore[method-assign]  # it is called on a trainer
        # fast-reid's own constructor would start a loader, and build its own step and buffers.
        TrainerBase.__init__(self)
        data_loader = self.build_train_loader(cfg)
        dataset = cast("VisibleThermalDataset", data_loader.dataset)
        self.cfg = cfg = self.auto_scale_hyperparams(cfg, dataset.num_classes)
        self.iters_per_epoch = len(dataset) // cfg.SOLVER.IMS_PER_BATCH
        network = self.build_model(cfg)
        network.epoch_length = self.iters_per_epoch  # for losses that start after some epochs
        optimizer, frozen, freeze_iters = self.build_optimizer(cfg, network)
        update = build_update(cfg, network, optimizer)
        self._averages = update.averages
        self._trainer = TrainingStep(
            distribute(network),
            data_loader,
            update,
            frozen=frozen,
            freeze_iters=freeze_iters,
            dtype=half_type(cfg),
            parts=cfg.SOLVER.ACCUMULATE,
            backend=cfg.MODEL.COMPILE,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer, self.iters_per_epoch)
        self.start_epoch = 0
        self.max_epoch = cfg.SOLVER.MAX_EPOCH
        self.max_iter = self.max_epoch * self.iters_per_epoch
        self.warmup_iters = cfg.SOLVER.WARMUP_ITERS
        self.delay_epochs = cfg.SOLVER.DELAY_EPOCHS
        self._set_up_ranks()
        self.record = training_record(cfg, self._data.train)
        self.checkpointer = WholeCheckpointer(
            self.model,
            cfg.OUTPUT_DIR,
            save_to_disk=comm.is_main_process(),
            optimizer=optimizer,
            **self.scheduler,
            **({} if update.scaler is None else {"grad_scaler": update.scaler}),
            **({} if self._averages is None else {EMA: self._averages}),
            **{RECORD: self.record, IDENTITY: self._run.identity},
        )
        self.register_hooks(self.build_hooks())

    def _set_up_ranks(self) -> None:
        """Give each process its own random numbers, once all have built the same network."""
        if comm.get_world_size() > 1:
            seed_all_rng(self._given.SEED + comm.get_rank())

    @classmethod
    def build_train_loader(cls, cfg: CfgNode, data: ImageDataset | None = None) -> DataLoader[Any]:
        """Return a loader of endless batches of P x (K_v + K_t) images, each with its views.

        Args:
            cfg: the configuration.
            data: the data set; those of ``DATASETS.NAMES`` if it is not given.

        Raises:
            InputError: no data set, one that is not of this plugin, a sampler that is not in
                ``SAMPLERS``, or data that do not fill a batch.
        """
        if cfg.DATALOADER.SAMPLER_TRAIN not in SAMPLERS:
            raise InputError(
                f"DATALOADER.SAMPLER_TRAIN out of {', '.join(SAMPLERS)}",
                cfg.DATALOADER.SAMPLER_TRAIN,
                "CM-EMD needs images of both modalities of each identity: leave the key out",
            )
        seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        items = (build_training(cfg) if data is None else data).train
        each = cfg.DATALOADER.NUM_VISIBLE + cfg.DATALOADER.NUM_THERMAL
        sampler = SAMPLERS[cfg.DATALOADER.SAMPLER_TRAIN](
            items,
            identities=cfg.SOLVER.IMS_PER_BATCH // each,
            num_visible=cfg.DATALOADER.NUM_VISIBLE,
            num_thermal=cfg.DATALOADER.NUM_THERMAL,
            seed=seed,
            rank=comm.get_rank(),
            world_size=comm.get_world_size(),
        )
        schedule = Schedule.of(cfg, len(items))  # raises where they do not fill a batch
        size = cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
        stream: Any = PlacedSampler(  # PyTorch declares a sampler of numbers alone
            sampler, batch=size, rank=comm.get_rank(), world_size=comm.get_world_size()
        )
        return build_loader(
            VisibleThermalDataset(
                items,
                build_views(cfg),
                relabel=True,
                seed=seed,
                cache=open_cache(cfg, items),
                sensor=build_sensor(cfg),
                grey_until=cfg.INPUT.GREY_EPOCHS * schedule.epoch_length * cfg.SOLVER.IMS_PER_BATCH,
            ),
            # A part of a step's batch holds whole identities, since the batch lists them in turn.
            BatchSampler(stream, size // cfg.SOLVER.ACCUMULATE, drop_last=True),
            cfg.DATALOADER.NUM_WORKERS,
            device=cfg.MODEL.DEVICE,
            on_device=("images", "pooled", "targets", "rows", "pairs"),
            prefetch=cfg.DATALOADER.PREFETCH,
            collate_fn=collate_with_rows,
        )

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimization:
        """Return the optimiser of ``cfg.SOLVER``, and what it freezes at first."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> tuple[DataLoader[Any], int]:
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
        run: Mapping[str, object] | None = None,
    ) -> tuple[DataLoader[Any], VisibleThermalEvaluator]:
        """Return a loader and the evaluator of ``TEST.PROTOCOLS``.

        Args:
            cfg: the configuration as it was given.
            dataset_name: as registered.
            output_dir: see ``cmemd.engine.testing.build_evaluator``, as all that follows.
            data: the data set; it is listed if it is not given.
            weights: by default nothing is known of them.
            split: "test" or "validation".
            run: further facts for the results file.

        Raises:
            InputError: see ``cmemd.engine.testing.build_evaluator``.
        """
        data = build_dataset(cfg, dataset_name) if data is None else data
        return build_evaluator(cfg, data, weights or Weights(), split, output_dir, run)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module, **known: Any) -> Mapping[str, Any]:
        """Return a network's results on the data set of ``DATASETS.TESTS``.

        Args:
            cfg: the configuration as it was given.
            model: the network.
            known: ``data``, ``weights``, ``split`` and ``run`` of ``build_evaluator``.

        Raises:
            InputError: more or fewer than one data set, and what ``build_evaluator`` raises.
        """
        return score_network(cfg, model, *cls.build_evaluator(cfg, test_dataset(cfg), **known))

    def resume_or_load(self, resume: bool = True) -> None:
        """Go on from the last checkpoint of ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``.

        fast-reid would carry on with weights that do not fit, and train anew over checkpoints whose
        mark is missing.

        Raises:
            InputError: the checkpoint is unreadable, of another run or of another architecture.
        """
        checkpoint = last_checkpoint(Path(self.cfg.OUTPUT_DIR)) if resume else None
        changes: Mapping[str, object] = {}
        if checkpoint is not None:
            changes = self._resume(checkpoint)
        elif self._weights.checkpoint is not None:
            record = self._weights.record
            # As many other people have classifiers of the same size, which mean nothing here.
            same = record is None or record.identities == self.record.identities
            load_weights(self.checkpointer.model, self._weights.checkpoint, classifiers=same)
            self.record.start_from(record)
        if checkpoint is None and self._averages is not None:
            self._averages.start()
        if self.start_iter < self.max_iter:
            changes = {**changes, **self._run.changes}
            self._run.add_start(self.start_iter, comm.get_world_size(), changes)
            if comm.is_main_process():
                self._run.write(Path(self.cfg.OUTPUT_DIR))

    def _resume(self, checkpoint: Checkpoint) -> Mapping[str, object]:
        """Load all states of a checkpoint of this run; return the free keys that have changed."""
        if checkpoint.identity is None:
            raise InputError(
                f"a checkpoint of a run of this version of cmemd in {checkpoint.path}",
                "one without the run's identity",
                "start a new run from it with MODEL.WEIGHTS and another OUTPUT_DIR",
            )
        changes = checkpoint.identity.check_same_run(self._run.identity, Path(self.cfg.OUTPUT_DIR))
        final = checkpoint.path.stem == FINAL
        if checkpoint.iteration > self.max_iter - (not final):
            raise InputError(
                f"SOLVER.MAX_EPOCH above the {checkpoint.epoch} epochs that the run has finished",
                self.max_epoch,
                "a run cannot become shorter: raise it, or train anew in another OUTPUT_DIR",
            )
        entries = checkpoint.entries
        load_weights(self.checkpointer.model, checkpoint, trained=True)
        if checkpoint.record is None:
            self.record.start_from(None)
        for name, kept in self.checkpointer.checkpointables.items():
            if name != IDENTITY and name in entries:
                kept.load_state_dict(entries[name])
        epochs = (checkpoint.epoch or 0) * self.iters_per_epoch
        self.start_iter = checkpoint.iteration if checkpoint.iteration >= 0 else epochs
        self.start_epoch = self.start_iter // self.iters_per_epoch
        self._log_state = entries.get("log", EMPTY_LOG)
        self.warnings = list(entries.get("warnings", ()))
        self.first_loss = entries.get("first_loss")
        if self._rule != "last":
            self._best = self._best_so_far()
        self.data_loader.batch_sampler.sampler.start = self.start_iter
        self._freeze()
        self._trainer.open()  # it draws a random number, which is to count as drawn already
        states = entries.get("random", ())
        if len(states) == comm.get_world_size():
            load_random_state(states[comm.get_rank()])
        return changes

    def _freeze(self) -> None:
        """Have the loader read what a frozen backbone gives, once its weights are there."""
        dataset = cast("VisibleThermalDataset", self._trainer.data_loader.dataset)
        if not self.cfg.MODEL.BACKBONE.FROZEN or dataset.features is not None:
            return
        detail = "features so far are kept; the next start goes on from there"
        with self._stop.at_once(detail), kept_random_state():
            network = cast("CMEMDNet", self._trainer.network)
            dataset.features = open_features(self.cfg, dataset.img_items, network)

    def save(self, name: str, **extra: object) -> None:
        """Save a checkpoint with all that a resumed run needs; every process calls it.

        Args:
            name: of the file, without ".pth".
            extra: further entries.
        """
        self.read_scalars()  # raises, before anything is written, where a loss is not finite
        self.checkpointer.save(name, **self._entries(), **extra)
        self.checkpointer.remove_within_epoch()

    def save_within_epoch(self) -> None:
        """Save a checkpoint between epochs; every process calls it."""
        self.save(f"{WITHIN_EPOCH}{self.iter:08d}")

    def read_scalars(self) -> None:
        """Bring the scalars of all steps so far to the storage; every process calls it.

        Raises:
            InputError: a loss was NaN or infinite.
        """
        self._trainer.pending.write_to(self.storage)
        for hook in self._hooks:
            if isinstance(hook, DivergenceWarning):
                hook.look()

    def _entries(self) -> dict[str, object]:
        return {
            "iteration": self.iter,
            "epoch": self.iter // self.iters_per_epoch - 1,  # fast-reid's: the last finished one
            "random": comm.gather(random_state()),
            "log": log_state(self.storage),
            "warnings": list(self.warnings),
            "first_loss": self.first_loss,
        }

    def train(self) -> Mapping[str, object]:
        """Train from ``start_iter`` on, then score the selected checkpoint on the test set.

        Returns:
            The results on the main process.

        Raises:
            Stopped: a signal came; the run was saved and can be resumed.
            InputError: the loss became NaN or infinite.
        """
        with stop_at_signals() as self._stop:
            if self.start_iter == self.max_iter:
                self._evaluate_what_was_missed()
            else:
                self._train_loop()
                if self._rule == "last":
                    return getattr(self, "_last_eval_results", {})  # those of the last epoch
            path = self._final_file if self._rule == "last" else self._best_file
            wait_for_main()  # it has just written the file
            weights = Weights.read(path, final=True)
            assert weights.checkpoint is not None, "it was read"
            load_weights(self.checkpointer.model, weights.checkpoint)
            logger.info("Testing %s, of epoch %s", path, weights.epoch)
            return self._test(weights)

    def _train_loop(self) -> None:
        """Run iterations and hooks, from anywhere within an epoch; fast-reid's starts at epochs."""
        self.iter = self.start_iter
        self.epoch = self.start_epoch
        logger.info("Starting training from epoch %d, iteration %d", self.epoch, self.iter)
        with EventStorage(self.start_iter) as self.storage:
            load_log_state(self.storage, self._log_state)
            try:
                self._freeze()
                self._trainer.open()  # the random number that it draws counts in each checkpoint
                self.before_train()
                self._evaluate_what_was_missed()
                for epoch in range(self.start_epoch, self.max_epoch):
                    self.epoch = epoch
                    self.before_epoch()
                    while self.iter < (epoch + 1) * self.iters_per_epoch:
                        self._save_or_stop()
                        self.before_step()
                        self.run_step()
                        self.after_step()
                        self.iter += 1
                    self.after_epoch()  # a checkpoint between these two would miss its rate
            finally:
                self._trainer.close()
                self.after_train()

    def _evaluate_what_was_missed(self) -> None:
        """Evaluate a resumed epoch whose selection the interruption may have prevented."""
        whole = self.start_iter > 0 and self.start_iter % self.iters_per_epoch == 0
        if whole and self._rule != "last" and self.evaluation_due(self.start_epoch):
            self.evaluate(self.start_epoch)

    def _save_or_stop(self) -> None:
        """Save if a checkpoint is due, or stop at a signal; all processes do the same."""
        checkpoints = next(h for h in self._hooks if isinstance(h, Checkpoints))
        stop, due = self._stop.number, checkpoints.due()
        if is_orphan():
            stop = stop or signal.SIGTERM
        if comm.get_world_size() > 1:
            told = comm.all_gather((stop, due))
            stop, due = max(number for number, _ in told), told[0][1]
        if stop:
            self.save_within_epoch()
            wait_for_main()  # it writes; torchrun ends it soon after the first process has ended
            raise Stopped(stop, f"saved after iteration {self.iter}; --resume goes on from there")
        if due:
            checkpoints.within_epoch()

    def _test(self, weights: Weights, split: str = "test") -> Mapping[str, Any]:
        known = {"data": self._data.test, "weights": weights, "split": split, "run": self._facts()}
        saved = "the last checkpoint is whole; --resume goes on from there"
        with self._stop.at_once(saved), kept_random_state():
            return self.test(self._given, self.model, **known)

    def _facts(self) -> dict[str, object]:
        """Return what the results file says of the run, beside its weights."""
        return {
            "identity": self._run.identity.digest,
            "interruptions": list(self._run.interruptions),
            "warnings": list(self.warnings),
        }

    def evaluation_due(self, epoch: int) -> bool:
        """Return whether the network is evaluated after so many epochs."""
        return bool(epoch % self.cfg.TEST.EVAL_PERIOD == 0 or epoch >= self.max_epoch)

    def evaluate(self, epoch: int) -> Mapping[str, Any]:
        """Score the network after so many epochs; keep it if it is the rule's best so far."""
        final = self._rule == "last" and epoch == self.max_epoch
        weights = Weights(
            file=self._final_file if final else None,
            record=self.record,
            rule=self._rule,
            epoch=epoch,
            final=final,
            ema=None if self._averages is None else self._averages.decay,
        )
        with nullcontext() if self._averages is None else self._averages.in_network():
            results = self._test(weights, "validation" if self._rule == "validation" else "test")
        self._last_eval_results = results
        if self._rule != "last" and comm.is_main_process() and results["metric"] > self._best:
            self._best = float(results["metric"])
            chosen = {SELECTED_BY: self._rule, "metric": self._best}
            self.checkpointer.save(BEST, epoch=epoch - 1, **chosen)
        return results

    @property
    def _final_file(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR, f"{FINAL}.pth")

    @property
    def _rule(self) -> str:
        return str(self._given.SOLVER.SELECTION)

    @property
    def _best_file(self) -> Path:
        return Path(self.cfg.OUTPUT_DIR, f"{BEST}.pth")

    def _best_so_far(self) -> float:
        """Return the score of the run's ``model_best``, if this run's rule chose it."""
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
                built += [
                    ReadScalars(),
                    DivergenceWarning(),
                    Checkpoints(),
                    Evaluations(0, lambda: self.evaluate(self.epoch + 1)),
                ]
            elif not isinstance(hook, hooks.PeriodicCheckpointer):
                built.append(hook)
        return built

    def build_writers(self) -> list[Any]:
        """Return fast-reid's writers, a console line of what is watched, and ``TRACKERS``."""
        trackers = build_trackers(self._given, flat_config(self._given))
        return [*super().build_writers(), WatchedPrinter(), *trackers]


def _build_train_loader(
    trainer: type[Trainer], given: CfgNode, data: ImageDataset, cfg: CfgNode
) -> DataLoader[Any]:
    """Return a loader of ``data``, unless ``cfg`` names another data set, as for PreciseBN."""
    same = tuple(cfg.DATASETS.NAMES) == tuple(given.DATASETS.NAMES)
    return trainer.build_train_loader(cfg, data if same else None)


def train(start: Start, resume: bool = False) -> Mapping[str, object]:
    """Train and test the selected checkpoint; test a finished run again if it is resumed."""
    trainer = Trainer(start.cfg, start.data, start.weights, start.run)
    trainer.resume_or_load(resume=resume)
    return trainer.train()
