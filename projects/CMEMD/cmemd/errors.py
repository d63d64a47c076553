"""Errors that a user can cause and fix, and how every command shows the end of its work.

A command ends with one line on stderr and one of these statuses, or says nothing and ends with 0:

====== ===========================================================================================
status meaning
====== ===========================================================================================
0      done
1      failed: the disk, memory, permissions, another process, or a defect of ours; some work may
       be done
2      bad input: an argument, a file or a configuration; found before any work wherever it can be
129    stopped by SIGHUP
130    stopped by SIGINT (Ctrl-C)
143    stopped by SIGTERM
====== ===========================================================================================

A defect's traceback goes to the run's log, or to a temporary file that the line names. Set
``CMEMD_DEBUG=1`` to see it at once.
"""

import contextlib
import errno
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

__all__ = [
    "EXIT_BAD_INPUT",
    "EXIT_FAILED",
    "EXIT_INTERRUPTED",
    "InputError",
    "LostProcessError",
    "MissingDependencyError",
    "Stopped",
    "end_with",
    "exhausted",
    "format_warning",
    "is_lost_process",
    "printable",
    "readable_errors",
    "reason",
]

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT

_DEBUG = "CMEMD_DEBUG"
_INSTALL = "pip install 'cmemd[serve]' to use a model, 'cmemd[train,export,headless]' to make one"


class InputError(ValueError):
    """Bad input: "expected X, got Y: remedy".

    It is a ``ValueError``, so that callers who do not know this package can catch it.

    Args:
        expected: what was expected; or, as the only argument, a whole message (a loader's worker
            process raises its errors again with that).
        got: what was found instead.
        remedy: what the user can do about it.
    """

    def __init__(self, expected: str, got: object = None, remedy: str | None = None) -> None:
        whole = got is None and remedy is None
        super().__init__(expected if whole else f"expected {expected}, got {got}: {remedy}")


class MissingDependencyError(ImportError):
    """A package that this use of cmemd needs is not installed; the message says how to get it."""


class LostProcessError(RuntimeError):
    """Another process of this run has failed, for a reason that it says itself."""

    def __init__(self) -> None:
        super().__init__("it has failed")


class Stopped(BaseException):
    """A signal has ended the run.

    It is no ``Exception``, so that no handler of errors on the way takes it for one.

    Args:
        number: of the signal.
        detail: what a user should know, for the line on stderr.
    """

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}" + (detail and f": {detail}"))
        self.number = number

    @property
    def status(self) -> int:
        """Exit status of the process."""
        return 128 + self.number


def printable(text: object) -> str:
    r"""Return a text whose characters cannot act on a terminal or break a line.

    File names and labels may hold any bytes. Escaped are control characters (as ``\x1b`` and
    ``\n``), bytes that are no UTF-8 (``\udcff``), invisible marks and exotic spaces.

    >>> printable("a\x1b[31m\nb é")
    'a\\x1b[31m\\nb é'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def reason(error: BaseException, limit: int = 160) -> str:
    """Return the message of a library's exception in one line; its type where it has no message.

    Args:
        error: any exception. Of an ``OSError`` the system's words are taken, without the path.
        limit: number of characters.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(_last_message(str(error)).split())[:limit] or type(error).__name__


