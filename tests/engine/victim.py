"""Runs of tools/train_net.py in processes that can be killed."""

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.processes import CONTEXT

REPOSITORY = Path(__file__).parents[2]


def start(words: Sequence[str], environment: Mapping[str, str], output: Path) -> BaseProcess:
    """Start tools/train_net.py with a command line; its output is appended to a file."""
    process = CONTEXT.Process(target=_run, args=(list(words), dict(environment), str(output)))
    process.start()
    return process


def _run(words: list[str], environment: dict[str, str], output: str) -> None:
    os.environ.update(environment)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.argv = ["train_net.py", *words]
    runpy.run_path(str(REPOSITORY / "tools/train_net.py"), run_name="__main__")
