"""Copies of a run's scalars for Weights & Biases and MLflow; neither is needed."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any, Protocol

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.utils.events import EventWriter, get_event_storage

__all__ = ["TRACKERS", "TrackerWriter", "build_trackers", "is_tracker"]

_WINDOW = 20  # iterations, over which fast-reid smooths what it writes


class Tracker(Protocol):
    """What a service is given."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take the scalars of one iteration."""

    def end(self) -> None:
        """End the run."""


class _WandB:
    """A run of Weights & Biases; WANDB_PROJECT, WANDB_MODE and its other variables hold."""

    def __init__(self, cfg: CfgNode, config: Mapping[str, Any]) -> None:
        import wandb

        self._run = wandb.init(dir=cfg.OUTPUT_DIR, name=cfg.OUTPUT_DIR, config=dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        self._run.finish()


class _MLflow:
    """A run of MLflow; MLFLOW_TRACKING_URI, MLFLOW_EXPERIMENT_NAME and other variables hold."""

    def __init__(self, cfg: CfgNode, config: Mapping[str, Any]) -> None:
        import mlflow

        self._mlflow = mlflow
        mlflow.start_run(run_name=cfg.OUTPUT_DIR)
        mlflow.log_params(dict(config))

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics({k.replace("@", "_"): v for k, v in values.items()}, step=step)

    def end(self) -> None:
        self._mlflow.end_run()


TRACKERS: dict[str, Callable[[CfgNode, Mapping[str, Any]], Tracker]] = {
    "wandb": _WandB,
    "mlflow": _MLflow,
}


def is_tracker(name: object) -> bool:
    """Return whether a name is in ``TRACKERS`` and its package is installed."""
    return name in TRACKERS and find_spec(str(name)) is not None


def build_trackers(cfg: CfgNode, config: Mapping[str, Any]) -> list["TrackerWriter"]:
    """Return a writer for each name in ``TRACKERS`` of the configuration.

    Args:
        cfg: the configuration.
        config: every key and its value, which the service shows.
    """
    return [TrackerWriter(TRACKERS[name](cfg, config)) for name in cfg.TRACKERS]


class TrackerWriter(EventWriter):
    """Give a service the scalars that fast-reid writes to its own files, when it writes them.

    Args:
        tracker: the service's run.
    """

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._last = -1

    def write(self) -> None:
        """Send what is new since the last time, each iteration's scalars together."""
        steps: dict[int, dict[str, float]] = {}
        for name, (value, step) in get_event_storage().latest_with_smoothing_hint(_WINDOW).items():
            if step > self._last:
                steps.setdefault(step, {})[name] = float(value)
        for step in sorted(steps):
            self._tracker.log(steps[step], step)
        self._last = max([self._last, *steps])

    def close(self) -> None:
        """End the service's run."""
        self._tracker.end()
