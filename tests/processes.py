"""Python in processes of its own that need not import PyTorch and other large packages again.

They are forked from a server, which has imported those, but neither fast-reid nor cmemd: a process
may import another copy of cmemd, or find fast-reid missing. Few tests need an interpreter that has
imported nothing at all; they start one themselves.
"""

import contextlib
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preloaded"])

# `torchrun --standalone --nproc-per-node 2 tools/train_net.py`, but its workers are forked.
TORCHRUN = """
import runpy
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

def work():
    runpy.run_path("tools/train_net.py", run_name="__main__")

standalone = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "test"}
config = LaunchConfig(1, 1, 2, max_restarts=0, start_method="fork", **standalone)
elastic_launch(config, work)()
"""


def python(
    *words: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run Python and return its status and output, as ``subprocess.run`` would.

    Args:
        words: of its command line: ``-c code``, ``-m module`` or a script, and arguments.
        cwd: where it runs; here by default.
        environment: changes of the environment. ``PYTHONPATH`` goes before all other folders.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        everything = dict(os.environ) | dict(environment or {})
        given = (list(map(str, words)), str(cwd or Path.cwd()), everything, str(out), str(err))
        process = CONTEXT.Process(target=_run, args=given)
        process.start()
        process.join()
        return subprocess.CompletedProcess(
            words, process.exitcode, out.read_text(), err.read_text()
        )


def _run(words: list[str], cwd: str, environment: dict[str, str], out: str, err: str) -> None:
    for number, path in ((1, out), (2, err)):
        with open(path, "w") as file:
            os.dup2(file.fileno(), number)
    multiprocessing.set_start_method(None, force=True)  # it inherits the server's, "forkserver"
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    kind = words[0] if words[0] in ("-c", "-m") else ""
    sys.argv[:] = words[1:] if kind else words
    with contextlib.ExitStack() as end:
        end.callback(sys.stdout.flush)
        if kind == "-c":
            sys.argv[0] = "-c"
            exec(words[1], {"__name__": "__main__"})  # noqa: S102
        elif kind == "-m":
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            runpy.run_path(words[0], run_name="__main__")
