"""Join images and labels to a batch.

Shape legend: N images of H x W.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from cmemd.data.grouping import group_by_identity

__all__ = ["collate", "collate_images", "collate_with_rows"]


def collate(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the batch of some samples of ``VisibleThermalDataset``.

    Args:
        samples: with the same keys.

    Returns:
        "images" and "pooled" as ``collate_images`` gives them; whole numbers as int64 (N,); other
        entries, such as paths, as lists.
    """
    columns = {name: [sample[name] for sample in samples] for name in samples[0]}
    return {
        name: collate_images(column)
        if name in ("images", "pooled")
        else torch.tensor(column)
        if isinstance(column[0], int)
        else column
        for name, column in columns.items()
    }


def collate_with_rows(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a training batch: ``collate``'s, and "rows", its rows by identity and modality.

    An image of several views takes a row for each, one after the other, with equal labels. So an
    identity of K_v visible images with two views has 2 K_v visible rows. "pairs" (M, 2) then holds
    the rows of the first and the second view of each image that has two.

    A loader calls this in its workers. So the device, which would have to be waited for, need not
    search for the rows.

    Args:
        samples: of one batch.

    Raises:
        InputError: see ``group_by_identity``.
    """
    shown = [view for sample in samples for view in _each_view(sample)]
    batch = collate(shown)
    batch["rows"] = group_by_identity(batch["targets"], batch["modalities"])
    if len(shown) > len(samples):
        batch["pairs"] = _pairs(samples)
    return batch


def _each_view(sample: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a sample for each view of an image."""
    if "views" not in sample:
        yield sample
        return
    for pixels in sample["views"]:
        yield {**{k: v for k, v in sample.items() if k != "views"}, "images": pixels}


def _pairs(samples: Sequence[Mapping[str, Any]]) -> Tensor:
    """Return the rows of the first and the second view of each image that has two, (M, 2)."""
    starts = itertools.accumulate((len(s.get("views", (0,))) for s in samples), initial=0)
    first = [row for row, sample in zip(starts, samples, strict=False) if "views" in sample]
    return torch.tensor(first)[:, None] + torch.arange(2)


def collate_images(images: Sequence[np.ndarray | Tensor]) -> Tensor:
    """Return images as one tensor, which a loader's worker writes straight into shared memory.

    PyTorch would stack them first, and copy the stack to shared memory when it is sent.

    Args:
        images: arrays (H, W, 3) uint8; or tensors (3, H, W) of any type, as fast-reid's transforms
            give them, or features of any shape. All have one shape.

    Returns:
        (N, 3, H, W), or features (N, ...). Of arrays it is a view of a stack (N, H, W, 3), channels
        last in memory.
    """
    first = images[0]
    if isinstance(first, Tensor):
        tensors = [torch.as_tensor(image) for image in images]
        return torch.stack(tensors, out=_room((len(images), *first.shape), first.dtype))
    stack = _room((len(images), *first.shape), torch.uint8)
    for row, image in zip(stack.numpy(), images, strict=True):
        np.copyto(row, image, casting="no")
    return stack.permute(0, 3, 1, 2)


def _room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return a tensor of any content, in shared memory if a loader's worker asks."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    # Tensor.share_memory_ would copy what is not there yet.
    numbers = torch.Size(shape).numel()
    storage = torch.UntypedStorage._new_shared(numbers * dtype.itemsize)
    empty: Any = torch.empty(0, dtype=dtype)  # the types of set_ ask for strides, itself does not
    filled: Tensor = empty.set_(storage, 0, shape)
    return filled
