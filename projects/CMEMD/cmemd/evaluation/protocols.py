"""The test protocols: one table, one name each.

Small deviations from a protocol change published metrics by points. Every rule that changes a
metric is therefore written here and nowhere else.
"""

import difflib
from dataclasses import dataclass

from cmemd.data.layouts import ALL_LAYOUTS, llcm, own, regdb, sysu
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.evaluation.ranking import IDENTITIES, IMAGES

__all__ = [
    "AUTO",
    "EVERYTHING",
    "OFFICIAL",
    "PROTOCOLS",
    "PYTHON",
    "SAMPLINGS",
    "Protocol",
    "Side",
    "choose_sampling",
    "get_protocol",
    "get_protocols",
]

OFFICIAL = "official"
PYTHON = "python"
EVERYTHING = "everything"
AUTO = "auto"
SAMPLINGS = (AUTO, OFFICIAL, PYTHON, EVERYTHING)


@dataclass(frozen=True)
class Side:
    """The query images or the gallery images.

    Attributes:
        modality: modality of the images.
        cameras: their cameras, in the order of the sampling; None for every camera.
        shots: images to sample per (identity, camera), fewer where fewer exist; None for all.
    """

    modality: Modality
    cameras: tuple[int, ...] | None = None
    shots: int | None = None


@dataclass(frozen=True)
class Protocol:
    """Queries, gallery and scoring rules of one test protocol.

    Attributes:
        name: the name in commands, configs and results; a direction says the query first.
        dataset: the test set: a key of ``cmemd.data.layouts.ALL_LAYOUTS``.
        description: one line for tables and captions.
        query: the queries.
        gallery: the gallery.
        ignored_pairs: (query camera, gallery camera): gallery images of such a camera are removed
            from such a query's ranking, whatever their identity.
        ignore_same_camera: whether gallery images of the query's own identity and camera are
            removed from its ranking.
        cmc: what a rank of the CMC counts: ``identities`` = the ranking reduced to the first
            image of each identity, ``images`` = the ranking itself.
        trials: number of gallery samplings; metrics are means over them.
        splits: splits of the data set, each with a training of its own; published metrics are
            means over them. One file of features is of one split.
        samplings: the gallery samplings that the protocol is defined for.
        source: where the rules come from.
    """

    name: str
    dataset: str
    description: str
    query: Side
    gallery: Side
    cmc: str
    trials: int
    samplings: tuple[str, ...]
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
        ignored_pairs=((3, 2),),  # cameras 2 and 3 stand in one place: no change of view
        cmc=IDENTITIES,
        trials=sysu.LAYOUT.trials,
        samplings=(OFFICIAL, PYTHON) if shots == 1 else (OFFICIAL,),
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
        samplings=(EVERYTHING,),
        source="Nguyen et al., Sensors 2017; splits and scoring as in the field's released code",
    )


def _own(query: Modality) -> Protocol:
    return Protocol(
        name=f"{own.LAYOUT.name}-{_direction(query)}",
        dataset=own.LAYOUT.name,
        description=f"{own.LAYOUT.title}: {_words(query)}",
        query=Side(query),
        gallery=Side(_other(query)),
        cmc=IDENTITIES,
        trials=own.LAYOUT.trials,
        samplings=(EVERYTHING,),
        source="chosen by this project: all against all",
    )


# Repositories that all say "LLCM" differ in these rules.
_LLCM = {
    # variant: (what it is, query shots, gallery shots, source)
    "paper": (
        "every query, one gallery image per identity and camera",
        None,
        1,
        "Zhang and Wang, CVPR 2023",
    ),
    # The script prints the opposite direction; the name here says the true query.
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
    sampled = query_shots is not None or gallery_shots is not None
    return Protocol(
        name=f"llcm-{_direction(query)}-{variant}",
        dataset=llcm.LAYOUT.name,
        description=f"LLCM protocol: {_words(query)}, {what}",
        query=Side(query, shots=query_shots),
        gallery=Side(_other(query), shots=gallery_shots),
        ignore_same_camera=True,
        cmc=IDENTITIES,
        trials=llcm.LAYOUT.trials if sampled else 1,
        samplings=(PYTHON,) if sampled else (EVERYTHING,),
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
        *(_own(query) for query in Modality),
    )
}

# Short for the paper's variant; results always carry the full name.
_SHORT = {f"llcm-{_direction(query)}": f"llcm-{_direction(query)}-paper" for query in Modality}


def get_protocol(name: str) -> Protocol:
    """Return the protocol of a name.

    Raises:
        InputError: unknown name; the message lists the known ones and the closest.
    """
    name = _SHORT.get(name, name)
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    closest = difflib.get_close_matches(name, PROTOCOLS, n=1)
    remedy = f"did you mean {closest[0]}?" if closest else "choose one of these"
    raise InputError(f"a protocol out of {', '.join(PROTOCOLS)}", repr(name), remedy)


def get_protocols(names: list[str] | tuple[str, ...]) -> list[Protocol]:
    """Return the protocols by which one set of features is to be scored.

    Raises:
        InputError: no, an unknown or a repeated protocol; protocols of several data sets.
    """
    protocols = [get_protocol(name) for name in names]
    found = {protocol.name: protocol.dataset for protocol in protocols}
    if not protocols or len(found) < len(protocols):
        raise InputError(
            "different protocols, at least one",
            ", ".join(names) or "none",
            "name each protocol once",
        )
    if len(set(found.values())) > 1:
        raise InputError(
            "protocols of one data set, since features are of one",
            ", ".join(found),
            "score each data set by itself",
        )
    return protocols


def choose_sampling(protocol: Protocol, sampling: str, perm: RandPermCam | None) -> str:
    """Return the gallery sampling that a protocol uses.

    SYSU-MM01's two samplings give means up to 0.4 Rank-1 apart, so every result names its own.

    Args:
        protocol: the protocol to sample for.
        sampling: ``official``, ``python``, ``everything`` (all images) or ``auto``: the official
            sampling where it exists and its permutations are there, else the other.
        perm: the official permutations, where the user has them.

    Returns:
        ``official``, ``python`` or ``everything``.

    Raises:
        InputError: unknown sampling, official without permutations, or a sampling that the
            protocol is not defined for (SYSU-MM01's 10-shot has the official one only).
    """
    if sampling not in SAMPLINGS:
        raise InputError(
            f"a gallery sampling out of {', '.join(SAMPLINGS)}",
            repr(sampling),
            "choose one of these (--draw, or TEST.DRAW of a configuration)",
        )
    chosen = sampling
    if sampling == AUTO:
        official = ALL_LAYOUTS[protocol.dataset].official_permutations
        chosen = PYTHON if official and perm is None else protocol.samplings[0]
    # An evaluation looks into the data set's exp folder, `cmemd score` into that of --splits.
    remedy = "put rand_perm_cam.mat into the exp folder (--splits)"
    if chosen not in protocol.samplings:
        remedy += ", or leave this protocol out"
        if OFFICIAL not in protocol.samplings:
            remedy = "leave --draw or TEST.DRAW out"
        raise InputError(
            f"the {' or '.join(protocol.samplings)} sampling for {protocol.name}",
            f"{chosen}{' (no rand_perm_cam.mat)' if sampling == AUTO else ''}",
            remedy,
        )
    if chosen == OFFICIAL and perm is None:
        raise InputError(
            f"rand_perm_cam.mat for the official sampling of {protocol.name}",
            "no such file",
            f"{remedy}, or use the python sampling (--draw python)",
        )
    return chosen
