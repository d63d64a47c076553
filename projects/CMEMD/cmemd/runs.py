"""A training and its test in a folder of their own: whether it is done, and what it found."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode

from cmemd.checkpoint import read_checkpoint, read_record
from cmemd.errors import InputError
from cmemd.evaluation.results import read_results
from cmemd.provenance import config_sha256

__all__ = ["Run"]


@dataclass(frozen=True)
class Run:
    """One training and test by tools/train_net.py.

    Attributes:
        name: for messages.
        cfg: its configuration.
        words: of its command line.
    """

    name: str
    cfg: CfgNode
    words: tuple[str, ...]

    @property
    def folder(self) -> Path:
        """Where it writes."""
        return Path(self.cfg.OUTPUT_DIR)

    def results(self) -> dict[str, Any] | None:
        """Its results document, or None where it has not finished.

        Raises:
            InputError: if what is in its folder was made with another configuration.
        """
        path, last = self.folder / "results.json", self.folder / "last_checkpoint"
        if path.is_file():
            run = (document := read_results(path))["run"]
            if run.get("selection", {}).get("final"):
                self._check(run["config"]["sha256"])
                return document
        if last.is_file():
            record = read_record(read_checkpoint(self.folder / last.read_text().strip()))
            self._check(record and record.config_sha256)
        return None

    def _check(self, sha256: str | None) -> None:
        if sha256 != config_sha256(self.cfg):
            raise InputError(
                f"{self.name} in {self.folder} was trained with another configuration, and runs of "
                "different ones have no average: use that again, delete the folder, or set another "
                "output folder"
            )
