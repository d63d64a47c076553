"""Room for a run on disk and in memory, estimated before it starts."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from cmemd.data.transform import image_sizes
from cmemd.engine.keys import OPTIMIZERS
from cmemd.errors import InputError
from cmemd.files import shown_bytes

if TYPE_CHECKING:
    from yacs.config import CfgNode

__all__ = [
    "available_memory",
    "check_disk",
    "check_memory",
    "check_reranking",
    "check_shared_memory",
    "check_step_memory",
    "checkpoint_bytes",
    "kept_checkpoints",
    "rows_of_step",
]

_SHARED = Path("/dev/shm")
_LOGS = 64 * 2**20  # bytes for logs, pictures and results [C]
# Of each pair of images that are re-ranked together: distances in float64 and, twice, in float32.
_RERANKING_BYTES = 16


def check_disk(
    cfg: "CfgNode", network: nn.Module, *, training: bool, resumed: bool, features: int
) -> None:
    """Raise unless the disk has room for a run's checkpoints and results.

    Args:
        cfg: the configuration.
        network: an outline of it.
        training: whether the run trains.
        resumed: whether it goes on in its folder, whose checkpoints are part of it.
        features: numbers in the features of all images under test.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    folder = Path(cfg.OUTPUT_DIR)
    need, what = _LOGS, "results"
    if training:
        averaged = cfg.SOLVER.EMA.DECAY > 0
        count, each = kept_checkpoints(cfg), checkpoint_bytes(network, cfg.SOLVER.OPT, averaged)
        old = folder.glob("model_*.pth") if resumed else ()
        there = sum(path.stat().st_size for path in old)
        need += max(count * each - there, 0)
        what = f"{count} checkpoints of {shown_bytes(each)} and results"
    if cfg.TEST.SAVE_FEATURES:
        need += 4 * features
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    if free < need:
        raise InputError(
            f"{shown_bytes(need)} of free disk at {existing} for {what}",
            shown_bytes(free),
            "free the disk, set another OUTPUT_DIR, or raise SOLVER.CHECKPOINT_PERIOD",
        )


def checkpoint_bytes(network: nn.Module, optimizer: str, averaged: bool = False) -> int:
    """Return about how many bytes a checkpoint of a training takes.

    Args:
        network: an outline of it.
        optimizer: its ``SOLVER.OPT``.
        averaged: whether it holds EMA weights too.
    """

    def size(tensors: Iterable[torch.Tensor]) -> int:
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    trained = size(p for p in network.parameters() if p.requires_grad)
    whole = size(network.state_dict().values())
    return (1 + averaged) * whole + OPTIMIZERS[optimizer] * trained


def kept_checkpoints(cfg: "CfgNode") -> int:
    """Return how many checkpoints a training has on its disk at most.

    Those of CHECKPOINT_PERIOD, the final one, the best one where one is chosen, the one within an
    epoch, and the one that is being written.
    """
    solver = cfg.SOLVER
    periodic = (solver.MAX_EPOCH - 1) // solver.CHECKPOINT_PERIOD
    return periodic + 1 + (solver.SELECTION != "last") + 2


