"""The global random generators of a process, and the generators of one image.

There are Python's, NumPy's and PyTorch's: fast-reid's transforms draw from all three. States are
plain types and tensors, so that reading a checkpoint that holds them runs no code of it.
"""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["Draws", "kept_random_state", "load_random_state", "random_state"]


def random_state() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and PyTorch's generators in this process."""
    numpy: Any = np.random.get_state()  # declared as a dict too
    name, keys, position, has_gauss, gauss = numpy
    state: dict[str, Any] = {
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


class Draws:
    """The random numbers of one image: of three generators, each made when it is first used.

    Args:
        seed: of the run.
        place: the image's, of ``cmemd.data.places.PlacedSampler``.
        view: number of the image's view, from 1; each has numbers of its own.
    """

    def __init__(self, seed: int, place: int, view: int = 1) -> None:
        spawned = () if view == 1 else (view,)
        sequence = np.random.SeedSequence([seed, place], spawn_key=spawned)
        self._words = [int(w) for w in sequence.generate_state(3)]

    @cached_property
    def python(self) -> random.Random:
        """A generator of Python's kind."""
        return random.Random(self._words[0])

    @cached_property
    def numpy(self) -> np.random.RandomState:
        """A generator of NumPy's kind."""
        return np.random.RandomState(self._words[1])

    @cached_property
    def torch(self) -> torch.Generator:
        """A generator of PyTorch's kind."""
        return torch.Generator().manual_seed(self._words[2])

    @contextmanager
    def as_global(self) -> Iterator[None]:
        """Let the global generators go on from here; afterwards they are as they were.

        fast-reid's and torchvision's transforms draw from nothing else.
        """
        before = random.getstate(), np.random.get_state(), torch.get_rng_state()
        _set_global(self.python.getstate(), self.numpy.get_state(), self.torch.get_state())
        try:
            yield
        finally:
            self.python.setstate(random.getstate())
            self.numpy.set_state(np.random.get_state())
            self.torch.set_state(torch.get_rng_state())
            _set_global(*before)


def _set_global(python: tuple[Any, ...], numpy: Any, pytorch: Tensor) -> None:
    random.setstate(python)
    np.random.set_state(numpy)
    torch.set_rng_state(pytorch)
