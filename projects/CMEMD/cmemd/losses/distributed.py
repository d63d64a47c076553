"""One batch over several processes: what a loss of the whole batch needs.

Every process holds whole identities, as many as each other one, with as many images of each. Then

- a mean over images or identities needs no exchange. The mean over processes of the values is the
  whole batch's value, and DistributedDataParallel (DDP), which averages gradients over processes,
  gives the whole batch's gradient;
- what depends on all identities at once (CM-DL, triplets, centres) is computed by every process on
  the gathered batch. Its value is the whole batch's everywhere. In the backward pass a gathered
  feature gets the sum of the gradients of all W processes, W times the batch's; DDP's average
  divides by W. (fast-reid's GatherLayer hands back a process's own share alone, which that average
  makes W times too small.)

Shape legend: W processes, n rows of each, P identities of each.
"""

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.modeling.losses.utils import concat_all_gather
from fastreid.utils import comm
from torch import Tensor
from torch.distributed.nn.functional import all_gather

from cmemd.errors import InputError
from cmemd.losses.grouping import IdentityRows

__all__ = ["check_split", "gather"]


def gather(x: Tensor) -> Tensor:
    """Rows of all processes one after the other, (n, ...) -> (W * n, ...).

    With the gradient of the module's docstring; whole numbers, which have none, too.
    """
    if comm.get_world_size() == 1:
        return x
    if not x.requires_grad:
        return concat_all_gather(x.contiguous())
    return torch.cat(all_gather(x))


def check_split(targets: Tensor, rows: IdentityRows) -> None:
    """Checks once a batch that it is split by identity and evenly: two exchanges of a few numbers.

    Args:
        targets: (N,) identity labels of this process's images.
        rows: their grouping.

    Raises:
        InputError: on all processes alike, if an identity is on two of them, or the numbers P, K_v,
            K_t differ between them.
    """
    if comm.get_world_size() == 1:
        return
    shape = torch.tensor([[*rows.visible.shape, rows.thermal.shape[1]]], device=targets.device)
    shapes = gather(shape)  # (W, 3)
    if (shapes != shapes[0]).any():
        raise InputError(
            "expected as many identities, visible and thermal images of each on every process, so "
            f"that means of means are means; got {shapes.tolist()}: use CrossModalitySampler"
        )
    labels, counts = gather(targets[rows.visible[:, 0]]).unique(return_counts=True)
    if len(labels) < counts.sum():
        raise InputError(
            "expected each identity of a batch on one process, whose losses see it whole; got "
            f"labels {labels[counts > 1].tolist()} on several: use CrossModalitySampler"
        )