def check_memory(cfg: "CfgNode", network: nn.Module, *, training: bool) -> None:
    """Raise unless the parameters fit into memory; on a CPU with gradients and optimizer.

    Args:
        cfg: the configuration.
        network: an outline of it.
        training: whether the run trains.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    copies = 1
    if training and cfg.MODEL.DEVICE == "cpu":
        copies += 1 + OPTIMIZERS[cfg.SOLVER.OPT] + (cfg.SOLVER.EMA.DECAY > 0)
    need = copies * sum(parameter.numel() for parameter in network.parameters()) * 4
    free = available_memory()
    if free is not None and need > free:
        raise InputError(
            f"{shown_bytes(need)} of free memory for the network",
            shown_bytes(free),
            "make it smaller",
        )


def check_step_memory(cfg: "CfgNode", network: nn.Module, kept: int, *, processes: int) -> None:
    """Raise unless memory holds a training step, by an estimate from below.

    Counted are the parameters, their gradients, the optimizer's numbers, EMA weights, and what the
    forward pass keeps for the backward pass. A convolution's workspace and the like come on top.

    Args:
        cfg: the configuration.
        network: an outline of it.
        kept: bytes that a forward pass keeps of an image, see ``cmemd.engine.rehearsal``.
        processes: of this run; on a CPU those of this machine are taken to be all.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    rows = rows_of_step(cfg) // (processes * cfg.SOLVER.ACCUMULATE)
    half = 2 if cfg.SOLVER.AMP.ENABLED else 1  # the backbone's, which is nearly all
    copies = 2 + OPTIMIZERS[cfg.SOLVER.OPT] + (cfg.SOLVER.EMA.DECAY > 0)
    need = copies * sum(parameter.numel() for parameter in network.parameters()) * 4
    need += rows * kept // half
    if device.type == "cuda":
        free: int | None = torch.cuda.mem_get_info(device)[0]
    else:
        need, free = processes * need, available_memory()
    if free is not None and need > free:
        views = cfg.DATALOADER.VISIBLE_VIEWS
        shown = f" with {views} views of each visible image" if views > 1 else ""
        raise InputError(
            f"at least {shown_bytes(need)} of free memory on {device.type} for a training step of "
            f"{rows} images a process{shown}",
            shown_bytes(free),
            "lower SOLVER.IMS_PER_BATCH or DATALOADER.VISIBLE_VIEWS, raise SOLVER.ACCUMULATE, or "
            "switch on MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS or SOLVER.AMP",
        )


def rows_of_step(cfg: "CfgNode") -> int:
    """Return the number of images that the network reads in a step, P (views x K_v + K_t).

    It is SOLVER.IMS_PER_BATCH, and the further views of visible images.
    """
    keys = cfg.DATALOADER
    identities = cfg.SOLVER.IMS_PER_BATCH // (keys.NUM_VISIBLE + keys.NUM_THERMAL)
    further = identities * keys.NUM_VISIBLE * (keys.VISIBLE_VIEWS - 1)
    return cfg.SOLVER.IMS_PER_BATCH + further


def check_reranking(protocol: str, images: int) -> None:
    """Raise unless memory holds the distances of a re-ranked trial.

    Args:
        protocol: its name, for the message.
        images: queries and gallery images of one trial.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    need, free = _RERANKING_BYTES * images**2, available_memory()
    if free is not None and need > free:
        raise InputError(
            f"{shown_bytes(need)} of free memory to re-rank the {images} images of {protocol}",
            shown_bytes(free),
            "set TEST.RERANK.ENABLED to False, or use a larger machine",
        )


def available_memory() -> int | None:
    """Return the bytes that a process can still get; None where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # not Linux
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return 1024 * int(line.split()[1])
    return None


def check_shared_memory(cfg: "CfgNode", *, training: bool, processes: int) -> None:
    """Raise unless shared memory holds the batches that loader workers read ahead.

    PyTorch would end a worker by a bus error otherwise. Beside the batches that are read ahead, one
    is in use, and one may be on its way.

    Args:
        cfg: the configuration.
        training: whether the run trains. Its workers keep their batches during an evaluation.
        processes: of this run on this machine.

    Raises:
        InputError: says how much is needed and how much is free.
    """
    loader = cfg.DATALOADER
    if not loader.NUM_WORKERS or not _SHARED.is_dir():
        return
    trained, tested = image_sizes(cfg.INPUT)
    batches = [(cfg.TEST.IMS_PER_BATCH, tested)]
    if training:
        rows = rows_of_step(cfg) // (processes * cfg.SOLVER.ACCUMULATE)
        batches.append((rows, trained))
    each = sum(images * height * width * 3 for images, (height, width) in batches)
    need = processes * (loader.NUM_WORKERS * loader.PREFETCH + 2) * each
    free = shutil.disk_usage(_SHARED).free
    if free < need:
        raise InputError(
            f"{shown_bytes(need)} of free shared memory in {_SHARED} for the batches of "
            f"{loader.NUM_WORKERS} loader workers",
            shown_bytes(free),
            "start the container with --ipc=host or a larger --shm-size, or lower "
            "DATALOADER.NUM_WORKERS, DATALOADER.PREFETCH or TEST.IMS_PER_BATCH",
        )
