"""The schedule of a training, known before its first step: lengths, rates, and where they change.

fast-reid counts warm-up in iterations and all else in epochs. It takes the first step of its
scheduler at the end of the epoch with which warm-up and DELAY_EPOCHS are over, and counts STEPS
from there.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cmemd.errors import InputError

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = ["Schedule"]


@dataclass(frozen=True)
class Schedule:
    """Lengths and rates of a training.

    Attributes:
        epochs: number of epochs.
        epoch_length: iterations of an epoch: training images // batch.
        base: ``SOLVER.BASE_LR``; other rates are multiples of its schedule.
        warmup: iterations of the warm-up.
        warmup_factor: share of the rate at its start.
        warmup_method: "linear", "constant" or "exp".
        delay: ``SOLVER.DELAY_EPOCHS``.
        steps: ``SOLVER.STEPS``; None for the cosine schedule.
        gamma: factor at each step.
        floor: last rate of the cosine schedule.
    """

    epochs: int
    epoch_length: int
    base: float
    warmup: int
    warmup_factor: float
    warmup_method: str
    delay: int
    steps: tuple[int, ...] | None
    gamma: float
    floor: float

    @classmethod
    def of(cls, cfg: "CfgNode", images: int) -> "Schedule":
        """Return the schedule of a training on so many images.

        Raises:
            InputError: they do not fill a batch.
        """
        solver = cfg.SOLVER
        if images < solver.IMS_PER_BATCH:
            raise InputError(
                f"training images for a batch of SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH}",
                images,
                "lower SOLVER.IMS_PER_BATCH or add data",
            )
        return cls(
            epochs=solver.MAX_EPOCH,
            epoch_length=images // solver.IMS_PER_BATCH,
            base=solver.BASE_LR,
            warmup=solver.WARMUP_ITERS,
            warmup_factor=solver.WARMUP_FACTOR,
            warmup_method=solver.WARMUP_METHOD,
            delay=solver.DELAY_EPOCHS,
            steps=tuple(solver.STEPS) if solver.SCHED == "MultiStepLR" else None,
            gamma=solver.GAMMA,
            floor=solver.ETA_MIN_LR,
        )

    @property
    def iterations(self) -> int:
        """Number of iterations."""
        return self.epochs * self.epoch_length

    @property
    def first_step(self) -> int:
        """Number of epochs after which fast-reid's scheduler first steps."""
        return max(math.ceil(self.warmup / self.epoch_length), self.delay + 1, 1)

    @property
    def cosine_epochs(self) -> int:
        """Number of steps in which the cosine schedule reaches its floor."""
        return self.epochs - max(math.ceil(self.warmup / self.epoch_length), self.delay)

    def decays(self) -> list[int]:
        """Return the number of epochs after which each step lowers the rate."""
        return [self.first_step - 1 + step for step in self.steps or ()]

    def rate(self, iteration: int) -> float:
        """Return the rate of an iteration, from 0."""
        done = max(0, iteration // self.epoch_length - self.first_step + 1)
        if self.steps is None:
            share = (1 + math.cos(math.pi * done / self.cosine_epochs)) / 2
            rate = self.floor + (self.base - self.floor) * share
        else:
            rate = self.base * self.gamma ** sum(step <= done for step in self.steps)
        return rate * self._warm(iteration)

    def _warm(self, iteration: int) -> float:
        if iteration >= self.warmup:
            return 1.0
        share = iteration / self.warmup
        if self.warmup_method == "constant":
            return self.warmup_factor
        if self.warmup_method == "exp":
            return self.warmup_factor ** (1 - share)
        return self.warmup_factor * (1 - share) + share

    def problems(self) -> list[InputError]:
        """Return why the schedule cannot work."""
        problems = []
        if self.steps is None and self.cosine_epochs < 1:
            problems.append(
                InputError(
                    f"SOLVER.MAX_EPOCH above {self.epochs - self.cosine_epochs}, the epochs of "
                    "warm-up and SOLVER.DELAY_EPOCHS, for CosineAnnealingLR",
                    self.epochs,
                    "raise it, or lower SOLVER.WARMUP_ITERS and DELAY_EPOCHS",
                )
            )
        return problems

    def warnings(self) -> list[str]:
        """Return what cannot be meant, though it works."""
        told = []
        late = [
            step
            for step, decay in zip(self.steps or (), self.decays(), strict=True)
            if decay >= self.epochs
        ]
        if late:
            told.append(
                f"SOLVER.STEPS {', '.join(map(str, late))} come after the end: fast-reid counts "
                f"steps from epoch {self.first_step}, when warm-up and delay are over, and "
                f"SOLVER.MAX_EPOCH is {self.epochs}"
            )
        if self.steps is None and self.floor > self.base:
            told.append("SOLVER.ETA_MIN_LR is above SOLVER.BASE_LR: the rate rises")
        if self.warmup >= self.iterations:
            told.append(
                f"SOLVER.WARMUP_ITERS {self.warmup} is no shorter than the training, "
                f"{self.iterations} iterations: SOLVER.BASE_LR is never reached"
            )
        elif 2 * self.warmup > self.iterations:
            told.append(
                f"SOLVER.WARMUP_ITERS {self.warmup} is more than half of the training, "
                f"{self.iterations} iterations"
            )
        elif self.warmup > self.epoch_length and self.warmup % self.epoch_length:
            whole = round(self.warmup / self.epoch_length) * self.epoch_length
            shift = f", and the rate falls after epochs {_list(self.decays())}" * bool(
                self.decays()
            )
            told.append(
                f"SOLVER.WARMUP_ITERS {self.warmup} counts iterations: with this data and batch it "
                f"is {self.warmup / self.epoch_length:.2f} epochs of {self.epoch_length}{shift}. "
                f"Whole epochs would be {whole}"
            )
        return told

    def table(self) -> str:
        """Return the schedule in a few lines: where each rate starts."""
        rows = [f"{self.epochs} epochs of {self.epoch_length} iterations, {self.iterations} in all"]

        def row(iteration: int, what: str) -> str:
            epoch = iteration // self.epoch_length + 1
            return f"epoch {epoch:>4}, iteration {iteration:>7}: {self.rate(iteration):.3g}  {what}"

        if self.warmup:
            length = f"{self.warmup / self.epoch_length:.4g} epochs"
            rows.append(
                row(0, f"{self.warmup_method} warm-up for {self.warmup} iterations, {length}")
            )
        if self.warmup < self.iterations:
            rows.append(row(self.warmup, "SOLVER.BASE_LR"))
        if self.steps is None:
            start = (self.first_step - 1) * self.epoch_length
            rows.append(row(min(start, self.iterations - 1), "cosine starts"))
        rows += [
            row(decay * self.epoch_length, f"step {step}")
            for step, decay in zip(self.steps or (), self.decays(), strict=True)
            if decay < self.epochs
        ]
        return "\n  ".join([*rows, row(self.iterations - 1, "last")])


def _list(numbers: list[int]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, numbers[:-1])), str(numbers[-1])]))
