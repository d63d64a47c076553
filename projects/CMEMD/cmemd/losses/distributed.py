"""One batch over several processes: what a loss of the whole batch needs.

Every process holds whole identities, the same number of them and of images of each. Then

- a mean over images or identities needs no exchange. The mean over processes of the values is the
  whole batch's value, and DistributedDataParallel (DDP), which averages gradients over processes,
  gives the whole batch's gradient;
- what depends on all identities at once (CM-DL, triplets, centres) is computed by every process on
  the gathered batch. Its value is the whole batch's everywhere. In the backward pass a gathered
  feature gets the sum of the gradients of all W processes, W times the batch's; DDP's average
  divides by W. (fast-reid's GatherLayer returns only the process's own share, which that average
  makes W times too small.)

Shape legend: W processes, n rows of each, P identities of each.
"""

from collections.abc import Callable

import torch
from torch import Tensor, distributed
from torch.autograd.function import FunctionCtx

from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError

__all__ = ["check_not_repeated", "check_split", "gather", "repeated_identities", "world_size"]


def world_size() -> int:
    """Return the number of processes that train together; 1 without a process group."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def gather(x: Tensor) -> Tensor:
    """Concatenate the rows of all processes in the order of their ranks: (n, ...) -> (W * n, ...).

    The gradient is the one of the module's docstring. Integers, which have none, are gathered too.
    """
    if world_size() == 1:
        return x
    apply: Callable[[Tensor], Tensor] = _Gather.apply
    return apply(x)


class _Gather(torch.autograd.Function):
    """Rows of all processes; a row's gradient is the sum over all processes."""

    @staticmethod
    def forward(context: FunctionCtx, x: Tensor) -> Tensor:
        x = x.contiguous()
        parts = [torch.empty_like(x) for _ in range(world_size())]
        distributed.all_gather(parts, x)
        return torch.cat(parts)

    @staticmethod
    def backward(context: FunctionCtx, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(world_size())[distributed.get_rank()]


def repeated_identities(targets: Tensor, rows: IdentityRows) -> Tensor:
    """Return the number of identities of a batch that several processes hold, a 0-dim tensor.

    It costs one exchange of a few numbers, and the host does not wait for it. All processes must
    have the same number of identities.

    Args:
        targets: (N,) identity labels of this process's images.
        rows: their rows by identity and modality.
    """
    return _labels(targets, rows)[1].sum()


def _labels(targets: Tensor, rows: IdentityRows) -> tuple[Tensor, Tensor]:
    """Return the sorted labels of all processes' identities, and which repeat the one before."""
    labels = gather(targets[rows.visible[:, 0]]).sort().values  # (W * P,)
    return labels[1:], labels[1:] == labels[:-1]


def check_split(targets: Tensor, rows: IdentityRows) -> None:
    """Raise unless a batch is split over the processes evenly and by identity.

    It costs two exchanges of a few numbers, for which the host waits.

    Args:
        targets: (N,) identity labels of this process's images.
        rows: their rows by identity and modality.

    Raises:
        InputError: on all processes, if two of them hold the same identity, or the numbers P, K_v,
            K_t differ between them.
    """
    if world_size() == 1:
        return
    shape = torch.tensor([[*rows.visible.shape, rows.thermal.shape[1]]], device=targets.device)
    shapes = gather(shape)  # (W, 3)
    if (shapes != shapes[0]).any():
        raise InputError(
            "the same number of identities, and of visible and thermal images of each, on every "
            "process",
            shapes.tolist(),
            "use CrossModalitySampler",
        )
    labels, again = _labels(targets, rows)
    check_not_repeated(f"labels {labels[again].unique().tolist()}" if again.any() else "")


def check_not_repeated(identities: str) -> None:
    """Raise if several processes hold some identities of one batch.

    Args:
        identities: what is known of them; "" if there are none.
    """
    if identities:
        raise InputError(
            "each identity of a batch on one process",
            f"{identities} on several",
            "use CrossModalitySampler",
        )
