"""What can be known before the first step: all problems are found at once, before any file.

``check_config`` needs the configuration alone, ``check_data`` the data sets and the weights too.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cmemd.plugin  # noqa: F401  before fastreid

import numpy as np
import torch
from fastreid.config import CfgNode
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils import comm
from fastreid.utils.registry import Registry
from torch import nn

from cmemd.config import default_config
from cmemd.data.augmentation import AUGMENTATIONS
from cmemd.data.build import RunData
from cmemd.data.images import check_items
from cmemd.data.items import ImageItem
from cmemd.data.naming import parts_of
from cmemd.data.random_state import Draws
from cmemd.data.resizing import check_resize
from cmemd.data.sampler import check_identities
from cmemd.data.transform import build_sensor, build_transform, build_views
from cmemd.engine.caching import plan_cache
from cmemd.engine.checkpoint import check_weights
from cmemd.engine.compilation import check_compilation
from cmemd.engine.keys import (
    KEYS,
    OUR_BACKBONE,
    TIMM_BACKBONE,
    check_keys,
    flat_values,
    get_value,
)
from cmemd.engine.optimizer import layer_factors
from cmemd.engine.precision import check_precision
from cmemd.engine.provenance import Weights, training_record
from cmemd.engine.rehearsal import outline, rehearse
from cmemd.engine.room import check_disk, check_memory, check_shared_memory, check_step_memory
from cmemd.engine.schedule import Schedule
from cmemd.engine.testing import check_test
from cmemd.errors import InputError
from cmemd.evaluation.protocols import get_protocol
from cmemd.losses.build import build_losses
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead

__all__ = ["Forecast", "Problems", "check_config", "check_data", "check_values"]

_OUR_ARCHITECTURE = "CMEMDNet"
_DEPTHS_WITH_NON_LOCAL = ("50x", "101x")
# Backbone -> keys of MODEL.BACKBONE that the other one reads. DEPTH and WIDTH come from a base.
_UNREAD = {
    OUR_BACKBONE: ("STRIDE_SIZE", "DROP_PATH_RATIO", "DROP_RATIO", "ATT_DROP_RATE"),
    TIMM_BACKBONE: ("NORM", "WITH_IBN", "WITH_SE", "WITH_NL"),
}
# Files that a run writes in OUTPUT_DIR and in its folders there.
_FILES = (
    "run.json",
    "config.yaml",
    "log.txt",
    "metrics.json",
    "last_checkpoint",
    "model_final.pth",
    "model_best.pth",
    "results.json",
    "results.per_query.npz",
    "features.npz",
    "ranked_gallery.png",
    "det.png",
)
_FOLDERS = ("", "validation", "evaluation")


class Forecast(NamedTuple):
    """What a start tells its log.

    Attributes:
        schedule: lines about a training's length and rates; "" for an evaluation.
        warnings: what works and can hardly be meant.
    """

    schedule: str
    warnings: Sequence[str]


class Problems:
    """Collects errors, to raise them as one."""

    def __init__(self) -> None:
        self.found: list[InputError] = []

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Keep an InputError of the block, and go on after it."""
        try:
            yield
        except InputError as error:
            self.found.append(error)

    def raise_any(self) -> None:
        """Raise what was found, in one line.

        Raises:
            InputError: the problem; or all of them, with their number.
        """
        if len(self.found) == 1:
            raise self.found[0]
        if self.found:
            numbered = (f"({number}) {error}" for number, error in enumerate(self.found, 1))
            raise InputError(
                "a configuration and data without problems",
                f"{len(self.found)}",
                "; ".join(numbered),
            )


# ---- The configuration alone ----------------------------------------------------------------


