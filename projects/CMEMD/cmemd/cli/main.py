"""``cmemd <command>``: find the command, parse its arguments, show its errors."""

import importlib
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import TextIO

from cmemd.cli.overrides import OverridesParser
from cmemd.errors import format_warning, printable, readable_errors
from cmemd.version import __version__

__all__ = ["COMMANDS", "main", "parser"]

COMMANDS = (
    "synth",
    "list",
    "doctor",
    "train",
    "score",
    "compare",
    "export",
    "verify",
    "embed",
    "gallery",
    "search",
    "serve",
    "calibrate",
    "zoo",
    "ablate",
    "keys",
    "reproduce",
    "report",
    "plans",
    "clouds",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Whatever else ends the command is one line on stderr and a status of ``cmemd.errors``. Each
    command is a module of this package with ``HELP``, ``add_arguments(parser)`` and ``run(args)``,
    which returns the exit status.

    Args:
        argv: words of the command line, by default those of this process.
    """
    with readable_errors():
        return _run(argv)


def parser() -> OverridesParser:
    """Build the parser of all commands."""
    whole = OverridesParser(
        prog="cmemd", description="Visible-thermal person re-identification with CM-EMD."
    )
    whole.add_argument("--version", action="version", version=__version__)
    commands = whole.add_subparsers(dest="command", required=True, metavar="command")
    for name in COMMANDS:
        module = importlib.import_module(f"cmemd.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return whole


def _run(argv: Sequence[str] | None) -> int:
    args = parser().parse_args(argv)
    with (
        readable_errors(f"cmemd {args.command}"),
        warnings.catch_warnings(),
        redirect_stdout(sys.stdout and _Harmless(sys.stdout)),
    ):
        warnings.showwarning = _show_warning
        return args.run(args)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(format_warning(message))


class _Harmless:
    """A text stream that escapes whatever could act on a terminal, but for the ends of lines.

    Names and labels pass through it from every table. ``printable`` also escapes ends of lines.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        encoding = self._stream.encoding or "utf-8"
        lines = "\n".join(map(printable, text.split("\n")))
        self._stream.write(lines.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)
