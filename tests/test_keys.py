"""Every key of the configuration has an effect, or is refused before any work."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.modeling import build_model
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.utils.events import EventStorage
from tests.cases import cases
from tests.conftest import CONFIGS, REPOSITORY, TINY
from tests.engine.replay import replayed
from torch._dynamo.utils import counters
from torch.autograd.graph import saved_tensors_hooks

import cmemd
from cmemd.cli import main as command_line
from cmemd.config import default_config
from cmemd.data.build import build_dataset
from cmemd.data.grouping import IdentityRows
from cmemd.data.naming import licences_of, person_of, title_of
from cmemd.data.palettes import colours
from cmemd.data.random_state import Draws
from cmemd.data.transform import build_sensor, build_transform, build_views
from cmemd.engine.compilation import compiled
from cmemd.engine.keys import KEYS, OPTIMIZERS, Condition, Status, check_keys, flat_values
from cmemd.engine.optimizer import build_optimizer
from cmemd.engine.precision import half_type
from cmemd.engine.preflight import check_config
from cmemd.engine.provenance import UNTRAINED, Weights, guard, training_record
from cmemd.engine.step import TrainingStep
from cmemd.engine.testing import build_evaluator, score_network
from cmemd.engine.trainer import Trainer
from cmemd.engine.update import build_update
from cmemd.errors import InputError
from cmemd.losses.alignment import build_alignment
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead
from cmemd.modeling.two_stream_resnet import build_two_stream_resnet_backbone

DEFAULTS = dict(flat_values(default_config()))


class OwnNet(CMEMDNet):
    """A network of a user's own."""


class OwnHead(MultiGranularityHead):
    """A head of a user's own."""


class OwnBackbone(torch.nn.Module):
    """A backbone of a user's own."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.inner(*inputs)


def build_own_backbone(cfg: Any) -> OwnBackbone:
    return OwnBackbone(build_two_stream_resnet_backbone(cfg))


@pytest.fixture(autouse=True, scope="module")
def _own_parts() -> None:
    META_ARCH_REGISTRY.register(OwnNet)
    REID_HEADS_REGISTRY.register(OwnHead)
    BACKBONE_REGISTRY.register(build_own_backbone)


def load(keys: Mapping[str, object]) -> Any:
    options = TINY | {"MODEL.HEADS.NUM_CLASSES": "5"} | {k: str(v) for k, v in keys.items()}
    return cmemd.load_config(CONFIGS / "demo.yml", [w for pair in options.items() for w in pair])


# ---- what can be seen of a configuration; each returns something that compares with ==


def network(cfg: Any) -> object:
    """Names and shapes of a network, its losses on a batch, and its test features."""
    torch.manual_seed(0)
    model = build_model(cfg).train()
    model.epoch_length = 1
    batch = {
        "images": 255 * torch.rand(8, 3, 32, 16),
        "modalities": torch.tensor([0, 0, 1, 1] * 2),
        "targets": torch.tensor([0] * 4 + [1] * 4),
        "pairs": torch.tensor([[0, 1], [4, 5]]),
    }
    with EventStorage(1):
        losses = {name: loss.item() for name, loss in model(batch).items()}
    with torch.no_grad():
        embeddings = model.eval()(batch)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    parts = type(model), type(model.backbone), type(model.heads)
    return parts, losses, embeddings.tolist(), shapes


def alignment_gradient(cfg: Any) -> object:
    """The gradient of the alignment loss on fixed features, some of which coincide."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, 1, 3, generator=generator)
    features[6:] = features[4:6]
    rows = IdentityRows(torch.tensor([[0, 1], [4, 5]]), torch.tensor([[2, 3], [6, 7]]))
    output = build_alignment(cfg.MODEL.LOSSES.ALIGN)({"global": features.requires_grad_()}, rows)
    return torch.autograd.grad(output.terms["global"], features)[0].tolist()


def trained(cfg: Any) -> object:
    """Sums of parameters, and of their averages, after three steps on fixed gradients."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {
            "backbone": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)),
            "heads": torch.nn.Linear(2, 2),
        }
    )
    generator = torch.Generator().manual_seed(1)
    factors = [
        {
            name: 10 * torch.randn(parameter.shape, generator=generator)
            for name, parameter in model.named_parameters()
        }
        for _ in range(3 * cfg.SOLVER.ACCUMULATE)
    ]

    def losses(batch: Any) -> dict[str, torch.Tensor]:
        fixed = sum((p * batch[name]).sum() for name, p in model.named_parameters())
        return {"fixed": fixed, "product": model["heads"](torch.full((1, 2), 0.3)).float().sum()}

    model.forward = losses
    optimizer, frozen, freeze_iters = build_optimizer(cfg, model)
    update = build_update(cfg, model, optimizer)
    step = TrainingStep(
        model,
        factors,
        update,
        frozen=frozen,
        freeze_iters=freeze_iters,
        dtype=half_type(cfg),
        parts=cfg.SOLVER.ACCUMULATE,
    )
    for step.iter in range(3):
        step.run_step()
    averages = {} if update.averages is None else update.averages.state_dict()["model"]
    return [tensor.double().sum().item() for tensor in (*model.parameters(), *averages.values())]


def graphs(cfg: Any) -> object:
    """Number of graphs that a training step's call was compiled to."""
    torch._dynamo.reset()
    counters.clear()
    compiled(torch.nn.Linear(2, 2), cfg.MODEL.COMPILE)(torch.ones(1, 2))
    return counters["stats"]["unique_graphs"]


def group_rates(cfg: Any) -> object:
    """The rates of an optimizer's groups."""
    return [group["lr"] for group in build_optimizer(cfg, build_model(cfg)).optimizer.param_groups]


def memory(cfg: Any) -> object:
    """How many tensors a training keeps for its backward pass, and how a filter lies in memory."""
    model, kept = build_model(cfg).train(), []
    with EventStorage(1), saved_tensors_hooks(lambda x: kept.append(x.shape) or x, lambda x: x):
        model(
            {
                "images": 255 * torch.rand(4, 3, 32, 16),
                "modalities": torch.tensor([0, 1, 0, 1]),
                "targets": torch.tensor([0, 0, 1, 1]),
            }
        )
    return len(kept), model.backbone.stems[0][0].weight.stride()


def rates(cfg: Any) -> object:
    """The rate of every iteration, as fast-reid's own hook sets it."""
    return replayed(cfg, images=2 * cfg.SOLVER.IMS_PER_BATCH + 1)


