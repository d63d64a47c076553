"""What the trainer does beside steps: checkpoints, evaluations and a line of what is watched."""

import logging

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.engine import hooks
from fastreid.utils.events import EventWriter, get_event_storage

__all__ = ["Checkpoints", "Evaluations", "WatchedPrinter"]

logger = logging.getLogger(__name__)


class Checkpoints(hooks.HookBase):
    """Saves every SOLVER.CHECKPOINT_PERIOD epochs and after the last one.

    Before the evaluation, so that a failure there costs no training.
    """

    def after_epoch(self) -> None:
        """Saves where it is due."""
        epoch, trainer = self.trainer.epoch, self.trainer
        if epoch + 1 == trainer.max_epoch:
            trainer.checkpointer.save("model_final", epoch=epoch)
        elif (epoch + 1) % trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            trainer.checkpointer.save(f"model_{epoch:04d}", epoch=epoch)


class Evaluations(hooks.EvalHook):
    """fast-reid's; but the last epoch's evaluation does not come after a failed epoch too."""

    def after_epoch(self) -> None:
        """Evaluates where it is due."""
        if self.trainer.evaluation_due(self.trainer.epoch + 1):
            self._do_eval()

    def after_train(self) -> None:
        """Lets go of the trainer."""
        del self._func  # it holds the trainer, which holds this hook


class WatchedPrinter(EventWriter):
    """Prints the scalars that fast-reid's printer, which looks for "loss", leaves out."""

    _NAMES = ("modality_gap", "plan_sharpness", "plan_saving", "cls_accuracy")

    def write(self) -> None:
        """One line."""
        histories = get_event_storage().histories()
        logger.info(
            " watched: %s",
            "  ".join(
                f"{n}: {histories[n].median(200):.4g}" for n in self._NAMES if n in histories
            ),
        )
