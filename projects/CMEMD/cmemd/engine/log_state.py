"""The windows of the log, which a resumed run goes on with."""

from collections.abc import Mapping
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.utils.events import EventStorage

__all__ = ["EMPTY_LOG", "load_log_state", "log_state"]

EMPTY_LOG: Mapping[str, Any] = {"latest": {}, "hints": {}, "histories": {}}
_WINDOW = 200  # values of each scalar; the longest window that a writer looks at


def log_state(storage: EventStorage) -> dict[str, Any]:
    """Return what fast-reid's writers look at: the last values and running means of each scalar."""
    return {
        "latest": dict(storage.latest()),
        "hints": dict(storage.smoothing_hints()),
        "histories": {
            name: [history._count, history._global_avg, history.values()[-_WINDOW:]]
            for name, history in storage.histories().items()
        },
    }


def load_log_state(storage: EventStorage, state: Mapping[str, Any]) -> None:
    """Set a new storage to what ``log_state`` returned."""
    storage._latest_scalars.update(state["latest"])
    storage._smoothing_hints.update(state["hints"])
    for name, (count, mean, values) in state["histories"].items():
        history = storage._history[name]
        history._count, history._global_avg = count, mean
        history._data = list(values)
