"""Checksums of a data set's files, in the format of ``sha256sum``: write, read and compare them.

A changed byte in a picture can give another valid picture, which no decoder can tell from the right
one. Checksums that were written when the copy was good tell.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from cmemd.doctor.report import Fault, Report, Severity
from cmemd.errors import InputError
from cmemd.files import file_sha256

__all__ = ["format_sums", "read_sums", "report_sums"]

CHANGED = Fault(
    Severity.ERROR,
    "files whose content is not that of the checksums",
    "restore them from the data set; if the change was meant, write new checksums",
)
GONE = Fault(
    Severity.ERROR,
    "files of the checksums that are missing",
    "restore them from the data set; if they went on purpose, write new checksums",
)
NEW = Fault(
    Severity.WARNING,
    "images and lists without a checksum",
    "remove them, or write new checksums",
)


def format_sums(digests: Mapping[str, str]) -> str:
    r"""Return a line ``<SHA-256>  <path>`` for each file, for ``sha256sum -c`` in the folder.

    As ``sha256sum`` does, a line starts with a backslash where its path holds ``\`` or a new line.

    >>> print(format_sums({"cam1/a.jpg": "0f"}), end="")
    0f  cam1/a.jpg

    Args:
        digests: path below the folder -> SHA-256 in hex.
    """
    lines = []
    for path, digest in sorted(digests.items()):
        quoted = path.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f"{'' if quoted == path else chr(92)}{digest}  {quoted}\n")
    return "".join(lines)


def read_sums(file: Path) -> dict[str, str]:
    """Return path -> SHA-256 of a file of checksums.

    Raises:
        InputError: the file is missing, empty, or holds another line, which is named.
    """
    if not file.is_file():
        raise InputError(f"checksums at {file}", "no file", "write them with --write-sums first")
    try:
        text = file.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"checksums at {file}", error.strerror, "make it readable") from None
    digests = {}
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line:
            continue
        found = re.fullmatch(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)", line)
        if not found:
            raise InputError(
                f"`SHA-256  path` in {file}, line {number}",
                repr(line[:80]),
                "write the checksums with --write-sums or sha256sum",
            )
        escaped, digest, path = found.groups()
        if escaped:
            path = re.sub(r"\\([\\nr])", lambda x: {"n": "\n", "r": "\r"}.get(x[1], "\\"), path)
        digests[path.removeprefix("./")] = digest.lower()
    if not digests:
        raise InputError(f"checksums in {file}", "none", "write them with --write-sums")
    return digests


def report_sums(root: Path, expected: Mapping[str, str], report: Report) -> None:
    """Report files that changed, are missing, or are new since the checksums were written.

    Args:
        root: the data set's folder.
        expected: path below it -> SHA-256.
        report: holds the digests of images and lists; takes the findings.
    """
    for path, digest in expected.items():
        found = report.digests.get(path)
        if found is None and (root / path).is_file():
            try:
                found = file_sha256(root / path)
            except OSError as error:
                report.add(CHANGED, [f"{path}: {error.strerror}"])
                continue
        if found is None:
            report.add(GONE, [path])
        elif found != digest:
            report.add(CHANGED, [path])
    report.add(NEW, sorted(report.digests.keys() - expected.keys()))
