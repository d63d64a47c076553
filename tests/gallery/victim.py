"""Commands in processes of their own, which a test can kill or starve."""

import os
import resource
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.gallery import stub
from tests.processes import CONTEXT

from cmemd.cli.main import main
from cmemd.gallery import embedding, table

CHUNK = 10


def start(words: list[str], log: Path, limit: int = 0) -> BaseProcess:
    """Start a command, which embeds with the stub, in small commits.

    Args:
        words: the command and its arguments.
        log: where its output and errors go.
        limit: the largest file in bytes that it may write; 0 for any.
    """
    process = CONTEXT.Process(target=_run, args=(list(map(str, words)), log, limit))
    process.start()
    return process


def _run(words: list[str], log: Path, limit: int) -> None:
    with open(log, "w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    stub.install()
    embedding.CHUNK = CHUNK
    table.INDEX_FROM = 50  # small galleries have one too
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
    try:
        raise SystemExit(main(words))
    finally:  # what measures coverage writes afterwards
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


if __name__ == "__main__":
    _run(sys.argv[2:], Path(sys.argv[1]), limit=0)
