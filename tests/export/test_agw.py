"""Weights of the released AGW code, against a network of that shape written here."""

import re

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
from fastreid.modeling.meta_arch import build_model
from tests.conftest import CONFIGS
from tests.export.conftest import scramble
from tests.inference.refusal import refusal
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from torchvision.models import resnet18

from cmemd import load_config
from cmemd.engine.provenance import Weights
from cmemd.errors import InputError
from cmemd.export.agw import (
    AGW,
    AGW_POOLINGS,
    agw_config,
    convert_agw,
    pool_as_agw,
    read_agw,
)
from cmemd.export.folder import export_model
from cmemd.export.formats import by_weights
from cmemd.export.network import inference_config, read_network
from cmemd.export.parity import by_training_network
from cmemd.inference.model_folder import read_model_folder

SIZE = (64, 32)
CONFIG = CONFIGS / "ablations/agw_global.yml"
OPTIONS = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", "512"]
OPTIONS += ["MODEL.BACKBONE.WIDTH", "1.0", "INPUT.SIZE_TEST", str(list(SIZE))]
UNUSED = re.compile(r"(visible|thermal)_module\..*\.layer\d\.|base_resnet\.base\.(conv|bn)1\.")
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Part(nn.Module):
    """A whole ResNet of last stride 1 under one name, as the released code keeps three of them."""

    def __init__(self, name: str) -> None:
        super().__init__()
        resnet = resnet18()
        for layer in (resnet.layer4[0].conv1, resnet.layer4[0].downsample[0]):
            layer.stride = (1, 1)
        del resnet.fc
        self.add_module(name, resnet)


class Reference(nn.Module):
    """One conv1 and bn1 per modality, shared layers, mean (of cubes), a norm, length 1."""

    pooling = "average"

    def __init__(self) -> None:
        super().__init__()
        self.visible_module, self.thermal_module = Part("visible"), Part("thermal")
        self.base_resnet = Part("base")
        self.bottleneck = nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, 7, bias=False)
        for name, tensor in [*self.named_parameters(), *self.named_buffers()]:
            if UNUSED.match(name):
                tensor.data = tensor.data.flatten()[:1].clone()  # small to save; names stay

    def forward(self, images: torch.Tensor, thermal: bool) -> torch.Tensor:
        own = self.thermal_module.thermal if thermal else self.visible_module.visible
        base = self.base_resnet.base
        x = own.maxpool(own.relu(own.bn1(own.conv1(images))))
        x = base.layer4(base.layer3(base.layer2(base.layer1(x))))
        if self.pooling == "average":
            pooled = x.flatten(2).mean(-1)
        else:
            pooled = (x.flatten(2).pow(3).mean(-1) + 1e-12).pow(1 / 3)
        return functional.normalize(self.bottleneck(pooled), dim=1)


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    network = scramble(Reference()).eval()
    network.bottleneck.running_mean.zero_()
    return network


@pytest.fixture(scope="module")
def weights(reference, tmp_path_factory):
    """Its checkpoint, as the released code saves it."""
    path = tmp_path_factory.mktemp("agw") / "agw.t"
    torch.save({"net": reference.state_dict(), "epoch": 3}, path)
    return path


def config():
    return load_config(CONFIG, OPTIONS)


def embed_both(embed, reference):
    """Embeddings of a batch of both modalities, and what the reference makes of it."""
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    modalities = np.array([0, 1, 1, 0])
    floats = torch.from_numpy((images / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        rows = [reference(floats[i : i + 1], bool(m)) for i, m in enumerate(modalities)]
    return torch.from_numpy(embed(images, modalities)), torch.cat(rows)


def test_gives_the_same_feature(reference, weights, monkeypatch):
    features = []
    for pooling in AGW_POOLINGS:
        monkeypatch.setattr(reference, "pooling", pooling)
        cfg = inference_config(agw_config(config(), pooling))
        network = read_network(cfg, Weights(weights), AGW)
        got, expected = embed_both(by_training_network(network), reference)
        assert expected.std(0).mean() > 1e-3  # the four images differ
        assert_close(got, expected, rtol=0, atol=1e-5, msg=lambda m, p=pooling: f"{p}: {m}")
        features.append(expected)
    assert (features[0] - features[1]).abs().max() > 1e-3  # a wrong pooling would show


def test_a_model_folder_of_it_gives_the_same_feature(reference, weights, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    monkeypatch.setattr("cmemd.export.images.PROBES", 2)  # faster than 16
    for pooling in AGW_POOLINGS:
        monkeypatch.setattr(reference, "pooling", pooling)
        folder = tmp_path / pooling
        export_model(config(), weights, folder, formats=["safetensors"], agw=pooling)
        document = read_model_folder(folder).document
        assert document["training"]["dataset"] is None
        embed = by_weights(folder / "weights.safetensors", document["architecture"])
        got, expected = embed_both(embed, reference)
        assert_close(got, expected, rtol=0, atol=1e-5, msg=lambda m, p=pooling: f"{p}: {m}")


def test_bare_and_data_parallel_tensors_are_read(reference, tmp_path):
    expected = {n: t for n, t in reference.state_dict().items() if t.numel() <= 512}
    parallel = {f"module.{name}": tensor for name, tensor in expected.items()}
    for state in ({"net": expected, "epoch": 3}, expected, parallel, {"net": parallel}):
        torch.save(state, tmp_path / "agw.t")
        assert_close(read_agw(tmp_path / "agw.t"), expected, rtol=0, atol=0)


def test_other_weights_are_refused(reference):
    state = dict(reference.state_dict())
    network = build_model(inference_config(agw_config(config(), "average")))
    expected = pool_as_agw(network).state_dict()
    convert_agw(state, expected, "agw.t")
    for changed, message in (
        (state | {"NL_2.0.g.0.weight": torch.zeros(1)}, "in agw.t, got weights with non-local"),
        (state | {"attention.weight": torch.zeros(1)}, "1 left over, such as attention"),
        ({k: v for k, v in state.items() if k != "bottleneck.weight"}, r"\(1 of 1.. tensors miss"),
        (state | {"bottleneck.weight": torch.ones(9)}, "another shape.*bottleneck.weight"),
    ):
        assert re.search(message, refusal(convert_agw, changed, expected, "agw.t")), message


def test_a_network_with_local_features_is_refused(weights):
    cfg = load_config(CONFIGS / "sysu.yml", OPTIONS)
    with pytest.raises(InputError, match="global feature only, got one with.*agw_global.yml"):
        read_network(inference_config(cfg), Weights(weights), AGW)


def test_a_file_that_is_not_a_checkpoint(tmp_path):
    path = tmp_path / "agw.t"
    message = f"expected weights of the AGW code at {path}, got "
    assert f"{message}no file: --agw" in refusal(read_agw, path)
    for content in (b"", b"text"):
        path.write_bytes(content)
        assert f"{message}a truncated or other file" in refusal(read_agw, path), content
    for content in ([1], {"net": {"a": 1}}, {"net": [1]}):
        torch.save(content, path)
        assert f"{message}something else: --agw" in refusal(read_agw, path), content
