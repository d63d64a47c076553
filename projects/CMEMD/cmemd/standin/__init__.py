"""Stand-in data sets: drawn people in the folders and files of the genuine data sets.

Importing this package is cheap: OpenCV is loaded with the first function that draws.
"""

import pkgutil
from typing import TYPE_CHECKING

from cmemd.data.layouts import llcm, own, regdb, sysu

if TYPE_CHECKING:  # type checkers do not follow __getattr__ below
    from cmemd.standin.llcm import draw_llcm as draw_llcm
    from cmemd.standin.own import draw_own as draw_own
    from cmemd.standin.regdb import draw_regdb as draw_regdb
    from cmemd.standin.sysu import draw_sysu as draw_sysu

# Name of a layout -> what draws its stand-in.
STANDINS = {
    sysu.LAYOUT.name: "cmemd.standin.sysu:draw_sysu",
    regdb.LAYOUT.name: "cmemd.standin.regdb:draw_regdb",
    llcm.LAYOUT.name: "cmemd.standin.llcm:draw_llcm",
    own.LAYOUT.name: "cmemd.standin.own:draw_own",
}
_HOMES = {path.partition(":")[2]: path for path in STANDINS.values()}

__all__ = ["STANDINS", *_HOMES]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return pkgutil.resolve_name(_HOMES[name])
