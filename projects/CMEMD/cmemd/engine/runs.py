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

from cmemd.engine.children import stopping_children
from cmemd.engine.identity import RunIdentity, RunLog, flat_config, read_run
from cmemd.engine.provenance import config_sha256
from cmemd.engine.setup import with_seed
from cmemd.errors import InputError
from cmemd.evaluation.results import read_results

__all__ = ["Run", "run_all"]


@dataclass(frozen=True)
class Run:
    """One training and test.

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
        run = read_run(self.folder)
        if run is not None:
            run.identity.check_same_run(self._identity(run), self.folder)
        path = self.folder / "results.json"
        if path.is_file():
            facts = (document := read_results(path))["run"]
            if facts.get("selection", {}).get("final"):
                self._check(facts["config"]["sha256"], run)
                return document
        return None

    def _identity(self, run: RunLog) -> RunIdentity:
        """Return the planned identity; images and weights are compared when the run starts."""
        identity = run.identity
        return RunIdentity(flat_config(self.cfg), identity.data, identity.version)

    def _check(self, sha256: str, run: RunLog | None) -> None:
        cfg = self.cfg
        if cfg.SEED < 0 and run is not None:
            cfg = with_seed(cfg, run.identity.config["SEED"])
        if sha256 != config_sha256(cfg):
            raise InputError(
                f"{self.name} in {self.folder} with the configuration that was given",
                "a run of another configuration",
                "runs of different configurations have no average: use that configuration again, "
                "or set another output folder",
            )


def run_all(runs: Sequence[Run], script: Path | None = None, jobs: int = 1) -> list[Run]:
    """Train and test what is not finished yet; a failed run does not stop the others.

    Args:
        runs: in the order in which they start.
        script: a training script, such as tools/train_net.py; None for ``cmemd train``.
        jobs: runs at a time; they share the processor's cores.

    Returns:
        The runs that failed; each has its output in ``output.txt`` of its folder.

    Raises:
        InputError: fewer than one job, or a folder with a run of another configuration.
        Stopped: a signal came; the runs have saved and ended.
    """
    if jobs < 1:
        raise InputError("--jobs of at least 1", jobs, "it is the number of runs at a time")
    command = [sys.executable, *(("-m", "cmemd", "train") if script is None else (str(script),))]
    waiting = [run for run in runs if run.results() is None]
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // jobs)))

    def start(run: Run) -> Run | None:
        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / "output.txt").open("a") as output:
            words = [*command, *run.words]
            status = children.run(words, environment, stdout=output, stderr=subprocess.STDOUT)
        return run if status or run.results() is None else None

    with stopping_children() as children, ThreadPoolExecutor(jobs) as threads:
        started = tqdm(
            threads.map(start, waiting), total=len(waiting), desc="runs", disable=None, unit="run"
        )
        return [run for run in started if run is not None]