def pictures(cfg: Any) -> object:
    """Sums of an image after the transforms of all views, a few times with one seed."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 24, 3), np.uint8)
    transforms = [transform for group in build_views(cfg).values() for transform in group]
    seen = [transform(noise, Draws(0, place)) for transform in transforms for place in range(12)]
    seen.append(build_transform(cfg, training=False)(noise))
    return [(x.shape, int(x.sum(dtype=np.int64)), x[0].tolist()) for x in seen]


def thermal_picture(cfg: Any) -> object:
    """Grey levels of counts, where there is a range, and of an image in false colours."""
    sensor = build_sensor(cfg)
    counts = np.arange(8000, 24000, 100, dtype=np.uint16).reshape(16, 10)
    levels = np.arange(256, dtype=np.uint8).reshape(32, 8)
    grey = sensor.grey_levels(counts).tolist() if sensor.range else None
    return grey, sensor.finish(colours("inferno")[levels]).tolist()


def listed(cfg: Any) -> object:
    """The images of the data set under test."""
    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    return [[item.path for item in items] for items in (data.train, data.query, data.validation)]


def named(cfg: Any) -> object:
    """The name of the data set under test, its licence, and the first training identity's."""
    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    return title_of(data), licences_of(data), person_of(data, data.train[0].pid)


def first_batch(cfg: Any) -> object:
    """The images of a training's first batch, and the loader's workers."""
    loader = Trainer.build_train_loader(cfg)
    return next(iter(loader.batch_sampler)), loader.num_workers, loader.prefetch_factor


def batch_rows(cfg: Any) -> object:
    """The rows of a training's first batch."""
    return next(iter(Trainer.build_train_loader(cfg)))["targets"].tolist()


