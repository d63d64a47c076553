"""The one table of keys: what values each key of the configuration takes, and who honours it.

Every key has a row; a test finds one without. ``cmemd keys`` prints the table as
docs/configuration.md. The rules are those of our tools (``cmemd.engine.setup``); fast-reid's own
trainer with its own models does not ask them.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cmemd.data.layouts import llcm, own, regdb, sysu
from cmemd.data.layouts.layout import Layout
from cmemd.data.modality import IMAGE_KINDS
from cmemd.data.palettes import NO_PALETTE, PALETTES
from cmemd.data.resizing import RESIZES
from cmemd.data.sampler import SAMPLERS
from cmemd.data.sensors import POLARITIES, is_range
from cmemd.engine.compilation import BACKENDS
from cmemd.engine.trackers import is_tracker
from cmemd.errors import InputError
from cmemd.evaluation.distances import DISTANCES
from cmemd.evaluation.protocols import SAMPLINGS
from cmemd.losses.alignment import ALIGNMENTS, PLAN_FEATURES
from cmemd.losses.cm_emd import PAIR_DISTANCES

__all__ = [
    "KEYS",
    "OPTIMIZERS",
    "SELECTIONS",
    "Condition",
    "Row",
    "Rule",
    "Status",
    "check_keys",
    "get_value",
    "rule_for",
]

SELECTIONS = ("last", "validation", "best_on_test")

# Optimizers of torch.optim that fast-reid can build, and the numbers that they keep for each
# parameter. Others ask for a closure, sparse gradients or matrices.
OPTIMIZERS = {
    "SGD": 1,
    "Adam": 2,
    "AdamW": 2,
    "Adamax": 2,
    "NAdam": 2,
    "RAdam": 2,
    "Adagrad": 1,
    "Adadelta": 2,
    "RMSprop": 1,
    "ASGD": 1,
    "Rprop": 2,
}

_NORMS = ("BN", "syncBN", "GhostBN", "FrozenBN", "GN")  # what fast-reid's get_norm knows
_DEEP = ("50x", "101x")  # depths for which fast-reid has non-local layers
OUR_BACKBONE, OUR_HEAD = "build_two_stream_resnet_backbone", "MultiGranularityHead"
TIMM_BACKBONE = "build_two_stream_timm_backbone"


@dataclass(frozen=True)
class Rule:
    """The values that a key takes.

    Attributes:
        words: what they are, after the key's name: "above 0".
        holds: whether a value is one of them; it may raise TypeError for one of another kind.
    """

    words: str
    holds: Callable[[Any], bool]

    def allows(self, value: Any) -> bool:
        """Return whether a value is one of the rule's."""
        try:
            return self.holds(value)
        except TypeError:
            return False


@dataclass(frozen=True)
class Condition:
    """When a key is read.

    Attributes:
        words: after "where": "INPUT.FLIP.ENABLED".
        holds: takes a configuration.
    """

    words: str
    holds: Callable[[Any], bool]


class Status:
    """Who honours a key."""

    SAME = "as fast-reid"
    OTHER = "differently"
    REFUSED = "refused when changed"
    OURS = "ours"


@dataclass(frozen=True)
class Row:
    """What is known of a key.

    Attributes:
        rule: its values; of a refused key the default alone.
        status: one of ``Status``.
        note: how it differs from fast-reid, or why it is refused.
        when: the values matter only then; None for always.
    """

    rule: Rule
    status: str
    note: str = ""
    when: Condition | None = None


# ---- Rules ----------------------------------------------------------------------------------


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _whole(low: int, high: int | None = None) -> Rule:
    if high is None:
        return Rule(f"of at least {low}", lambda v: _is_whole(v) and v >= low)
    return Rule(f"from {low} to {high}", lambda v: _is_whole(v) and low <= v <= high)


def _at_least(low: float) -> Rule:
    return Rule(f"of at least {low:g}", lambda v: _is_number(v) and v >= low)


_FLAG = Rule("True or False", lambda v: type(v) is bool)
_FINITE = Rule("a finite number", _is_number)
_POSITIVE = Rule("above 0", lambda v: _is_number(v) and v > 0)
_SHARE = Rule("in [0, 1]", lambda v: _is_number(v) and 0 <= v <= 1)
_POSITIVE_SHARE = Rule("above 0, at most 1", lambda v: _is_number(v) and 0 < v <= 1)
_BELOW_1 = Rule("in [0, 1)", lambda v: _is_number(v) and 0 <= v < 1)
_TEXT = Rule("text", lambda v: type(v) is str)
_NAME = Rule("a name", lambda v: type(v) is str and bool(v.strip()) and v.isprintable())


def _is_folder(value: Any) -> bool:
    return _NAME.holds(value) and not value.startswith("~")


def _choice(*names: str) -> Rule:
    return Rule(f"out of {', '.join(names)}", lambda v: v in names)


