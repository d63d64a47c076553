"""The log of who searched for what: one JSON object a line, only ever added to."""

import json
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from threading import Lock
from typing import Any

from cmemd.files import whole_file

__all__ = ["Audit", "forget_lines", "now"]


class Audit:
    """Write a line for each search, change and refusal.

    A line is in the file before the caller gets its answer; if it cannot be written, there is no
    answer. Images are named by their SHA-256, never kept.

    Args:
        path: the file, which only its owner may read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()

    def write(self, action: str, client: str, facts: Mapping[str, Any]) -> None:
        """Add a line.

        Args:
            action: such as ``search``.
            client: the address that asked.
            facts: JSON values; names of files and people are escaped by JSON.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        entry = {"time": now().isoformat(), "action": action, "client": client, **facts}
        line = json.dumps(entry).encode() + b"\n"
        with self._lock:
            file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                if os.write(file, line) < len(line):
                    raise OSError(28, "No space left on device", str(self.path))
            finally:
                os.close(file)

    def forget(self, before: datetime) -> int:
        """Delete the lines from before a time; return how many."""
        with self._lock:
            return forget_lines(self.path, before)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(timezone.utc)


def forget_lines(path: Path, before: datetime) -> int:
    """Delete lines whose ``time`` is before a moment, and lines that a kill cut short.

    Args:
        path: a file of JSON objects; it may be missing.
        before: the moment.

    Returns:
        The number of lines deleted.
    """
    if not path.exists():
        return 0
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _is_after(line, before)]
    if len(kept) < len(lines):
        with whole_file(path) as unfinished:
            unfinished.chmod(0o600)
            unfinished.write_bytes(b"".join(kept))
    return len(lines) - len(kept)


def _is_after(line: bytes, before: datetime) -> bool:
    try:
        return datetime.fromisoformat(json.loads(line)["time"]) >= before
    except (ValueError, KeyError, TypeError):
        return False
