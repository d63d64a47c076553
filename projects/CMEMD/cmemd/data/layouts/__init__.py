"""Pure facts of each data set: folders, files, cameras, splits, published counts, licence.

A data set is one file here. Nothing in this package needs PyTorch or fast-reid.
"""

from cmemd.data.layouts import llcm, own, regdb, sysu
from cmemd.data.layouts.layout import Layout

__all__ = ["ALL_LAYOUTS", "LAYOUTS", "Layout"]

# Published data sets.
LAYOUTS: dict[str, Layout] = {
    layout.name: layout for layout in (sysu.LAYOUT, regdb.LAYOUT, llcm.LAYOUT)
}
# These, and lists and folders of one's own.
ALL_LAYOUTS: dict[str, Layout] = {**LAYOUTS, own.LAYOUT.name: own.LAYOUT}