def check_config(cfg: CfgNode, *, world_size: int = 1, training: bool = True) -> None:
    """Find what is wrong with a configuration, without its data.

    Args:
        cfg: the configuration.
        world_size: number of processes.
        training: whether the run trains.

    Raises:
        InputError: names every problem: a key that is refused, or out of its range; keys that do
            not go together; a device that is not there; a batch that is not P x (K_v + K_t) over
            whole processes; a network, a loss or an augmentation that cannot be built; an
            OUTPUT_DIR that cannot be written.
    """
    problems = Problems()
    problems.found += _bad_values(cfg)
    if not problems.found:  # what follows takes single keys for good
        problems.found += _bad_pairs(cfg, training, world_size)
        with problems.caught():
            _check_device(cfg)
            if training:
                check_precision(cfg)  # on a device that is there
        if training:
            with problems.caught():
                check_compilation(cfg.MODEL.COMPILE, cfg.MODEL.DEVICE)
        with problems.caught():
            check_resize(cfg.INPUT.RESIZE)
        with problems.caught():
            build_losses(cfg)  # by themselves: a bad network would hide a bad loss
        if not problems.found:
            with problems.caught():
                network = outline(cfg)
                _check_frozen(cfg, network)
                if cfg.MODEL.BACKBONE.FROZEN and not _can_pool(network):
                    raise InputError(
                        "the forward passes of CMEMDNet and MultiGranularityHead for "
                        "MODEL.BACKBONE.FROZEN",
                        f"others, of {cfg.MODEL.META_ARCHITECTURE} and {cfg.MODEL.HEADS.NAME}",
                        "set it to False: these alone take features that were pooled before",
                    )
                if training and cfg.SOLVER.LAYER_DECAY != 1:
                    layer_factors(network, cfg.SOLVER.LAYER_DECAY)
            with problems.caught():
                _check_transforms(cfg)
    if KEYS["OUTPUT_DIR"].rule.allows(cfg.OUTPUT_DIR):
        with problems.caught():
            _check_folder(cfg.OUTPUT_DIR)
    problems.raise_any()


def check_values(cfg: CfgNode) -> None:
    """Find keys that are refused, or out of their range.

    Raises:
        InputError: names them all.
    """
    problems = Problems()
    problems.found += _bad_values(cfg)
    problems.raise_any()


def _bad_values(cfg: CfgNode) -> list[InputError]:
    defaults = dict(flat_values(default_config()))
    return [*check_keys(dict(flat_values(cfg)), defaults, cfg), *_unregistered(cfg)]


def _unregistered(cfg: CfgNode) -> list[InputError]:
    """Return what is wrong with the names of the network's parts.

    A part of a user's own is registered as docs/extending.md says. fast-reid's own parts know no
    modalities; a network of a user's own may have them inside.
    """
    model, problems = cfg.MODEL, []
    parts: list[tuple[str, str, Registry]] = [
        ("MODEL.META_ARCHITECTURE", model.META_ARCHITECTURE, META_ARCH_REGISTRY)
    ]
    if model.META_ARCHITECTURE == _OUR_ARCHITECTURE:
        parts += [
            ("MODEL.BACKBONE.NAME", model.BACKBONE.NAME, BACKBONE_REGISTRY),
            ("MODEL.HEADS.NAME", model.HEADS.NAME, REID_HEADS_REGISTRY),
        ]
    for key, name, registry in parts:
        try:
            found = registry.get(name)
        except KeyError:
            found = None
        if found is None or found.__module__.split(".")[0] == "fastreid":
            got = "not registered" if found is None else "fast-reid's, without modalities"
            problems.append(
                InputError(
                    f"{key} as a registered part that takes modalities",
                    f"{name!r}, {got}",
                    f"set it to {KEYS[key].note}",
                )
            )
    return problems


