"""Weights of the released AGW code, against a network of that shape written here."""

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import pytest
import torch
from tests.conftest import CONFIGS
from tests.export.conftest import scramble
from torch import nn
from torch.nn import functional
from torch.testing import assert_close
from torchvision.models import resnet18

from cmemd import load_config
from cmemd.engine.provenance import Weights
from cmemd.errors import InputError
from cmemd.export.agw import AGW, agw_config, read_agw
from cmemd.export.folder import export_model
from cmemd.export.formats import by_weights
from cmemd.export.network import inference_config, read_network
from cmemd.export.parity import by_training_network
from cmemd.inference.model_folder import read_model_folder

SIZE = (64, 32)
CONFIG = CONFIGS / "ablations/agw_global.yml"
OPTIONS = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.DEPTH", "18x", "MODEL.BACKBONE.FEAT_DIM", "512"]
OPTIONS += ["MODEL.BACKBONE.WIDTH", "1.0", "INPUT.SIZE_TEST", str(list(SIZE))]
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

    def __init__(self, pooling: str) -> None:
        super().__init__()
        self.pooling = pooling
        self.visible_module, self.thermal_module = Part("visible"), Part("thermal")
        self.base_resnet = Part("base")
        self.bottleneck = nn.BatchNorm1d(512)
        self.classifier = nn.Linear(512, 7, bias=False)

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


@pytest.fixture(scope="module", params=["average", "gem"])
def reference(request):
    torch.manual_seed(0)
    network = scramble(Reference(request.param)).eval()
    network.bottleneck.running_mean.zero_()
    return network


def saved(tmp_path, state, wrapped=True):
    path = tmp_path / "agw.t"
    torch.save({"net": state, "epoch": 3} if wrapped else state, path)
    return path


def config():
    return load_config(CONFIG, OPTIONS)


def read(path, pooling):
    return read_network(inference_config(agw_config(config(), pooling)), Weights(path), AGW)


def embed_both(embed, reference):
    """Embeddings of a batch of both modalities, and what the reference makes of it."""
    images = np.random.default_rng(0).integers(0, 256, (4, *SIZE, 3), np.uint8)
    modalities = np.array([0, 1, 1, 0])
    floats = torch.from_numpy((images / 255 - MEAN) / STD).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        rows = [reference(floats[i : i + 1], bool(m)) for i, m in enumerate(modalities)]
    return torch.from_numpy(embed(images, modalities)), torch.cat(rows)


@pytest.mark.parametrize("wrapped", [True, False])
def test_gives_the_same_feature(wrapped, reference, tmp_path):
    network = read(saved(tmp_path, reference.state_dict(), wrapped), reference.pooling)
    got, expected = embed_both(by_training_network(network), reference)
    assert expected.std(0).mean() > 1e-3  # the four are told apart
    assert_close(got, expected, rtol=0, atol=1e-5)


def test_a_model_folder_of_it_gives_the_same_feature(reference, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTREID_DATASETS", str(tmp_path / "nowhere"))
    weights = saved(tmp_path, reference.state_dict())
    export_model(
        config(), weights, tmp_path / "agw", formats=["safetensors"], agw=reference.pooling
    )
    document = read_model_folder(tmp_path / "agw").document
    assert document["training"]["dataset"] is None
    embed = by_weights(tmp_path / "agw/weights.safetensors", document["architecture"])
    got, expected = embed_both(embed, reference)
    assert_close(got, expected, rtol=0, atol=1e-5)


def test_data_parallel_names_are_read(reference, tmp_path):
    state = {f"module.{name}": tensor for name, tensor in reference.state_dict().items()}
    assert read_agw(saved(tmp_path, state)).keys() == reference.state_dict().keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s | {"NL_2.0.g.0.weight": torch.zeros(1)}, "have non-local blocks"),
        (lambda s: s | {"attention.weight": torch.zeros(1)}, "1 left over, such as attention"),
        (lambda s: {k: v for k, v in s.items() if k != "bottleneck.weight"}, "1 of 1.. tensors"),
        (lambda s: s | {"bottleneck.weight": torch.ones(9)}, "another shape.*bottleneck.weight"),
    ],
)
def test_other_weights_are_refused(change, message, reference, tmp_path):
    path = saved(tmp_path, change(dict(reference.state_dict())))
    with pytest.raises(InputError, match=message):
        read(path, reference.pooling)


def test_a_network_with_local_features_is_refused(reference, tmp_path):
    cfg = load_config(CONFIGS / "sysu.yml", OPTIONS)
    path = saved(tmp_path, reference.state_dict())
    with pytest.raises(InputError, match="global feature only.*agw_global.yml"):
        read_network(inference_config(cfg), Weights(path), AGW)


@pytest.mark.parametrize("content", [None, b"", b"text", [1], {"net": {"a": 1}}])
def test_a_file_that_is_no_checkpoint(content, tmp_path):
    path = tmp_path / "agw.t"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match="no weights at|truncated or not a checkpoint"):
        read_agw(path)
