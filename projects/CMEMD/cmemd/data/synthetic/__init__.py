"""Stand-in data sets: drawn people, in the genuine folders and files."""

from cmemd.data.synthetic.sysu_layout import draw_sysu

__all__ = ["draw_sysu"]