def _bad_pairs(cfg: CfgNode, training: bool, world_size: int) -> Iterator[InputError]:
    """Yield what is wrong with keys that each are good alone."""
    solver, model = cfg.SOLVER, cfg.MODEL
    cpu = model.DEVICE == "cpu"
    if training:
        yield from _bad_batch(cfg, world_size)
        norms = [model.BACKBONE.NORM, model.HEADS.NORM if model.HEADS.WITH_BNNECK else ""]
        if cpu and "syncBN" in norms:
            yield InputError(
                "a NORM other than syncBN on a CPU", "syncBN", "PyTorch has it for CUDA alone: BN"
            )
    if solver.OPT == "SGD" and solver.NESTEROV and solver.MOMENTUM == 0:
        yield InputError(
            "SOLVER.MOMENTUM above 0 with NESTEROV", solver.MOMENTUM, "set NESTEROV to False"
        )
    backbone = model.BACKBONE
    ours = backbone.NAME == OUR_BACKBONE
    if ours and backbone.WITH_NL and backbone.DEPTH not in _DEPTHS_WITH_NON_LOCAL:
        yield InputError(
            f"MODEL.BACKBONE.DEPTH out of {', '.join(_DEPTHS_WITH_NON_LOCAL)} with WITH_NL",
            backbone.DEPTH,
            "other depths have no non-local layers: set WITH_NL to False",
        )
    yield from _keys_of_another_backbone(cfg)
    if cfg.TEST.PRECISE_BN.ENABLED and [cfg.TEST.PRECISE_BN.DATASET] != list(cfg.DATASETS.NAMES):
        yield InputError(
            f"TEST.PRECISE_BN.DATASET as in DATASETS.NAMES, {list(cfg.DATASETS.NAMES)}",
            repr(cfg.TEST.PRECISE_BN.DATASET),
            "the network learns its statistics on the training data",
        )
    if training and cfg.TEST.PRECISE_BN.ENABLED and solver.EMA.DECAY > 0:
        yield InputError(
            "TEST.PRECISE_BN.ENABLED False with SOLVER.EMA.DECAY above 0",
            True,
            "it measures the statistics of the trained weights, not of their average",
        )
    if bool(model.FREEZE_LAYERS) != (solver.FREEZE_ITERS > 0):
        yield InputError(
            "MODEL.FREEZE_LAYERS and SOLVER.FREEZE_ITERS together",
            f"{model.FREEZE_LAYERS} and {solver.FREEZE_ITERS}",
            "one alone freezes nothing: name layers and a number of iterations",
        )
    if cfg.DATALOADER.CACHE and cfg.INPUT.AUTOAUG.ENABLED:
        yield InputError(
            "INPUT.AUTOAUG.ENABLED False with DATALOADER.CACHE",
            True,
            "it changes images before they are resized, and the cache holds resized ones",
        )
    for name in ("AUTOAUG", "AUGMIX"):  # fast-reid's default is 0
        if cfg.INPUT[name].ENABLED and cfg.INPUT[name].PROB == 0:
            yield InputError(
                f"INPUT.{name}.PROB above 0 with INPUT.{name}.ENABLED", 0, "give a share of images"
            )
    yield from _bad_augmentations(cfg)
    yield from _bad_with_frozen(cfg)
    last_seed = 2**32 - world_size
    if cfg.SEED > last_seed:
        yield InputError(
            f"SEED of at most {last_seed} for {world_size} processes",
            cfg.SEED,
            "each process adds its number to it",
        )


def _bad_augmentations(cfg: CfgNode) -> Iterator[InputError]:
    """Yield what is wrong with the views of images, and with the choice of augmentations."""
    if cfg.DATALOADER.VISIBLE_VIEWS == 1:
        second = [
            f"INPUT.{name}.IMAGES second"
            for name in AUGMENTATIONS
            if cfg.INPUT[name].ENABLED and cfg.INPUT[name].get("IMAGES") == "second"
        ]
        if cfg.MODEL.LOSSES.SOFT_LABELS.WEIGHT > 0:
            second.append("MODEL.LOSSES.SOFT_LABELS.WEIGHT above 0")
        if second:
            yield InputError(
                f"DATALOADER.VISIBLE_VIEWS 2 with {' and '.join(second)}",
                1,
                "set it to 2, or leave those out",
            )
    names = list(cfg.INPUT.ONE_OF)
    after = [
        name
        for name, row in AUGMENTATIONS.items()
        if cfg.INPUT[name].ENABLED and not row.before_resize
    ]
    if len(set(names)) < len(names) or not set(names) <= set(after):
        yield InputError(
            "INPUT.ONE_OF with augmentations of resized images that are switched on, each once",
            names,
            f"name some of {', '.join(after)}" if after else "switch them on by ENABLED",
        )


