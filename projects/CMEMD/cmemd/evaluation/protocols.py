"""The test protocols: one table, one name each.

Small deviations from a protocol change published metrics by points. Every rule that changes a
metric is therefore written here and nowhere else.
"""

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

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
    "Mixture",
    "Options",
    "Protocol",
    "Side",
    "choose_sampling",
    "get_protocol",
    "get_protocols",
    "with_options",
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
class Mixture:
    """The other direction's sides, and how many of their images join a mixed-modality protocol.

    Attributes:
        ratio: their share of the queries, and of the gallery, in [0, 1].
        query: the queries that join.
        gallery: the gallery images that join.
    """

    ratio: float
    query: Side
    gallery: Side


@dataclass(frozen=True)
class Options:
    """What a user may choose of a protocol of one's own; the ratio of every mixed one.

    Attributes:
        name: of the data, as a heading over results; "" for ours.
        trials: gallery samplings of one image per identity and camera; 0 for one gallery of all
            images.
        seed: of these samplings, and of the choice of images for a ratio.
        ignore_same_camera: see ``Protocol``.
        ignore_same_tracklet: see ``Protocol``.
        within: seconds, see ``Protocol``; 0 for any time.
        cmc: see ``Protocol``.
        fpir: see ``Protocol``.
        ratio: of the thermal images in the gallery, and of the visible ones among the queries.
    """

    name: str = ""
    trials: int = 0
    seed: int = 0
    ignore_same_camera: bool = False
    ignore_same_tracklet: bool = False
    within: float = 0.0
    cmc: str = IDENTITIES
    fpir: tuple[float, ...] = (0.01, 0.1)
    ratio: float = 0.5


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
        ignore_same_view: whether those of its own identity, camera and modality are, and so the
            image itself.
        ignore_same_tracklet: whether those of its own identity, camera and tracklet are; an image
            without a tracklet is of none.
        within: seconds; gallery images that were taken longer before or after are removed. None
            for any time.
        seed: of the gallery samplings; None for the trial's number alone, as in released code.
        mixture: what joins of the other direction; None for one modality on each side.
        fpir: false-positive identification rates at which open-set metrics are given, where
            queries without a gallery identity exist; none for no such metrics.
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
    ignore_same_view: bool = False
    ignore_same_tracklet: bool = False
    within: float | None = None
    seed: int | None = None
    mixture: Mixture | None = None
    fpir: tuple[float, ...] = ()
    splits: int = 1

    @property
    def rules(self) -> dict[str, object]:
        """What a user chose and a results file must say: empty for published protocols."""
        chosen: dict[str, object] = {}
        if self.dataset == own.LAYOUT.name:
            chosen |= {
                "seed": self.seed,
                "ignore_same_camera": self.ignore_same_camera,
                "ignore_same_tracklet": self.ignore_same_tracklet,
                "within": self.within,
            }
        if self.mixture is not None:
            chosen["ratio"] = self.mixture.ratio
        return chosen

    @property
    def sides(self) -> list[tuple[Side, Side]]:
        """Queries and gallery of each direction that takes part."""
        both = [(self.query, self.gallery)]
        if self.mixture is None:
            return both
        both.append((self.mixture.query, self.mixture.gallery))
        return both[self.mixture.ratio == 1 : 1 + (self.mixture.ratio > 0)]


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
        source="chosen by this project: all against all, or one image per identity and camera",
        seed=Options.seed,
        fpir=Options.fpir,
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


def _mixed(name: str, base: Protocol, other: Side, gallery: Side) -> Protocol:
    """Return a protocol whose queries and gallery are of both modalities.

    A published data set gets a named protocol of ours, which no paper reports.

    Args:
        name: of the new protocol.
        base: what it is at ratio 0.
        other: the queries at ratio 1.
        gallery: the gallery at ratio 1.
    """
    title = base.description.partition(":")[0]
    return replace(
        base,
        name=name,
        description=f"{title}: queries and gallery of both modalities",
        mixture=Mixture(Options.ratio, other, gallery),
        # Cameras that stand in one place do so in both directions.
        ignored_pairs=base.ignored_pairs + tuple(pair[::-1] for pair in base.ignored_pairs),
        ignore_same_view=True,
        source=f"chosen by this project, after {base.name}",
    )


def _other(modality: Modality) -> Modality:
    return Modality.VISIBLE if modality is Modality.THERMAL else Modality.THERMAL


def _direction(query: Modality) -> str:
    return "v2t" if query is Modality.VISIBLE else "t2v"


def _words(query: Modality) -> str:
    return f"{query.name.lower()} query, {_other(query).name.lower()} gallery"


