"""Loaders whose worker processes leave signals to the process that started them."""

import signal
from types import FrameType

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.data import build as fastreid_build
from fastreid.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["build_loader"]


def build_loader(dataset: Dataset, batch_sampler: Sampler, num_workers: int) -> DataLoader:
    """Return fast-reid's loader of the batches of a sampler.

    Ctrl-C at a terminal, ``scancel`` or a service manager signal every process of a run. The main
    process then finishes its iteration, for which it needs the workers.

    Args:
        dataset: of images.
        batch_sampler: yields the keys of each batch.
        num_workers: number of worker processes; 0 loads in this process.
    """
    return fastreid_build.DataLoaderX(
        comm.get_local_rank(),
        dataset=dataset,
        batch_sampler=batch_sampler,
        num_workers=num_workers,
        collate_fn=fastreid_build.fast_batch_collator,
        pin_memory=True,
        worker_init_fn=_leave_signals if num_workers else None,
    )


def _leave_signals(worker: int) -> None:
    """Ignore Ctrl-C, and the first SIGTERM and SIGHUP; a second one may come from the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _ignore_once)


def _ignore_once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