def _list(words: str, holds: Callable[[Any], bool], length: int | None = None) -> Rule:
    """Return a rule of lists, each element of which fits."""
    return Rule(words, lambda v: (length is None or len(v) == length) and all(map(holds, v)))


def _rising(words: str, low: float, high: float) -> Rule:
    """Return a rule of two rising numbers above ``low``, up to ``high``."""
    return Rule(
        words, lambda v: len(v) == 2 and all(map(_is_number, v)) and low < v[0] <= v[1] <= high
    )


_SIZE = _list("two whole numbers, height and width, from 1 to 2048", _whole(1, 2048).allows, 2)
_COLOUR = _list("three numbers, one per channel", _is_number, 3)
_NAMES = _list("a list of names", _NAME.allows)
_STEPS = Rule(
    "whole numbers of at least 1, each larger than the one before",
    lambda v: all(map(_whole(1).allows, v)) and all(a < b for a, b in zip(v, v[1:])),  # noqa: B905
)


def _patterns(value: Any) -> bool:
    try:
        return all(bool(word) and bool(re.compile(word)) for word in value)
    except re.error:
        return False


# ---- Conditions -----------------------------------------------------------------------------


def _on(key: str) -> Condition:
    return Condition(f"{key} is on", lambda cfg: bool(get_value(cfg, key)))


def _is(key: str, *values: Any) -> Condition:
    words = " or ".join(map(str, values))
    return Condition(f"{key} is {words}", lambda cfg: get_value(cfg, key) in values)


_MIXED = Condition(
    "TEST.PROTOCOLS has a mixed one",
    lambda cfg: any(name.endswith("-mixed") for name in get_value(cfg, "TEST.PROTOCOLS")),
)
_OWN_PROTOCOL = Condition(
    "TEST.PROTOCOLS are of own data",
    lambda cfg: any(name.startswith("own-") for name in get_value(cfg, "TEST.PROTOCOLS")),
)


def _above_0(*keys: str) -> Condition:
    return Condition(
        f"{' and '.join(keys)} {'is' if len(keys) == 1 else 'are'} above 0",
        lambda cfg: all(get_value(cfg, key) > 0 for key in keys),
    )


def _lists(key: str, name: str) -> Condition:
    return Condition(f"{key} has {name}", lambda cfg: name in get_value(cfg, key))


def _used(layout: Layout) -> Condition:
    return Condition(
        f"{layout.dataset} is used",
        lambda cfg: layout.dataset in (*cfg.DATASETS.NAMES, *cfg.DATASETS.TESTS),
    )


_ALIGNED = _above_0("MODEL.LOSSES.ALIGN.WEIGHT")
_OUR_BACKBONE = _is("MODEL.BACKBONE.NAME", OUR_BACKBONE)
_TIMM = _is("MODEL.BACKBONE.NAME", TIMM_BACKBONE)
_OURS = _is("MODEL.BACKBONE.NAME", OUR_BACKBONE, TIMM_BACKBONE)
_OUR_HEAD = _is("MODEL.HEADS.NAME", OUR_HEAD)
_TRIPLETS = _lists("MODEL.LOSSES.NAME", "TripletLoss")
_CENTRES = _above_0("MODEL.LOSSES.CENTRE.WEIGHT")
_DL = _above_0("MODEL.LOSSES.DL.WEIGHT")


def _aligned_by(*names: str) -> Condition:
    return Condition(
        f"ALIGN.NAME is {' or '.join(names)}",
        lambda cfg: _ALIGNED.holds(cfg) and cfg.MODEL.LOSSES.ALIGN.NAME in names,
    )


# ---- Rows -----------------------------------------------------------------------------------


def _same(rule: Rule, when: Condition | None = None) -> Row:
    return Row(rule, Status.SAME, when=when)


def _other(rule: Rule, note: str, when: Condition | None = None) -> Row:
    return Row(rule, Status.OTHER, note, when)


def _ours(rule: Rule, when: Condition | None = None) -> Row:
    return Row(rule, Status.OURS, when=when)


def _refused(note: str, when: Condition | None = None) -> Row:
    return Row(Rule("the default", lambda v: False), Status.REFUSED, note, when)


def _judged(words: str, holds: Callable[[Any], bool] = _is_number) -> Rule:
    """Return a rule whose range the builder of the network or a loss checks, as ``words`` say."""
    return Rule(words, holds)


_VIT = "for fast-reid's vision transformers, which have no streams for modalities"
_REFUSED_ELSE = f"{OUR_BACKBONE} refuses another value than the default"
_MARGINS = "for fast-reid's margin-based classifiers; the head has linear ones"
_KD = "for fast-reid's Distiller, a meta-architecture without modalities"
_AQE = "evaluation has no query expansion"
_WITHOUT_PLAN = ("none", "uniform", "centre", "kl", "mmd")  # uniform weights have no costs
# Augmentations of cmemd.data.channels.
_RECIPES = (
    "GREY",
    "LINEAR_GREY",
    "CHANNEL_CUTMIX",
    "SPECTRUM_JITTER",
    "LINEAR_ERASING",
    "CHANNEL_ERASING",
    "CHANNEL_EXCHANGE",
    "CHANNEL_STEP",
)
_NO_LOSS = "no such loss here; MODEL.LOSSES.NAME refuses it"

