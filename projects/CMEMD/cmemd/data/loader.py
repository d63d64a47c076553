"""Load batches in worker processes, and copy them to the device.

Workers leave signals to the process that started them.
"""

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cmemd.data.collate import collate

__all__ = ["DeviceCopies", "DeviceLoader", "build_loader", "shut_down"]

_SECONDS = 8  # a run should end within ten


class DeviceLoader(DataLoader[Any]):
    """A loader whose batches lie on a device.

    Args:
        device: of the network.
        on_device: entries of a batch that the network reads there; others stay on the host.
        options: of ``DataLoader``.
    """

    def __init__(self, *, device: torch.device, on_device: Sequence[str], **options: Any) -> None:
        cuda = device.type == "cuda"
        super().__init__(**options, pin_memory=cuda)
        self._device, self._on_device = device, tuple(on_device)

    def __iter__(self) -> Any:  # an iterator, of which PyTorch declares its own class
        """Return an iterator over batches, dicts; see ``DeviceCopies`` and ``shut_down``."""
        batches = super().__iter__()
        if self._device.type != "cuda":
            return batches
        return DeviceCopies(batches, self._device, self._on_device)


class DeviceCopies:
    """Batches copied to a CUDA device on a stream of their own.

    The host queues the copy of a batch when the batch is asked for. As no training step waits for
    the device, this is while the step before it still computes, so that the two overlap. The
    computing stream then waits for the copy. ``record_stream`` keeps a batch's memory from the next
    copy until the computing stream has read it; fast-reid's loader does without.

    Args:
        batches: of the host, in pinned memory.
        device: a CUDA device.
        on_device: entries to copy: tensors, or tuples of them.
    """

    def __init__(
        self,
        batches: Iterator[Mapping[str, Any]],
        device: torch.device,
        on_device: Sequence[str],
    ) -> None:
        self.batches = batches
        self._device, self._on_device = device, on_device
        self._stream = torch.cuda.Stream(device)

    def __iter__(self) -> "DeviceCopies":
        """Return itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next batch; work that is queued from now on finds it whole."""
        batch = next(self.batches)
        computing = torch.cuda.current_stream(self._device)
        with torch.cuda.stream(self._stream):
            moved = {
                name: _each_tensor(batch[name], self._copy)
                for name in self._on_device
                if name in batch
            }
        computing.wait_stream(self._stream)
        for value in moved.values():
            _each_tensor(value, lambda tensor: tensor.record_stream(computing))
        return {**batch, **moved}

    def _copy(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, non_blocking=True)


def _each_tensor(value: Any, work: Callable[[Tensor], Any]) -> Any:
    """Return a tensor, or a named tuple of tensors, after some work on each."""
    if isinstance(value, Tensor):
        return work(value)
    return type(value)(*(work(part) for part in value))


def build_loader(
    dataset: Dataset[Any],
    batch_sampler: Sampler[Any] | Iterable[Any],
    num_workers: int,
    *,
    device: str = "cpu",
    on_device: Sequence[str] = ("images",),
    prefetch: int = 2,
    collate_fn: Callable[[Sequence[Mapping[str, Any]]], dict[str, Any]] = collate,
) -> DeviceLoader:
    """Return a loader of the batches of a sampler.

    Ctrl-C at a terminal, ``scancel`` or a service manager signal every process of a run. The main
    process then finishes its iteration, for which it needs the workers.

    Args:
        dataset: of images.
        batch_sampler: yields the keys of each batch.
        num_workers: number of worker processes; 0 loads in this process.
        device: as in ``MODEL.DEVICE``; "cuda" is the current one.
        on_device: see ``DeviceLoader``.
        prefetch: number of batches that each worker loads ahead.
        collate_fn: makes a batch of samples.
    """
    return DeviceLoader(
        device=torch.device(device),
        on_device=on_device,
        dataset=dataset,
        batch_sampler=batch_sampler,
        num_workers=num_workers,
        prefetch_factor=prefetch if num_workers else None,
        collate_fn=collate_fn,
        worker_init_fn=_leave_signals if num_workers else None,
    )


def shut_down(iterator: object) -> None:
    """End the worker processes of an iterator over a loader, if it has any.

    Otherwise they end when the iterator is collected, which an exception's traceback may delay
    until the process ends and waits for them.
    """
    end = getattr(getattr(iterator, "batches", iterator), "_shutdown_workers", None)
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
