"""Moves an old run aside, so that a new one can start in its folder."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from cmemd.engine.identity import RUN_FILE

__all__ = ["archive_run", "holds_results", "holds_run"]

# What a run writes into its folder; nothing else is ever moved.
_RUN_FILES = (
    RUN_FILE,
    "config.yaml",
    "log.txt*",
    "metrics.json",
    "events.out.tfevents.*",
    "last_checkpoint",
    "model_*.pth",
    "model_*.pth.sha256",
    "results.json",
    "results.per_query.npz",
    "features.npz",
    "ranked_gallery.png",
    "det.png",
    "split.csv",
    "split-[0-9]*.csv",
    "validation",
    "evaluation",
)
_SIGNS = (RUN_FILE, "last_checkpoint", "model_*.pth")  # of a training, finished or not


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a training, finished or not."""
    return any(_found(folder, _SIGNS))


def holds_results(folder: Path) -> bool:
    """Return whether a folder holds results, of a training or of an evaluation."""
    return (folder / "results.json").is_file()


def archive_run(folder: Path) -> Path | None:
    """Move a run's files to ``archive-1`` in its folder, or the next free number.

    Returns:
        The new folder; None where there was nothing to move.

    Raises:
        OSError: a file cannot be moved.
    """
    files = sorted(set(_found(folder, _RUN_FILES)))
    if not files:
        return None
    numbered = (folder / f"archive-{number}" for number in itertools.count(1))
    target = next(path for path in numbered if not path.exists())
    target.mkdir()
    # The record goes first: without it the rest is no run that could be resumed by mistake.
    for file in sorted(files, key=lambda path: path.name != RUN_FILE):
        file.rename(target / file.name)
    return target


def _found(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    return itertools.chain.from_iterable(folder.glob(pattern) for pattern in patterns)