def grey_images(cfg: Any) -> object:
    """How many images of the first epochs are grey: of visible ones, and of thermal ones."""
    loader = Trainer.build_train_loader(cfg)
    images, counts = loader.dataset, [[], []]
    keys = iter(loader.batch_sampler)
    for _ in range(2 * (len(images) // cfg.SOLVER.IMS_PER_BATCH)):
        found = [images[key] for key in next(keys)]
        for modality in (0, 1):
            own = [one["images"] for one in found if one["modalities"] == modality]
            counts[modality].append(sum(bool((x.T == x.T[:1]).all()) for x in own))
    return counts


def cached(cfg: Any) -> object:
    """How many new caches of images a training's loader leaves."""
    before = set(Path().glob("cache/cmemd-pixels-*/cache.json"))
    Trainer.build_train_loader(cfg)
    return len(set(Path().glob("cache/cmemd-pixels-*/cache.json")) - before)


class Identities(torch.nn.Module):
    """Embeds an image by its numbers; flipped images differ."""

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        images = batch["images"].float()
        ramp = torch.linspace(0, 1, images.shape[-1])
        return torch.stack([images.mean((1, 2, 3)), (images * ramp).mean((1, 2, 3))], 1).add(
            batch["targets"][:, None] * 5
        )


def scored(cfg: Any) -> object:
    """The results of a network that only looks at means, and the loader's batches."""
    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    loader, evaluator = build_evaluator(cfg, data, UNTRAINED)
    results = score_network(cfg, Identities(), loader, evaluator)
    return list(results.items()), [len(batch) for batch in loader.batch_sampler]


def rules(cfg: Any) -> object:
    """The protocols that a test follows, and how many images choose parameters of remedies."""
    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    _, evaluator = build_evaluator(cfg, data, UNTRAINED)
    return evaluator.protocols, len(evaluator.validation)


SGD = {"SOLVER.OPT": "SGD", "SOLVER.BASE_LR": 0.1}
EPOCHS = {"SOLVER.MAX_EPOCH": 8, "SOLVER.STEPS": [2, 3]}
WARM = {**EPOCHS, "SOLVER.WARMUP_ITERS": 4}
COSINE = {**EPOCHS, "SOLVER.SCHED": "CosineAnnealingLR"}
CLIPPED = {**SGD, "SOLVER.CLIP_GRADIENTS.ENABLED": True}
TRIPLETS = {"MODEL.LOSSES.NAME": ("CrossEntropyLoss", "TripletLoss")}
CENTRES = {"MODEL.LOSSES.CENTRE.WEIGHT": 1.0, "MODEL.LOSSES.CENTRE.MARGIN": 5.0}
RERANKED = {"TEST.RERANK.ENABLED": True}
WIDER = {"MODEL.BACKBONE.WIDTH": 0.5, "MODEL.BACKBONE.FEAT_DIM": 256}
DEEP = {
    "MODEL.BACKBONE.DEPTH": "50x",
    "MODEL.BACKBONE.WIDTH": 1.0,
    "MODEL.BACKBONE.FEAT_DIM": 2048,
}
TIMM = {
    "MODEL.BACKBONE.NAME": "build_two_stream_timm_backbone",
    "MODEL.BACKBONE.TIMM.NAME": "test_vit",
    "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
}
REGDB = {
    "DATASETS.NAMES": ("RegDB",),
    "DATASETS.TESTS": ("RegDB",),
    "TEST.PROTOCOLS": ("regdb-v2t",),
}
LLCM = {
    "DATASETS.NAMES": ("LLCM",),
    "DATASETS.TESTS": ("LLCM",),
    "TEST.PROTOCOLS": ("llcm-v2t-paper",),
}
OWN = {
    "DATASETS.NAMES": ("Own",),
    "DATASETS.TESTS": ("Own",),
    "TEST.PROTOCOLS": ("own-t2v",),
}
OWN_MIXED = {**OWN, "TEST.PROTOCOLS": ("own-mixed",)}
NO_WEIGHT = {"MODEL.LOSSES.ALIGN.WEIGHT": 1.0}
DEBIASED = {"MODEL.LOSSES.ALIGN.NAME": "cm_emd_debiased"}


def on(feature: str) -> dict[str, object]:
    return {f"INPUT.{feature}.ENABLED": True, f"INPUT.{feature}.PROB": 0.5}


VIEWS = {"DATALOADER.VISIBLE_VIEWS": 2}
RECIPES = (
    "GREY",
    "LINEAR_GREY",
    "CHANNEL_CUTMIX",
    "SPECTRUM_JITTER",
    "LINEAR_ERASING",
    "CHANNEL_ERASING",
    "CHANNEL_EXCHANGE",
    "CHANNEL_STEP",
)


def every(name: str, enabled: bool = True) -> dict[str, object]:
    """An augmentation of a recipe on all images."""
    keys = {**VIEWS, f"INPUT.{name}.ENABLED": enabled, f"INPUT.{name}.IMAGES": "all"}
    return keys if name == "CHANNEL_STEP" else {**keys, f"INPUT.{name}.PROB": 1.0}


# Key -> another value, where its effect is seen, and the keys that switch its feature on.
EFFECTS: dict[str, tuple[object, Callable[[Any], object], Mapping[str, object]]] = {
    "MODEL.META_ARCHITECTURE": ("OwnNet", network, {}),
    "MODEL.FREEZE_LAYERS": (["backbone"], trained, {**SGD, "SOLVER.FREEZE_ITERS": 2}),
    "MODEL.BACKBONE.NAME": ("build_own_backbone", network, {}),
    "MODEL.BACKBONE.DEPTH": ("34x", network, {}),
    "MODEL.BACKBONE.LAST_STRIDE": (2, network, {}),
    "MODEL.BACKBONE.NORM": ("FrozenBN", network, {}),
    "MODEL.BACKBONE.WITH_IBN": (True, network, {}),
    "MODEL.BACKBONE.WITH_SE": (True, network, WIDER),
    "MODEL.BACKBONE.WITH_NL": (True, network, DEEP),
    "MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS": (True, memory, {}),
    "MODEL.BACKBONE.FROZEN": (True, memory, {"INPUT.PADDING.ENABLED": False}),
    "MODEL.BACKBONE.STRIDE_SIZE": ((8, 8), network, TIMM),
    "MODEL.BACKBONE.DROP_PATH_RATIO": (0.5, network, TIMM),
    "MODEL.BACKBONE.DROP_RATIO": (0.5, network, TIMM),
    "MODEL.BACKBONE.ATT_DROP_RATE": (0.5, network, TIMM),
    "MODEL.BACKBONE.TIMM.NAME": ("test_vit2", network, TIMM),
    "MODEL.BACKBONE.TIMM.STEM_DEPTH": (1, network, TIMM),
    "MODEL.BACKBONE.TIMM.STREAM_DEPTH": (1, network, TIMM),
    "MODEL.BACKBONE.TIMM.CLASS_TOKEN": (True, network, TIMM),
    "MODEL.CHANNELS_LAST": (True, memory, {}),
    "MODEL.COMPILE": ("aot_eager", graphs, {}),
    "MODEL.HEADS.NAME": ("OwnHead", network, {}),
    "MODEL.HEADS.NORM": ("FrozenBN", network, {}),
    "MODEL.HEADS.NUM_CLASSES": (7, network, {}),
    "MODEL.HEADS.EMBEDDING_DIM": (4, network, {}),
    "MODEL.HEADS.WITH_BNNECK": (False, network, {}),
    "MODEL.HEADS.NECK_FEAT": ("after", network, {}),
    "MODEL.HEADS.POOL_LAYER": ("GlobalAvgPool", network, {}),
    "MODEL.HEADS.GRANULARITIES": (("global",), network, {}),
    "MODEL.HEADS.STRIPES": (2, network, {}),
    "MODEL.HEADS.LOCAL_WEIGHTS": ("image", network, {}),
    "MODEL.HEADS.TEST_BETA": (0.3, network, {}),
    "MODEL.HEADS.TEST_ACCUMULATED": (True, network, {}),
    "MODEL.LOSSES.NAME": (TRIPLETS["MODEL.LOSSES.NAME"], network, {}),
    "MODEL.LOSSES.CE.EPSILON": (0.1, network, {}),
    "MODEL.LOSSES.CE.SCALE": (2, network, {}),
    "MODEL.LOSSES.TRI.MARGIN": (0.1, network, TRIPLETS),
    "MODEL.LOSSES.TRI.NORM_FEAT": (True, network, TRIPLETS),
    "MODEL.LOSSES.TRI.HARD_MINING": (True, network, TRIPLETS),
    "MODEL.LOSSES.TRI.SCALE": (2, network, TRIPLETS),
    "MODEL.LOSSES.ALIGN.NAME": ("none", network, {}),
    "MODEL.LOSSES.ALIGN.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.ALIGN.WARMUP_ITERS": (10, network, {}),
    "MODEL.LOSSES.ALIGN.DISTANCE": ("euclidean", network, {}),
    "MODEL.LOSSES.ALIGN.NORMALIZE": (False, network, {}),
    "MODEL.LOSSES.ALIGN.EPSILON": (1, network, {"MODEL.LOSSES.ALIGN.NAME": "sinkhorn"}),
    "MODEL.LOSSES.ALIGN.TEMPERATURE": (1, network, {"MODEL.LOSSES.ALIGN.NAME": "affinity"}),
    "MODEL.LOSSES.ALIGN.START_EPOCH": (2, network, {}),
    "MODEL.LOSSES.ALIGN.PLAN_FEATURE": ("all", network, {"MODEL.LOSSES.ALIGN.NAME": "affinity"}),
    "MODEL.LOSSES.ALIGN.MASS": (0.5, network, {"MODEL.LOSSES.ALIGN.NAME": "partial"}),
    "MODEL.LOSSES.ALIGN.MARGINAL_PENALTY": (
        0.1,
        network,
        {"MODEL.LOSSES.ALIGN.NAME": "unbalanced"},
    ),
    "MODEL.LOSSES.ALIGN.NEIGHBOURS": (2, network, {"MODEL.LOSSES.ALIGN.NAME": "batch_nearest"}),
    "MODEL.LOSSES.ALIGN.SHARE": (1, network, DEBIASED),
    "MODEL.LOSSES.ALIGN.CLAMP": (True, alignment_gradient, DEBIASED),
    "MODEL.LOSSES.ALIGN.WITHIN_GRADIENT": (False, alignment_gradient, DEBIASED),
    "MODEL.LOSSES.ALIGN.VARIANCE_FLOOR": (1, network, {"MODEL.LOSSES.ALIGN.NAME": "kl"}),
    "MODEL.LOSSES.DL.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.DL.EPS": (1, network, {}),
    "MODEL.LOSSES.CENTRE.WEIGHT": (2, network, {"MODEL.LOSSES.CENTRE.MARGIN": 5.0}),
    "MODEL.LOSSES.CENTRE.MARGIN": (9, network, CENTRES),
    "MODEL.LOSSES.CENTRE.NORMALIZE": (False, network, CENTRES),
    "MODEL.LOSSES.SOFT_LABELS.WEIGHT": (1, network, VIEWS),
    "MODEL.LOSSES.RANK.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.RANK.STRENGTH": (2, network, {"MODEL.LOSSES.RANK.WEIGHT": 1.0}),
    "MODEL.LOSSES.WRT.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.WRT.SQUARED": (True, network, {"MODEL.LOSSES.WRT.WEIGHT": 1.0}),
    "MODEL.LOSSES.HCT.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.HCT.MARGIN": (2, network, {"MODEL.LOSSES.HCT.WEIGHT": 1.0}),
    "MODEL.LOSSES.MSEL.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.MSEL.START_EPOCH": (2, network, {"MODEL.LOSSES.MSEL.WEIGHT": 1.0}),
    "MODEL.LOSSES.DCL.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.DCL.START_EPOCH": (2, network, {"MODEL.LOSSES.DCL.WEIGHT": 1.0}),
    "MODEL.PIXEL_MEAN": ([0, 0, 0], network, {}),
    "MODEL.PIXEL_STD": ([9, 9, 9], network, {}),
    "INPUT.SIZE_TRAIN": ([40, 20], pictures, {}),
    "INPUT.SIZE_TEST": ([40, 20], pictures, {}),
    "INPUT.RESIZE": ("opencv", pictures, {}),
    "INPUT.THERMAL_RANGE": ("9000:20000", thermal_picture, {}),
    "INPUT.THERMAL_PALETTE": ("inferno", thermal_picture, {}),
    "INPUT.THERMAL_POLARITY": ("black-hot", thermal_picture, {}),
    "INPUT.GREY_EPOCHS": (1, grey_images, {}),
    "INPUT.CROP.ENABLED": (True, pictures, {}),
    "INPUT.CROP.SIZE": ([40, 20], pictures, {"INPUT.CROP.ENABLED": True}),
    "INPUT.CROP.SCALE": ([0.9, 1], pictures, {"INPUT.CROP.ENABLED": True}),
    "INPUT.CROP.RATIO": ([0.2, 0.3], pictures, {"INPUT.CROP.ENABLED": True}),
    "INPUT.FLIP.ENABLED": (False, pictures, {}),
    "INPUT.FLIP.PROB": (1, pictures, on("FLIP")),
    "INPUT.PADDING.ENABLED": (False, pictures, {}),
    "INPUT.PADDING.MODE": ("edge", pictures, {"INPUT.PADDING.ENABLED": True}),
    "INPUT.PADDING.SIZE": (8, pictures, {"INPUT.PADDING.ENABLED": True}),
    "INPUT.CJ.ENABLED": (True, pictures, {}),
    "INPUT.CJ.PROB": (1, pictures, on("CJ")),
    "INPUT.CJ.BRIGHTNESS": (1, pictures, on("CJ")),
    "INPUT.CJ.CONTRAST": (1, pictures, on("CJ")),
    "INPUT.CJ.SATURATION": (1, pictures, on("CJ")),
    "INPUT.CJ.HUE": (0.5, pictures, on("CJ")),
    "INPUT.AFFINE.ENABLED": (True, pictures, {}),
    "INPUT.AUTOAUG.ENABLED": (True, pictures, {"INPUT.AUTOAUG.PROB": 1.0}),
    "INPUT.AUTOAUG.PROB": (1, pictures, on("AUTOAUG")),
    "INPUT.AUGMIX.ENABLED": (True, pictures, {"INPUT.AUGMIX.PROB": 1.0}),
    "INPUT.AUGMIX.PROB": (1, pictures, on("AUGMIX")),
    "INPUT.REA.ENABLED": (True, pictures, {}),
    "INPUT.REA.PROB": (1, pictures, on("REA")),
    "INPUT.REA.VALUE": ([0, 0, 0], pictures, on("REA")),
    **{f"INPUT.{name}.ENABLED": (True, pictures, every(name, enabled=False)) for name in RECIPES},
    **{f"INPUT.{name}.IMAGES": ("second", pictures, every(name)) for name in RECIPES},
    **{
        f"INPUT.{name}.PROB": (0.3, pictures, every(name))
        for name in RECIPES
        if name != "CHANNEL_STEP"
    },
    **{
        f"INPUT.{name}.BETA": (2, pictures, every(name))
        for name in ("LINEAR_GREY", "LINEAR_ERASING")
    },
    "INPUT.CHANNEL_ERASING.VALUE": ((0, 0, 0), pictures, every("CHANNEL_ERASING")),
    "INPUT.CHANNEL_STEP.LUMA": (1, pictures, every("CHANNEL_STEP")),
    "INPUT.ONE_OF": (("GREY", "FLIP"), pictures, every("GREY")),
    "DATASETS.NAMES": (("RegDB",), first_batch, {}),
    "DATASETS.TESTS": (("RegDB",), listed, {}),
    "DATASETS.SYSUMM01.TRAIN_WITH_VAL": (False, listed, {}),
    "DATASETS.REGDB.TRIAL": (2, listed, REGDB),
    "DATASETS.REGDB.VALIDATION_SHARE": (0.3, listed, REGDB),
    "DATASETS.LLCM.VALIDATION_SHARE": (0.3, listed, LLCM),
    "DATASETS.OWN.NAME": ("Campus", named, OWN),
    "DATASETS.OWN.NAMING": (("campus",), named, OWN),
    "DATASETS.OWN.LICENCE": ("ours", named, OWN),
    "DATASETS.OWN.TEST_SHARE": (0.5, listed, OWN),
    "DATASETS.OWN.VALIDATION_SHARE": (0.3, listed, OWN),
    "DATASETS.OWN.SPLIT_SEED": (1, listed, OWN),
    "DATALOADER.NUM_WORKERS": (1, first_batch, {}),
    "DATALOADER.PREFETCH": (3, first_batch, {"DATALOADER.NUM_WORKERS": 1}),
    "DATALOADER.CACHE": ("cache", cached, {}),
    "DATALOADER.SAMPLER_TRAIN": ("CameraDiverseSampler", first_batch, {}),
    "DATALOADER.VISIBLE_VIEWS": (2, batch_rows, {}),
    "DATALOADER.NUM_VISIBLE": (3, first_batch, {"DATALOADER.NUM_THERMAL": 1}),
    "DATALOADER.NUM_THERMAL": (3, first_batch, {"DATALOADER.NUM_VISIBLE": 1}),
    "SOLVER.OPT": ("SGD", trained, {}),
    "SOLVER.MAX_EPOCH": (9, rates, EPOCHS),
    "SOLVER.BASE_LR": (1, trained, {}),
    "SOLVER.HEADS_LR_FACTOR": (2, trained, {}),
    "SOLVER.MOMENTUM": (0.5, trained, SGD),
    "SOLVER.NESTEROV": (False, trained, SGD),
    "SOLVER.WEIGHT_DECAY": (1, trained, SGD),
    "SOLVER.WEIGHT_DECAY_NORM": (1, trained, SGD),
    "SOLVER.BIAS_LR_FACTOR": (2, trained, SGD),
    "SOLVER.WEIGHT_DECAY_BIAS": (1, trained, SGD),
    "SOLVER.SCHED": ("CosineAnnealingLR", rates, EPOCHS),
    "SOLVER.DELAY_EPOCHS": (3, rates, EPOCHS),
    "SOLVER.GAMMA": (0.5, rates, EPOCHS),
    "SOLVER.STEPS": ([4], rates, EPOCHS),
    "SOLVER.ETA_MIN_LR": (1e-4, rates, COSINE),
    "SOLVER.WARMUP_FACTOR": (0.5, rates, WARM),
    "SOLVER.WARMUP_ITERS": (8, rates, WARM),
    "SOLVER.WARMUP_METHOD": ("exp", rates, WARM),
    "SOLVER.FREEZE_ITERS": (2, trained, {**SGD, "MODEL.FREEZE_LAYERS": ["backbone"]}),
    "SOLVER.AMP.ENABLED": (True, trained, SGD),
    "SOLVER.AMP.DTYPE": ("float16", trained, {**SGD, "SOLVER.AMP.ENABLED": True}),
    "SOLVER.ACCUMULATE": (2, first_batch, {}),
    "SOLVER.LAYER_DECAY": (0.7, group_rates, {}),
    "SOLVER.EMA.DECAY": (0.9, trained, SGD),
    "SOLVER.IMS_PER_BATCH": (20, first_batch, {}),
    "SOLVER.CLIP_GRADIENTS.ENABLED": (True, trained, SGD),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("value", trained, CLIPPED),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": (1, trained, CLIPPED),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (float("inf"), trained, CLIPPED),
    "TEST.IMS_PER_BATCH": (7, scored, {}),
    "TEST.METRIC": ("euclidean", scored, {}),
    "TEST.FLIP.ENABLED": (True, scored, {}),
    "TEST.RERANK.ENABLED": (True, scored, {}),
    "TEST.RERANK.K1": (3, scored, RERANKED),
    "TEST.RERANK.K2": (1, scored, RERANKED),
    "TEST.RERANK.LAMBDA": (0, scored, RERANKED),
    "TEST.PROTOCOLS": (("sysu-indoor-1shot",), scored, {}),
    "TEST.DRAW": ("python", scored, {}),
    "TEST.MIXED_RATIO": (0.25, rules, OWN_MIXED),
    "TEST.REMEDIES": (True, rules, {**OWN_MIXED, "DATASETS.OWN.VALIDATION_SHARE": 0.3}),
    "TEST.OWN.TRIALS": (3, rules, OWN),
    "TEST.OWN.SEED": (3, rules, OWN),
    "TEST.OWN.IGNORE_SAME_CAMERA": (True, rules, OWN),
    "TEST.OWN.IGNORE_SAME_TRACKLET": (True, rules, OWN),
    "TEST.OWN.WITHIN": (60.0, rules, OWN),
    "TEST.OWN.CMC": ("images", rules, OWN),
    "TEST.OWN.FPIR": ((0.05,), rules, OWN),
    "SEED": (5, first_batch, {}),
}

# Keys whose effect is a file or a line of a whole run: see the test of that name.
OF_A_RUN = {
    "SOLVER.SELECTION",
    "SOLVER.CHECKPOINT_PERIOD",
    "SOLVER.CHECKPOINT_MINUTES",
    "TEST.EVAL_PERIOD",
    "TEST.PRECISE_BN.ENABLED",
    "TEST.PRECISE_BN.NUM_ITER",
    "TEST.RANKED_GALLERY",
    "TEST.SAVE_FEATURES",
    "TEST.TENSORBOARD",
    "TEST.ALLOW_LEAK",
    "CUDNN_BENCHMARK",
    "OUTPUT_DIR",
    "TRACKERS",  # tests/engine/test_trackers.py
}

# Keys that must agree with the rest, so that another value alone is refused; here, and why.
REFUSED_ALONE: dict[str, tuple[object, str]] = {
    "MODEL.DEVICE": ("cuda:99", "a machine on which PyTorch finds"),
    "MODEL.BACKBONE.FEAT_DIM": (65, "set it to 64"),
    "MODEL.BACKBONE.WIDTH": (0.5, "set it to 256"),
    "MODEL.HEADS.CLS_LAYER": ("ArcSoftmax", "set it to Linear"),
    "MODEL.BACKBONE.PRETRAIN": (True, "set WIDTH to 1"),
    "MODEL.BACKBONE.PRETRAIN_PATH": ("nothing.pth", "nothing.pth"),
    "MODEL.WEIGHTS": ("nothing.pth", "nothing.pth"),
    "DATASETS.SYSUMM01.FOLDER": ("nothing", "no such folder"),
    "DATASETS.REGDB.FOLDER": ("nothing", "no such folder"),
    "DATASETS.LLCM.FOLDER": ("nothing", "no such folder"),
    "DATASETS.OWN.FOLDER": ("nothing", "no such folder"),
    "DATASETS.OWN.LIST": (("nothing.csv",), "a list of images at nothing.csv"),
    "TEST.PRECISE_BN.DATASET": ("RegDB", "as in DATASETS.NAMES"),
}
CONTEXTS = {
    "MODEL.BACKBONE.PRETRAIN_PATH": {
        "MODEL.BACKBONE.PRETRAIN": True,
        "MODEL.BACKBONE.WIDTH": 1.0,
        "MODEL.BACKBONE.FEAT_DIM": 512,
    },
    "DATASETS.REGDB.FOLDER": REGDB,
    "DATASETS.LLCM.FOLDER": LLCM,
    "DATASETS.OWN.FOLDER": OWN,
    "DATASETS.OWN.LIST": OWN,
    "TEST.PRECISE_BN.DATASET": {"TEST.PRECISE_BN.ENABLED": True},
}


def other_value(default: object) -> object:
    """A value of the default's type that is not the default."""
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1
    return [*default, 1] if isinstance(default, list | tuple) else f"{default}x"


REFUSED = {key for key, row in KEYS.items() if row.status == Status.REFUSED}


def test_every_key_has_a_row_and_a_test():
    assert list(KEYS.keys() ^ DEFAULTS.keys()) == []
    assert list((EFFECTS.keys() | OF_A_RUN | REFUSED_ALONE.keys() | REFUSED) ^ KEYS.keys()) == []


def test_the_page_is_what_the_command_prints(capsys):
    assert command_line.main(["keys"]) == 0
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == page, "run: cmemd keys > docs/configuration.md"
    assert all(f"| `{key}` |" in page for key in DEFAULTS)


@cases("key", sorted(REFUSED))
def test_a_key_that_nothing_reads_is_refused_in_one_line(key):
    message = refusal({key: other_value(DEFAULTS[key])})
    assert key in message
    assert "leave it out" in message
    assert "\n" not in message


@cache
def seen(observe: Callable[[Any], object], context: tuple[tuple[str, str], ...]) -> str:
    return repr(observe(load(dict(context))))


@pytest.fixture
def data_root(datasets, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("data_root")
def test_every_other_key_has_an_effect():
    """What is seen of one configuration twice is equal, so that a difference is the key's."""
    without = []
    for key, (value, observe, context) in EFFECTS.items():
        context = {name: str(given) for name, given in context.items()}
        changed = load(context | {key: value})
        check_config(changed)
        if repr(observe(changed)) == seen(observe, tuple(sorted(context.items()))):
            without.append(key)
    assert not without
    for observe in {observe for _, observe, _ in EFFECTS.values()}:
        assert repr(observe(load({}))) == seen(observe, ()), observe


def test_the_keys_of_a_run_leave_their_files_and_lines(train_net, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    short = {"SOLVER.MAX_EPOCH": 2, "SOLVER.WARMUP_ITERS": 0, "TEST.EVAL_PERIOD": 2}
    short |= {"TEST.SAVE_FEATURES": False}
    changed = {
        "SOLVER.SELECTION": "best_on_test",
        "SOLVER.CHECKPOINT_PERIOD": 1,
        "SOLVER.CHECKPOINT_MINUTES": 1e-9,
        "TEST.EVAL_PERIOD": 1,
        "TEST.PRECISE_BN.ENABLED": True,
        "TEST.PRECISE_BN.DATASET": "SYSUMM01",
        "TEST.PRECISE_BN.NUM_ITER": 3,
        "TEST.RANKED_GALLERY": 2,
        "TEST.SAVE_FEATURES": True,
        "TEST.TENSORBOARD": True,
        "CUDNN_BENCHMARK": False,
    }
    told = {}
    for name, keys in (("plain", {}), ("changed", changed)):
        folder = tmp_path / name
        assert train_net(**short | keys, OUTPUT_DIR=folder) == (0, "")
        log = (folder / "log.txt").read_text()
        told[name] = {
            "best": (folder / "model_best.pth").exists(),
            "of an epoch": (folder / "model_0000.pth").exists(),
            "within an epoch": "model_iter_" in log,
            "evaluations": log.count("Mean ± standard deviation"),
            "statistics": log.count("Running precise-BN for 3 iterations"),
            "picture": (folder / "ranked_gallery.png").exists(),
            "features": (folder / "features.npz").exists(),
            "pictures": any(
                b"test/cmc" in events.read_bytes() for events in folder.glob("events.out.*")
            ),
            "benchmark": torch.backends.cudnn.benchmark,
            "schedule": log.count("Schedule: 2 epochs of "),
        }
    plain, other = told.values()
    assert plain.pop("schedule") == other.pop("schedule") == 1
    assert list(plain.values()) == [False, False, False, 1, 0, False, False, False, True]
    # both epochs, then the best once more
    assert list(other.values()) == [True, True, True, 3, 1, True, True, True, False]


@pytest.mark.usefixtures("data_root")
def test_allowed_leaks_are_not_refused():
    for allowed in (True, False):
        cfg = load({"TEST.ALLOW_LEAK": allowed})
        data = build_dataset(cfg, "SYSUMM01")
        trained_on = Weights(record=training_record(cfg, data))
        with nullcontext() if allowed else pytest.raises(InputError, match="ALLOW_LEAK"):
            guard(cfg, data, data.train, "test", trained_on)


def test_a_value_that_does_not_fit_is_refused_before_any_work(train_net, tmp_path):
    for key, (value, message) in REFUSED_ALONE.items():
        status, error = train_net(**CONTEXTS.get(key, {}), **{key: value})
        assert status == 2, key
        assert message in error, (key, error)
        assert error.count("\n") == 1, (key, error)
        assert not (tmp_path / "out").exists(), key


# Key -> values that no rule takes, with the keys that switch its feature on.
BAD: dict[str, tuple[tuple[object, ...], Mapping[str, object]]] = {
    "MODEL.DEVICE": (("cudaa", "", "cuda:", "cuda:-1", "meta", "tpu"), {}),
    "MODEL.META_ARCHITECTURE": (("Baseline", "MGN", "Nowhere", ""), {}),
    "MODEL.BACKBONE.NAME": (("build_resnet_backbone", "build_vit_backbone", "nowhere"), {}),
    "MODEL.HEADS.NAME": (("EmbeddingHead", "nowhere"), {}),
    "MODEL.COMPILE": (("yes", "", True), {}),
    "MODEL.FREEZE_LAYERS": ((["nose"], ["("], [""], [3]), {"SOLVER.FREEZE_ITERS": 1}),
    "INPUT.AUGMIX.ENABLED": ((True,), {}),
    "MODEL.BACKBONE.LAST_STRIDE": ((0, -1, 3), {}),
    "MODEL.BACKBONE.WIDTH": ((0, -1, "nan", "inf"), {}),
    "MODEL.BACKBONE.DEPTH": (("50", ""), {}),
    "MODEL.BACKBONE.NORM": (("LN", "", "syncBN"), {}),
    "MODEL.BACKBONE.WITH_NL": ((True,), {}),
    "MODEL.BACKBONE.FEAT_DIM": ((0, -64), {}),
    "MODEL.BACKBONE.STRIDE_SIZE": (([0, 8], [8], [16.0, 8], [17, 16]), TIMM),
    "MODEL.BACKBONE.DROP_PATH_RATIO": ((1, -0.1, "nan"), TIMM),
    "MODEL.BACKBONE.DROP_RATIO": ((0.1,), {**TIMM, "MODEL.BACKBONE.TIMM.NAME": "test_convnext"}),
    "MODEL.BACKBONE.ATT_DROP_RATE": ((0.3,), {}),
    "MODEL.BACKBONE.TIMM.NAME": (("", "resnet", "hf-hub:timm/test_vit"), TIMM),
    "MODEL.BACKBONE.TIMM.STEM_DEPTH": ((-2, 5), TIMM),
    "MODEL.BACKBONE.TIMM.STREAM_DEPTH": ((-1, 5), TIMM),
    "MODEL.BACKBONE.WITH_IBN": ((True,), TIMM),
    "MODEL.HEADS.EMBEDDING_DIM": ((-1,), {}),
    "MODEL.HEADS.NUM_CLASSES": ((-1,), {}),
    "MODEL.HEADS.STRIPES": ((0, -6, 10**6), {}),
    "MODEL.HEADS.TEST_BETA": ((-0.1, 1.1, "nan"), {}),
    "MODEL.HEADS.GRANULARITIES": (((), ("local",), (1,)), {}),
    "MODEL.LOSSES.NAME": (((), ("CircleLoss",), ("CrossEntropyLoss", "FocalLoss"), (1,)), {}),
    "MODEL.LOSSES.CE.EPSILON": ((-1, 1.5, "nan"), {}),
    "MODEL.LOSSES.CE.SCALE": ((-1, "nan", "inf"), {}),
    "MODEL.LOSSES.TRI.MARGIN": ((-0.1, "nan"), TRIPLETS),
    "MODEL.LOSSES.ALIGN.NAME": (("emd", ""), {}),
    "MODEL.LOSSES.ALIGN.WEIGHT": ((-1, "nan", "inf"), {}),
    "MODEL.LOSSES.ALIGN.WARMUP_ITERS": ((-1,), {}),
    "MODEL.LOSSES.ALIGN.EPSILON": ((0, -1, "nan"), {"MODEL.LOSSES.ALIGN.NAME": "sinkhorn"}),
    "MODEL.LOSSES.HCT.MARGIN": ((0, -1), {"MODEL.LOSSES.HCT.WEIGHT": 1.0}),
    "MODEL.LOSSES.MSEL.START_EPOCH": ((-1, 0.5), {"MODEL.LOSSES.MSEL.WEIGHT": 1.0}),
    "MODEL.LOSSES.DCL.START_EPOCH": ((-1, 0.5), {"MODEL.LOSSES.DCL.WEIGHT": 1.0}),
    "MODEL.LOSSES.ALIGN.START_EPOCH": ((-1, 0.5), {}),
    "MODEL.LOSSES.ALIGN.DISTANCE": (("kernel", "chebyshev"), {"MODEL.LOSSES.ALIGN.NAME": "mmd"}),
    "MODEL.LOSSES.ALIGN.PLAN_FEATURE": (("local", ""), {}),
    "MODEL.LOSSES.ALIGN.MASS": ((0, 1.1, "nan"), {"MODEL.LOSSES.ALIGN.NAME": "partial"}),
    "MODEL.LOSSES.ALIGN.MARGINAL_PENALTY": (
        (0, -1, "nan"),
        {"MODEL.LOSSES.ALIGN.NAME": "unbalanced"},
    ),
    "MODEL.LOSSES.ALIGN.NEIGHBOURS": (
        (0, 1.5),
        {"MODEL.LOSSES.ALIGN.NAME": "batch_nearest"},
    ),
    "MODEL.LOSSES.ALIGN.SHARE": ((-0.1, 1.1, "nan"), DEBIASED),
    "MODEL.LOSSES.DL.EPS": ((0, "nan"), {}),
    "MODEL.LOSSES.CENTRE.MARGIN": ((-1,), {"MODEL.LOSSES.CENTRE.WEIGHT": 1.0}),
    "MODEL.PIXEL_MEAN": (([1, 2], [1, 2, "x"], [1, 2, 1e999], []), {}),
    "MODEL.PIXEL_STD": (([1, 1, 0], [1, 1], [1, 1, -1]), {}),
    "INPUT.SIZE_TRAIN": (([0, 16], [-32, 16], [32], [32, 16, 3], [32.0, 16], ["a", 1]), {}),
    "INPUT.SIZE_TEST": (([0, 0], [32], [10**6, 16]), {}),
    "INPUT.GREY_EPOCHS": ((-1,), {}),
    "INPUT.CROP.SIZE": (([0, 1], [32]), {"INPUT.CROP.ENABLED": True}),
    "INPUT.CROP.SCALE": (([0, 1], [1, 0.5], [0.5]), {"INPUT.CROP.ENABLED": True}),
    "INPUT.CROP.RATIO": (([0, 1], [2, 1], [1, 2, 3]), {"INPUT.CROP.ENABLED": True}),
    "INPUT.FLIP.PROB": ((-0.1, 1.1, "nan"), {}),
    "INPUT.PADDING.MODE": (("zero", ""), {}),
    "INPUT.PADDING.SIZE": ((-1,), {}),
    "INPUT.CJ.PROB": ((2,), on("CJ")),
    "INPUT.CJ.BRIGHTNESS": ((-1,), on("CJ")),
    "INPUT.CJ.HUE": ((0.6,), on("CJ")),
    "INPUT.REA.PROB": ((1.5,), on("REA")),
    "INPUT.REA.VALUE": (([1], [1, 2, 3, 4], [0, 0, 256], [-1, 0, 0]), on("REA")),
    "INPUT.GREY.IMAGES": (("third", "", "second"), {"INPUT.GREY.ENABLED": True}),
    "INPUT.LINEAR_GREY.PROB": ((1.5, -1, "nan"), {"INPUT.LINEAR_GREY.ENABLED": True}),
    "INPUT.LINEAR_GREY.BETA": ((0, -1, "nan", "inf"), {"INPUT.LINEAR_GREY.ENABLED": True}),
    "INPUT.CHANNEL_ERASING.VALUE": (
        ([1], [0, 0, 256], [-1, 0, 0]),
        {"INPUT.CHANNEL_ERASING.ENABLED": True},
    ),
    "INPUT.CHANNEL_STEP.LUMA": ((1.5, -1, "nan"), {"INPUT.CHANNEL_STEP.ENABLED": True}),
    "INPUT.ONE_OF": ((("GREY",), ("FLIP", "FLIP"), ("NOSE",), (1,), ("AUTOAUG",)), {}),
    "DATALOADER.VISIBLE_VIEWS": ((0, 3, -1), {}),
    "MODEL.LOSSES.SOFT_LABELS.WEIGHT": ((1, -1, "nan"), {}),
    "MODEL.LOSSES.RANK.STRENGTH": ((0, -1, "nan"), {"MODEL.LOSSES.RANK.WEIGHT": 1.0}),
    "INPUT.AUTOAUG.PROB": ((-1, 0), on("AUTOAUG")),
    "INPUT.AUGMIX.PROB": ((2,), on("AUGMIX")),
    "DATASETS.NAMES": (([1],), {}),
    "DATASETS.REGDB.TRIAL": ((0, 11), REGDB),
    "DATASETS.OWN.LIST": (([3], [""]), OWN),
    "DATASETS.OWN.NAME": (("", " "), OWN),
    "DATASETS.OWN.TEST_SHARE": ((1, -0.1, "nan"), OWN),
    "DATASETS.OWN.SPLIT_SEED": ((-1,), OWN),
    "DATASETS.REGDB.VALIDATION_SHARE": ((1, -0.1, "nan"), REGDB),
    "DATALOADER.SAMPLER_TRAIN": (("BalancedIdentitySampler", ""), {}),
    "DATALOADER.NUM_WORKERS": ((-1, 10**6), {}),
    "DATALOADER.PREFETCH": ((0, 10**6), {}),
    "INPUT.RESIZE": (("", "nearest"), {}),
    "INPUT.THERMAL_RANGE": (("9:1", "5:5", "percentile:-1,50", "auto"), {}),
    "INPUT.THERMAL_PALETTE": (("rainbow", ""), {}),
    "INPUT.THERMAL_POLARITY": (("hot",), {}),
    "DATALOADER.CACHE": (("~/cache", " ", "a\nb"), {}),
    "INPUT.AUTOAUG.ENABLED": ((True,), {"DATALOADER.CACHE": "c", "INPUT.AUTOAUG.PROB": 0.5}),
    "DATALOADER.NUM_VISIBLE": ((0, -2), {}),
    "DATALOADER.NUM_THERMAL": ((0,), {}),
    "SOLVER.OPT": (("LBFGS", "SparseAdam", "Muon", "Optimizer", "adam", "lr_scheduler", ""), {}),
    "SOLVER.MAX_EPOCH": ((0, -1), {}),
    "SOLVER.BASE_LR": ((0, -0.1, "nan", "inf"), {}),
    "SOLVER.HEADS_LR_FACTOR": ((0, -1, "nan"), {}),
    "SOLVER.BIAS_LR_FACTOR": ((0, "inf"), {}),
    "SOLVER.MOMENTUM": ((-0.1, 1, "nan"), SGD),
    "SOLVER.NESTEROV": ((True,), {**SGD, "SOLVER.MOMENTUM": 0.0}),
    "SOLVER.WEIGHT_DECAY": ((-1, "nan"), {}),
    "SOLVER.WEIGHT_DECAY_NORM": ((-1,), {}),
    "SOLVER.WEIGHT_DECAY_BIAS": ((-1,), {}),
    "SOLVER.SCHED": (("StepLR", "OneCycleLR", "Optimizer", ""), {}),
    "SOLVER.DELAY_EPOCHS": ((-1,), {}),
    "SOLVER.GAMMA": ((0, -1, 2, "nan"), {}),
    "SOLVER.STEPS": (([0], [3, 2], [2, 2], [1.5], ["a"], [True]), {}),
    "SOLVER.ETA_MIN_LR": ((-1,), COSINE),
    "SOLVER.WARMUP_FACTOR": ((0, -1, 2, "nan"), {}),
    "SOLVER.WARMUP_ITERS": ((-1,), {}),
    "SOLVER.WARMUP_METHOD": (("cosine", ""), {}),
    "SOLVER.FREEZE_ITERS": ((-1, 3), {}),
    "SOLVER.CHECKPOINT_PERIOD": ((0, -1), {}),
    "SOLVER.CHECKPOINT_MINUTES": ((-1, "nan", "inf"), {}),
    "SOLVER.LAYER_DECAY": ((0, 1.1, "nan"), {}),
    "SOLVER.IMS_PER_BATCH": ((0, -40, 41), {}),
    "SOLVER.SELECTION": (("best", ""), {}),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (("size", ""), CLIPPED),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": ((0, -1, "inf"), CLIPPED),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": ((0, -1, "nan"), CLIPPED),
    "TEST.EVAL_PERIOD": ((0, -1), {}),
    "TEST.IMS_PER_BATCH": ((0, -1, 10**9), {}),
    "TEST.METRIC": (("jaccard", ""), {}),
    "TEST.DRAW": (("all", ""), {}),
    "TEST.RANKED_GALLERY": ((-1, 101, 10**9), {}),
    "TRACKERS": ((["wanda"], [""], [1]), {}),
    "TEST.RERANK.K1": ((0, -1), RERANKED),
    "TEST.RERANK.K2": ((0,), RERANKED),
    "TEST.RERANK.LAMBDA": ((-0.1, 1.1, "nan"), RERANKED),
    "TEST.PRECISE_BN.NUM_ITER": ((0,), {"TEST.PRECISE_BN.ENABLED": True}),
    "OUTPUT_DIR": (("", " ", "~/runs", "~", "a\nb", "a\x1bb"), {}),
    "SEED": ((-2, 2**32, 10**30), {}),
}


def refusal(keys: Mapping[str, object]) -> str:
    """What is said of a configuration; "" if it is accepted."""
    try:
        check_config(load(keys))
    except InputError as error:
        return str(error)
    return ""


def test_a_value_out_of_range_is_refused_in_one_line_that_names_the_key():
    for key, (values, context) in BAD.items():
        for value in values:
            message = refusal({**context, key: value})
            assert key.rsplit(".", 1)[-1] in message, (key, value, message)
            assert "\n" not in message, (key, value)


def test_an_option_of_a_feature_that_is_off_is_not_checked():
    off = {
        "INPUT.CJ.PROB": 7,
        "INPUT.CROP.SIZE": [0],
        "MODEL.LOSSES.TRI.MARGIN": -1,
        "MODEL.LOSSES.CENTRE.MARGIN": -1,
        "MODEL.LOSSES.ALIGN.EPSILON": -1,
        "TEST.RERANK.K1": -1,
        "TEST.PRECISE_BN.DATASET": "nowhere",
        "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": "size",
        "SOLVER.MOMENTUM": 7,
        "SOLVER.ETA_MIN_LR": -1,
        "DATASETS.REGDB.TRIAL": 77,
    }
    assert not refusal({"SOLVER.NESTEROV": False} | off)
    assert "SOLVER.MOMENTUM" in refusal({"SOLVER.OPT": "SGD"} | off)


def test_a_number_of_an_option_that_is_off_is_finite_all_the_same():
    for key, row in KEYS.items():
        default = DEFAULTS[key]
        if row.when is None or not isinstance(default, float | tuple | list):
            continue
        if not isinstance(default, float) and not all(type(x) in (int, float) for x in default):
            continue
        for bad in (float("nan"), float("-inf")):
            value = bad if isinstance(default, float) else type(default)([bad] * len(default))
            off = replace(row, when=Condition("never", lambda cfg: False))
            with pytest.MonkeyPatch.context() as patch:
                patch.setitem(KEYS, key, off)
                problems = check_keys({key: value}, DEFAULTS, default_config())
            assert len(problems) == 1, (key, bad)
            assert key in str(problems[0]), key
    assert "SOLVER.MOMENTUM finite" in refusal({"SOLVER.OPT": "Adam", "SOLVER.MOMENTUM": "nan"})
    assert "INPUT.CROP.RATIO finite" in refusal({"INPUT.CROP.RATIO": "[1.0, 1e999]"})


def test_a_start_names_all_bad_keys_at_once():
    message = refusal({"SOLVER.BASE_LR": -1, "KD.EMA.ENABLED": True, "OUTPUT_DIR": ""})
    assert "without problems, got 3: (1) expected KD.EMA.ENABLED False" in message
    assert all(key in message for key in ("SOLVER.BASE_LR", "KD.EMA.ENABLED", "OUTPUT_DIR"))


def test_every_optimizer_of_the_table_trains_and_keeps_as_many_numbers_as_it_says():
    for name, numbers in OPTIMIZERS.items():
        model = torch.nn.Linear(50, 40)
        cfg = load({"SOLVER.OPT": name, "SOLVER.NESTEROV": False})
        optimizer = build_optimizer(cfg, model).optimizer
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        before = model.weight.sum().item()
        optimizer.step()
        assert model.weight.sum().item() != before, name
        kept = sum(
            tensor.numel()
            for state in optimizer.state.values()
            for tensor in state.values()
            if torch.is_tensor(tensor)
        )
        own = sum(parameter.numel() for parameter in model.parameters())
        assert kept / own == pytest.approx(numbers, abs=0.05), name


def test_a_key_without_a_row_is_checked_for_its_kind_alone():
    keys, defaults = {"MINE": float("nan"), "YOURS": 3}, {"MINE": 1.0, "YOURS": 2}
    (problem,) = check_keys(keys, defaults, None)
    assert "MINE a finite number" in str(problem)
