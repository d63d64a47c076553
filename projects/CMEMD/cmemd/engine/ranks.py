"""One process of a run that torchrun started: it meets the others, watches them, ends with them.

torchrun starts the processes, gives them their numbers and ends those of its own machine when one
of them fails. What it leaves to the processes is here:

- Each gives a sign of life every two seconds through torchrun's store, and looks at its neighbour's
  sign. So all of them notice a process that was lost with its machine, or that hangs, while they
  wait in an exchange or work alone.
- The first one that fails or is stopped leaves its line and its exit status in the store. All end
  with that status, and the line is shown once.
"""

import gc
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid
from cmemd.compat import set_local_group

import torch
from fastreid.utils import comm
from torch import distributed

from cmemd.engine.children import stop_with_parent
from cmemd.errors import (
    EXIT_FAILED,
    InputError,
    LostProcessError,
    is_lost_process,
    printable,
    readable_errors,
)

__all__ = ["LAUNCHED", "TIMEOUT", "run_rank", "started_by_torchrun", "wait_for_main"]

LAUNCHED = "CMEMD_LAUNCHED"  # environment variable: our launcher shows the line, not the process
TIMEOUT = timedelta(minutes=10)  # of one exchange between processes [C]

_TICK = 2.0  # seconds between two signs of life [C]
_SILENT = 10  # ticks without one, after which a process is taken for lost [C]
_GRACE = 5  # ticks that a process has to end by itself, once another one has [C]
_PATIENCE = 3.0  # seconds in which a process that failed may say why, before another one does [C]
_LEFT = 1 << 40  # of a sign of life: the process has ended well
_END = "end"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_team: "_Team | None" = None


