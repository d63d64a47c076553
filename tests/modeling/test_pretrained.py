from pathlib import Path
from urllib.error import HTTPError, URLError

import cmemd.plugin  # noqa: F401  before fastreid and torchvision

import pytest
import torch
from fastreid.modeling.backbones.resnet import BasicBlock, Bottleneck, ResNet
from safetensors.torch import save_file
from tests.cases import cases
from torchvision.models import ResNet18_Weights, resnet18

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.modeling.pretrained import load_imagenet_weights
from cmemd.modeling.two_stream_resnet import NarrowResNet, build_two_stream_resnet_backbone

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"
KEY = "MODEL.BACKBONE.PRETRAIN_PATH"
NAME = "ResNet18_Weights.IMAGENET1K_V1"
NONE = (0, 0, 0, 0)


def narrow(block=BasicBlock, blocks=(1, 1, 1, 1), width=0.125, with_ibn=False):
    return NarrowResNet(width, 1, "BN", with_ibn, False, False, block, blocks, NONE)


@pytest.fixture(scope="module")
def imagenet():
    """Stands for ImageNet weights of ResNet-18: torchvision's names, each tensor with noise."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: x + torch.rand(x.shape, generator=generator) if x.is_floating_point() else x + 3
        for name, x in resnet18().state_dict().items()
    }


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """torch.hub's folder for downloads, with the network out of reach."""

    def download(url, *args, **kwargs):
        raise URLError(f"no route to {url}")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def build(path="", depth="18x"):
    options = {"DEPTH": depth, "WIDTH": 1.0, "FEAT_DIM": 512, "PRETRAIN": True}
    opts = [str(x) for k, v in options.items() for x in (f"MODEL.BACKBONE.{k}", v)]
    return build_two_stream_resnet_backbone(load_config(DEMO, [*opts, KEY, str(path)]))


def assert_copied(network, imagenet):
    """Assert that every stem and stream holds the ImageNet weights, in ResNet's order."""
    names = [n for n in imagenet if not n.startswith("fc.")]
    for copies, prefixes in (
        (network.stems, ("conv1", "bn1", "layer1", "layer2")),
        ((network.global_stream, network.local_stream), ("layer3", "layer4")),
    ):
        own = [imagenet[n] for n in names if n.startswith(prefixes)]
        for copy in copies:
            tensors = list(copy.state_dict().values())
            assert len(tensors) == len(own)
            assert all(torch.equal(a, b) for a, b in zip(tensors, own, strict=True))


def refusal(*args):
    with pytest.raises(InputError) as caught:
        load_imagenet_weights(*args)
    message = str(caught.value)
    assert KEY in message
    assert "\n" not in message
    return message


# ---- from a file


def test_a_file_fills_both_stems_and_both_streams(tmp_path, imagenet):
    torch.save(imagenet, tmp_path / "resnet18.pth")
    save_file(imagenet, tmp_path / "resnet18.safetensors")
    for name in ("resnet18.pth", "resnet18.safetensors"):
        assert_copied(build(tmp_path / name), imagenet)


def test_ibn_layers_have_the_names_of_ibn_nets_files():
    names = narrow(with_ibn=True).state_dict().keys()
    assert {"layer1.0.bn1.IN.weight", "layer1.0.bn1.BN.running_mean"} <= names


@cases("wrap", ["state_dict", "module."])
def test_a_training_checkpoints_wrapping_is_taken_off(tmp_path, wrap):
    source, target = narrow(), narrow()
    state = source.state_dict()
    if wrap == "state_dict":
        state = {"state_dict": state}
    else:
        state = {wrap + name: x for name, x in state.items()}
    torch.save(state, tmp_path / "w.pth")
    load_imagenet_weights(target, str(tmp_path / "w.pth"), "18x")
    for name, x in source.state_dict().items():
        assert torch.equal(target.state_dict()[name], x)


def test_non_local_layers_start_afresh(tmp_path):
    def resnet(with_nl):
        layers = (0, 1, 0, 0)
        return ResNet(1, "BN", False, False, with_nl, Bottleneck, (1, 1, 1, 1), layers)

    source, target = resnet(False), resnet(True)
    own = {n: x.clone() for n, x in target.state_dict().items() if n.startswith("NL_")}
    assert own
    torch.save(source.state_dict(), tmp_path / "w.pth")
    load_imagenet_weights(target, str(tmp_path / "w.pth"), "50x")
    expected = source.state_dict() | own
    assert target.state_dict().keys() == expected.keys()
    assert all(torch.equal(x, expected[n]) for n, x in target.state_dict().items())


