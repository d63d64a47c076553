from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import pytest
import torch
from fastreid.layers import Non_local
from fastreid.modeling.backbones.resnet import BasicBlock, Bottleneck, ResNet
from tests.cases import cases
from torch.testing import assert_close

from cmemd import load_config
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.modeling.two_stream_resnet import (
    NarrowResNet,
    TwoStreamResNet,
    build_two_stream_resnet_backbone,
)

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"
VISIBLE, THERMAL = int(Modality.VISIBLE), int(Modality.THERMAL)
MIXED = torch.tensor([THERMAL, VISIBLE, VISIBLE, THERMAL, VISIBLE])


def perturb(module, seed=0):
    """Give every parameter and running statistic a value of its own.

    Zeros and ones, as norms and non-local layers start with, would hide what they do.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point() and tensor.dim() < 2:
                noise = torch.rand(tensor.shape, generator=generator)
                tensor.copy_(0.5 + 0.5 * noise if "var" in name else 0.3 * noise + 0.1)
            elif tensor.dim() >= 2:
                tensor.mul_(1 + 0.1 * torch.randn(tensor.shape, generator=generator))
    return module


def tiny_resnet(last_stride=1):
    """8, 16, 32, 64 channels, one block a stage."""
    none = (0, 0, 0, 0)
    torch.manual_seed(0)
    return NarrowResNet(
        0.125, last_stride, "BN", False, False, False, BasicBlock, (1, 1, 1, 1), none
    )


@pytest.fixture
def network():
    """In evaluation mode, with every copy of a stage different."""
    return perturb(TwoStreamResNet(resnet=tiny_resnet())).eval()


@pytest.fixture
def images():
    return torch.randn(5, 3, 48, 24, generator=torch.Generator().manual_seed(1))


def build(**options):
    """Build demo.yml's backbone; WIDTH=0.125 stands for MODEL.BACKBONE.WIDTH 0.125."""
    opts = []
    for name, value in options.items():
        opts += [f"MODEL.BACKBONE.{name}", str(value)]
    return build_two_stream_resnet_backbone(load_config(DEMO, opts))


# ---- routing


def test_a_mixed_batch_gives_what_each_modality_gives_by_itself(network, images):
    expected = [torch.empty(5, 64, 3, 2), torch.empty(5, 64, 3, 2)]
    for modality in (VISIBLE, THERMAL):
        own = modality == MIXED
        alone = network(images[own], MIXED[own])
        for whole, part in zip(expected, alone, strict=True):
            whole[own] = part
    assert_close(network(images, MIXED), tuple(expected))


def test_every_image_takes_its_modalitys_stem_then_both_streams(network, images):
    global_map, local_map = network(images, MIXED)
    for i, modality in enumerate(MIXED):
        shallow = network.stems[modality](images[i : i + 1])
        assert_close(global_map[i : i + 1], network.global_stream(shallow))
        assert_close(local_map[i : i + 1], network.local_stream(shallow))


def test_permuting_a_batch_permutes_its_maps(network, images):
    order = torch.tensor([3, 0, 4, 2, 1])
    moved = network(images[order], MIXED[order])
    assert_close(moved, tuple(x[order] for x in network(images, MIXED)))


def test_the_same_images_get_other_maps_as_the_other_modality(network, images):
    for one, other in zip(network(images, MIXED), network(images, 1 - MIXED), strict=True):
        assert ((one - other).flatten(1).abs().amax(1) > 1e-3).all()


@cases("modality", [VISIBLE, THERMAL])
@cases("count", [1, 5])
def test_in_evaluation_a_modality_may_be_absent(network, images, modality, count):
    maps = network(images[:count], torch.full((count,), modality))
    shallow = network.stems[modality](images[:count])
    assert_close(maps, (network.global_stream(shallow), network.local_stream(shallow)))


@cases(
    ("modality", "counts"),
    [(VISIBLE, {"visible": 5, "thermal": 0}), (THERMAL, {"visible": 0, "thermal": 5})],
)
def test_in_training_both_modalities_must_be_there(network, images, modality, counts):
    with pytest.raises(InputError, match="both modalities") as caught:
        network.train()(images, torch.full((5,), modality))
    assert str(counts) in str(caught.value)
    assert "CrossModalitySampler" in str(caught.value)


@cases("modalities", [[0, 1, 0, 1], [0, 1, 0, 1, 2], [0, 1, 0, 1, -1], [0] * 6])
def test_every_image_needs_a_modality(network, images, modalities):
    with pytest.raises(InputError, match=r"for each of 5 images, got \["):
        network(images, torch.tensor(modalities))


