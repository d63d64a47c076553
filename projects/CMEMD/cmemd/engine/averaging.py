"""EMA weights: an exponential moving average of a network's parameters, kept on its device."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["EMA", "AveragedWeights"]

EMA = "ema"  # the name of the averages in a checkpoint


class AveragedWeights:
    """The average of a network's parameters over the steps of a training.

    After each step, ``average = decay * average + (1 - decay) * parameter``, so that about the last
    ``1 / (1 - decay)`` steps count. It starts from the parameters themselves. Buffers, such as
    running statistics, are the network's own. An update is one operation over all parameters and
    never waits for the device.

    Args:
        network: the trained network, without wrappers.
        decay: in (0, 1).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._network = network
        self.start()

    def start(self) -> None:
        """Start from the network's parameters as they are now."""
        # A frozen parameter may be trained later: all are averaged.
        self._parameters = dict(self._network.named_parameters())
        self._averages = {
            name: parameter.detach().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step."""
        torch._foreach_lerp_(
            list(self._averages.values()), list(self._parameters.values()), 1 - self.decay
        )

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Give the network the averages, and afterwards its own parameters again, bit for bit."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        _copy(self._averages, self._parameters)
        try:
            yield
        finally:
            _copy(own, self._parameters)

    def state_dict(self) -> dict[str, Any]:
        """Return the decay and "model", the tensors of a network with these weights, by name."""
        return {"decay": self.decay, "model": self._network.state_dict() | self._averages}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the averages of a resumed run."""
        _copy({name: state["model"][name] for name in self._averages}, self._averages)


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, tensor in source.items():
        target[name].copy_(tensor)
