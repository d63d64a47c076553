"""Every key of the configuration has an effect, or is refused before any work."""

import random
from collections.abc import Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastreid.data.transforms import build_transforms
from fastreid.engine.hooks import LRScheduler
from fastreid.modeling import build_model
from fastreid.modeling.backbones import BACKBONE_REGISTRY
from fastreid.modeling.heads.build import REID_HEADS_REGISTRY
from fastreid.modeling.meta_arch.build import META_ARCH_REGISTRY
from fastreid.solver import build_lr_scheduler, build_optimizer
from fastreid.utils.events import EventStorage
from PIL import Image
from tests.cases import cases
from tests.conftest import CONFIGS, REPOSITORY, TINY

import cmemd
from cmemd.cli import main as command_line
from cmemd.config import default_config
from cmemd.data.build import build_dataset
from cmemd.engine.keys import KEYS, Status, flat_values
from cmemd.engine.preflight import check_config
from cmemd.engine.testing import build_evaluator, score_network
from cmemd.engine.trainer import Trainer
from cmemd.errors import InputError
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead
from cmemd.modeling.two_stream_resnet import build_two_stream_resnet_backbone

DEFAULTS = dict(flat_values(default_config()))


class OwnNet(CMEMDNet):
    """A network of a user's own."""


class OwnHead(MultiGranularityHead):
    """A head of a user's own."""


def build_own_backbone(cfg):
    return build_two_stream_resnet_backbone(cfg).double().float()


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
    batch = {
        "images": 255 * torch.rand(8, 3, 32, 16),
        "modalities": torch.tensor([0, 0, 1, 1] * 2),
        "targets": torch.tensor([0] * 4 + [1] * 4),
    }
    with EventStorage(1):
        losses = {name: loss.item() for name, loss in model(batch).items()}
    with torch.no_grad():
        embeddings = model.eval()(batch)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return type(model), type(model.heads), losses, embeddings.tolist(), shapes


def trained(cfg: Any) -> object:
    """Sums of parameters after three steps of the optimizer on fixed gradients."""
    torch.manual_seed(0)
    model = torch.nn.ModuleDict(
        {
            "backbone": torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)),
            "heads": torch.nn.Linear(2, 2),
        }
    )
    optimizer, _ = build_optimizer(cfg, model)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        optimizer.zero_grad()
        for parameter in model.parameters():
            parameter.grad += 10 * torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.double().sum().item() for parameter in model.parameters()]


def rates(cfg: Any) -> object:
    """The rate of every iteration, as fast-reid's own hook sets it."""
    return replayed(cfg, images=2 * cfg.SOLVER.IMS_PER_BATCH + 1)


def replayed(cfg: Any, images: int) -> list[float]:
    length = images // cfg.SOLVER.IMS_PER_BATCH
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    hook = LRScheduler(optimizer, build_lr_scheduler(cfg, optimizer, length))
    hook.trainer = trainer = SimpleNamespace(
        grad_scaler=None,
        warmup_iters=cfg.SOLVER.WARMUP_ITERS,
        delay_epochs=cfg.SOLVER.DELAY_EPOCHS,
        iter=0,
        storage=SimpleNamespace(put_scalar=lambda *_, **__: None),
    )
    found = []
    for trainer.epoch in range(cfg.SOLVER.MAX_EPOCH):
        for _ in range(length):
            hook.before_step()
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            hook.after_step()
            trainer.iter += 1  # before after_epoch, as in fast-reid's loop
        hook.after_epoch()
    return found


def pictures(cfg: Any) -> object:
    """Sums of an image after the transforms, a few times with one seed."""
    noise = np.random.default_rng(0).integers(0, 256, (48, 24, 3), np.uint8)
    image = Image.fromarray(noise)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002  fast-reid draws from it
    torch.manual_seed(0)
    seen = [build_transforms(cfg, is_train=True)(image) for _ in range(12)]
    seen.append(build_transforms(cfg, is_train=False)(image))
    return [(tuple(x.shape), x.double().sum().item(), x[:, 0].tolist()) for x in seen]


def listed(cfg: Any) -> object:
    """The images of the data set under test."""
    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    return [[item.path for item in items] for items in (data.train, data.query, data.validation)]


def first_batch(cfg: Any) -> object:
    """The images of a training's first batch, and the loader's workers."""
    loader = Trainer.build_train_loader(cfg)
    return next(iter(loader.batch_sampler)), loader.num_workers


