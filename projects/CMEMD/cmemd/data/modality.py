"""The two modalities, and which camera has which: the only place that knows it."""

from enum import IntEnum


class Modality(IntEnum):
    """How an image was taken. The values travel in batches and saved features."""

    VISIBLE = 0
    THERMAL = 1


SYSU_VISIBLE_CAMERAS = (1, 2, 4, 5)
SYSU_THERMAL_CAMERAS = (3, 6)
SYSU_CAMERAS = {
    **dict.fromkeys(SYSU_VISIBLE_CAMERAS, Modality.VISIBLE),
    **dict.fromkeys(SYSU_THERMAL_CAMERAS, Modality.THERMAL),
}

# RegDB names no cameras: one of each modality, side by side, which are numbered here [C].
REGDB_CAMERAS = {1: Modality.VISIBLE, 2: Modality.THERMAL}

# LLCM's cameras take both, but the third takes visible images only.
LLCM_CAMERAS = {
    Modality.VISIBLE: (1, 2, 3, 4, 5, 6, 7, 8, 9),
    Modality.THERMAL: (1, 2, 4, 5, 6, 7, 8, 9),
}