def _keys_of_another_backbone(cfg: CfgNode) -> Iterator[InputError]:
    """Yield what is wrong with keys that another backbone of ours would read."""
    backbone, defaults = cfg.MODEL.BACKBONE, default_config().MODEL.BACKBONE
    for key in _UNREAD.get(backbone.NAME, ()):
        if backbone[key] != defaults[key]:
            yield InputError(
                f"MODEL.BACKBONE.{key} {defaults[key]!r} with {backbone.NAME}",
                repr(backbone[key]),
                "leave it out: that network has no such layers",
            )


def _bad_with_frozen(cfg: CfgNode) -> Iterator[InputError]:
    """Yield what does not go with features that are computed once."""
    if not cfg.MODEL.BACKBONE.FROZEN:
        return
    random = [f"INPUT.{name}.ENABLED" for name in AUGMENTATIONS if cfg.INPUT[name].ENABLED]
    changing = [name for name in random if name != "INPUT.FLIP.ENABLED"]
    changing += ["INPUT.GREY_EPOCHS"] * (cfg.INPUT.GREY_EPOCHS > 0)
    changing += ["DATALOADER.VISIBLE_VIEWS"] * (cfg.DATALOADER.VISIBLE_VIEWS > 1)
    if changing:
        yield InputError(
            "training images that are the same in each epoch, or mirrored (INPUT.FLIP), with "
            "MODEL.BACKBONE.FROZEN",
            ", ".join(changing),
            "switch these off: features of each image are computed once",
        )
    idle = ["SOLVER.LAYER_DECAY"] * (cfg.SOLVER.LAYER_DECAY != 1)
    idle += ["MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS"] * cfg.MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS
    if idle:
        yield InputError(
            "keys that act on a frozen backbone", ", ".join(idle), "leave these at their defaults"
        )


def _bad_batch(cfg: CfgNode, world_size: int) -> Iterator[InputError]:
    visible, thermal = cfg.DATALOADER.NUM_VISIBLE, cfg.DATALOADER.NUM_THERMAL
    each, batch, parts = visible + thermal, cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATE
    if batch % (each * world_size * parts):
        accumulated = f", in {parts} parts (SOLVER.ACCUMULATE)" if parts > 1 else ""
        yield InputError(
            f"SOLVER.IMS_PER_BATCH as P identities x ({visible} visible + {thermal} thermal) "
            f"images on each of {world_size} process(es){accumulated}",
            batch,
            f"use a multiple of {each * world_size * parts}",
        )


def _check_device(cfg: CfgNode) -> None:
    device = torch.device(cfg.MODEL.DEVICE)
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cuda" and (device.index or 0) >= count:
        found = f"{count} of them" if count else "none"
        raise InputError(
            f"a CUDA device for MODEL.DEVICE {cfg.MODEL.DEVICE}",
            f"a machine on which PyTorch finds {found}",
            "append `MODEL.DEVICE cpu` to the command",
        )


def _check_frozen(cfg: CfgNode, network: nn.Module) -> None:
    if cfg.SOLVER.FREEZE_ITERS == 0:
        return
    names = [name for name, _ in network.named_parameters()]
    for pattern in cfg.MODEL.FREEZE_LAYERS:
        if not any(re.match(pattern, name) for name in names):
            layers = ", ".join(dict.fromkeys(name.split(".")[0] for name in names))
            raise InputError(
                "MODEL.FREEZE_LAYERS at the start of the name of a parameter",
                repr(pattern),
                f"such as {layers}",
            )


def _can_pool(network: nn.Module) -> bool:
    """Return whether pooled features go through all that a network does after its backbone."""
    if not isinstance(network, CMEMDNet) or not isinstance(network.heads, MultiGranularityHead):
        return False
    own = type(network).forward, type(network.heads).forward
    return own == (CMEMDNet.forward, MultiGranularityHead.forward)


