"""A parser whose KEY VALUE overrides may stand anywhere among its flags."""

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from cmemd.errors import EXIT_BAD_INPUT, printable

__all__ = ["OverridesParser"]


class OverridesParser(argparse.ArgumentParser):
    """An ArgumentParser that takes flags after its positional ``opts`` too.

    argparse gives all that follows the first override to ``opts``, so that `KEY VALUE --resume`
    would have an odd number of words. A parser without ``opts`` is a plain one.
    """

    def parse_known_args(  # type: ignore[override]  # declared by overloads, for other namespaces
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse the flags, then put all other words into ``opts``."""
        words = sys.argv[1:] if args is None else list(args)
        if not any(action.dest == "opts" for action in self._actions):
            return super().parse_known_args(words, namespace)
        flags, opts = self._split(words)
        parsed, unknown = super().parse_known_args(flags, namespace)
        parsed.opts = opts
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """End with status 2 and one line, without argparse's lines of usage."""
        self.exit(EXIT_BAD_INPUT, f"error: {printable(message)} (see {self.prog} --help)\n")

    def _split(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Return the flags with their values, and the other words."""
        flags: list[str] = []
        opts: list[str] = []
        while words:
            word = words.pop(0)
            if word == "--":  # nothing after it is a flag
                return flags, [*opts, *words]
            if not self._is_flag(word):
                opts.append(word)
                continue
            flags.append(word)
            if "=" not in word:
                count = self._values_of(word, words)
                flags += words[:count]
                del words[:count]
        return flags, opts

    def _is_flag(self, word: str) -> bool:
        return word.startswith("--") or word in self._option_string_actions

    def _values_of(self, flag: str, following: list[str]) -> int:
        """Return how many of the following words are the flag's."""
        found = {
            id(action): action
            for name, action in self._option_string_actions.items()
            if name == flag or (flag.startswith("--") and name.startswith(flag))
        }
        exact = self._option_string_actions.get(flag)
        actions = [exact] if exact else list(found.values())
        if len(actions) != 1:  # unknown or ambiguous; argparse says so
            return 0
        nargs = actions[0].nargs
        if nargs is None:
            return 1
        if nargs in ("+", "*"):
            ends = (i for i, word in enumerate(following) if self._is_flag(word))
            return next(ends, len(following))
        return nargs if isinstance(nargs, int) else 0