def test_old_weights_without_batch_counters_are_taken(tmp_path):
    source, target = narrow(), narrow()
    state = {n: x for n, x in source.state_dict().items() if "num_batches_tracked" not in n}
    torch.save(state, tmp_path / "w.pth")
    load_imagenet_weights(target, str(tmp_path / "w.pth"), "18x")
    assert torch.equal(target.conv1.weight, source.conv1.weight)


def test_a_missing_file_is_named(tmp_path):
    path = str(tmp_path / "missing.pth")
    assert f"expected ImageNet weights at {path}, got no file: set " in refusal(
        narrow(), path, "18x"
    )


@cases("kept", [0, 100, 5000])
def test_a_truncated_file_is_named(tmp_path, kept):
    path = tmp_path / "w.pth"
    torch.save(narrow().state_dict(), path)
    path.write_bytes(path.read_bytes()[:kept])
    message = refusal(narrow(), str(path), "18x")
    assert str(path) in message
    assert "truncated" in message


def test_a_text_file_is_named(tmp_path):
    path = tmp_path / "w.pth"
    path.write_text("<html>not found</html>\n")
    assert str(path) in refusal(narrow(), str(path), "18x")


@cases("content", [[torch.zeros(1)], {"model": {}, "epoch": 3}, torch.zeros(2)])
def test_a_file_of_something_else_is_named(tmp_path, content):
    path = tmp_path / "w.pth"
    torch.save(content, path)
    assert str(path) in refusal(narrow(), str(path), "18x")


@cases(
    ("saved", "wanted"),
    [
        ({"blocks": (1, 1, 1, 2)}, {}),  # deeper: unexpected names
        ({}, {"blocks": (1, 1, 1, 2)}),  # shallower: missing names
        ({"block": Bottleneck}, {}),
        ({"width": 0.25}, {}),  # the same names, other shapes
        ({"with_ibn": True}, {}),
        ({}, {"with_ibn": True}),
    ],
)
def test_weights_of_another_architecture_are_refused(tmp_path, saved, wanted):
    path = tmp_path / "w.pth"
    torch.save(narrow(**saved).state_dict(), path)
    message = refusal(narrow(**wanted), str(path), "34x")
    assert str(path) in message
    assert "another architecture" in message
    assert "34x" in message


# ---- by name


@cases("path", ["", NAME])
def test_a_name_or_nothing_takes_torchvisions_weights(cache, imagenet, path):
    torch.save(imagenet, cache / Path(ResNet18_Weights.IMAGENET1K_V1.url).name)
    assert_copied(build(path), imagenet)


@cases("name", ["ResNet18_Weights.NEWEST", "ResNet19_Weights.IMAGENET1K_V1"])
def test_an_unknown_name_is_named(cache, name):
    message = refusal(narrow(), name, "18x")
    assert name in message
    assert "ResNet50_Weights.IMAGENET1K_V1" in message


def test_the_weights_of_another_depth_are_refused_by_name(cache, imagenet):
    torch.save(imagenet, cache / Path(ResNet18_Weights.IMAGENET1K_V1.url).name)
    message = refusal(narrow(Bottleneck), NAME, "50x")
    assert NAME in message
    assert "another architecture" in message


@cases(
    "error",
    [
        URLError("no route to host"),
        HTTPError("https://download.pytorch.org", 403, "Forbidden", None, None),
        ConnectionResetError("reset"),
        PermissionError("read-only"),
        RuntimeError("invalid hash value"),  # how torch.hub says that other bytes came
    ],
)
def test_a_failed_download_says_where_the_file_can_be_put(cache, monkeypatch, error):
    def download(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    message = refusal(narrow(), "", "18x")
    assert NAME in message
    assert str(cache / "resnet18-f37072fd.pth") in message
    assert "MODEL.BACKBONE.PRETRAIN False" in message


def test_a_truncated_download_is_named(cache, imagenet):
    file = cache / "resnet18-f37072fd.pth"
    file.write_bytes(b"PK\x03\x04 cut off")
    assert str(file) in refusal(narrow(), NAME, "18x")
