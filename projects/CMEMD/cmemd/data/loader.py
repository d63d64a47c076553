"""Loaders whose worker processes leave signals to the process that started them."""

import signal
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import build as fastreid_build
from fastreid.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["build_loader", "shut_down"]

collate = fastreid_build.fast_batch_collator

_SECONDS = 8  # a run should end within ten


def build_loader(
    dataset: Dataset,
    batch_sampler: Sampler,
    num_workers: int,
    *,
    collate_fn: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] = collate,
) -> DataLoader:
    """Return fast-reid's loader of the batches of a sampler.

    Ctrl-C at a terminal, ``scancel`` or a service manager signal every process of a run. The main
    process then finishes its iteration, for which it needs the workers.

    Args:
        dataset: of images.
        batch_sampler: yields the keys of each batch.
        num_workers: number of worker processes; 0 loads in this process.
        collate_fn: makes a batch of samples.
    """
    return fastreid_build.DataLoaderX(
        comm.get_local_rank(),
        dataset=dataset,
        batch_sampler=batch_sampler,
        num_workers=num_workers,
        collate_fn=collate_fn,
        pin_memory=True,
        worker_init_fn=_leave_signals if num_workers else None,
    )


def shut_down(iterator: object) -> None:
    """End the worker processes of an iterator over a loader, if it has any.

    Otherwise they end when the iterator is collected, which an exception's traceback may delay
    until the process ends and waits for them.
    """
    end = getattr(iterator, "_shutdown_workers", None)
    if end is not None:
        end()


def _leave_signals(worker: int) -> None:
    """Ignore Ctrl-C; after SIGTERM or SIGHUP go on for a few seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _go_on)


def _go_on(number: int, frame: FrameType | None) -> None:
    """Leave the run time to finish its iteration; a second signal or the alarm ends the worker."""
    signal.signal(number, signal.SIG_DFL)
    signal.alarm(_SECONDS)