@cases("training", [True, False])
def test_the_images_stay_as_they_were(network, images, training):
    before = images.clone()
    network.train(training)(images, MIXED)
    assert torch.equal(images, before)


# ---- what is shared


def test_stems_and_streams_start_equal_but_are_separate():
    network = TwoStreamResNet(resnet=tiny_resnet())
    pairs = [tuple(network.stems), (network.global_stream, network.local_stream)]
    for one, other in pairs:
        assert one.state_dict().keys() == other.state_dict().keys()
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b)
            assert a.data_ptr() != b.data_ptr()


def test_the_network_shares_nothing_with_the_stems_it_was_copied_from():
    resnet = tiny_resnet()
    network = TwoStreamResNet(resnet=resnet)
    stem = {
        p.data_ptr()
        for name in ("conv1", "layer1", "layer2")
        for p in getattr(resnet, name).parameters()
    }
    assert stem.isdisjoint(p.data_ptr() for p in network.stems.parameters())


def test_without_a_local_stream_there_is_no_local_map(network, images):
    alone = perturb(TwoStreamResNet(resnet=tiny_resnet(), local=False)).eval()
    alone.load_state_dict({k: network.state_dict()[k] for k in alone.state_dict()})
    global_map, local_map = alone(images, MIXED)
    assert local_map is None
    assert_close(global_map, network(images, MIXED)[0])
    assert not [name for name in alone.state_dict() if name.startswith("local")]


@cases("granularities", ["('global',)", "('global','local')"])
def test_there_is_a_local_stream_where_there_are_local_features(granularities):
    cfg = load_config(DEMO, ["MODEL.HEADS.GRANULARITIES", granularities])
    backbone = build_two_stream_resnet_backbone(cfg)
    assert (backbone.local_stream is not None) == ("local" in granularities)


def test_it_holds_two_stems_and_two_streams_and_nothing_else():
    def count(*modules):
        return sum(p.numel() for m in modules for p in m.parameters())

    resnet = tiny_resnet()
    expected = 2 * count(*(getattr(resnet, n) for n in ("conv1", "bn1", "layer1", "layer2")))
    expected += 2 * count(resnet.layer3, resnet.layer4)
    assert count(TwoStreamResNet(resnet=resnet)) == expected


@cases("stream", ["global_stream", "local_stream"])
def test_a_stream_serves_both_modalities_and_one_map(network, images, stream):
    before = network(images, MIXED)
    perturb(getattr(network, stream), seed=2)
    changed = [
        ((a - b).flatten(1).abs().amax(1) > 1e-3).tolist()
        for a, b in zip(before, network(images, MIXED), strict=True)
    ]
    own = stream == "global_stream"
    assert changed == [[own] * 5, [not own] * 5]


@cases("modality", [VISIBLE, THERMAL])
def test_a_stem_serves_one_modality_and_both_maps(network, images, modality):
    before = network(images, MIXED)
    perturb(network.stems[modality], seed=2)
    for a, b in zip(before, network(images, MIXED), strict=True):
        changed = (a - b).flatten(1).abs().amax(1) > 1e-3
        assert torch.equal(changed, modality == MIXED)


def test_in_training_each_stem_sees_the_statistics_of_its_modality(network, images):
    network.train()
    before = [stem[1].running_mean.clone() for stem in network.stems]
    network(images, MIXED)
    for modality, stem in enumerate(network.stems):
        batch_mean = stem[0](images[modality == MIXED]).mean((0, 2, 3))
        assert_close(stem[1].running_mean, 0.9 * before[modality] + 0.1 * batch_mean)


# ---- fast-reid's ResNet as an oracle


