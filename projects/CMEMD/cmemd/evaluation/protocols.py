"""The test protocols: one table, one name each.

Published figures differ by points where a protocol was only nearly followed, so everything that
changes a figure is written here and nowhere else.
"""

import difflib
from dataclasses import dataclass

from cmemd.data.layouts import LAYOUTS, llcm, regdb, sysu
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.ranking import IDENTITIES, IMAGES

OFFICIAL = "official"
PYTHON = "python"
EVERYTHING = "everything"
AUTO = "auto"
DRAWS = (AUTO, OFFICIAL, PYTHON, EVERYTHING)


@dataclass(frozen=True)
class Side:
    """The images that ask, or the images that are searched.

    Attributes:
        modality: Theirs.
        cameras: Their cameras, in the order of the draws; None for every camera.
        shots: How many are drawn per (identity, camera), fewer where fewer exist; None for all.
    """

    modality: Modality
    cameras: tuple[int, ...] | None = None
    shots: int | None = None


@dataclass(frozen=True)
class Protocol:
    """Who asks, who is searched, and how a figure is made of it.

    Attributes:
        name: The name in commands, configs and results; a direction says the query first.
        dataset: Whose test set it is for: a key of ``cmemd.data.layouts.LAYOUTS``.
        description: One line for tables and captions.
        query: Who asks.
        gallery: Who is searched.
        ignored_pairs: (query camera, gallery camera): such gallery images are removed from such
            a query's ranking, whoever they show.
        ignore_same_camera: Whether gallery images of the query's own identity and camera are
            removed from its ranking.
        cmc: What a rank of the CMC counts: ``identities`` = the ranking reduced to the first
            image of each identity, ``images`` = the ranking itself.
        trials: Draws; figures are means over them.
        splits: Splits of the data set, each with a training of its own, that published figures
            are means over. One file of features is of one split.
        draws: The draws that the protocol is defined for.
        source: Where the rules come from.
    """

    name: str
    dataset: str
    description: str
    query: Side
    gallery: Side
    cmc: str
    trials: int
    draws: tuple[str, ...]
    source: str
    ignored_pairs: tuple[tuple[int, int], ...] = ()
    ignore_same_camera: bool = False
    splits: int = 1


def _sysu(name: str, setting: str, cameras: tuple[int, ...], shots: int) -> Protocol:
    return Protocol(
        name=name,
        dataset=sysu.LAYOUT.name,
        description=f"SYSU-MM01 protocol: {setting}",
        query=Side(Modality.THERMAL, sysu.LAYOUT.cameras[Modality.THERMAL]),
        gallery=Side(Modality.VISIBLE, cameras, shots),
        ignored_pairs=((3, 2),),  # cameras 2 and 3 stand in one place: not a change of view
        cmc=IDENTITIES,
        trials=sysu.LAYOUT.trials,
        draws=(OFFICIAL, PYTHON) if shots == 1 else (OFFICIAL,),
        source="Wu et al., ICCV 2017, and its released evaluation code",
    )


def _regdb(query: Modality) -> Protocol:
    return Protocol(
        name=f"regdb-{_direction(query)}",
        dataset=regdb.LAYOUT.name,
        description=f"RegDB protocol: {_words(query)}",
        query=Side(query),
        gallery=Side(_other(query)),
        cmc=IMAGES,
        trials=regdb.LAYOUT.trials,
        splits=regdb.LAYOUT.splits,
        draws=(EVERYTHING,),
        source="Nguyen et al., Sensors 2017; splits and scoring as in the field's released code",
    )


# What differs between repositories that all say "LLCM".
_LLCM = {
    # variant: (what it is, query shots, gallery shots, source)
    "paper": (
        "every query, one gallery image per identity and camera",
        None,
        1,
        "Zhang and Wang, CVPR 2023",
    ),
    # Printed by that script under the opposite direction: named here by who really asks.
    "released": (
        "one query per identity and camera, every gallery image",
        1,
        None,
        "test script released with Zhang and Wang, CVPR 2023",
    ),
    "full-gallery": (
        "every query, every gallery image",
        None,
        None,
        "practice of later repositories, there with re-ranking",
    ),
}


def _llcm(query: Modality, variant: str) -> Protocol:
    what, query_shots, gallery_shots, source = _LLCM[variant]
    drawn = query_shots is not None or gallery_shots is not None
    return Protocol(
        name=f"llcm-{_direction(query)}-{variant}",
        dataset=llcm.LAYOUT.name,
        description=f"LLCM protocol: {_words(query)}, {what}",
        query=Side(query, shots=query_shots),
        gallery=Side(_other(query), shots=gallery_shots),
        ignore_same_camera=True,
        cmc=IDENTITIES,
        trials=llcm.LAYOUT.trials if drawn else 1,
        draws=(PYTHON,) if drawn else (EVERYTHING,),
        source=source,
    )


