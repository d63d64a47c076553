"""Stand-in data sets: drawn people, in the genuine folders and files."""

from cmemd.standin.llcm import draw_llcm
from cmemd.standin.regdb import draw_regdb
from cmemd.standin.sysu import draw_sysu

__all__ = ["draw_llcm", "draw_regdb", "draw_sysu"]
