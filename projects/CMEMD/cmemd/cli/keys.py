"""``cmemd keys``: print every key of the configuration."""

import argparse

__all__ = ["HELP", "add_arguments", "run"]

HELP = "print every key of the configuration: default, values, and who honours it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments: none."""


def run(args: argparse.Namespace) -> int:
    """Print docs/configuration.md."""
    from cmemd.engine.key_page import key_page

    print(key_page(), end="")
    return 0