class Identities(torch.nn.Module):
    """Embeds an image by its numbers; flipped images differ."""

    def forward(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        ramp = torch.linspace(0, 1, batch["images"].shape[-1])
        return torch.stack(
            [batch["images"].mean((1, 2, 3)), (batch["images"] * ramp).mean((1, 2, 3))], 1
        ).add(batch["targets"][:, None] * 5)


def scored(cfg: Any) -> object:
    """The results of a network that only looks at means, and the loader's batches."""
    from cmemd.engine.provenance import UNTRAINED

    data = build_dataset(cfg, cfg.DATASETS.TESTS[0])
    loader, evaluator = build_evaluator(cfg, data, UNTRAINED)
    results = score_network(cfg, Identities(), loader, evaluator)
    return list(results.items()), [len(batch) for batch in loader.batch_sampler]


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
NO_WEIGHT = {"MODEL.LOSSES.ALIGN.WEIGHT": 1.0}


def on(feature: str) -> dict[str, object]:
    return {f"INPUT.{feature}.ENABLED": True, f"INPUT.{feature}.PROB": 0.5}


# Key -> another value, where its effect is seen, and the keys that switch its feature on.
EFFECTS: dict[str, tuple[object, Callable[[Any], object], Mapping[str, object]]] = {
    "MODEL.META_ARCHITECTURE": ("OwnNet", network, {}),
    "MODEL.FREEZE_LAYERS": (["backbone"], trained, {**SGD, "SOLVER.FREEZE_ITERS": 2}),
    "MODEL.BACKBONE.NAME": ("build_own_backbone", lambda cfg: cfg.MODEL.BACKBONE.NAME, {}),
    "MODEL.BACKBONE.DEPTH": ("34x", network, {}),
    "MODEL.BACKBONE.LAST_STRIDE": (2, network, {}),
    "MODEL.BACKBONE.NORM": ("FrozenBN", network, {}),
    "MODEL.BACKBONE.WITH_IBN": (True, network, {}),
    "MODEL.BACKBONE.WITH_SE": (True, network, WIDER),
    "MODEL.BACKBONE.WITH_NL": (True, network, DEEP),
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
    "MODEL.LOSSES.ALIGN.VARIANCE_FLOOR": (1, network, {"MODEL.LOSSES.ALIGN.NAME": "kl"}),
    "MODEL.LOSSES.DL.WEIGHT": (2, network, {}),
    "MODEL.LOSSES.DL.EPS": (1, network, {}),
    "MODEL.LOSSES.CENTRE.WEIGHT": (2, network, {"MODEL.LOSSES.CENTRE.MARGIN": 5.0}),
    "MODEL.LOSSES.CENTRE.MARGIN": (9, network, CENTRES),
    "MODEL.LOSSES.CENTRE.NORMALIZE": (False, network, CENTRES),
    "MODEL.PIXEL_MEAN": ([0, 0, 0], network, {}),
    "MODEL.PIXEL_STD": ([9, 9, 9], network, {}),
    "INPUT.SIZE_TRAIN": ([40, 20], pictures, {}),
    "INPUT.SIZE_TEST": ([40, 20], pictures, {}),
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
    "INPUT.AUTOAUG.ENABLED": (True, pictures, {"INPUT.AUTOAUG.PROB": 1.0}),
    "INPUT.AUTOAUG.PROB": (1, pictures, on("AUTOAUG")),
    "INPUT.AUGMIX.ENABLED": (True, pictures, {"INPUT.AUGMIX.PROB": 1.0}),
    "INPUT.AUGMIX.PROB": (1, pictures, on("AUGMIX")),
    "INPUT.REA.ENABLED": (True, pictures, {}),
    "INPUT.REA.PROB": (1, pictures, on("REA")),
    "INPUT.REA.VALUE": ([0, 0, 0], pictures, on("REA")),
    "DATASETS.NAMES": (("RegDB",), first_batch, {}),
    "DATASETS.TESTS": (("RegDB",), listed, {}),
    "DATASETS.SYSUMM01.TRAIN_WITH_VAL": (False, listed, {}),
    "DATASETS.REGDB.TRIAL": (2, listed, REGDB),
    "DATASETS.REGDB.VALIDATION_SHARE": (0.3, listed, REGDB),
    "DATASETS.LLCM.VALIDATION_SHARE": (0.3, listed, LLCM),
    "DATALOADER.NUM_WORKERS": (1, first_batch, {}),
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
    "TEST.ALLOW_LEAK",
    "CUDNN_BENCHMARK",
    "OUTPUT_DIR",
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
    "DATALOADER.SAMPLER_TRAIN": ("TrainingSampler", "CrossModalitySampler"),
    "SOLVER.AMP.ENABLED": (True, "needs CUDA"),
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
    cfg = load({key: other_value(DEFAULTS[key])})
    with pytest.raises(InputError) as error:
        check_config(cfg)
    assert key in str(error.value)
    assert "leave it out" in str(error.value)
    assert "\n" not in str(error.value)


@cache
def seen(observe: Callable[[Any], object], context: tuple[tuple[str, str], ...]) -> str:
    return repr(observe(load(dict(context))))


@pytest.fixture
def data_root(datasets, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("FASTREID_DATASETS", str(datasets))
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("data_root")
def test_every_other_key_has_an_effect():
    without = []
    for key, (value, observe, context) in EFFECTS.items():
        context = {name: str(given) for name, given in context.items()}
        changed = load(context | {key: value})
        check_config(changed)
        before = seen(observe, tuple(sorted(context.items())))
        if repr(observe(changed)) == before:
            without.append(key)
    assert not without


def test_a_value_that_does_not_fit_is_refused_before_any_work(train_net, tmp_path):
    for key, (value, message) in REFUSED_ALONE.items():
        status, error = train_net(**CONTEXTS.get(key, {}), **{key: value})
        assert status == 2, key
        assert message in error, (key, error)
        assert error.count("\n") == 1, (key, error)
        assert not (tmp_path / "out").exists(), key
