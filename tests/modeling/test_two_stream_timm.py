"""timm's models in two streams: timm's own features, and a stem for each modality."""

import socket
import sys
from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid and timm

import pytest
import timm
import torch
from fastreid.modeling import build_model
from fastreid.utils.events import EventStorage
from safetensors.torch import save_file
from tests.cases import cases
from tests.conftest import CONFIGS, TINY
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.testing import assert_close

from cmemd import load_config
from cmemd.data.modality import Modality
from cmemd.engine.optimizer import build_optimizer, layer_factors
from cmemd.engine.preflight import check_config
from cmemd.errors import InputError, MissingDependencyError
from cmemd.modeling.two_stream_timm import build_two_stream_timm_backbone, patch_grid

SIZE = (64, 32)
MIXED = torch.tensor([Modality.THERMAL, Modality.VISIBLE, Modality.VISIBLE, Modality.THERMAL])
WIDTHS = {"test_vit": 64, "test_vit2": 64, "test_vit3": 96, "test_convnext": 64}
WIDTHS |= {"test_convnext2": 128, "test_resnet": 96, "vit_tiny_r_s16_p8_224": 192}


def config(name="test_vit", **keys):
    """demo.yml on a model of timm; TIMM__CLASS_TOKEN=True is MODEL.BACKBONE.TIMM.CLASS_TOKEN."""
    backbone = {"NAME": "build_two_stream_timm_backbone", "TIMM.NAME": name}
    backbone |= {"FEAT_DIM": WIDTHS.get(name, 64), "DROP_PATH_RATIO": 0.0}
    named = {k.replace("__", "."): v for k, v in keys.items()}
    outer = {k: named.pop(k) for k in list(named) if k.startswith(("MODEL.", "INPUT.", "SOLVER."))}
    backbone = {f"MODEL.BACKBONE.{k}": v for k, v in {**backbone, **named}.items()}
    options = TINY | {"MODEL.HEADS.POOL_LAYER": "GlobalAvgPool", "MODEL.HEADS.NUM_CLASSES": 5}
    options |= {f"INPUT.SIZE_{use}": list(SIZE) for use in ("TRAIN", "TEST")} | backbone | outer
    return load_config(CONFIGS / "demo.yml", [str(w) for pair in options.items() for w in pair])


def build(name="test_vit", **keys):
    return build_two_stream_timm_backbone(config(name, **keys))


