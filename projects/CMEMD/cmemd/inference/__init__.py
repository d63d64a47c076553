"""Use a trained network: model folders, embeddings of images, the model zoo.

Importing this package is cheap: a name loads its module on first use. Only a PyTorch program loads
torch; nothing here loads fast-reid.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers do not follow __getattr__ below
    from cmemd.inference.frames import FrameEncoder as FrameEncoder
    from cmemd.inference.frames import reid_backbone as reid_backbone
    from cmemd.inference.predictor import Predictor as Predictor
    from cmemd.inference.zoo import load_pretrained as load_pretrained

_HOMES = {
    "FrameEncoder": "cmemd.inference.frames",
    "Predictor": "cmemd.inference.predictor",
    "load_pretrained": "cmemd.inference.zoo",
    "reid_backbone": "cmemd.inference.frames",
}

__all__ = [*_HOMES]


def __getattr__(name: str) -> object:
    """Import the module of a public name and return what it names (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
