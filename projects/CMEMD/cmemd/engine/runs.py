"""A training and its test in a folder of their own: whether it is finished, and its results."""

import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from tqdm import tqdm

from cmemd.engine.checkpoint import read_checkpoint
from cmemd.engine.provenance import config_sha256
from cmemd.errors import InputError
from cmemd.evaluation.results import read_results

__all__ = ["Run", "run_all"]


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
        """The folder that it writes to."""
        return Path(self.cfg.OUTPUT_DIR)

    def results(self) -> dict[str, Any] | None:
        """Return its results file's content, or None where it has not finished.

        Raises:
            InputError: its folder holds a run of another configuration.
        """
        path, last = self.folder / "results.json", self.folder / "last_checkpoint"
        if path.is_file():
            run = (document := read_results(path))["run"]
            if run.get("selection", {}).get("final"):
                self._check(run["config"]["sha256"])
                return document
        if last.is_file():
            name = last.read_text().strip()
            record = read_checkpoint(self.folder / name, named_by=str(last)).record
            self._check(record and record.config_sha256)
        return None

    def _check(self, sha256: str | None) -> None:
        if sha256 != config_sha256(self.cfg):
            raise InputError(
                f"{self.name} in {self.folder} with the configuration that was given",
                "a run of another configuration",
                "runs of different configurations have no average: use that configuration again, "
                "or set another output folder",
            )


def run_all(runs: Sequence[Run], script: Path, jobs: int = 1) -> list[Run]:
    """Train and test what is not finished yet; a failed run does not stop the others.

    Args:
        runs: in the order in which they start.
        script: tools/train_net.py.
        jobs: runs at a time; they share the processor's cores.

    Returns:
        The runs that failed; each has its output in ``output.txt`` of its folder.

    Raises:
        InputError: fewer than one job, or a folder with a run of another configuration.
    """
    if jobs < 1:
        raise InputError("--jobs of at least 1", jobs, "it is the number of runs at a time")
    waiting = [run for run in runs if run.results() is None]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))

    def start(run: Run) -> Run | None:
        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / "output.txt").open("w") as output:
            words = [sys.executable, str(script), *run.words]
            done = subprocess.run(
                words, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        return run if done.returncode or run.results() is None else None

    with ThreadPoolExecutor(jobs) as threads:
        started = tqdm(
            threads.map(start, waiting), total=len(waiting), desc="runs", disable=None, unit="run"
        )
        return [run for run in started if run is not None]
