"""Stand-in data sets: drawn people in the folders and files of the genuine data sets."""

from collections.abc import Callable

from cmemd.data import layouts
from cmemd.standin.llcm import draw_llcm
from cmemd.standin.regdb import draw_regdb
from cmemd.standin.sysu import draw_sysu

__all__ = ["STANDINS", "draw_llcm", "draw_regdb", "draw_sysu"]

# Name of a layout -> what draws its stand-in.
STANDINS: dict[str, Callable[..., None]] = {
    layouts.sysu.LAYOUT.name: draw_sysu,
    layouts.regdb.LAYOUT.name: draw_regdb,
    layouts.llcm.LAYOUT.name: draw_llcm,
}