@cases(
    ("block", "blocks", "with_ibn", "with_se", "with_nl"),
    [
        (BasicBlock, (1, 2, 2, 1), False, False, False),
        (BasicBlock, (1, 2, 2, 1), True, True, False),
        (Bottleneck, (1, 1, 1, 1), True, False, False),
        (Bottleneck, (1, 3, 4, 1), False, False, True),
        (Bottleneck, (1, 3, 4, 1), True, True, True),
    ],
)
def test_of_one_modality_both_maps_are_those_of_fastreids_resnet(
    block, blocks, with_ibn, with_se, with_nl
):
    torch.manual_seed(0)
    non_local = (0, 2, 3, 0)  # behind the last two blocks of stage 2, the last three of stage 3
    resnet = ResNet(1, "BN", with_ibn, with_se, with_nl, block, blocks, non_local)
    resnet = perturb(resnet).eval()
    images = 0.5 * torch.randn(2, 3, 32, 16)
    # fast-reid's forward changes its lists of non-local layers: copy before it and after it
    before = TwoStreamResNet(resnet=resnet).eval()
    with torch.no_grad():
        expected = resnet(images)
    after = TwoStreamResNet(resnet=resnet).eval()
    assert expected.isfinite().all()
    assert expected.std() > 0
    scale = expected.abs().max()
    copies = ((before, torch.full((2,), THERMAL)), (after, torch.full((2,), VISIBLE)))
    for network, modalities in copies:
        with torch.no_grad():
            maps = network(images, modalities)
        for feature_map in maps:
            assert_close(feature_map / scale, expected / scale, rtol=0, atol=1e-6)
    for network, modalities in copies if with_nl else ():  # and the non-local layers count
        for name, parameter in network.named_parameters():
            if ".W.1." in name:
                parameter.data.zero_()
        with torch.no_grad():
            without = network(images, modalities)[0]
        assert not torch.allclose(without / scale, expected / scale, rtol=0, atol=1e-3)


# ---- building from a configuration


@cases(
    ("depth", "feat_dim", "blocks", "non_local"),
    [("18x", 512, 8, 0), ("34x", 512, 16, 0), ("50x", 2048, 16, 5), ("101x", 2048, 33, 11)],
)
@cases("option", ["PRETRAIN", "WITH_NL"])
def test_every_depth_builds(depth, feat_dim, blocks, non_local, option):
    options = {"DEPTH": depth, "FEAT_DIM": feat_dim, "WIDTH": 1.0}
    with torch.device("meta"):  # shapes without numbers: deep networks take long to initialise
        network = build(**options | {option: option != "PRETRAIN"})
        streams = (network.global_stream, network.local_stream)
        for stem, stream in zip(network.stems, streams, strict=True):
            path = torch.nn.Sequential(stem, stream).eval()
            assert path(torch.empty(2, 3, 64, 32)).shape == (2, feat_dim, 4, 2)
            assert sum(isinstance(m, (BasicBlock, Bottleneck)) for m in path.modules()) == blocks
            layers = sum(isinstance(m, Non_local) for m in path.modules())
            assert layers == (non_local if option == "WITH_NL" else 0)
    assert network.feat_dim == feat_dim


@cases(("last_stride", "size"), [(1, (4, 2)), (2, (2, 1))])
def test_the_last_stride_sets_the_size_of_the_maps(last_stride, size):
    # 64 x 32: conv1 32 x 16, pooling 16 x 8, stage 2 8 x 4, stage 3 4 x 2, stage 4 by its stride
    network = build(WIDTH=0.125, FEAT_DIM=64, LAST_STRIDE=last_stride).eval()
    for feature_map in network(torch.zeros(2, 3, 64, 32), torch.tensor([VISIBLE, THERMAL])):
        assert feature_map.shape == (2, 64, *size)


@cases(
    ("width", "depth", "channels"),
    [
        (0.125, "18x", (8, 8, 16, 32, 64)),
        (0.25, "18x", (16, 16, 32, 64, 128)),
        (0.25, "50x", (16, 64, 128, 256, 512)),
        (0.01, "18x", (8, 8, 8, 8, 8)),  # never below 8
    ],
)
def test_width_scales_every_channel_count(width, depth, channels):
    network = build(WIDTH=width, DEPTH=depth, FEAT_DIM=channels[-1]).eval()
    x = torch.zeros(2, 3, 32, 16)
    stem, stream = network.stems[0], network.global_stream
    seen = []
    for module in (stem[:4], stem[4], stem[5], stream[0], stream[1]):
        x = module(x)
        seen.append(x.shape[1])
    assert tuple(seen) == channels
    assert network.feat_dim == channels[-1]


@cases(
    ("options", "words"),
    [
        ({"FEAT_DIM": 512}, ["MODEL.BACKBONE.FEAT_DIM", "512", "set it to 128"]),
        ({"DEPTH": "152x"}, ["MODEL.BACKBONE.DEPTH", "152x", "50x"]),
        ({"DEPTH": "r50"}, ["MODEL.BACKBONE.DEPTH", "'r50'", "50x"]),
        ({"PRETRAIN": True}, ["MODEL.BACKBONE.WIDTH", "PRETRAIN"]),
        ({"WITH_NL": True}, ["MODEL.BACKBONE.WIDTH", "WITH_NL"]),
    ],
)
def test_options_that_do_not_fit_are_refused_by_name(options, words):
    with pytest.raises(InputError) as caught:
        build(**options)
    for word in words:
        assert word in str(caught.value)
