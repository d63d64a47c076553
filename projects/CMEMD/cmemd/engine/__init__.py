"""How a run goes: set-up, trainer, tests, checkpoints, and what a run records about itself."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # type checkers do not follow __getattr__ below
    from cmemd.engine.testing import evaluate as evaluate
    from cmemd.engine.trainer import Trainer as Trainer
    from cmemd.engine.trainer import train as train

_PUBLIC = {
    "Trainer": "cmemd.engine.trainer",
    "train": "cmemd.engine.trainer",
    "evaluate": "cmemd.engine.testing",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
