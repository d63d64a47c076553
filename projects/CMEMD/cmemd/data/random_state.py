"""The global random generators of a process: Python's, NumPy's and PyTorch's.

fast-reid's transforms draw from all three. States are plain types and tensors, so that a checkpoint
that holds them can be read without running code in it.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

__all__ = ["kept_random_state", "load_random_state", "random_state", "seeded"]


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's generators in this process."""
    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = {
        "python": random.getstate(),
        "numpy": [name, keys.tolist(), position, has_gauss, gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def load_random_state(state: Mapping[str, Any]) -> None:
    """Set the generators to what ``random_state`` returned."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


@contextmanager
def kept_random_state() -> Iterator[None]:
    """Leave the generators as they were, whatever happens inside; an evaluation draws from them."""
    before = random_state()
    try:
        yield
    finally:
        load_random_state(before)


@contextmanager
def seeded(seed: int, place: int) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's generators for one image.

    They are restored afterwards, but not in a loader's worker process, which draws for images only.

    Args:
        seed: of the run.
        place: the image's, of ``cmemd.data.places.PlacedSampler``.
    """
    before = None
    if get_worker_info() is None:
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence([seed, place]).generate_state(3)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.default_generator.manual_seed(int(words[2]))
    try:
        yield
    finally:
        if before is not None:
            random.setstate(before[0])
            np.random.set_state(before[1])
            torch.set_rng_state(before[2])
