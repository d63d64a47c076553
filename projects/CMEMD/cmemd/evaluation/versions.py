"""Versions of the software that computed a result: its packages and this package's commit."""

import platform
import subprocess
from importlib import metadata
from pathlib import Path

from cmemd.version import __version__

__all__ = ["versions"]

_PACKAGES = ("numpy", "torch", "fastreid", "timm")


def versions() -> dict[str, str | None]:
    """Return versions by name; None for a package that is not installed.

    ``commit`` is this package's own commit, followed by ``-dirty`` where files differ from it. It
    is None where the package does not come from a checkout.
    """
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "cmemd": __version__,
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).resolve()
    # A virtual environment may lie inside another project's checkout.
    if _git("ls-files", "--error-unmatch", here.name) is None:
        return None
    return _git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(*words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *words],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