def _other(modality: Modality) -> Modality:
    return Modality.VISIBLE if modality is Modality.THERMAL else Modality.THERMAL


def _direction(query: Modality) -> str:
    return "v2t" if query is Modality.VISIBLE else "t2v"


def _words(query: Modality) -> str:
    return f"{query.name.lower()} query, {_other(query).name.lower()} gallery"


_SYSU_ALL_CAMERAS = sysu.LAYOUT.cameras[Modality.VISIBLE]
_SYSU_INDOOR_CAMERAS = (1, 2)

PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        _sysu("sysu-all-1shot", "all-search, single-shot", _SYSU_ALL_CAMERAS, 1),
        _sysu("sysu-indoor-1shot", "indoor-search, single-shot", _SYSU_INDOOR_CAMERAS, 1),
        _sysu("sysu-all-10shot", "all-search, 10-shot", _SYSU_ALL_CAMERAS, 10),
        _sysu("sysu-indoor-10shot", "indoor-search, 10-shot", _SYSU_INDOOR_CAMERAS, 10),
        *(_regdb(query) for query in Modality),
        *(_llcm(query, variant) for variant in _LLCM for query in Modality),
    )
}

# Short for the paper's variant; results always carry the full name.
_SHORT = {f"llcm-{_direction(query)}": f"llcm-{_direction(query)}-paper" for query in Modality}


def get_protocol(name: str) -> Protocol:
    """Look a protocol up by its name.

    Raises:
        InputError: Unknown name; the message lists the known ones and the closest.
    """
    name = _SHORT.get(name, name)
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    closest = difflib.get_close_matches(name, PROTOCOLS, n=1)
    hint = f"; did you mean {closest[0]}?" if closest else ""
    raise InputError(f"expected a protocol out of {', '.join(PROTOCOLS)}; got {name!r}{hint}")


def get_protocols(names: list[str] | tuple[str, ...]) -> list[Protocol]:
    """Look up the protocols that one set of features is to be scored under.

    Raises:
        InputError: None; an unknown or a repeated one; protocols of several data sets.
    """
    protocols = [get_protocol(name) for name in names]
    found = {protocol.name: protocol.dataset for protocol in protocols}
    if not protocols or len(found) < len(protocols):
        raise InputError(
            f"expected different protocols, at least one; got {', '.join(names) or 'none'}"
        )
    if len(set(found.values())) > 1:
        raise InputError(
            "expected protocols of one data set, since features are of one; got "
            f"{', '.join(found)}; score each data set by itself"
        )
    return protocols


def choose_draw(protocol: Protocol, draw: str, perm: RandPermCam | None) -> str:
    """Settle which draw a protocol uses.

    SYSU-MM01's two draws give means up to 0.4 Rank-1 apart, so the answer belongs beside every
    figure.

    Args:
        protocol: The protocol to draw for.
        draw: ``official``, ``python``, ``everything`` (nothing is left out) or ``auto``: the
            official one where it exists and its permutations are there, else the other.
        perm: The official permutations, where the user has them.

    Returns:
        ``official``, ``python`` or ``everything``.

    Raises:
        InputError: Unknown draw, official without permutations, or a draw that the protocol is
            not defined for (SYSU-MM01's 10-shot knows the official one only).
    """
    if draw not in DRAWS:
        raise InputError(f"expected a draw out of {', '.join(DRAWS)}; got {draw!r}")
    chosen = draw
    if draw == AUTO:
        official = LAYOUTS[protocol.dataset].official_permutations
        chosen = PYTHON if official and perm is None else protocol.draws[0]
    # An evaluation looks into the data set's exp folder, `cmemd score` into that of --splits.
    remedy = "put rand_perm_cam.mat into the exp folder (--splits)"
    if chosen not in protocol.draws:
        remedy += ", or leave this protocol out"
        if OFFICIAL not in protocol.draws:
            remedy = "leave the draw out"
        raise InputError(
            f"expected the {' or '.join(protocol.draws)} draw for {protocol.name}; got {chosen}"
            f"{' (no rand_perm_cam.mat)' if draw == AUTO else ''}; {remedy}"
        )
    if chosen == OFFICIAL and perm is None:
        raise InputError(
            f"expected rand_perm_cam.mat for the official draw of {protocol.name}; got none; "
            f"{remedy}, or use the python draw"
        )
    return chosen