def _check_transforms(cfg: CfgNode) -> None:
    """Send a grey image through the augmentations of all views, and the test transform."""
    grey = np.full((128, 64, 3), 128, np.uint8)
    views = [(True, transform) for group in build_views(cfg).values() for transform in group]
    for training, transform in (*views, (False, build_transform(cfg, training=False))):
        try:
            transform(grey, Draws(0, 0))
        except Exception as error:  # noqa: BLE001  torchvision refuses sizes in many ways
            raise InputError(
                f"transforms of {'training' if training else 'test'} images that go together",
                " ".join(str(error).split())[:200],
                "change INPUT.SIZE_TRAIN, PADDING or CROP",
            ) from None


def _check_folder(name: str) -> None:
    """Raise unless a run's folder can be written, and holds nothing in the way of its files."""
    folder = Path(name)
    try:
        if folder.is_symlink() and not folder.exists():
            raise OSError(2, "a link to nothing")
        existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(
            f"an OUTPUT_DIR that can be written, {name}",
            error.strerror,
            "set OUTPUT_DIR to a folder of yours",
        ) from None
    for inner in _FOLDERS:
        if (folder / inner).exists() and not (folder / inner).is_dir():
            raise InputError(f"a folder at {folder / inner}", "a file", "rename it")
        for file in (folder / inner / file for file in _FILES):
            if file.is_dir():
                raise InputError(f"a file at {file}", "a folder", "rename it")
            if file.exists() and not os.access(file, os.W_OK):
                raise InputError(f"a file that can be written, {file}", "no permission", "move it")


# ---- With the data --------------------------------------------------------------------------


def check_data(cfg: CfgNode, data: RunData, weights: Weights, *, resumed: bool = False) -> Forecast:
    """Look at every image, and do all of a run that needs no trained network.

    The leak guard and other quick checks come first, all of their problems at once. The images
    follow, however many there are.

    Args:
        cfg: the configuration, which ``check_config`` has passed.
        data: its data sets.
        weights: start-up weights of a training, or the weights under evaluation.
        resumed: whether the run goes on in its folder.

    Raises:
        InputError: names the problems: weights that do not fit or were trained on identities under
            test; protocols that the data cannot fill; too few identities or images for a batch; a
            schedule that cannot work; too little disk or memory; an image that cannot be read.
    """
    problems, training = Problems(), data.train is not None
    network = outline(cfg, _classes(data))
    if weights.checkpoint is not None:
        with problems.caught():
            check_weights(network, weights.checkpoint.model, weights.checkpoint.path)
    size = 0
    with problems.caught():
        check_memory(cfg, network, training=training)
        pretrained = training or weights.checkpoint is None
        size, kept = rehearse(cfg, training=training, pretrained=pretrained)
        if training:
            check_step_memory(cfg, network, kept, processes=comm.get_world_size())
    forecast = Forecast("", [])
    tested: list[Sequence[ImageItem]] = []
    if not training:
        with problems.caught():
            tested.append(check_test(cfg, data.test, weights))
    else:
        with problems.caught():
            forecast = _check_training(cfg, data.to_train.train, problems)
        record = training_record(cfg, data.train)
        if weights.trained:
            record.start_from(weights.record)
        trained = Weights(record=record)
        with problems.caught():
            tested.append(check_test(cfg, data.test, trained))
        if cfg.SOLVER.SELECTION == "validation":
            with problems.caught():
                tested.append(_check_validation(cfg, data, trained))
    with problems.caught():
        features = size * sum(map(len, tested))
        check_disk(cfg, network, training=training, resumed=resumed, features=features)
    with problems.caught():
        check_shared_memory(cfg, training=training, processes=comm.get_local_size())
    problems.raise_any()
    if few := _small_picture(cfg, tested[0]):
        forecast = forecast._replace(warnings=[*forecast.warnings, few])
    trained_on = [] if data.train is None else [data.train.train]
    for items in [*trained_on, *tested]:
        check_items(items, build_sensor(cfg))
    if training and (plan := plan_cache(cfg, data.to_train.train)) is not None:
        plan.check_room()
    return forecast