def exhausted(error: BaseException) -> bool:
    """Return whether the machine ran out of memory, disk space, open files or processes.

    A handler that takes any failure for a damaged file must let such an error pass: the file may be
    good.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _EXHAUSTED
    if isinstance(error, MemoryError):
        return True
    said = _with_type(error)
    return any(pattern.search(said) for pattern in (_MEMORY, _DISK, _FILES))


@contextmanager
def readable_errors(
    command: str = "this command",
    tell: Callable[[BaseException, int, str], tuple[int, str]] | None = None,
) -> Iterator[None]:
    """End the process with one line on stderr and a status of this module's table.

    SIGTERM and SIGHUP raise ``Stopped``, so that what is unfinished is removed and worker processes
    end. Warnings are one line as well.

    Args:
        command: what needs a package that is missing, for the line.
        tell: called with the error, the status and the line; returns the status and the line to end
            with. So several processes show one line.
    """
    with _raise_at_signals(), _short_warnings(), _quiet_logs():
        try:
            yield
            if sys.stdout is not None:
                sys.stdout.flush()  # a full disk or a closed pipe shows here at the latest
        except (SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            if os.environ.get(_DEBUG, "0") not in ("", "0"):
                raise
            status, line = _explain(error, command)
            if tell is not None:
                status, line = tell(error, status, line)
        else:
            return
        end_with(status, line)


def end_with(status: int, line: str) -> NoReturn:
    """End this process with a status, and a line on stderr unless it is empty."""
    if line and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # it may be closed as well
            sys.stderr.write(f"{printable(line)}\n")
    try:
        if sys.stdout is not None:  # as it is where a process starts without one
            sys.stdout.flush()
    except (OSError, ValueError):
        # Python flushes once more at its end, which would add lines and change the status.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    raise SystemExit(status) from None


def _explain(error: BaseException, command: str) -> tuple[int, str]:
    """Return the exit status and the line of any exception."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "stopped by SIGINT"
    if isinstance(error, Stopped):
        return error.status, str(error)
    if isinstance(error, BrokenPipeError):
        return EXIT_FAILED, ""  # the reader of the output, such as `head`, has had enough
    if isinstance(error, (InputError, MissingDependencyError)):
        # A full disk is no bad input, although the error that names the file is one.
        cause = error.__cause__ or error.__context__
        status = EXIT_FAILED if cause is not None and exhausted(cause) else EXIT_BAD_INPUT
        return status, f"error: {_last_message(str(error)).strip()}"
    machine = _of_machine(error)
    if machine is not None:
        return EXIT_FAILED, f"error: {machine}"
    if isinstance(error, ImportError) and _foreign(error.name):
        fault = "which is not installed"
        if not isinstance(error, ModuleNotFoundError):
            fault = f"which cannot be loaded ({reason(error)})"
        return EXIT_BAD_INPUT, f"error: {command} needs {error.name}, {fault}: {_INSTALL}"
    return EXIT_FAILED, f"error: {_defect(error)}"


# ---- failures of the machine -----------------------------------------------------------------

_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_REMEDIES = {
    errno.ENOSPC: "free some disk space, or write elsewhere",
    errno.EDQUOT: "free some of your disk quota, or write elsewhere",
    errno.EFBIG: "raise the limit (ulimit -f), or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "change its permissions, or name another file",
    errno.EPERM: "change its permissions, or name another file",
    errno.EMFILE: "raise the limit (ulimit -n), or lower the number of workers",
    errno.ENFILE: "close other programs that hold files open",
    errno.ENOMEM: "free some memory, or lower the batch size or the number of workers",
    errno.ENAMETOOLONG: "use a shorter path",
    errno.EIO: "check the disk",
    errno.ESTALE: "mount the network folder again",
}
_MEMORY = re.compile(
    r"OutOfMemoryError|DefaultCPUAllocator|out of memory|bad_alloc|bad allocation|"
    r"[Ii]nsufficient memory|[Cc]annot allocate memory|[Ff]ailed to allocate memory|"
    r"failed to map segment"
)
_WORKER_KILLED = re.compile(
    r"DataLoader worker \(pid\(?s?\)? [\d, ]+\)|BrokenProcessPool|BrokenExecutor"
)
# What libraries say instead of raising an OSError or a kind of their own; the first is PyTorch's
# writer, which does not tell a full disk from others.
_DISK = re.compile(
    r"PytorchStreamWriter|unexpected pos \d+ vs|file write failed|failed writing file|"
    r"No space left on device|os error 28|os error 27|os error 122"
)
_FILES = re.compile(r"Too many open files|os error 24")
_PEER = re.compile(  # gloo, NCCL and the store
    r"LostProcessError|Connection (reset|closed) by peer|Broken pipe|Socket Timeout|DistStoreError|"
    r"DistNetworkError|Connection refused|Application timeout|Timed out waiting \d+ms|"
    r"[Rr]emote process (has )?(exited|ended)|ncclRemoteError|communicator was aborted|"
    r"Watchdog caught collective operation timeout"
)
_OTHERS = (
    (
        re.compile(r"</torch_\w+>|shared memory"),
        "not enough shared memory (/dev/shm)",
        "lower the number of workers, or give the container more (docker run --shm-size)",
    ),
    (_DISK, "a disk that is full or fails", _REMEDIES[errno.ENOSPC]),
    (_FILES, "too many open files", _REMEDIES[errno.EMFILE]),
    (
        re.compile(r"Symlink loop"),  # pathlib before Python 3.13
        "a circle of symbolic links",
        "name another file",
    ),
    (_PEER, "another process of this run has ended or does not answer", "see its own line"),
    (
        re.compile(r"CUDA error|cuDNN error|CUBLAS_STATUS|NCCL error|CUDA driver"),
        "the GPU or its driver failed",
        "run the same command again; if it fails again, try MODEL.DEVICE cpu or --device cpu",
    ),
)