def refusal(name="test_vit", **keys):
    with pytest.raises(InputError) as caught:
        build(name, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reference(name, **options):
    """timm's model with a value of its own in every tensor, so that each one counts."""
    model = timm.create_model(name, pretrained=False, num_classes=3, **options).eval()
    generator = torch.Generator().manual_seed(0)
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand(tensor.shape, generator=generator)
            if "var" in key or key.endswith("gamma"):
                tensor.copy_(0.5 + noise)
            else:
                tensor.add_(0.1 * noise - 0.05)
    return model


def images(count=4):
    return torch.randn(count, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def weights_of(model, path):
    save_file(model.state_dict(), path) if path.suffix == ".safetensors" else torch.save(
        model.state_dict(), path
    )
    return {"PRETRAIN": True, "PRETRAIN_PATH": path}


# ---- timm as an oracle


def test_equal_stems_and_streams_give_timms_features(tmp_path):
    """Interpolated positions are those of timm's own dynamic_img_size."""
    dynamic = {"dynamic_img_size": True}
    for name, stride, options, keys in (
        ("test_vit", 16, dynamic, {}),
        ("test_vit", 12, dynamic, {"STRIDE_SIZE": [12, 12]}),
        ("test_vit", 12, dynamic, {"STRIDE_SIZE": [12, 12], "TIMM__STEM_DEPTH": -1}),
        ("test_vit", 16, dynamic, {"TIMM__STEM_DEPTH": 0, "TIMM__STREAM_DEPTH": 6}),
        ("test_vit3", 16, dynamic, {}),
        ("test_convnext", 0, {"output_stride": 16}, {}),
        ("test_convnext2", 0, {}, {"LAST_STRIDE": 2}),
        ("test_resnet", 0, {"output_stride": 16}, {"TIMM__STEM_DEPTH": 1}),
        ("test_resnet", 0, {}, {"LAST_STRIDE": 2, "TIMM__STREAM_DEPTH": 0}),
    ):
        case = (name, keys)
        model = reference(name, **options)
        given = weights_of(model, tmp_path / "w.safetensors")
        ours = build(name, **given, **keys).eval()
        if stride:
            model.patch_embed.proj.stride = (stride, stride)
        with torch.no_grad():
            expected = model.forward_features(images())
            maps = ours(images(), MIXED)
        if stride:
            grid = patch_grid(SIZE, (16, 16), (stride, stride))
            prefix = model.num_prefix_tokens
            expected = expected[:, prefix:].mT.reshape(4, -1, *grid)
        assert expected.std() > 0.05, case
        for one in maps:
            assert one.shape == expected.shape, case
            assert_close(one, expected, rtol=0, atol=1e-6, msg=str(case))


def test_the_class_token_is_timms_and_the_local_map_stays_the_grid(tmp_path):
    model = reference("test_vit", dynamic_img_size=True)
    given = weights_of(model, tmp_path / "w.pth")
    ours = build(**given, TIMM__CLASS_TOKEN=True).eval()
    with torch.no_grad():
        expected = model.forward_features(images())
        token, grid = ours(images(), MIXED)
    assert_close(token, expected[:, 0, :, None, None], rtol=0, atol=1e-6)
    assert_close(grid.flatten(2).mT, expected[:, 1:], rtol=0, atol=1e-6)


def test_a_stripe_is_the_mean_of_its_rows_of_patches():
    network = build_model(config(STRIDE_SIZE=[8, 8], MODEL__HEADS__EMBEDDING_DIM=0)).eval()
    with torch.no_grad():
        maps = network.backbone(images(), MIXED)
        outputs = network.heads(*maps)
    rows = patch_grid(SIZE, (16, 16), (8, 8))[0]
    assert rows == 7  # three stripes: rows 0-2, 2-4, 4-6 of adaptive pooling
    for stripe, (first, last) in enumerate(((0, 3), (2, 5), (4, 7))):
        expected = maps[1][:, :, first:last].mean((2, 3))
        assert_close(outputs["local"].features[:, stripe], expected)
    assert outputs["accumulated"].features.shape[1] == 2


def test_rates_fall_from_block_to_block_as_timms_do():
    model = timm.create_model("test_vit", num_classes=3)
    groups = param_groups_layer_decay(model, layer_decay=0.7)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    names = {name: scales[id(p)] for name, p in model.named_parameters()}
    network = build_model(config(SOLVER__LAYER_DECAY=0.7, SOLVER__BASE_LR=0.01))
    factors = layer_factors(network, 0.7)
    backbone = network.backbone
    cases_of = {
        "stems.0.0.pos_embed": "pos_embed",
        "stems.1.0.proj.weight": "patch_embed.proj.weight",
        "stems.1.1.attn.qkv.weight": "blocks.0.attn.qkv.weight",
        "stems.0.2.attn.qkv.weight": "blocks.1.attn.qkv.weight",
        "trunk.0.mlp.fc1.weight": "blocks.2.mlp.fc1.weight",
        "trunk.1.mlp.fc1.weight": "blocks.3.mlp.fc1.weight",
        "global_stream.0.mlp.fc1.bias": "blocks.4.mlp.fc1.bias",
        "local_stream.1.mlp.fc1.weight": "blocks.5.mlp.fc1.weight",
        "local_stream.2.norm.weight": "norm.weight",
    }
    parameters = dict(backbone.named_parameters())
    optimizer = build_optimizer(config(SOLVER__LAYER_DECAY=0.7, SOLVER__BASE_LR=0.01), network)
    rates = {p: group["lr"] for group in optimizer.optimizer.param_groups for p in group["params"]}
    for ours, theirs in cases_of.items():
        assert factors[parameters[ours]] == pytest.approx(names[theirs]), ours
        assert rates[parameters[ours]] == pytest.approx(0.01 * names[theirs]), ours
    assert rates[network.heads.granularities["global"].classifier] == pytest.approx(0.01)
    for name, layers in (("test_resnet", 4), ("test_convnext", 4)):
        network = build(name)
        found = {network.layer_of(own) for own, _ in network.named_parameters()}
        assert found == set(range(layers + 1)), name


# ---- stems and streams


def test_each_modality_has_its_first_blocks_and_each_stream_its_last():
    for first, last, expected in (
        (2, 2, (3, 2, 3)),
        (0, 6, (1, 0, 7)),
        (-1, 1, (0, 6, 2)),
        (6, 0, (7, 0, 1)),
    ):
        network = build(TIMM__STEM_DEPTH=first, TIMM__STREAM_DEPTH=last)
        trunk = 0 if network.trunk is None else len(network.trunk)
        assert (len(network.stems[0]), trunk, len(network.global_stream)) == expected
        pairs = [tuple(network.stems), (network.global_stream, network.local_stream)]
        for one, other in pairs:
            assert one.state_dict().keys() == other.state_dict().keys()
            for a, b in zip(one.parameters(), other.parameters(), strict=True):
                assert torch.equal(a, b)
                assert a.data_ptr() != b.data_ptr()


def test_a_stem_serves_one_modality_and_a_stream_one_map():
    for name in ("test_vit", "test_convnext", "test_resnet"):
        network = build(name).eval()
        with torch.no_grad():
            before = network(images(), MIXED)
            for parameter in network.stems[Modality.THERMAL].parameters():
                parameter.add_(0.3)
            between = network(images(), MIXED)
            for parameter in network.local_stream.parameters():
                parameter.add_(0.3)
            after = network(images(), MIXED)
        for one, other in zip(before, between, strict=True):
            moved = (one - other).flatten(1).abs().amax(1) > 1e-4
            assert torch.equal(moved, MIXED == Modality.THERMAL), name
        assert torch.equal(between[0], after[0]), name
        assert not torch.allclose(between[1], after[1]), name


def test_there_is_a_local_stream_where_there_are_local_features():
    for kinds in (("global",), ("global", "local")):
        network = build(MODEL__HEADS__GRANULARITIES=kinds)
        assert (network.local_stream is not None) == ("local" in kinds)


# ---- a training step


def gradients(compiled=False, dtype=None, **keys):
    """Losses and gradients of one batch, with dropped paths where they are on."""
    torch.manual_seed(0)
    network = build_model(config(**keys)).train()
    run = torch.compile(network, backend="aot_eager") if compiled else network
    batch = {
        "images": 40 * images(8).abs(),
        "modalities": MIXED.repeat(2),
        "targets": torch.tensor([0] * 4 + [1] * 4),
    }
    torch.manual_seed(3)
    with EventStorage(0), torch.autocast("cpu", dtype, enabled=dtype is not None):
        losses = run(batch)
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in network.named_parameters() if p.requires_grad}


def test_recomputation_gives_the_gradients_of_the_plain_step_with_dropped_paths_too():
    for keys in ({"DROP_PATH_RATIO": 0.5, "DROP_RATIO": 0.3}, {"name": "test_resnet"}):
        keys = {"name": "test_vit", **keys}
        plain, expected = gradients(**keys)
        again, found = gradients(**keys, CHECKPOINT_ACTIVATIONS=True)
        for name, value in plain.items():
            assert_close(again[name], value, msg=name)
        for name, value in expected.items():
            assert_close(found[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_half_precision_and_compilation_give_about_the_same_losses():
    for name in ("test_vit", "test_convnext"):
        plain, expected = gradients(name=name)
        assert all(g is not None and g.isfinite().all() for g in expected.values()), name
        for options in ({"dtype": torch.bfloat16}, {"dtype": torch.float16}, {"compiled": True}):
            losses, found = gradients(name=name, **options)
            for loss, value in plain.items():
                assert_close(losses[loss], value, rtol=0.05, atol=0.05, msg=f"{name} {loss}")
            assert all(g.isfinite().all() for g in found.values()), (name, options)


# ---- weights


def test_nothing_is_downloaded(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise AssertionError("a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("timm.models._builder.load_pretrained", refuse)
    build("test_vit.r160_in1k")
    message = refusal(PRETRAIN=True)
    for words in ("hf download timm/test_vit.r160_in1k", "PRETRAIN to False", "PRETRAIN_PATH"):
        assert words in message
    path = tmp_path / "model.safetensors"
    model = reference("test_vit")
    save_file(model.state_dict(), path)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(path))
    stem = build(PRETRAIN=True).stems[0][0]
    assert torch.equal(stem.cls_token, model.cls_token)
    for name in ("hf-hub:timm/test_vit.r160_in1k", "timm/test_vit", "local-dir:/tmp", "vit_huge"):
        assert "out of timm" in refusal(name), name


def test_weights_of_another_model_are_refused_with_what_differs(tmp_path):
    path = tmp_path / "w.safetensors"
    for saved, wanted, words in (
        (reference("test_vit2"), "test_vit", ["unexpected", "ls1.gamma", "TIMM.NAME"]),
        (reference("test_vit"), "test_vit2", ["missing", "ls1.gamma"]),
        (
            reference("test_vit", img_size=(64, 64)),
            "test_vit",
            ["1 of another shape", "pos_embed [1, 17, 64] instead of [1, 101, 64]"],
        ),
        (reference("test_resnet"), "test_convnext", ["missing", "unexpected"]),
        (nn.Linear(2, 2), "test_vit", ["missing", "2 unexpected: bias, weight"]),
    ):
        message = refusal(wanted, **weights_of(saved, path))
        for word in (*words, str(path)):
            assert word in message, (wanted, word, message)


def test_a_damaged_or_missing_file_is_named(tmp_path):
    for name in ("w.safetensors", "w.pth"):
        path = tmp_path / name
        assert str(path) in refusal(PRETRAIN=True, PRETRAIN_PATH=path)
        path.write_bytes(b"PK\x03\x04 cut off")
        assert str(path) in refusal(PRETRAIN=True, PRETRAIN_PATH=path)


# ---- what does not fit


def test_what_does_not_fit_is_refused_by_name():
    for keys, words in (
        ({"name": "efficientnet_b0"}, ["TIMM.NAME", "EfficientNet", "ConvNeXt"]),
        ({"name": "vit_tiny_r_s16_p8_224"}, ["TIMM.NAME", "one convolution"]),
        ({"name": ""}, ["TIMM.NAME", "list_models"]),
        ({"name": "test_vit.no_such_tag"}, ["TIMM.NAME", "tag"]),
        ({"FEAT_DIM": 65}, ["FEAT_DIM", "set it to 64"]),
        ({"STRIDE_SIZE": [17, 16]}, ["STRIDE_SIZE", "skip pixels"]),
        ({"INPUT__SIZE_TEST": [64, 48]}, ["[4, 2] and [4, 3]", "INPUT.SIZE_TRAIN"]),
        ({"INPUT__SIZE_TEST": [8, 8], "INPUT__SIZE_TRAIN": [8, 8]}, ["[0, 0]", "[16, 16]"]),
        ({"TIMM__STEM_DEPTH": 5}, ["STEM_DEPTH", "at most 6", "5 and 2"]),
        ({"name": "test_resnet", "TIMM__STEM_DEPTH": 4}, ["STEM_DEPTH", "at most 4"]),
        ({"name": "test_convnext", "TIMM__CLASS_TOKEN": True}, ["CLASS_TOKEN"]),
        ({"name": "test_resnet", "DROP_RATIO": 0.1}, ["DROP_RATIO", "DROP_PATH_RATIO"]),
        ({"MODEL__HEADS__POOL_LAYER": "GeneralizedMeanPooling"}, ["POOL_LAYER", "GlobalAvgPool"]),
    ):
        message = refusal(**keys)
        for word in words:
            assert word in message, (keys, word, message)
    build("test_resnet", MODEL__HEADS__POOL_LAYER="GeneralizedMeanPooling")  # no number below 0


def test_images_of_another_size_are_refused_by_the_network():
    with pytest.raises(InputError, match="4 x 2 patches, got 6 x 2 of images of 96 x 32"):
        build().eval()(torch.zeros(1, 3, 96, 32), torch.tensor([0]))


def test_keys_of_the_other_backbone_are_refused():
    for keys, words in (
        ({"WITH_IBN": True}, "MODEL.BACKBONE.WITH_IBN False with build_two_stream_timm"),
        ({"NORM": "FrozenBN"}, "MODEL.BACKBONE.NORM 'BN' with build_two_stream_timm"),
        (
            {"NAME": "build_two_stream_resnet_backbone", "STRIDE_SIZE": [12, 12]},
            "STRIDE_SIZE (16, 16) with build_two_stream_resnet",
        ),
    ):
        with pytest.raises(InputError) as caught:
            check_config(config(**keys))
        assert words in str(caught.value), keys


def test_without_timm_one_line_says_how_to_get_it(monkeypatch):
    cfg = config()
    monkeypatch.setitem(sys.modules, "timm", None)
    for refuse in (build_two_stream_timm_backbone, check_config):
        with pytest.raises(MissingDependencyError, match=r"timm.*pip install 'cmemd\[timm\]'"):
            refuse(cfg)


def test_nothing_else_imports_timm():
    package = Path(sys.modules["cmemd"].__file__).parent
    importing = [p.name for p in package.rglob("*.py") if "import timm" in p.read_text()]
    assert importing == ["two_stream_timm.py"]


@cases("name", ["vit_base_patch16_224", "convnext_tiny", "resnet50", "vit_small_patch14_dinov2"])
def test_models_of_full_size_have_an_outline(name):
    with torch.device("meta"):
        width = timm.create_model(name, num_classes=0).num_features
        keys = {"FEAT_DIM": width, "INPUT__SIZE_TRAIN": [256, 128], "INPUT__SIZE_TEST": [256, 128]}
        network = build(name, **keys, STRIDE_SIZE=[12, 12]).eval()
        maps = network.after_stems(network.stems[0](torch.empty(2, 3, 256, 128)))
    grid = (21, 10) if "vit" in name else (16, 8)
    for one in maps:
        assert one.shape == (2, width, *grid)


def test_pmts_yaml_is_its_authors_network_and_schedule():
    cfg = load_config(CONFIGS / "recipes/pmt_vit.yml", ["MODEL.BACKBONE.PRETRAIN", "False"])
    with torch.device("meta"):
        network = build_two_stream_timm_backbone(cfg)
        maps = network.after_stems(network.stems[0](torch.empty(2, 3, 256, 128)))
    assert maps[0].shape == (2, 768, 1, 1)
    assert maps[1] is None
    assert len(network.stems[0]) == 0  # every layer is shared
    assert network.trunk[0].pos_embed.shape == (1, 1 + 21 * 10, 768)
    # ViT-B/16 without its classifier has 85.8 million parameters, 196 + 1 positions among them
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == 85_798_656 + (210 - 196) * 768
    each = 34167 // cfg.SOLVER.IMS_PER_BATCH
    assert (cfg.SOLVER.OPT, cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY) == ("AdamW", 3e-4, 1e-4)
    assert (cfg.SOLVER.MAX_EPOCH, cfg.SOLVER.WARMUP_ITERS, cfg.INPUT.GREY_EPOCHS) == (
        24,
        3 * each,
        6,
    )
    assert cfg.SOLVER.IMS_PER_BATCH == 8 * (cfg.DATALOADER.NUM_VISIBLE + cfg.DATALOADER.NUM_THERMAL)
