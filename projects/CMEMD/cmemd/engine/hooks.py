"""What the trainer does beside its steps: checkpoints, evaluations and a line of watched values."""

import logging

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.engine import hooks
from fastreid.utils.events import EventWriter, get_event_storage

__all__ = ["Checkpoints", "Evaluations", "WatchedPrinter"]

logger = logging.getLogger(__name__)


class Checkpoints(hooks.HookBase):
    """Save every SOLVER.CHECKPOINT_PERIOD epochs and after the last one.

    This happens before the evaluation, so that a failure there costs no training.
    """

    def after_epoch(self) -> None:
        """Save where a checkpoint is due."""
        epoch, trainer = self.trainer.epoch, self.trainer
        if epoch + 1 == trainer.max_epoch:
            trainer.checkpointer.save("model_final", epoch=epoch)
        elif (epoch + 1) % trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            trainer.checkpointer.save(f"model_{epoch:04d}", epoch=epoch)


class Evaluations(hooks.EvalHook):
    """fast-reid's evaluations, without the one that it adds after a failed last epoch."""

    def after_epoch(self) -> None:
        """Evaluate where an evaluation is due."""
        if self.trainer.evaluation_due(self.trainer.epoch + 1):
            self._do_eval()

    def after_train(self) -> None:
        """Release the trainer."""
        del self._func  # it holds the trainer, which holds this hook


class WatchedPrinter(EventWriter):
    """Print the scalars that fast-reid's printer leaves out, since it looks for "loss"."""

    _NAMES = ("modality_gap", "plan_sharpness", "plan_saving", "cls_accuracy")

    def write(self) -> None:
        """Print one line."""
        histories = get_event_storage().histories()
        logger.info(
            " watched: %s",
            "  ".join(
                f"{n}: {histories[n].median(200):.4g}" for n in self._NAMES if n in histories
            ),
        )
