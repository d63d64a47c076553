"""``cmemd <command>``: find the command, parse its arguments, show its errors."""

import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from cmemd.cli.overrides import OverridesParser
from cmemd.errors import MissingDependencyError, readable_errors
from cmemd.version import __version__

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "synth",
    "doctor",
    "score",
    "compare",
    "embed",
    "gallery",
    "search",
    "calibrate",
    "zoo",
    "ablate",
    "keys",
    "plans",
    "clouds",
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    Bad input is one line on stderr and exit status 2. Each command is a module of this package
    with ``HELP``, ``add_arguments(parser)`` and ``run(args)``, which returns the exit status.

    Args:
        argv: words of the command line, by default those of this process.
    """
    parser = OverridesParser(
        prog="cmemd", description="Visible-thermal person re-identification with CM-EMD."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    for name in COMMANDS:
        module = importlib.import_module(f"cmemd.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.HELP)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    with readable_errors(), warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return args.run(args)
        except BrokenPipeError:  # the reader of the output, such as `head`, has stopped
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("", "cmemd"):
                raise
            raise MissingDependencyError(
                f"cmemd {args.command} needs {error.name}, which is not installed: pip install "
                "'cmemd[serve]' to use a model, 'cmemd[train,export,headless]' to make one"
            ) from error


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    sys.stderr.write(f"warning: {message}\n")
