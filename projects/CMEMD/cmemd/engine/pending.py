"""Scalars that stay on the device until a log line or a checkpoint needs them.

Reading a scalar makes the host wait for the device. So a step only adds its scalars here, and one
transfer reads those of all iterations since the last log line.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from torch import Tensor

from cmemd.errors import InputError
from cmemd.losses.distributed import check_not_repeated

__all__ = ["PendingScalars"]


class _Step(NamedTuple):
    """The scalars of one iteration."""

    iteration: int
    data_time: float  # seconds
    losses: tuple[str, ...]  # names
    watched: tuple[str, ...]
    split: bool  # whether the last value is the number of identities on several processes
    values: Tensor  # (losses, watched and that number,), on the device


class PendingScalars:
    """The losses and watched scalars of the iterations since the last log line."""

    def __init__(self) -> None:
        self._steps: list[_Step] = []

    def add(
        self,
        iteration: int,
        losses: Mapping[str, Tensor],
        watched: Mapping[str, Tensor],
        data_time: float,
        repeated: Tensor | None = None,
    ) -> None:
        """Keep the scalars of an iteration, without reading them.

        Args:
            iteration: its number, from 0.
            losses: name -> 0-dimensional tensor; their sum is the total loss.
            watched: name -> 0-dimensional tensor.
            data_time: seconds that the batch was waited for.
            repeated: the batch's number of identities that several processes hold.
        """
        scalars = [*losses.values(), *watched.values()]
        if repeated is not None:
            scalars.append(repeated)
        self._steps.append(
            _Step(
                iteration,
                data_time,
                tuple(losses),
                tuple(watched),
                repeated is not None,
                torch.stack([scalar.detach().reshape(()) for scalar in scalars]),
            )
        )

    def write_to(self, storage: EventStorage) -> None:
        """Move all scalars to fast-reid's storage, in order; every process calls it.

        The values are those that fast-reid's own trainer would have written in each iteration: the
        main process gets the losses' means over processes and the longest time for data.

        Raises:
            InputError: on all processes, if a loss is NaN or infinite, or if several processes held
                one identity. The scalars of earlier iterations are then in the storage.
        """
        steps, self._steps = self._steps, []
        if not steps:
            return
        sizes = [len(step.values) for step in steps]
        joined = torch.cat([step.values for step in steps]).cpu()  # waits for the device, once
        values: list[list[float]] = [part.tolist() for part in joined.split(sizes)]
        own = [(s.data_time, v[: len(s.losses)]) for s, v in zip(steps, values, strict=True)]
        everywhere = comm.all_gather(own)
        now = storage.iter
        try:
            for number, step in enumerate(steps):
                storage.iter = step.iteration
                scalars = values[number]
                if step.split:
                    count = int(scalars.pop())
                    check_not_repeated(f"{count} of iteration {step.iteration}" if count else "")
                watched = zip(step.watched, scalars[len(step.losses) :], strict=True)
                storage.put_scalars(**dict(watched))
                _put_losses(storage, step, [there[number] for there in everywhere])
        finally:
            storage.iter = now


def _put_losses(
    storage: EventStorage, step: _Step, everywhere: Sequence[tuple[float, list[float]]]
) -> None:
    """Write one iteration's losses and time for data, given those of each process."""
    processes = len(everywhere)
    each = zip(*(losses for _, losses in everywhere), strict=True)
    losses = {n: sum(x) / processes for n, x in zip(step.losses, each, strict=True)}
    total = sum(losses.values())
    if not math.isfinite(total):
        raise InputError(
            "finite losses",
            f"NaN or infinity at iteration {step.iteration} "
            f"({', '.join(f'{name} {value:.3g}' for name, value in losses.items())})",
            "training has diverged: lower SOLVER.BASE_LR, or raise SOLVER.WARMUP_ITERS",
        )
    if comm.is_main_process():
        storage.put_scalar("data_time", max(time for time, _ in everywhere))
        storage.put_scalar("total_loss", total)
        if len(losses) > 1:
            storage.put_scalars(**losses)
