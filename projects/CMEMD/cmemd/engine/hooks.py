"""What the trainer does beside its steps: checkpoints, evaluations, warnings, watched values."""

import itertools
import logging
import math
import time

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.engine import hooks
from fastreid.utils.events import EventWriter, get_event_storage

from cmemd.engine.checkpoint import FINAL

__all__ = ["Checkpoints", "DivergenceWarning", "Evaluations", "ReadScalars", "WatchedPrinter"]

logger = logging.getLogger(__name__)

_DIVERGED = 10.0  # times the first loss [C]
_LOG_LINES = 200  # iterations from one log line to the next, as in fast-reid's build_hooks
_WINDOW = 20  # iterations, of which the median is the loss at the end [C]


class Checkpoints(hooks.HookBase):
    """Save every SOLVER.CHECKPOINT_PERIOD epochs, after the last one, and every so many minutes.

    An epoch that is evaluated is saved before that, so that a failure or a signal in the evaluation
    costs no training.
    """

    def before_train(self) -> None:
        """Start the clock."""
        self._saved = time.monotonic()

    def due(self) -> bool:
        """Return whether SOLVER.CHECKPOINT_MINUTES have passed since the last checkpoint."""
        minutes = self.trainer.cfg.SOLVER.CHECKPOINT_MINUTES
        return minutes > 0 and time.monotonic() - self._saved >= 60 * minutes

    def within_epoch(self) -> None:
        """Save before the next iteration."""
        self.trainer.save_within_epoch()
        self._saved = time.monotonic()

    def after_epoch(self) -> None:
        """Save where a checkpoint is due."""
        epoch, trainer = self.trainer.epoch, self.trainer
        if epoch + 1 == trainer.max_epoch:
            trainer.save(FINAL)
        elif (epoch + 1) % trainer.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            trainer.save(f"model_{epoch:04d}")
        elif trainer.evaluation_due(epoch + 1):
            trainer.save_within_epoch()
        else:
            return
        self._saved = time.monotonic()


class Evaluations(hooks.EvalHook):
    """fast-reid's evaluations, without the one that it adds after a failed last epoch."""

    def after_epoch(self) -> None:
        """Evaluate where an evaluation is due."""
        if self.trainer.evaluation_due(self.trainer.epoch + 1):
            self._do_eval()

    def after_train(self) -> None:
        """Release the trainer."""
        del self._func  # it holds the trainer, which holds this hook


class ReadScalars(hooks.HookBase):
    """Read what the steps left on the device, just before fast-reid's writers look at it.

    Those are on the main process alone; a mean over processes takes all of them.
    """

    def after_step(self) -> None:
        """Read where a log line is due."""
        done = self.trainer.iter + 1
        if done % _LOG_LINES == 0 or done == self.trainer.max_iter:
            self.trainer.read_scalars()

    def after_epoch(self) -> None:
        """Read: there is a log line after each epoch."""
        self.trainer.read_scalars()


class DivergenceWarning(hooks.HookBase):
    """Warn where the loss rises far above what the run started with, or ends no lower."""

    def before_train(self) -> None:
        """Forget what was seen."""
        self._told = False
        self._seen = self.trainer.start_iter

    def look(self) -> None:
        """Compare the losses that were read since the last look with the first one."""
        histories = get_event_storage().histories()
        if "total_loss" not in histories:  # only the main process has it
            return
        values = histories["total_loss"].values()
        new = itertools.takewhile(lambda value: value[1] >= self._seen, reversed(values))
        for loss, iteration in reversed(list(new)):
            self._seen = iteration + 1
            first = self.trainer.first_loss = self.trainer.first_loss or loss
            if not self._told and loss > _DIVERGED * max(first, math.e):
                self._told = True
                self._warn(f"the loss rose from {first:.3g} to {loss:.3g}")

    def after_epoch(self) -> None:
        """Compare the loss of the end with the first one."""
        histories = get_event_storage().histories()
        if self.trainer.epoch + 1 == self.trainer.max_epoch and "total_loss" in histories:
            first, last = self.trainer.first_loss, histories["total_loss"].median(_WINDOW)
            if last >= first:
                self._warn(
                    f"the loss has not fallen: it was {first:.3g}, and {last:.3g} at the end"
                )

    def _warn(self, what: str) -> None:
        self.trainer.warnings.append(f"{what}: training may have diverged")
        logger.warning(
            "%s; lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS", self.trainer.warnings[-1]
        )


class WatchedPrinter(EventWriter):
    """Print the scalars that fast-reid's printer leaves out, since it looks for "loss"."""

    _NAMES = ("modality_gap", "plan_sharpness", "plan_saving", "within_ratio", "cls_accuracy")

    def write(self) -> None:
        """Print one line."""
        histories = get_event_storage().histories()
        logger.info(
            " watched: %s",
            "  ".join(
                f"{n}: {histories[n].median(200):.4g}" for n in self._NAMES if n in histories
            ),
        )
