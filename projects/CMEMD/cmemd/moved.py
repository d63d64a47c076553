"""Old import paths of this package: they work for one release, with a DeprecationWarning.

Importing this module adds a finder that answers for the names in ``MOVED`` alone. It comes before
Python's own, which would take a folder that an update has emptied for a package. It goes away in
version 0.3.
"""

import importlib
import importlib.abc
import importlib.util
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

__all__ = ["MOVED"]

# Old module -> where it is now; modules below one move with it. Several new ones share the old
# one's names among them.
MOVED: dict[str, str] = {
    "cmemd.serve": "cmemd.inference",
    "cmemd.checkpoint": "cmemd.engine.checkpoint",
    "cmemd.hooks": "cmemd.engine.hooks",
    "cmemd.launch": "cmemd.engine.launch",
    "cmemd.provenance": "cmemd.engine.provenance",
    "cmemd.record": "cmemd.engine.record",
    "cmemd.runs": "cmemd.engine.runs",
    "cmemd.trials": "cmemd.engine.trials",
    "cmemd.data.doctor": "cmemd.doctor",
    "cmemd.data.synthetic": "cmemd.standin",
    "cmemd.data.splits": "cmemd.data.layouts.permutations cmemd.data.layouts.identity_lists",
    "cmemd.data.index_files": "cmemd.data.layouts.index_files",
    "cmemd.evaluation.evaluator": "cmemd.engine.evaluator",
    "cmemd.gallery.calibration": "cmemd.evaluation.open_set",
    "cmemd.study.clouds_figure": "cmemd.study.figures",
    "cmemd.study.rows_figure": "cmemd.study.figures",
    "cmemd.losses.ranks": "cmemd.losses.distributed",
    "cmemd.losses.grouping": "cmemd.data.grouping",
}


class _MovedFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Find an old name, and load the module that stands for it now."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return a spec for an old name, else None."""
        return importlib.util.spec_from_loader(name, self) if _now(name) else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Import the module that stands for an old name now."""
        now = _now(spec.name)
        assert now is not None, "find_spec made the spec"
        warnings.warn(
            f"{spec.name} has moved to {now}; the old name goes away in cmemd 0.3",
            DeprecationWarning,
            stacklevel=2,
        )
        parts = [importlib.import_module(part) for part in now.split()]
        spec.loader_state = parts[0] if len(parts) == 1 else _joined(spec.name, parts)
        # The import system writes the old name into what it is given: a stand-in, not the module.
        return ModuleType(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Let the old name stand for the module."""
        assert module.__spec__ is not None, "create_module's"
        sys.modules[module.__name__] = module.__spec__.loader_state


def _joined(name: str, parts: Sequence[ModuleType]) -> ModuleType:
    """Return a module with the public names of several."""
    module = ModuleType(name)
    for part in parts:
        vars(module).update({public: getattr(part, public) for public in part.__all__})
    return module


def _now(name: str) -> str | None:
    for old, now in MOVED.items():
        if name == old or name.startswith(f"{old}."):
            return now + name[len(old) :]
    return None


if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
    sys.meta_path.insert(0, _MovedFinder())
