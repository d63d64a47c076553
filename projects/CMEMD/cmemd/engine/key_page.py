"""docs/configuration.md: every key, its default, its values, and who honours it."""

import inspect
import itertools
from typing import Any

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import get_cfg

from cmemd.config import add_cmemd_config, default_config
from cmemd.engine.keys import Row, Status, flat_values, rule_for

__all__ = ["key_page", "meanings"]

_HEAD = """\
# Configuration

Every key of a configuration: fast-reid's and ours. This page is written by
`cmemd keys > docs/configuration.md`.

A start checks all keys before any work. It names every bad one in one line and ends with exit
status 2. A value has the type of its default; a whole number may stand for a float, and a list for
a tuple. Numbers are finite. An option of a feature that is off is not checked: *where* says when a
key is read.

- **as fast-reid**: fast-reid 1.4.0 honours the key, and we change nothing.
- **differently**: the key has an effect, and the last column says what differs.
- **refused when changed**: only the default is accepted; the last column says why.
- **ours**: the key is this plugin's. [P] is the paper, [S] the first author's follow-up, [C] our
  choice.

A start also logs the schedule: the iterations of an epoch, and where each rate begins. fast-reid
counts `SOLVER.WARMUP_ITERS` in iterations and `SOLVER.STEPS` in epochs. It takes the first step of
its scheduler at the end of the epoch in which the warm-up and `SOLVER.DELAY_EPOCHS` are over. A
start refuses a cosine without epochs. It warns of a step after the end, of a warm-up of
more than half the training, and of one that is no whole number of epochs with this data and batch.

It also refuses what would only fail later: missing or unreadable images, lists and weights;
protocols that the data cannot fill; too little disk for the checkpoints that the training will
keep, or memory for re-ranking.
"""
_GROUPS = ("MODEL", "KD", "INPUT", "DATASETS", "DATALOADER", "SOLVER", "TEST")


def key_page() -> str:
    """Return the page, in Markdown."""
    explained = meanings()
    of_fastreid = {key for key, _ in flat_values(get_cfg())}
    rows = list(flat_values(default_config()))
    parts = [_HEAD]
    for group, keys in itertools.groupby(sorted(rows, key=_place), key=lambda row: _group(row[0])):
        parts.append(f"## {group}\n")
        parts.append("| key | default | values | status | about |\n|---|---|---|---|---|")
        for key, default in keys:
            row = rule_for(key, default)
            about = row.note if key in of_fastreid else explained.get(key, "")
            cells = (f"`{key}`", f"`{_shown(default)}`", _values(row), row.status, about)
            parts.append(f"| {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def meanings() -> dict[str, str]:
    """Return key -> the comment above it in ``add_cmemd_config``; keys in a row share one."""
    found: dict[str, str] = {}
    comment: list[str] = []
    fresh = True
    for line in map(str.strip, inspect.getsource(add_cmemd_config).splitlines()):
        if line.startswith("# ----"):
            continue
        if line.startswith("# "):
            if fresh:
                comment = []
            comment.append(line[2:])
            fresh = False
        elif line.startswith("cfg."):
            fresh = True
            key = line.removeprefix("cfg.").split(" = ")[0]
            if not line.endswith("CfgNode()"):
                found[key] = " ".join(comment)
    return found


def _group(key: str) -> str:
    first = key.split(".")[0]
    return first if first in _GROUPS else "The rest"


def _place(row: tuple[str, Any]) -> int:
    """Return the place of a key's group; sorting keeps the order within it."""
    group = _group(row[0])
    return _GROUPS.index(group) if group in _GROUPS else len(_GROUPS)


def _values(row: Row) -> str:
    if row.status == Status.REFUSED:
        return "the default"
    words = row.rule.words.removeprefix("out ").removeprefix("of ").removeprefix("as ")
    return words + (f", where {row.when.words}" if row.when else "")


def _shown(value: Any) -> str:
    """Return a default as a yaml could hold it, with six digits.

    >>> _shown([0.485 * 255, 1]), _shown(("a",)), _shown("")
    ('[123.675, 1]', '["a"]', '""')
    """
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    return f'"{value}"' if isinstance(value, str) else str(value)
