"""Stand-in data sets: drawn people in the folders and files of the genuine data sets.

Importing this package is cheap: OpenCV is loaded with the first function that draws.
"""

import pkgutil

from cmemd.data.layouts import llcm, own, regdb, sysu

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
