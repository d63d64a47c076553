"""Runs of tools/train_net.py in processes that can be killed."""

import multiprocessing
import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.processes import CONTEXT

REPOSITORY = Path(__file__).parents[2]


def start(
    words: Sequence[str], environment: Mapping[str, str], output: Path, own_group: bool = False
) -> BaseProcess:
    """Start tools/train_net.py with a command line; its output is appended to a file.

    Args:
        words: of the command line.
        environment: what to add to it.
        output: the file.
        own_group: whether the process leads a process group of its own, as a terminal's job does.
    """
    arguments = list(words), dict(environment), str(output), own_group
    process = CONTEXT.Process(target=_run, args=arguments)
    process.start()
    return process


def _run(words: list[str], environment: dict[str, str], output: str, own_group: bool) -> None:
    # As in a run that is started by hand: a loader's workers are forked, and end with the run.
    multiprocessing.set_start_method("fork", force=True)
    if own_group:
        os.setpgid(0, 0)
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["train_net.py", *words]
    runpy.run_path(str(REPOSITORY / "tools/train_net.py"), run_name="__main__")
