"""One step of training: forward, backward and optimiser, without waiting for the device.

It stands in for fast-reid's SimpleTrainer and AMPTrainer, which

- read each loss in each iteration, and so make the host wait for the device;
- read it on a new CUDA stream that does not wait for the computing one, so that the value may not
  be there yet; only the other synchronisations of a step hide this;
- expect flat parameter buffers, which allow neither another memory format nor fused optimisers.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from cmemd.data.grouping import IdentityRows
from cmemd.data.loader import shut_down
from cmemd.engine.compilation import compiled
from cmemd.engine.pending import PendingScalars
from cmemd.engine.precision import autocast
from cmemd.engine.update import Update
from cmemd.errors import InputError
from cmemd.losses.distributed import check_split, repeated_identities

__all__ = ["TrainingStep", "distribute"]


def distribute(network: nn.Module) -> nn.Module:
    """Return a network that averages gradients over processes; itself in a single process.

    fast-reid gives DistributedDataParallel a CUDA device, which a network on the CPU refuses.
    """
    if comm.get_world_size() == 1:
        return network
    on_gpu = next(network.parameters()).is_cuda
    return DistributedDataParallel(
        network,
        device_ids=[comm.get_local_rank()] if on_gpu else None,
        broadcast_buffers=False,
    )


class TrainingStep:
    """Train a network on one batch after the other.

    A step is one change of the parameters. It may read its batch in several parts, whose gradients
    add up to their mean: every loss is the mean of the parts' losses.

    Args:
        model: returns name -> loss for a batch, in training mode; DistributedDataParallel or not.
        data_loader: endless batches, or their parts.
        update: changes the model's parameters by their gradients.
        frozen: parameters that the first iterations leave alone.
        freeze_iters: number of those iterations.
        dtype: the half precision of the forward pass; None for float32.
        parts: number of the loader's batches that a step reads.
        backend: of ``torch.compile``, one of ``cmemd.engine.compilation.BACKENDS``.

    Attributes:
        iter: number of the iteration, from 0; the trainer sets it.
        pending: scalars of the iterations since the last log line.
        grad_scaler: None; fast-reid's hooks ask for it.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: DataLoader[Any],
        update: Update,
        *,
        frozen: Sequence[nn.Parameter] = (),
        freeze_iters: int = 0,
        dtype: torch.dtype | None = None,
        parts: int = 1,
        backend: str = "none",
    ) -> None:
        self.model = model.train()
        self.data_loader = data_loader
        self.optimizer = update.optimizer
        self.grad_scaler = None
        self.iter = 0
        self.pending = PendingScalars()
        self._call = compiled(model, backend)
        self._frozen = list(frozen)
        self._freeze_iters = freeze_iters
        self._update = update
        self._dtype = dtype
        self._parts = parts
        self._split: tuple[int, ...] | None = None  # of the first batch: P, K_v, K_t
        self._batches: Iterator[Mapping[str, Any]] | None = None

    @property
    def network(self) -> nn.Module:
        """The network itself, without DistributedDataParallel around it."""
        model = self.model
        return model.module if isinstance(model, DistributedDataParallel) else model

    def run_step(self) -> None:
        """Train on the next batch. Nothing here reads a value from the device."""
        self.optimizer.zero_grad()
        batches = self.open()
        data_time, losses, watched, repeated = 0.0, [], [], []
        for part in range(1, self._parts + 1):
            start = time.perf_counter()
            batch = next(batches)
            data_time += time.perf_counter() - start
            repeated.append(self._check_split(batch))
            with self._last_alone_averages(part):
                terms = self.forward(batch)
                self.backward(terms)
            losses.append({name: term.detach() for name, term in terms.items()})
            watched.append(getattr(self.network, "watched", {}))
        counted = [count for count in repeated if count is not None]
        total = _sum(counted) if counted else None
        self.pending.add(self.iter, _means(losses), _means(watched), data_time, total)
        self.update()

    def _check_split(self, batch: Mapping[str, Any]) -> Tensor | None:
        """Check that whole identities are on one process each.

        The first batch is checked at once. After that the numbers of a batch must be the first
        one's, which the host knows; identities on several processes are counted on the device.

        Returns:
            That count, which is still to be read; None where there is none.

        Raises:
            InputError: see ``cmemd.losses.distributed.check_split``.
        """
        if comm.get_world_size() == 1:
            return None
        rows: IdentityRows | None = batch.get("rows")
        if rows is None:
            return None  # the network itself checks such a batch
        shape = (*rows.visible.shape, rows.thermal.shape[1])
        if self._split is None:
            check_split(batch["targets"], rows)
            self._split = shape
            return None
        if shape != self._split:
            raise InputError(
                f"{self._split} identities and visible and thermal images of each, as in the "
                "first batch",
                shape,
                "use CrossModalitySampler",
            )
        return repeated_identities(batch["targets"], rows)

    def forward(self, batch: Mapping[str, object]) -> Mapping[str, Tensor]:
        """Return name -> weighted loss of a batch."""
        with autocast(next(self.network.parameters()).device.type, self._dtype):
            return self._call(batch)

    def backward(self, losses: Mapping[str, Tensor]) -> None:
        """Add the gradient of the total loss of a part to the parameters' gradients."""
        total = _sum(losses.values())
        self._update.backward(total if self._parts == 1 else total / self._parts)

    def update(self) -> None:
        """Change the parameters by their gradients, but for those that are frozen."""
        if self.iter < self._freeze_iters:
            for parameter in self._frozen:
                parameter.grad = None  # an optimiser skips it, with its decay and momentum
        self._update.step()

    def _last_alone_averages(self, part: int) -> AbstractContextManager[None]:
        """Let processes meet once a step: they average the gradients of all parts together."""
        model = self.model
        if isinstance(model, DistributedDataParallel) and part < self._parts:
            return model.no_sync()
        return nullcontext()

    def open(self) -> Iterator[Mapping[str, Any]]:
        """Return the batches; start the loader, if it has not been started before."""
        if self._batches is None:
            self._batches = iter(self.data_loader)
        return self._batches

    def close(self) -> None:
        """End the loader's worker processes; the next step starts new ones."""
        shut_down(self._batches)
        self._batches = None


def _means(parts: Sequence[Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
    """Return name -> mean over the parts of a batch."""
    if len(parts) == 1:
        return parts[0]
    return {name: _sum(part[name] for part in parts) / len(parts) for name in parts[0]}


def _sum(values: Iterable[Tensor]) -> Tensor:
    return torch.as_tensor(sum(values))
