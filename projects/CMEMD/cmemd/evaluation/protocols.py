"""The test protocols: one table, one name each.

Published figures differ by points where a protocol was only nearly followed, so everything that
changes a figure is written here and nowhere else.
"""

import difflib
from dataclasses import dataclass

from cmemd.data.modality import SYSU_THERMAL_CAMERAS, SYSU_VISIBLE_CAMERAS, Modality
from cmemd.data.splits import TRIALS, RandPermCam
from cmemd.errors import InputError

OFFICIAL = "official"
PYTHON = "python"
AUTO = "auto"
DRAWS = (AUTO, OFFICIAL, PYTHON)


@dataclass(frozen=True)
class Protocol:
    """Who asks, who is searched, and how a figure is made of it.

    Attributes:
        name: The name in commands, configs and results.
        description: One line for tables and captions.
        query_modality: The modality of queries; the gallery has the other one.
        query_cameras: Every image of these cameras is a query.
        gallery_cameras: Cameras the gallery is drawn from, in the order of the python draw.
        shots: Gallery images per (identity, camera); fewer where fewer exist.
        ignored_pairs: (query camera, gallery camera): such gallery images are removed from such
            a query's ranking, whoever they show.
        cmc: What a rank of the CMC counts: ``identities`` = the ranking reduced to the first
            image of each identity.
        trials: Galleries drawn; figures are means over them.
        draws: The draws that the protocol is defined for.
        source: Where the rules come from.
    """

    name: str
    description: str
    query_modality: Modality
    query_cameras: tuple[int, ...]
    gallery_cameras: tuple[int, ...]
    shots: int
    ignored_pairs: tuple[tuple[int, int], ...]
    cmc: str
    trials: int
    draws: tuple[str, ...]
    source: str

    @property
    def gallery_modality(self) -> Modality:
        """The modality that is searched."""
        if self.query_modality is Modality.THERMAL:
            return Modality.VISIBLE
        return Modality.THERMAL


def _sysu(name: str, setting: str, cameras: tuple[int, ...], shots: int) -> Protocol:
    return Protocol(
        name=name,
        description=f"SYSU-MM01 protocol: {setting}",
        query_modality=Modality.THERMAL,
        query_cameras=SYSU_THERMAL_CAMERAS,
        gallery_cameras=cameras,
        shots=shots,
        ignored_pairs=((3, 2),),  # cameras 2 and 3 stand in one place: not a change of view
        cmc="identities",
        trials=TRIALS,
        draws=(OFFICIAL, PYTHON) if shots == 1 else (OFFICIAL,),
        source="Wu et al., ICCV 2017, and its released evaluation code",
    )


_SYSU_INDOOR_CAMERAS = (1, 2)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _sysu("sysu-all-1shot", "all-search, single-shot", SYSU_VISIBLE_CAMERAS, 1),
        _sysu("sysu-indoor-1shot", "indoor-search, single-shot", _SYSU_INDOOR_CAMERAS, 1),
        _sysu("sysu-all-10shot", "all-search, 10-shot", SYSU_VISIBLE_CAMERAS, 10),
        _sysu("sysu-indoor-10shot", "indoor-search, 10-shot", _SYSU_INDOOR_CAMERAS, 10),
    )
}


def get_protocol(name: str) -> Protocol:
    """Look a protocol up by its name.

    Raises:
        InputError: Unknown name; the message lists the known ones and the closest.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    closest = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f"; did you mean {closest[0]}?" if closest else ""
    raise InputError(f"expected a protocol out of {', '.join(PROTOCOLS)}; got {name!r}{hint}")


def choose_draw(protocol: Protocol, draw: str, perm: RandPermCam | None) -> str:
    """Settle which gallery draw a protocol uses.

    The two draws give means up to 0.4 Rank-1 apart, so the answer belongs beside every figure.

    Args:
        protocol: The protocol to draw for.
        draw: ``official``, ``python``, or ``auto``: official where the permutations are there.
        perm: The official permutations, where the user has them.

    Returns:
        ``official`` or ``python``.

    Raises:
        InputError: Unknown draw, official without permutations, or a draw that the protocol is
            not defined for (10-shot knows the official one only).
    """
    if draw not in DRAWS:
        raise InputError(f"expected a draw out of {', '.join(DRAWS)}; got {draw!r}")
    chosen = draw
    if draw == AUTO:
        chosen = PYTHON if perm is None else OFFICIAL
    if chosen not in protocol.draws:
        raise InputError(
            f"expected the {' or '.join(protocol.draws)} draw for {protocol.name}; got {chosen}"
            f"{' (no rand_perm_cam.mat)' if draw == AUTO else ''}; put rand_perm_cam.mat into the "
            "data set's exp folder, or leave this protocol out"
        )
    if chosen == OFFICIAL and perm is None:
        raise InputError(
            f"expected rand_perm_cam.mat for the official draw of {protocol.name}; got none; put "
            "it into the data set's exp folder, or use the python draw"
        )
    return chosen