_SYSU_ALL_CAMERAS = sysu.LAYOUT.cameras[Modality.VISIBLE]
_SYSU_INDOOR_CAMERAS = (1, 2)
_SYSU_THERMAL_CAMERAS = sysu.LAYOUT.cameras[Modality.THERMAL]

_DIRECTED = {
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
_MIXED_BASES = {
    regdb.LAYOUT.name: "regdb-{}",
    llcm.LAYOUT.name: "llcm-{}-paper",
    own.LAYOUT.name: "own-{}",
}

PROTOCOLS: dict[str, Protocol] = {
    **_DIRECTED,
    "sysu-mixed": _mixed(
        "sysu-mixed",
        _DIRECTED["sysu-all-1shot"],
        Side(Modality.VISIBLE, _SYSU_ALL_CAMERAS),
        Side(Modality.THERMAL, _SYSU_THERMAL_CAMERAS, 1),
    ),
    **{
        f"{name}-mixed": _mixed(
            f"{name}-mixed",
            _DIRECTED[base.format("t2v")],
            _DIRECTED[base.format("v2t")].query,
            _DIRECTED[base.format("v2t")].gallery,
        )
        for name, base in _MIXED_BASES.items()
    },
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


def get_protocols(names: Sequence[str]) -> list[Protocol]:
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


def with_options(protocols: Sequence[Protocol], options: Options) -> list[Protocol]:
    """Return protocols as a user wants them.

    Args:
        protocols: of one data set.
        options: what the user chose.

    Raises:
        InputError: a value out of its range, or an option that none of the protocols takes.
    """
    _check_options(options)
    changed = [f.name for f in fields(Options) if getattr(options, f.name) != f.default]
    if "ratio" in changed and not any(protocol.mixture for protocol in protocols):
        mixed = [name for name, protocol in PROTOCOLS.items() if protocol.mixture]
        raise InputError(
            f"a ratio for mixed protocols only: {', '.join(mixed)}",
            ", ".join(protocol.name for protocol in protocols),
            "leave --ratio or TEST.MIXED_RATIO out, or add such a protocol",
        )
    foreign = [protocol.name for protocol in protocols if protocol.dataset != own.LAYOUT.name]
    ours = [name for name in changed if name != "ratio"]
    if foreign and ours:
        raise InputError(
            f"{', '.join(ours)} for protocols of one's own only, own-...",
            ", ".join(foreign),
            "leave the options out (--..., or TEST.OWN of a configuration): the rules of other "
            "protocols are fixed",
        )
    return [_with_options(protocol, options) for protocol in protocols]


def _with_options(protocol: Protocol, options: Options) -> Protocol:
    if protocol.mixture:
        protocol = replace(protocol, mixture=replace(protocol.mixture, ratio=options.ratio))
    if protocol.dataset != own.LAYOUT.name:
        return protocol
    shots = 1 if options.trials else None
    if protocol.mixture:
        sampled = replace(protocol.mixture.gallery, shots=shots)
        protocol = replace(protocol, mixture=replace(protocol.mixture, gallery=sampled))
    title, colon, rest = protocol.description.partition(":")
    return replace(
        protocol,
        description=f"{options.name or title}{colon}{rest}",
        gallery=replace(protocol.gallery, shots=shots),
        trials=max(1, options.trials),
        samplings=(PYTHON if options.trials else EVERYTHING,),
        seed=options.seed,
        ignore_same_camera=options.ignore_same_camera,
        ignore_same_tracklet=options.ignore_same_tracklet,
        within=options.within or None,
        cmc=options.cmc,
        fpir=options.fpir,
    )


def _check_options(options: Options) -> None:
    for words, value, fits in (
        ("trials of at least 0, 0 for all images", options.trials, options.trials >= 0),
        ("a seed of at least 0", options.seed, options.seed >= 0),
        (
            "a time window in seconds of at least 0, 0 for any time",
            options.within,
            math.isfinite(options.within) and options.within >= 0,
        ),
        (
            f"a CMC over {IDENTITIES} or {IMAGES}",
            repr(options.cmc),
            options.cmc in (IDENTITIES, IMAGES),
        ),
        (
            "rates of false positives between 0 and 1",
            ", ".join(f"{rate:g}" for rate in options.fpir) or "none",
            bool(options.fpir) and all(0 < rate < 1 for rate in options.fpir),
        ),
        ("a ratio from 0 to 1", options.ratio, 0 <= options.ratio <= 1),
    ):
        if not fits:
            raise InputError(words, value, "change the option, or leave it out")


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
