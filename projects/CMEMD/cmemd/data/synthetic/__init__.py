"""Stand-in data sets: drawn people, in the genuine folders and files."""

from cmemd.data.synthetic.llcm_layout import draw_llcm
from cmemd.data.synthetic.regdb_layout import draw_regdb
from cmemd.data.synthetic.sysu_layout import draw_sysu

__all__ = ["draw_llcm", "draw_regdb", "draw_sysu"]
