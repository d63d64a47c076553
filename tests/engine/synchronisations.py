"""Counts the operations that make the host wait for the device, and lets them run on meta tensors.

On meta tensors, which hold no numbers, everything goes a GPU's way: nothing is checked or solved as
only a CPU can.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["DEVICE", "Synchronisations", "moved"]

DEVICE = torch.device("meta")

_READ = {"_local_scalar_dense", "item", "is_nonzero", "equal", "bincount", "histc"}
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}
_SIZED = {  # the result's size depends on values
    "nonzero",
    "nonzero_numpy",
    "argwhere",
    "masked_select",
    "unique_dim",
    "unique_consecutive",
    "unique_dim_consecutive",
    "_unique",
    "_unique2",
}


class Synchronisations(TorchDispatchMode):
    """Count what waits for tensors that are not on the CPU.

    Attributes:
        found: "operation at file:line" -> number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = function.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        on_device = [tensor for tensor in given if tensor.device.type != "cpu"]
        if name in _READ | _SIZED and on_device:
            self._count(name)
            return _made_up(name, on_device[0])
        if name in _INDEXED:
            booleans = any(x.dtype == torch.bool for x in args[1] if x is not None)
            one_value = name != "index" and args[2].numel() == 1  # filled in place, without indices
            if booleans and not one_value:
                self._count(f"{name} by booleans")
        if name == "repeat_interleave" and kwargs.get("output_size") is None and on_device:
            self._count(name)
        if name in ("_to_copy", "copy_") and not kwargs.get("non_blocking"):
            target = kwargs.get("device") if name == "_to_copy" else args[0].device
            source = args[0] if name == "_to_copy" else args[1]
            target = source.device if target is None else torch.device(target)
            if (target.type == "cpu") != (source.device.type == "cpu"):
                self._count(f"a copy from {source.device.type} to {target.type}")
                if target.type == "cpu":
                    return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        return function(*args, **kwargs)

    def _count(self, what: str) -> None:
        own = [
            frame
            for frame in traceback.extract_stack()
            if "cmemd" in frame.filename
            or "fastreid" in frame.filename
            or "/optim/" in frame.filename
        ]
        place = f"{own[-1].filename}:{own[-1].lineno}" if own else "?"
        self.found[f"{what} at {place}"] += 1


def _made_up(name: str, tensor: Tensor) -> Any:
    """Return a result that lets the caller go on."""
    if name in _READ:
        return 1.0 if tensor.dtype.is_floating_point else 1
    if name.startswith(("_unique", "unique")):
        return (tensor, *(tensor.new_empty(tensor.shape, dtype=torch.int64) for _ in range(2)))
    if name == "masked_select":
        return tensor.flatten()
    return tensor.new_empty((tensor.shape[0], tensor.dim()), dtype=torch.int64)


def moved(batches: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Move what a network reads to the device, as a loader does beside the computation."""
    for batch in batches:
        own = {name: batch[name].to(DEVICE) for name in ("images", "targets", "rows")}
        yield {**batch, **own}