def is_lost_process(error: BaseException) -> bool:
    """Return whether an error only says that another process of this run does not answer."""
    return isinstance(error, RuntimeError) and bool(_PEER.search(_with_type(error)))


def _of_machine(error: BaseException) -> str | None:
    """Return a failure of the machine in words; None for another exception."""
    said = _with_type(error)
    if _WORKER_KILLED.search(said):
        return (
            f"a worker process was killed ({reason(error, 100)}), probably for lack of memory or "
            "of shared memory (/dev/shm): lower the number of workers or the batch size, or give "
            "the container more (docker run --shm-size)"
        )
    if isinstance(error, MemoryError) or _MEMORY.search(said):
        return f"not enough memory ({reason(error, 120)}): {_REMEDIES[errno.ENOMEM]}"
    if isinstance(error, OSError):
        return _of_system(error)
    for pattern, what, remedy in _OTHERS:
        if isinstance(error, RuntimeError) and pattern.search(said):
            return f"{what} ({reason(error, 120)}): {remedy}"
    return None


def _of_system(error: OSError) -> str:
    names = [str(os.fsdecode(name)) for name in (error.filename, error.filename2) if name]
    what = reason(error) if error.strerror is None else error.strerror
    remedy = _REMEDIES.get(error.errno or 0)
    return " -> ".join(names) + (names and ": " or "") + what + (remedy and f": {remedy}" or "")


def _with_type(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _last_message(text: str) -> str:
    """Return what a worker process raised; others' messages are returned as they are.

    A loader and a launcher raise a worker's error again, with its whole traceback for a message.
    """
    if "Traceback" not in text:
        return text
    found = re.split(r"(?m)^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt)\b:? ?", text)
    return found[-1] if len(found) > 1 else text


def _foreign(module: str | None) -> bool:
    return (module or "").partition(".")[0] not in ("", "cmemd")


# ---- defects ---------------------------------------------------------------------------------


def _defect(error: BaseException) -> str:
    """Keep the traceback in a file, and return the line that names it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" in {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
    what = f"a defect of cmemd, {type(error).__name__}{where} ({reason(error)})"
    text = "".join(traceback.format_exception(error))
    try:
        file = _keep(f"{' '.join(sys.argv)}\n\n{text}")
    except OSError:
        return f"{what}: please report it with what {_DEBUG}=1 shows"
    return f"{what}: please report it with the traceback in {file}"


def _keep(text: str) -> str:
    """Write a traceback to the run's log, or else to a temporary file; return the file's name."""
    for handler in logging.getLogger("cmemd").handlers:
        stream = getattr(handler, "stream", None)
        name = getattr(stream, "name", None)
        if stream is None or stream in (sys.stdout, sys.stderr):
            continue
        if isinstance(name, str) and name[:1] != "<":
            stream.write(text)
            stream.flush()
            return name
    with tempfile.NamedTemporaryFile(
        "w", prefix="cmemd-", suffix=".txt", delete=False, errors="backslashreplace"
    ) as file:
        file.write(text)
    return file.name


# ---- signals and warnings --------------------------------------------------------------------


@contextmanager
def _raise_at_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP, where they would end the process, into ``Stopped``.

    What a training does at a signal comes first; ``nohup`` goes on working.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker ends without a word
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        raise Stopped(number)

    taken = [
        number
        for number in (signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is signal.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _quiet_logs() -> Iterator[None]:
    """Escape names in log lines; let a log on a full disk cost no traceback for each line."""
    raising, make = logging.raiseExceptions, logging.getLogRecordFactory()

    def make_harmless(*args: object, **kwargs: object) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if isinstance(record.args, tuple):
            record.args = tuple(map(_harmless, record.args))
        return record

    logging.raiseExceptions = False
    logging.setLogRecordFactory(make_harmless)
    try:
        yield
    finally:
        logging.raiseExceptions = raising
        logging.setLogRecordFactory(make)


def _harmless(value: object) -> object:
    """Return an argument of a log line, escaped; a table keeps its lines."""
    if isinstance(value, os.PathLike):
        return printable(value)
    return "\n".join(map(printable, value.split("\n"))) if isinstance(value, str) else value


@contextmanager
def _short_warnings() -> Iterator[None]:
    before, warnings.formatwarning = warnings.formatwarning, format_warning
    try:
        yield
    finally:
        warnings.formatwarning = before


def format_warning(message: Warning | str, *_: object, **__: object) -> str:
    """Return the line of a warning, whatever its text holds."""
    return f"warning: {printable(' '.join(str(message).split()))}\n"
