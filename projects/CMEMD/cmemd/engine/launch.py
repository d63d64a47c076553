"""Starts the processes of a run, by PyTorch's torchrun."""

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from cmemd.config import load_config
from cmemd.engine.children import is_orphan
from cmemd.engine.ranks import LAUNCHED, run_rank, started_by_torchrun
from cmemd.errors import EXIT_FAILED, InputError, Stopped, end_with

__all__ = ["check_processes", "launch"]


def launch(main: Callable[[Namespace], object], args: Namespace) -> None:
    """Run ``main(args)`` in as many processes as the command line says.

    Under torchrun these are the processes that it started. ``--num-gpus`` above 1, or
    ``--num-machines`` above 1, starts this process's own command again under torchrun, and ends
    with the status of the first process that failed or was stopped.

    Args:
        main: the work of one process.
        args: of fast-reid's ``default_argument_parser``.

    Raises:
        InputError: numbers of processes that contradict each other.
        Stopped: a signal came; the processes have ended.
    """
    check_processes(args)
    several = args.num_gpus * args.num_machines > 1
    if started_by_torchrun():
        if several and LAUNCHED not in os.environ:
            raise InputError(
                "processes from torchrun, or from --num-gpus and --num-machines",
                "both",
                "leave those two out: torchrun's --nproc-per-node and --nnodes count",
            )
        run_rank(lambda: main(args), _uses_cuda(args))
    elif several:
        _start_torchrun(args)
    else:
        main(args)


def check_processes(args: Namespace) -> None:
    """Raise unless the command line's numbers of processes and machines can be.

    Raises:
        InputError: one is below 1, or no machine has this machine's number.
    """
    if min(args.num_gpus, args.num_machines) < 1 or not 0 <= args.machine_rank < args.num_machines:
        raise InputError(
            "--num-gpus and --num-machines of at least 1, and --machine-rank below --num-machines",
            f"{args.num_gpus}, {args.num_machines} and {args.machine_rank}",
            "leave them out for one process",
        )


def _uses_cuda(args: Namespace) -> bool:
    """Return whether the processes train on CUDA; a faulty configuration is refused later."""
    with contextlib.suppress(InputError, OSError):
        device = load_config(args.config_file, args.opts).MODEL.DEVICE
        return device.startswith("cuda") and torch.cuda.is_available()
    return False


def _start_torchrun(args: Namespace) -> None:
    from torch.distributed import run  # its own command line

    words = ["--nproc-per-node", str(args.num_gpus), "--max-restarts", "0"]
    if args.num_machines > 1:
        place = urlsplit(args.dist_url)
        if place.scheme != "tcp" or place.hostname is None or place.port is None:
            raise InputError(
                "--dist-url tcp://HOST:PORT, with the first machine's address",
                args.dist_url,
                "give the same one on all machines",
            )
        words += ["--nnodes", str(args.num_machines), "--node-rank", str(args.machine_rank)]
        words += ["--master-addr", place.hostname, "--master-port", str(place.port)]
    else:
        words += ["--standalone", "--local-addr", "127.0.0.1"]
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN  # by nohup
    words += ["--signals-to-handle", "SIGTERM,SIGINT" + ("" if ignored else ",SIGHUP")]
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // args.num_gpus)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    os.environ[LAUNCHED] = "1"
    with tempfile.TemporaryDirectory(prefix="cmemd-") as folder, _ended_with_parent(), _no_logs():
        words += ["--log-dir", folder]
        try:
            run.run(run.parse_args([*words, *sys.argv]))
        except (ChildFailedError, SignalException) as error:
            status, line = _explain(error, _ends(Path(folder)))
        else:
            return
    end_with(status, line)


def _ends(folder: Path) -> list[Mapping[str, Any]]:
    """Return what the processes said about their end; see ``cmemd.engine.ranks``."""
    files = sorted(folder.rglob("error.json"))
    return [json.loads(file.read_text())["message"]["end"] for file in files]


def _explain(
    error: ChildFailedError | SignalException, ends: list[Mapping[str, Any]]
) -> tuple[int, str]:
    """Return the status and the line of a run that torchrun has ended.

    What a process said is shown before what torchrun saw, but for the processes that torchrun
    stopped after another one was killed.
    """
    said = [end for end in ends if not end["lost"]]
    if isinstance(error, SignalException):
        stopped = Stopped(error.sigval)
        return stopped.status, next(
            (end["line"] for end in said if end["status"] == stopped.status), str(stopped)
        )
    failures = sorted(error.failures.items())
    killed = [(rank, failure) for rank, failure in failures if _was_killed(failure)]
    failed = [end for end in said if end["status"] < 128]
    if failed:
        return failed[0]["status"], failed[0]["line"]
    if killed:
        rank, failure = killed[0]
        remedy = "it may have lacked memory: lower the batch size or the number of workers"
        name = signal.Signals(-failure.exitcode).name
        return EXIT_FAILED, f"error: process {rank} of this run was killed by {name}: {remedy}"
    if said or ends:
        first = (said or ends)[0]
        return first["status"], first["line"]
    rank, failure = failures[0]
    status = 128 - failure.exitcode if failure.exitcode < 0 else failure.exitcode
    return status, f"error: process {rank} of this run ended with status {status}, without a word"


def _was_killed(failure: ProcessFailure) -> bool:
    return failure.exitcode < 0 and -failure.exitcode not in (
        signal.SIGTERM,
        signal.SIGINT,
        signal.SIGHUP,
    )


@contextmanager
def _ended_with_parent() -> Iterator[None]:
    """Stop as at SIGTERM when the process that started this one as a child has been killed."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(1):
            if is_orphan():
                os.kill(os.getpid(), signal.SIGTERM)
                return

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()


@contextmanager
def _no_logs() -> Iterator[None]:
    """Keep torchrun's log off stderr: the line of the first failure says what matters."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