# Key -> row. The order is that of the configuration.
KEYS: dict[str, Row] = {
    "MODEL.DEVICE": _same(
        Rule("as cpu, cuda or cuda:N", lambda v: bool(re.fullmatch(r"cpu|cuda(:\d+)?", v)))
    ),
    "MODEL.META_ARCHITECTURE": _other(
        _NAME, "CMEMDNet, or one of your own; fast-reid's read no modalities"
    ),
    "MODEL.COMPILE": _ours(_choice(*BACKENDS)),
    "MODEL.FREEZE_LAYERS": _same(Rule("a list of regular expressions", _patterns)),
    "MODEL.QUEUE_SIZE": _refused("for fast-reid's MoCo, a meta-architecture without modalities"),
    "MODEL.BACKBONE.NAME": _other(
        _NAME, f"{OUR_BACKBONE}, {TIMM_BACKBONE}, or your own; fast-reid's read no modalities"
    ),
    "MODEL.BACKBONE.DEPTH": _same(_judged("out of 18x, 34x, 50x, 101x", _NAME.holds)),
    "MODEL.BACKBONE.LAST_STRIDE": _other(
        _whole(1, 2), "1 is output_stride 16 of timm's ConvNeXt and ResNet", _OURS
    ),
    "MODEL.BACKBONE.FEAT_DIM": _other(_whole(1), "must be the backbone's number of channels"),
    "MODEL.BACKBONE.NORM": _same(_choice(*_NORMS), _OUR_BACKBONE),
    "MODEL.BACKBONE.WITH_IBN": _same(_FLAG),
    "MODEL.BACKBONE.WITH_SE": _same(_FLAG),
    "MODEL.BACKBONE.WITH_NL": _other(
        _FLAG, f"refused for depths without non-local layers; {' and '.join(_DEEP)} have them"
    ),
    "MODEL.BACKBONE.SIE_COE": _refused(_VIT, _OURS),
    "MODEL.BACKBONE.STRIDE_SIZE": _other(
        _list("two whole numbers from 1 to 64, down and across", _whole(1, 64).allows, 2),
        f"of the patches of a transformer; {_REFUSED_ELSE}",
        _TIMM,
    ),
    **{
        f"MODEL.BACKBONE.{name}": _other(_BELOW_1, f"{what}; {_REFUSED_ELSE}", _TIMM)
        for name, what in (
            ("DROP_PATH_RATIO", "timm's drop_path_rate"),
            ("DROP_RATIO", "timm's pos_drop_rate and proj_drop_rate; transformers alone"),
            ("ATT_DROP_RATE", "timm's attn_drop_rate; transformers alone"),
        )
    },
    "MODEL.BACKBONE.PRETRAIN": _other(
        _FLAG, "the same ImageNet weights start all copies of a stage; MODEL.WEIGHTS replaces them"
    ),
    "MODEL.BACKBONE.PRETRAIN_PATH": _other(
        _TEXT,
        "a file, or a name in torchvision's registry; \"\" takes torchvision's for the depth, or "
        "of a timm model what the Hugging Face cache has",
        _on("MODEL.BACKBONE.PRETRAIN"),
    ),
    "MODEL.BACKBONE.WIDTH": _ours(_POSITIVE, _OUR_BACKBONE),
    "MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS": _ours(_FLAG, _OURS),
    "MODEL.BACKBONE.FROZEN": _ours(_FLAG),
    "MODEL.BACKBONE.TIMM.NAME": _ours(_judged("a model of timm", _NAME.holds), _TIMM),
    "MODEL.BACKBONE.TIMM.STEM_DEPTH": _ours(_whole(-1), _TIMM),
    "MODEL.BACKBONE.TIMM.STREAM_DEPTH": _ours(_whole(0), _TIMM),
    "MODEL.BACKBONE.TIMM.CLASS_TOKEN": _ours(_FLAG, _TIMM),
    "MODEL.CHANNELS_LAST": _ours(_FLAG),
    "MODEL.HEADS.NAME": _other(
        _NAME, f"{OUR_HEAD}, or one of your own; fast-reid's take one feature map"
    ),
    "MODEL.HEADS.NORM": _same(_choice(*_NORMS), _on("MODEL.HEADS.WITH_BNNECK")),
    "MODEL.HEADS.NUM_CLASSES": _other(
        _whole(0), "0 counts the training identities; fewer than those are refused"
    ),
    "MODEL.HEADS.EMBEDDING_DIM": _other(
        _whole(0), "of each local and accumulated feature; 0 keeps the backbone's channels"
    ),
    "MODEL.HEADS.WITH_BNNECK": _same(_FLAG),
    "MODEL.HEADS.NECK_FEAT": _other(
        _choice("before", "after"), "which features all metric losses compare"
    ),
    "MODEL.HEADS.POOL_LAYER": _other(
        _judged(
            "out of GeneralizedMeanPooling, GeneralizedMeanPoolingP, GlobalAvgPool", _NAME.holds
        ),
        "power means only: stripes add up to accumulated features",
    ),
    "MODEL.HEADS.CLS_LAYER": _other(_judged("Linear", _NAME.holds), "linear classifiers only"),
    "MODEL.HEADS.MARGIN": _refused(_MARGINS, _OUR_HEAD),
    "MODEL.HEADS.SCALE": _refused(_MARGINS, _OUR_HEAD),
    "MODEL.HEADS.GRANULARITIES": _ours(
        _judged("global; global, local; or global, local, accumulated", _NAMES.holds), _OUR_HEAD
    ),
    "MODEL.HEADS.STRIPES": _ours(_whole(1, 64), _OUR_HEAD),
    "MODEL.HEADS.LOCAL_WEIGHTS": _ours(_judged("out of model, image", _NAME.holds), _OUR_HEAD),
    "MODEL.HEADS.TEST_BETA": _ours(_judged("in [0, 1]"), _OUR_HEAD),
    "MODEL.HEADS.TEST_ACCUMULATED": _ours(_FLAG),
    "MODEL.LOSSES.NAME": _other(
        _judged("CrossEntropyLoss, with or without TripletLoss", _NAMES.holds),
        "a weight above 0 switches on every other loss",
    ),
    "MODEL.LOSSES.CE.EPSILON": _other(
        _judged("in [0, 1]"), "-1, fast-reid's adaptive smoothing, is refused"
    ),
    "MODEL.LOSSES.CE.ALPHA": _refused(
        "for adaptive smoothing, which the identity loss does not have"
    ),
    "MODEL.LOSSES.CE.SCALE": _other(
        _judged("of at least 0"), "times the sum over all features of all granularities"
    ),
    **{f"MODEL.LOSSES.FL.{name}": _refused(_NO_LOSS) for name in ("ALPHA", "GAMMA", "SCALE")},
    "MODEL.LOSSES.TRI.MARGIN": _other(
        _judged("of at least 0"), "0 is the soft margin, as in fast-reid", _TRIPLETS
    ),
    "MODEL.LOSSES.TRI.NORM_FEAT": _same(_FLAG, _TRIPLETS),
    "MODEL.LOSSES.TRI.HARD_MINING": _same(_FLAG, _TRIPLETS),
    "MODEL.LOSSES.TRI.SCALE": _same(_judged("of at least 0"), _TRIPLETS),
    **{
        f"MODEL.LOSSES.{loss}.{name}": _refused(_NO_LOSS)
        for loss in ("CIRCLE", "COSFACE")
        for name in ("MARGIN", "GAMMA", "SCALE")
    },
    "MODEL.LOSSES.ALIGN.NAME": _ours(
        _judged(f"out of {', '.join(ALIGNMENTS)}", _NAME.holds), _ALIGNED
    ),
    "MODEL.LOSSES.ALIGN.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.ALIGN.START_EPOCH": _ours(_judged("of at least 0", _is_whole), _ALIGNED),
    "MODEL.LOSSES.ALIGN.WARMUP_ITERS": _ours(_judged("of at least 0", _is_whole), _ALIGNED),
    "MODEL.LOSSES.ALIGN.DISTANCE": _ours(
        _judged(f"out of {', '.join(PAIR_DISTANCES)}", _NAME.holds),
        _aligned_by(*(name for name in ALIGNMENTS if name not in ("none", "kl"))),
    ),
    "MODEL.LOSSES.ALIGN.NORMALIZE": _ours(_FLAG),
    "MODEL.LOSSES.ALIGN.PLAN_FEATURE": _ours(
        _judged(f"out of {', '.join(PLAN_FEATURES)}", _NAME.holds),
        _aligned_by(*(name for name in ALIGNMENTS if name not in _WITHOUT_PLAN)),
    ),
    "MODEL.LOSSES.ALIGN.EPSILON": _ours(
        _judged("above 0"), _aligned_by("sinkhorn", "sinkhorn_divergence", "unbalanced")
    ),
    "MODEL.LOSSES.ALIGN.TEMPERATURE": _ours(_judged("above 0"), _aligned_by("affinity")),
    "MODEL.LOSSES.ALIGN.MASS": _ours(_judged("above 0, at most 1"), _aligned_by("partial")),
    "MODEL.LOSSES.ALIGN.MARGINAL_PENALTY": _ours(_judged("above 0"), _aligned_by("unbalanced")),
    "MODEL.LOSSES.ALIGN.NEIGHBOURS": _ours(
        _judged("of at least 1", _is_whole), _aligned_by("batch_nearest")
    ),
    "MODEL.LOSSES.ALIGN.SHARE": _ours(_judged("in [0, 1]"), _aligned_by("cm_emd_debiased")),
    "MODEL.LOSSES.ALIGN.CLAMP": _ours(_FLAG),
    "MODEL.LOSSES.ALIGN.WITHIN_GRADIENT": _ours(_FLAG),
    "MODEL.LOSSES.ALIGN.VARIANCE_FLOOR": _ours(_judged("above 0"), _aligned_by("kl")),
    "MODEL.LOSSES.DL.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.DL.EPS": _ours(_judged("above 0"), _DL),
    "MODEL.LOSSES.CENTRE.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.CENTRE.MARGIN": _ours(_judged("of at least 0"), _CENTRES),
    "MODEL.LOSSES.CENTRE.NORMALIZE": _ours(_FLAG),
    "MODEL.LOSSES.SOFT_LABELS.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.RANK.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.RANK.STRENGTH": _ours(_judged("above 0"), _above_0("MODEL.LOSSES.RANK.WEIGHT")),
    "MODEL.LOSSES.WRT.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.WRT.SQUARED": _ours(_FLAG),
    "MODEL.LOSSES.HCT.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.HCT.MARGIN": _ours(_judged("above 0"), _above_0("MODEL.LOSSES.HCT.WEIGHT")),
    "MODEL.LOSSES.MSEL.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.MSEL.START_EPOCH": _ours(
        _judged("of at least 0", _is_whole), _above_0("MODEL.LOSSES.MSEL.WEIGHT")
    ),
    "MODEL.LOSSES.DCL.WEIGHT": _ours(_judged("of at least 0")),
    "MODEL.LOSSES.DCL.START_EPOCH": _ours(
        _judged("of at least 0", _is_whole), _above_0("MODEL.LOSSES.DCL.WEIGHT")
    ),
    "MODEL.WEIGHTS": _other(
        Rule("a checkpoint, or empty", _TEXT.holds),
        "one of another architecture, damaged, or trained on identities under test is refused",
    ),
    "MODEL.PIXEL_MEAN": _same(_COLOUR),
    "MODEL.PIXEL_STD": _same(_list("three numbers above 0, one per channel", _POSITIVE.allows, 3)),
    **{f"KD.{name}": _refused(_KD) for name in ("MODEL_CONFIG", "MODEL_WEIGHTS")},
    **{f"KD.EMA.{name}": _refused(_KD) for name in ("ENABLED", "MOMENTUM")},
    "INPUT.SIZE_TRAIN": _other(_SIZE, "always resizes to both"),
    "INPUT.SIZE_TEST": _other(_SIZE, "always resizes to both"),
    "INPUT.RESIZE": _ours(_choice(*RESIZES)),
    "INPUT.THERMAL_RANGE": _ours(
        Rule("LOW:HIGH with LOW below HIGH, percentile:A,B from 0 to 100, agc, or empty", is_range)
    ),
    "INPUT.THERMAL_PALETTE": _ours(_choice(NO_PALETTE, *PALETTES)),
    "INPUT.THERMAL_POLARITY": _ours(_choice(*POLARITIES)),
    "INPUT.GREY_EPOCHS": _ours(_whole(0)),
    "INPUT.CROP.ENABLED": _same(_FLAG),
    "INPUT.CROP.SIZE": _other(_SIZE, "two numbers only", _on("INPUT.CROP.ENABLED")),
    "INPUT.CROP.SCALE": _same(
        _rising("two rising numbers above 0, at most 1", 0, 1), _on("INPUT.CROP.ENABLED")
    ),
    "INPUT.CROP.RATIO": _same(
        _rising("two rising numbers above 0", 0, math.inf), _on("INPUT.CROP.ENABLED")
    ),
    "INPUT.FLIP.ENABLED": _same(_FLAG),
    "INPUT.FLIP.PROB": _same(_SHARE, _on("INPUT.FLIP.ENABLED")),
    "INPUT.PADDING.ENABLED": _same(_FLAG),
    "INPUT.PADDING.MODE": _same(
        _choice("constant", "edge", "reflect", "symmetric"), _on("INPUT.PADDING.ENABLED")
    ),
    "INPUT.PADDING.SIZE": _same(_whole(0, 1024), _on("INPUT.PADDING.ENABLED")),
    "INPUT.CJ.ENABLED": _same(_FLAG),
    "INPUT.CJ.PROB": _same(_SHARE, _on("INPUT.CJ.ENABLED")),
    **{
        f"INPUT.CJ.{name}": _same(_at_least(0), _on("INPUT.CJ.ENABLED"))
        for name in ("BRIGHTNESS", "CONTRAST", "SATURATION")
    },
    "INPUT.CJ.HUE": _same(
        Rule("in [0, 0.5]", lambda v: _is_number(v) and 0 <= v <= 0.5), _on("INPUT.CJ.ENABLED")
    ),
    "INPUT.AFFINE.ENABLED": _other(_FLAG, "fast-reid's own call fails with today's torchvision"),
    "INPUT.AUTOAUG.ENABLED": _same(_FLAG),
    "INPUT.AUTOAUG.PROB": _same(_SHARE, _on("INPUT.AUTOAUG.ENABLED")),
    "INPUT.AUGMIX.ENABLED": _same(_FLAG),
    "INPUT.AUGMIX.PROB": _same(_SHARE, _on("INPUT.AUGMIX.ENABLED")),
    "INPUT.REA.ENABLED": _same(_FLAG),
    "INPUT.REA.PROB": _same(_SHARE, _on("INPUT.REA.ENABLED")),
    "INPUT.REA.VALUE": _other(
        _list("three grey levels from 0 to 255", lambda v: _is_number(v) and 0 <= v <= 255, 3),
        "rounded to whole grey levels: a batch holds bytes",
        _on("INPUT.REA.ENABLED"),
    ),
    "INPUT.RPT.ENABLED": _refused(
        "it pastes from images that a worker saw before, so that a resumed run would differ"
    ),
    "INPUT.RPT.PROB": _refused("INPUT.RPT.ENABLED is refused"),
    "INPUT.ONE_OF": _ours(_list("augmentations that are switched on, each once", _NAME.allows)),
    **{f"INPUT.{name}.ENABLED": _ours(_FLAG) for name in _RECIPES},
    **{
        f"INPUT.{name}.IMAGES": _ours(_choice(*IMAGE_KINDS), _on(f"INPUT.{name}.ENABLED"))
        for name in _RECIPES
    },
    **{
        f"INPUT.{name}.PROB": _ours(_SHARE, _on(f"INPUT.{name}.ENABLED"))
        for name in _RECIPES
        if name != "CHANNEL_STEP"
    },
    **{
        f"INPUT.{name}.BETA": _ours(_POSITIVE, _on(f"INPUT.{name}.ENABLED"))
        for name in ("LINEAR_GREY", "LINEAR_ERASING")
    },
    "INPUT.CHANNEL_ERASING.VALUE": _ours(
        _list("three grey levels from 0 to 255", lambda v: _is_number(v) and 0 <= v <= 255, 3),
        _on("INPUT.CHANNEL_ERASING.ENABLED"),
    ),
    "INPUT.CHANNEL_STEP.LUMA": _ours(_SHARE, _on("INPUT.CHANNEL_STEP.ENABLED")),
    "DATASETS.NAMES": _other(
        _list("data sets of visible-thermal images", _NAME.allows),
        "several are joined, and their identities and cameras kept apart",
    ),
    "DATASETS.TESTS": _other(
        _list("one data set of visible-thermal images", _NAME.allows), "one only"
    ),
    "DATASETS.COMBINEALL": _refused("it would train on the test identities"),
    "DATASETS.SYSUMM01.FOLDER": _ours(_NAME, _used(sysu.LAYOUT)),
    "DATASETS.SYSUMM01.TRAIN_WITH_VAL": _ours(_FLAG),
    "DATASETS.REGDB.FOLDER": _ours(_NAME, _used(regdb.LAYOUT)),
    "DATASETS.REGDB.TRIAL": _ours(_whole(regdb.SPLITS[0], regdb.SPLITS[-1]), _used(regdb.LAYOUT)),
    "DATASETS.REGDB.VALIDATION_SHARE": _ours(_BELOW_1, _used(regdb.LAYOUT)),
    "DATASETS.LLCM.FOLDER": _ours(_NAME, _used(llcm.LAYOUT)),
    "DATASETS.LLCM.VALIDATION_SHARE": _ours(_BELOW_1, _used(llcm.LAYOUT)),
    "DATASETS.OWN.LIST": _ours(_NAMES),
    "DATASETS.OWN.FOLDER": _ours(_TEXT, _used(own.LAYOUT)),
    "DATASETS.OWN.NAME": _ours(_NAME, _used(own.LAYOUT)),
    "DATASETS.OWN.NAMING": _ours(_NAMES),
    "DATASETS.OWN.LICENCE": _ours(_TEXT, _used(own.LAYOUT)),
    "DATASETS.OWN.TEST_SHARE": _ours(_BELOW_1, _used(own.LAYOUT)),
    "DATASETS.OWN.VALIDATION_SHARE": _ours(_BELOW_1, _used(own.LAYOUT)),
    "DATASETS.OWN.SPLIT_SEED": _ours(_whole(0), _used(own.LAYOUT)),
    "DATALOADER.SAMPLER_TRAIN": _other(
        _choice(*SAMPLERS), "batches need both modalities of each identity"
    ),
    "DATALOADER.NUM_INSTANCE": _refused("DATALOADER.NUM_VISIBLE and NUM_THERMAL take its place"),
    "DATALOADER.NUM_WORKERS": _other(_whole(0, 256), "evaluation takes as many; fast-reid's 4"),
    "DATALOADER.SET_WEIGHT": _refused("for fast-reid's SetReWeightSampler"),
    "DATALOADER.PREFETCH": _ours(_whole(1, 64)),
    "DATALOADER.CACHE": _ours(
        Rule('a folder not starting with "~", or empty', lambda v: v == "" or _is_folder(v))
    ),
    "DATALOADER.VISIBLE_VIEWS": _ours(_whole(1, 2)),
    "DATALOADER.NUM_VISIBLE": _ours(_whole(1)),
    "DATALOADER.NUM_THERMAL": _ours(_whole(1)),
    "SOLVER.AMP.ENABLED": _other(_FLAG, "refused where the device cannot; works on a CPU too"),
    "SOLVER.AMP.DTYPE": _ours(_choice("bfloat16", "float16"), _on("SOLVER.AMP.ENABLED")),
    "SOLVER.OPT": _other(_choice(*OPTIMIZERS), "others of torch.optim cannot be built"),
    "SOLVER.MAX_EPOCH": _same(_whole(1, 10**6)),
    "SOLVER.BASE_LR": _same(_POSITIVE),
    "SOLVER.HEADS_LR_FACTOR": _same(_POSITIVE),
    "SOLVER.MOMENTUM": _same(_BELOW_1, _is("SOLVER.OPT", "SGD")),
    "SOLVER.NESTEROV": _same(_FLAG),
    "SOLVER.WEIGHT_DECAY": _same(_at_least(0)),
    "SOLVER.WEIGHT_DECAY_NORM": _same(_at_least(0)),
    "SOLVER.BIAS_LR_FACTOR": _same(_POSITIVE),
    "SOLVER.WEIGHT_DECAY_BIAS": _same(_at_least(0)),
    "SOLVER.SCHED": _other(
        _choice("MultiStepLR", "CosineAnnealingLR"), "fast-reid has arguments for these two"
    ),
    "SOLVER.DELAY_EPOCHS": _same(_whole(0)),
    "SOLVER.GAMMA": _same(_POSITIVE_SHARE, _is("SOLVER.SCHED", "MultiStepLR")),
    "SOLVER.STEPS": _same(_STEPS, _is("SOLVER.SCHED", "MultiStepLR")),
    "SOLVER.ETA_MIN_LR": _same(_at_least(0), _is("SOLVER.SCHED", "CosineAnnealingLR")),
    "SOLVER.WARMUP_FACTOR": _same(_POSITIVE_SHARE, _above_0("SOLVER.WARMUP_ITERS")),
    "SOLVER.WARMUP_ITERS": _same(_whole(0)),
    "SOLVER.WARMUP_METHOD": _same(
        _choice("linear", "constant", "exp"), _above_0("SOLVER.WARMUP_ITERS")
    ),
    "SOLVER.FREEZE_ITERS": _same(_whole(0)),
    "SOLVER.CHECKPOINT_PERIOD": _same(_whole(1)),
    "SOLVER.IMS_PER_BATCH": _other(_whole(2), "a multiple of NUM_VISIBLE + NUM_THERMAL"),
    "SOLVER.ACCUMULATE": _ours(_whole(1)),
    "SOLVER.CLIP_GRADIENTS.ENABLED": _other(
        _FLAG, "a norm is that of all gradients together; fast-reid takes one for each buffer"
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": _same(
        _choice("norm", "value"), _on("SOLVER.CLIP_GRADIENTS.ENABLED")
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _same(_POSITIVE, _on("SOLVER.CLIP_GRADIENTS.ENABLED")),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _same(
        Rule("above 0, or infinity", lambda v: type(v) in (int, float) and v > 0),
        Condition(
            "gradients are clipped by norm",
            lambda cfg: (
                cfg.SOLVER.CLIP_GRADIENTS.ENABLED and cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE == "norm"
            ),
        ),
    ),
    "SOLVER.LAYER_DECAY": _ours(_POSITIVE_SHARE),
    "SOLVER.EMA.DECAY": _ours(_BELOW_1),
    "SOLVER.SELECTION": _ours(_choice(*SELECTIONS)),
    "SOLVER.CHECKPOINT_MINUTES": _ours(_at_least(0)),
    "TEST.EVAL_PERIOD": _other(_whole(1), "the last epoch is always evaluated"),
    "TEST.IMS_PER_BATCH": _other(_whole(1, 4096), "of one process, however many there are"),
    "TEST.METRIC": _other(_choice(*DISTANCES), "for re-ranking see TEST.RERANK"),
    "TEST.ROC.ENABLED": _refused("no protocol has it; `cmemd calibrate` gives open-set rates"),
    "TEST.FLIP.ENABLED": _other(_FLAG, "a row of its own, beside the plain one"),
    **{f"TEST.AQE.{n}": _refused(_AQE) for n in ("ENABLED", "ALPHA", "QE_TIME", "QE_K")},
    "TEST.RERANK.ENABLED": _other(_FLAG, "a row of its own, beside the plain one"),
    "TEST.RERANK.K1": _same(_whole(1), _on("TEST.RERANK.ENABLED")),
    "TEST.RERANK.K2": _same(_whole(1), _on("TEST.RERANK.ENABLED")),
    "TEST.RERANK.LAMBDA": _same(_SHARE, _on("TEST.RERANK.ENABLED")),
    "TEST.PRECISE_BN.ENABLED": _same(_FLAG),
    "TEST.PRECISE_BN.DATASET": _other(
        _NAME, "the training data set only", _on("TEST.PRECISE_BN.ENABLED")
    ),
    "TEST.PRECISE_BN.NUM_ITER": _same(_whole(1), _on("TEST.PRECISE_BN.ENABLED")),
    "TEST.PROTOCOLS": _ours(_list("a list of protocols, each once", _NAME.allows)),
    "TEST.DRAW": _ours(_choice(*SAMPLINGS)),
    "TEST.RANKED_GALLERY": _ours(_whole(0, 100)),
    "TEST.MIXED_RATIO": _ours(_SHARE, _MIXED),
    "TEST.REMEDIES": _ours(_FLAG),
    "TEST.OWN.TRIALS": _ours(_whole(0, 1000), _OWN_PROTOCOL),
    "TEST.OWN.SEED": _ours(_whole(0), _OWN_PROTOCOL),
    "TEST.OWN.IGNORE_SAME_CAMERA": _ours(_FLAG, _OWN_PROTOCOL),
    "TEST.OWN.IGNORE_SAME_TRACKLET": _ours(_FLAG, _OWN_PROTOCOL),
    "TEST.OWN.WITHIN": _ours(_at_least(0), _OWN_PROTOCOL),
    "TEST.OWN.CMC": _ours(_choice("identities", "images"), _OWN_PROTOCOL),
    "TEST.OWN.FPIR": _ours(
        Rule(
            "one rate or more between 0 and 1",
            lambda v: bool(v) and all(_is_number(rate) and 0 < rate < 1 for rate in v),
        ),
        _OWN_PROTOCOL,
    ),
    "TEST.SAVE_FEATURES": _ours(_FLAG),
    "TEST.TENSORBOARD": _ours(_FLAG),
    "TEST.ALLOW_LEAK": _ours(_FLAG),
    "TRACKERS": _ours(
        _list("a list out of wandb and mlflow, both from cmemd[track], if installed", is_tracker)
    ),
    "OUTPUT_DIR": _other(
        Rule(
            'a folder, not empty and not starting with "~"',
            _is_folder,
        ),
        "a folder that holds another run is refused",
    ),
    "CUDNN_BENCHMARK": _same(_FLAG),
    "SEED": _ours(Rule("-1, or from 0 to 4294967295", lambda v: _is_whole(v) and -1 <= v < 2**32)),
}

_OF_TYPE = {bool: _FLAG, float: _FINITE, str: _TEXT}


def rule_for(key: str, default: Any) -> Row:
    """Return a key's row; for a key of a user's own, one that checks its type alone."""
    return KEYS.get(key) or Row(
        _OF_TYPE.get(type(default), Rule("any value", lambda v: True)), Status.OURS
    )


def check_keys(
    values: Mapping[str, Any], defaults: Mapping[str, Any], cfg: Any
) -> list[InputError]:
    """Return what is wrong with single keys.

    Keys that nothing reads, such as the options of a loss that is off, must only be finite: a NaN
    there is a mistake, which would come to light when the option is switched on.

    Args:
        values: each key of a configuration -> its value.
        defaults: the same keys -> their defaults.
        cfg: the configuration, for conditions.
    """
    problems = []
    for key, value in values.items():
        row = rule_for(key, defaults[key])
        if row.when is not None and not row.when.holds(cfg):
            if not _is_finite(value) and not row.rule.allows(value):
                problems.append(
                    InputError(
                        f"{key} finite, though it is read only where {row.when.words}",
                        repr(value),
                        f"the default is {defaults[key]!r}",
                    )
                )
            continue
        if row.status == Status.REFUSED:
            if value != defaults[key]:
                problems.append(
                    InputError(f"{key} {defaults[key]!r}", repr(value), f"leave it out: {row.note}")
                )
        elif not row.rule.allows(value):
            remedy = f"the default is {defaults[key]!r}"
            if not row.rule.allows(defaults[key]):
                remedy = row.note
            problems.append(InputError(f"{key} {row.rule.words}", repr(value), remedy))
    return problems


def _is_finite(value: Any) -> bool:
    """Return whether a value holds no NaN and no infinity."""
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def get_value(cfg: Any, key: str) -> Any:
    """Return the value of a key such as "SOLVER.BASE_LR"."""
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def flat_values(cfg: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each key of a configuration, as in "SOLVER.BASE_LR", and its value."""
    for name, value in cfg.items():
        if isinstance(value, Mapping):
            yield from flat_values(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
