"""RegDB: Nguyen et al., Sensors 2017.

Images are ``Visible/<n>/*.bmp`` and ``Thermal/<n>/*.bmp``; ``n`` is the identity, the same in all
splits. The ten splits are ``idx/{train,test}_{visible,thermal}_{1..10}.txt``, with a line
``relative/path label`` per image. RegDB names no cameras: one of each modality stood side by side,
and this project numbers them 1 and 2 [C].
"""

import re
from collections.abc import Callable
from pathlib import Path

from cmemd.data.layouts.index_files import IndexEntry, IndexFault, raise_fault, read_index
from cmemd.data.layouts.layout import Layout
from cmemd.data.modality import Modality

__all__ = [
    "FOLDERS",
    "IDENTITIES",
    "IMAGES",
    "LAYOUT",
    "SPLITS",
    "SPLIT_IDENTITIES",
    "SPLIT_IMAGES",
    "identity",
    "read_split",
    "split_list",
]

LAYOUT = Layout(
    name="regdb",
    title="RegDB",
    dataset="RegDB",
    folder="RegDB",
    list_folder="idx",
    cameras={Modality.VISIBLE: (1,), Modality.THERMAL: (2,)},
    identity_folder=re.compile("[1-9][0-9]{0,8}"),
    trials=1,
    splits=10,
    arrays=("feats", "pids", "modality"),
    licence="RegDB's agreement with its authors: research only",
)
FOLDERS = {Modality.VISIBLE: "Visible", Modality.THERMAL: "Thermal"}
SPLITS = range(1, LAYOUT.splits + 1)

# Published counts.
IDENTITIES = 412
IMAGES = 4120  # of each modality
SPLIT_IDENTITIES = 206  # for training; as many for testing
SPLIT_IMAGES = 2060  # test images of each modality


def identity(parts: tuple[str, ...], modality: Modality) -> int | None:
    """Return the identity that a path's parts ``<folder>/<n>/<image>`` name, or None."""
    if (
        len(parts) == 3
        and parts[0] == FOLDERS[modality]
        and LAYOUT.identity_folder.fullmatch(parts[1])
    ):
        return int(parts[1])
    return None


def split_list(part: str, modality: Modality, trial: int) -> str:
    """Return the path of an index file.

    Args:
        part: "train" or "test".
        modality: of its images.
        trial: number of the split, 1 to 10.
    """
    return f"{LAYOUT.list_folder}/{part}_{modality.name.lower()}_{trial}.txt"


def read_split(
    root: Path,
    part: str,
    modality: Modality,
    trial: int,
    on_fault: Callable[[IndexFault], None] = raise_fault,
) -> list[IndexEntry]:
    """Read an index file, see ``split_list`` and ``read_index``."""
    return read_index(
        root,
        split_list(part, modality, trial),
        lambda parts: identity(parts, modality),
        f"{FOLDERS[modality]}/<identity>/<image>",
        on_fault,
    )