def _classes(data: RunData) -> int:
    return 2 if data.train is None else len({item.pid for item in data.train.train})


def _check_training(cfg: CfgNode, items: Sequence[ImageItem], problems: Problems) -> Forecast:
    """Return the forecast of a training on these images."""
    each = cfg.DATALOADER.NUM_VISIBLE + cfg.DATALOADER.NUM_THERMAL
    identities = len({item.pid for item in items})
    with problems.caught():
        check_identities(items, cfg.SOLVER.IMS_PER_BATCH // each)
    classes = cfg.MODEL.HEADS.NUM_CLASSES
    if 0 < classes < identities:
        problems.found.append(
            InputError(
                f"MODEL.HEADS.NUM_CLASSES of at least {identities}, the training identities",
                classes,
                "leave it 0, which counts them",
            )
        )
    schedule = Schedule.of(cfg, len(items))
    problems.found += schedule.problems()
    if schedule.problems():
        return Forecast("", [])
    return Forecast(schedule.table(), [*schedule.warnings(), *_long_starts(cfg, schedule)])


def _long_starts(cfg: CfgNode, schedule: Schedule) -> Iterator[str]:
    """Yield warnings of what ends after the training, or starts from nothing."""
    if cfg.MODEL.BACKBONE.FROZEN and not (cfg.MODEL.WEIGHTS or cfg.MODEL.BACKBONE.PRETRAIN):
        yield (
            "MODEL.BACKBONE.FROZEN keeps random weights for good: set MODEL.WEIGHTS or "
            "MODEL.BACKBONE.PRETRAIN"
        )
    align, last = cfg.MODEL.LOSSES.ALIGN, schedule.iterations
    start = align.START_EPOCH * schedule.epoch_length
    long = {
        "INPUT.GREY_EPOCHS": cfg.INPUT.GREY_EPOCHS * schedule.epoch_length >= last,
        "SOLVER.FREEZE_ITERS": cfg.MODEL.FREEZE_LAYERS and cfg.SOLVER.FREEZE_ITERS >= last,
        "MODEL.LOSSES.ALIGN.WARMUP_ITERS": start < last <= start + align.WARMUP_ITERS,
    }
    for name, loss in cfg.MODEL.LOSSES.items():
        if isinstance(loss, Mapping) and loss.get("START_EPOCH") and loss["WEIGHT"] > 0:
            key = f"MODEL.LOSSES.{name}.START_EPOCH"
            long[key] = loss["START_EPOCH"] * schedule.epoch_length >= last
    for key, is_long in long.items():
        if is_long:
            yield f"{key} {get_value(cfg, key)} lasts to the end of the training, {last} iterations"


def _small_picture(cfg: CfgNode, tested: Sequence[ImageItem]) -> str | None:
    """Return a warning of a picture of more queries than there are."""
    sides = [query for query, _ in get_protocol(cfg.TEST.PROTOCOLS[0]).sides]
    queries = sum(
        item.modality is side.modality and (side.cameras is None or item.camid in side.cameras)
        for item in tested
        for side in sides
    )
    if cfg.TEST.RANKED_GALLERY <= queries:
        return None
    return f"TEST.RANKED_GALLERY {cfg.TEST.RANKED_GALLERY} is more than the {queries} queries"


def _check_validation(cfg: CfgNode, data: RunData, trained: Weights) -> list[ImageItem]:
    if not any(part is data.test for part in parts_of(data.train)):
        raise InputError(
            "the same data set in DATASETS.NAMES and TESTS for SOLVER.SELECTION validation",
            f"{list(cfg.DATASETS.NAMES)} and {list(cfg.DATASETS.TESTS)}",
            "TEST.PROTOCOLS must fit both: use one data set, or another selection",
        )
    return check_test(cfg, data.test, trained, "validation")