def started_by_torchrun() -> bool:
    """Return whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def run_rank(work: Callable[[], object], cuda: bool) -> None:
    """Do the work of one process that torchrun started; end with the others.

    Args:
        work: what all processes do.
        cuda: whether it uses CUDA, device LOCAL_RANK of the machine, and exchanges by NCCL; else
            the exchanges go through gloo.
    """
    global _team  # noqa: PLW0603  a process is in one run
    stop_with_parent()
    _team = team = _Team()
    with readable_errors(tell=team.tell):
        _join(cuda)
        work()
        wait_for_main()
        team.leave()
        distributed.destroy_process_group()
    _team = None


def wait_for_main() -> None:
    """Let all other processes wait until the main process is here, however long it takes.

    The main process alone scores, hashes files and writes. An exchange has a time limit, which must
    not end such work; here the others wait as long as it gives signs of life.

    Raises:
        LostProcessError: another process has failed.
    """
    if _team is not None:
        _team.wait_for_main()
    else:
        comm.synchronize()


def _join(cuda: bool) -> None:
    local = int(os.environ["LOCAL_RANK"])
    if cuda:
        if local >= torch.cuda.device_count():
            raise InputError(
                f"a CUDA device for each of {os.environ['LOCAL_WORLD_SIZE']} processes",
                f"{torch.cuda.device_count()} devices",
                "start as many processes on a machine as it has devices",
            )
        torch.cuda.set_device(local)
    distributed.init_process_group("nccl" if cuda else "gloo", timeout=TIMEOUT)
    machines = comm.all_gather(int(os.environ["GROUP_RANK"]))
    for machine in sorted(set(machines)):  # all must create all groups
        group = distributed.new_group(
            [rank for rank, of in enumerate(machines) if of == machine], timeout=TIMEOUT
        )
        if machine == int(os.environ["GROUP_RANK"]):
            set_local_group(group)


class _Team:
    """The processes of a run, as one of them sees them through torchrun's store."""

    def __init__(self) -> None:
        torchrun: Any = distributed  # whose types do not export these two
        store, self.rank, self.size = next(iter(torchrun.rendezvous("env://")))
        self._store = torchrun.PrefixStore("cmemd", store)
        self._waits = 0
        self._ticks = 0
        self._left = threading.Event()
        self._store.add(self._life(self.rank), 1)  # before any exchange, which waits for all
        for task in (self._watch_others, self._watch_store):
            threading.Thread(target=task, daemon=True).start()

    def leave(self) -> None:
        """End well; the others do not miss this process, and the main one goes last."""
        self._left.set()
        self._store.add(self._life(self.rank), _LEFT)
        others = range(1, self.size) if self.rank == 0 else ()
        deadline = time.monotonic() + _TICK * _SILENT
        for rank in others:  # the store may live in the main process
            while self._store.add(self._life(rank), 0) < _LEFT and time.monotonic() < deadline:
                time.sleep(0.02)

    def wait_for_main(self) -> None:
        """Wait until the main process has called this as often as this one."""
        self._waits += 1
        try:
            if self.rank == 0:
                self._store.add("main", 1)
                return
            while self._store.add("main", 0) < self._waits:
                if self._end() is not None:
                    raise LostProcessError
                time.sleep(0.1)
        except LostProcessError:
            raise
        except RuntimeError:  # torchrun has been killed, but not its processes
            comm.synchronize()

    def tell(self, error: BaseException, status: int, line: str) -> tuple[int, str]:
        """Return the status of the first process that ended, and its line if this is the one."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:  # this process is ending; torchrun repeats signals
                signal.signal(number, signal.SIG_IGN)
        gc.freeze()  # Python's last collection of so many objects takes seconds
        first = self._agree(
            {"rank": self.rank, "status": status, "line": line, "lost": is_lost_process(error)}
        )
        shown = first["rank"] == self.rank and LAUNCHED not in os.environ
        return first["status"], first["line"] if shown else ""

    def _agree(self, end: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return how the first process ended; that is this one if no other has yet."""
        first = end
        try:
            deadline = time.monotonic() + (_PATIENCE if end["lost"] else 0)
            while self._end() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            first = json.loads(self._store.compare_set(_END, "", json.dumps(end)))
            told, deadline = self._store.add("told", 1), time.monotonic() + _TICK
            while self.rank == 0 and told < self.size and time.monotonic() < deadline:
                told = self._store.add("told", 0)  # the store may live in the main process
                time.sleep(0.02)
        except RuntimeError:
            pass  # torchrun has ended
        self._record(first)
        return first

    def _record(self, first: Mapping[str, object]) -> None:
        """Leave how the first process ended to torchrun, or to our launcher."""
        file = Path(os.environ.get("TORCHELASTIC_ERROR_FILE", ""))
        if file.name and file.parent.is_dir():
            text = first["line"] if first["rank"] == self.rank else f"as process {first['rank']}"
            told = {"message": text, "errorCode": first["status"], "end": first}
            told["extraInfo"] = {"timestamp": str(int(time.time()))}
            file.write_text(json.dumps({"message": told}))

    def _end(self) -> Mapping[str, Any] | None:
        return json.loads(self._store.get(_END)) if self._store.check([_END]) else None

    @staticmethod
    def _life(rank: int) -> str:
        return f"life/{rank}"

    def _watch_others(self) -> None:
        """Give signs of life; end this process when its neighbour gives none, or one has failed."""
        neighbour, before, silent, over = (self.rank + 1) % self.size, 0, 0, 0
        while not self._left.wait(_TICK):
            try:
                self._store.add(self._life(self.rank), 1)
                now = self._store.add(self._life(neighbour), 0)
                end = self._end()
            except RuntimeError:
                continue  # the other thread counts
            self._ticks += 1
            # Ticks, not seconds: a run may be paused as a whole.
            silent = silent + 1 if now == before and 0 < now < _LEFT else 0
            before = now
            over += end is not None
            if end is not None and over > _GRACE:
                self._end_now(end["status"], "")
            if silent > _SILENT:
                self._end_now(
                    EXIT_FAILED,
                    f"error: process {neighbour} of this run does not answer: it hangs, or its "
                    "machine is lost",
                )

    def _watch_store(self) -> None:
        """End this process when the store does not answer, which a lost machine leaves open."""
        before = silent = 0
        while not self._left.wait(_TICK):
            silent = silent + 1 if self._ticks == before else 0
            before = self._ticks
            if silent > _SILENT:
                line = "error: torchrun, or the machine of its first process, does not answer"
                end = {"rank": self.rank, "status": EXIT_FAILED, "line": line, "lost": False}
                self._record(end)
                if LAUNCHED not in os.environ:
                    self._show(line)
                os._exit(EXIT_FAILED)

    def _end_now(self, status: int, line: str) -> None:
        if line:
            end = {"rank": self.rank, "status": status, "line": line, "lost": False}
            first = self._agree(end)
            if first == end and LAUNCHED not in os.environ:
                self._show(line)
            status = first["status"]
        os._exit(status)  # the main thread waits for what will not come

    @staticmethod
    def _show(line: str) -> None:
        sys.stderr.write(f"{printable(line)}\n")
        sys.stderr.flush()
