"""Networks of timm's models train, are exported and embed as the trained network does."""

import sys

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from tests.conftest import CONFIGS
from tests.engine.test_resume import assert_same, killed_at, results, state
from tests.export.conftest import SIZE, scramble, settle
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer

import cmemd
from cmemd.engine.checkpoint import WholeCheckpointer
from cmemd.errors import MissingDependencyError
from cmemd.export.folder import export_model
from cmemd.export.formats import by_onnxruntime, by_weights
from cmemd.export.network import inference_config
from cmemd.export.parity import by_training_network
from cmemd.inference.model_folder import read_model_folder


@register_model
def tiny_vit_of_tests(pretrained=False, **options):
    """A transformer of two blocks; its module stands for one of timm's."""
    assert not pretrained
    for unread in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        options.pop(unread, None)
    return VisionTransformer(
        img_size=48, patch_size=16, embed_dim=24, depth=2, num_heads=2, **options
    )


MODELS = [
    ("tiny_vit_of_tests", 24, {"STRIDE_SIZE": "[12,12]", "TIMM.CLASS_TOKEN": "True"}),
    pytest.param("test_vit", 64, {"TIMM.STEM_DEPTH": "-1"}, marks=pytest.mark.slow),
    pytest.param("test_convnext", 64, {}, marks=pytest.mark.slow),
    pytest.param("test_resnet", 96, {"LAST_STRIDE": "2"}, marks=pytest.mark.slow),
]


def keys_of(name, width, keys):
    backbone = {"NAME": "build_two_stream_timm_backbone", "TIMM.NAME": name, "FEAT_DIM": width}
    backbone |= {"TIMM.STEM_DEPTH": 1, "TIMM.STREAM_DEPTH": 1, **keys}
    named = {f"MODEL.BACKBONE.{key}": str(value) for key, value in backbone.items()}
    return named | {
        "MODEL.HEADS.POOL_LAYER": "GlobalAvgPool",
        "MODEL.HEADS.EMBEDDING_DIM": "8",
        "INPUT.SIZE_TRAIN": str(list(SIZE)),
        "INPUT.SIZE_TEST": str(list(SIZE)),
    }


@pytest.mark.parametrize(("name", "width", "keys"), MODELS)
def test_every_format_is_the_network_and_onnx_needs_no_timm(
    name, width, keys, tmp_path, monkeypatch
):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    words = [w for pair in keys_of(name, width, keys).items() for w in pair]
    cfg = cmemd.load_config(CONFIGS / "demo.yml", words)
    torch.manual_seed(0)
    network = settle(scramble(build_model(inference_config(cfg))))
    WholeCheckpointer(network, str(tmp_path)).save("model_final", epoch=0)
    export_model(cfg, tmp_path / "model_final.pth", tmp_path / "m", formats=["safetensors", "onnx"])
    images = np.random.default_rng(0).integers(0, 256, (5, *SIZE, 3), np.uint8)
    modalities = np.array([1, 0, 0, 1, 0])
    expected = by_training_network(network)(images, modalities)
    architecture = read_model_folder(tmp_path / "m").document["architecture"]
    by_tensors = by_weights(tmp_path / "m/weights.safetensors", architecture)
    assert np.abs(by_tensors(images, modalities) - expected).max() < 1e-5
    by_onnx = by_onnxruntime(tmp_path / "m/model.onnx")
    assert np.abs(by_onnx(images, modalities) - expected).max() < 1e-4
    monkeypatch.setitem(sys.modules, "timm", None)
    predictor = cmemd.Predictor(tmp_path / "m", runtime="onnx")
    visible = modalities == 0
    embedded = predictor.embed(list(images[visible]), "visible", bgr=False)
    assert np.abs(embedded - expected[visible]).max() < 1e-4
    with pytest.raises(MissingDependencyError, match=r"pip install 'cmemd\[timm\]'"):
        by_weights(tmp_path / "m/weights.safetensors", architecture)


def test_a_transformer_that_was_killed_ends_as_if_it_had_not_been(train_net, tmp_path):
    """Dropped paths, half precision, layer-wise rates and grey epochs included."""
    keys = keys_of("tiny_vit_of_tests", 24, {"DROP_PATH_RATIO": 0.3, "DROP_RATIO": 0.1})
    keys |= {"SOLVER.LAYER_DECAY": 0.7, "SOLVER.OPT": "AdamW", "INPUT.GREY_EPOCHS": 1}
    keys |= {"MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS": True, "SOLVER.AMP.ENABLED": True}
    keys |= {"SOLVER.MAX_EPOCH": 2, "TEST.EVAL_PERIOD": 2, "SOLVER.CHECKPOINT_MINUTES": 1e-9}
    whole, cut, again = (tmp_path / name for name in ("whole", "cut", "again"))
    assert train_net(**keys, OUTPUT_DIR=whole) == (0, "")
    with killed_at(3):
        train_net(**keys, OUTPUT_DIR=cut)
    workers = {"DATALOADER.NUM_WORKERS": 1}
    assert train_net("--resume", **keys | workers, OUTPUT_DIR=cut)[0] == 0
    assert_same(state(cut)["model"], state(whole)["model"])
    assert results(cut)["scores"] == results(whole)["scores"]
    weights = {"MODEL.WEIGHTS": whole / "model_final.pth"}
    assert train_net("--eval-only", **keys | weights, OUTPUT_DIR=again)[0] == 0
    assert results(again)["scores"] == results(whole)["scores"]


def test_a_training_without_timm_or_weights_ends_in_one_line(train_net, tmp_path, monkeypatch):
    keys = keys_of("tiny_vit_of_tests", 24, {})
    status, said = train_net(**keys, **{"MODEL.BACKBONE.PRETRAIN": True})
    assert status == 2
    assert "in MODEL.BACKBONE.PRETRAIN_PATH, or in the Hugging Face cache" in said
    monkeypatch.setitem(sys.modules, "timm", None)
    status, missing = train_net(**keys)
    assert status == 2
    assert "pip install 'cmemd[timm]'" in missing
    for line in (said, missing):
        assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()
