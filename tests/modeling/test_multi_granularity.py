import itertools
from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import pytest
import torch
from tests.cases import cases
from torch import nn
from torch.testing import assert_close

from cmemd import load_config
from cmemd.errors import InputError
from cmemd.modeling.multi_granularity import (
    Granularity,
    GranularityOutput,
    MultiGranularityHead,
    accumulate_stripes,
    weighted_concatenation,
)

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def head(**options):
    """Build a small head in float64 with random weights and running statistics, evaluation mode."""
    defaults = {
        "feat_dim": 6,
        "num_classes": 5,
        "stripes": 3,
        "embedding_dim": 4,
        "pool_type": "GeneralizedMeanPooling",
        "norm": "BN",
        "local_weights": "model",
        "test_beta": 0.6,
        "test_accumulated": False,
    }
    module = MultiGranularityHead(**defaults | options).double().eval()
    with torch.no_grad():
        for seed, tensor in enumerate(itertools.chain(module.parameters(), module.buffers())):
            if tensor.is_floating_point() and tensor.dim() != 0:
                tensor.copy_(0.5 + normal(*tensor.shape, seed=seed).abs())
    return module


def maps(images=4, channels=6, size=(6, 2)):
    """Return positive feature maps of the global and of the local stream."""
    return tuple(0.1 + normal(images, channels, *size, seed=s).abs() for s in (1, 2))


# ---- accumulated stripes


@cases("power", [1.0, 3.0, torch.tensor([3.0], dtype=torch.float64)])
@cases("stripes", [2, 3, 6])
def test_accumulated_stripes_pool_the_union_of_stripes(stripes, power):
    _, x = maps(size=(2 * stripes, 3))
    pooled = x.unflatten(2, (stripes, 2)).pow(power).mean((3, 4)).pow(1 / power)  # (N, C, S)
    unions = [
        x[:, :, : 2 * k].pow(power).mean((2, 3)).pow(1 / power) for k in range(2, stripes + 1)
    ]
    assert_close(accumulate_stripes(pooled, power), torch.stack(unions, -1))


def test_accumulated_stripes_by_hand():
    # power 1: (1 + 3) / 2 = 2, (1 + 3 + 8) / 3 = 4. power 2: sqrt((1 + 49) / 2) = 5.
    assert accumulate_stripes(torch.tensor([[[1.0, 3.0, 8.0]]]), 1.0).tolist() == [[[2.0, 4.0]]]
    assert accumulate_stripes(torch.tensor([[[1.0, 7.0]]]), 2.0).tolist() == [[[5.0]]]


def test_all_stripes_together_are_the_global_pooling():
    module = head(pool_type="GeneralizedMeanPooling")
    _, x = maps()
    stripes = module.stripe_pool(x)[..., 0]
    assert_close(accumulate_stripes(stripes, 3.0)[..., -1], module.global_pool(x)[..., 0, 0])


def test_one_stripe_accumulates_nothing():
    assert accumulate_stripes(torch.ones(2, 5, 1), 3.0).shape == (2, 5, 0)


def test_accumulating_has_the_gradient_of_finite_differences():
    stripes = maps(2, 3, (4, 1))[0][..., 0].requires_grad_()
    power = torch.tensor([3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(accumulate_stripes, (stripes, power))


# ---- the holistic feature


def test_the_holistic_feature_by_hand():
    # (3, 4) / 5 * 0.25, (0, 2) / 2 * 0.75
    local = torch.tensor([[[3.0, 4.0], [0.0, 2.0]]])
    expected = torch.tensor([[0.15, 0.2, 0.0, 0.75]])
    assert_close(weighted_concatenation(local, torch.tensor([0.25, 0.75])), expected)
    assert_close(weighted_concatenation(local, torch.tensor([[0.25, 0.75]])), expected)


def test_the_holistic_features_norm_is_that_of_the_weights():
    local, weights = normal(4, 3, 5), normal(4, 3, seed=1).softmax(1)
    assert_close(weighted_concatenation(local, weights).norm(dim=1), weights.norm(dim=1))


def test_a_zero_local_feature_leaves_value_and_gradient_finite():
    local = torch.zeros(2, 3, 4, requires_grad=True)
    feature = weighted_concatenation(local, torch.ones(3) / 3)
    feature.square().sum().backward()
    assert torch.equal(feature, torch.zeros(2, 12))
    assert local.grad.isfinite().all()


@cases("kind", ["model", "image"])
def test_local_weights_are_positive_and_sum_to_1(kind):
    weights = head(local_weights=kind).weigh(normal(4, 3, 4))
    assert weights.shape == ((3,) if kind == "model" else (4, 3))
    assert (weights > 0).all()
    assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


@cases("kind", ["model", "image"])
def test_local_weights_start_uniform(kind):
    torch.manual_seed(0)
    module = MultiGranularityHead(
        feat_dim=6,
        num_classes=5,
        stripes=3,
        embedding_dim=4,
        pool_type="GlobalAvgPool",
        norm="BN",
        local_weights=kind,
        test_beta=0.6,
        test_accumulated=False,
    )
    weights = module.weigh(torch.randn(4, 3, 4))
    assert_close(weights, torch.full_like(weights, 1 / 3))


def test_image_weights_follow_the_image_and_model_weights_do_not():
    local = normal(4, 3, 4)
    by_image, by_model = (head(local_weights=k).weigh for k in ("image", "model"))
    assert_close(by_image(local[:, [2, 0, 1]]), by_image(local)[:, [2, 0, 1]])
    assert by_image(local).std(0).min() > 1e-3
    assert torch.equal(by_model(local), by_model(-local))


@cases("kind", ["model", "image"])
def test_the_holistic_feature_trains_the_weights(kind):
    module = head(local_weights=kind)
    local = normal(4, 3, 4).requires_grad_()
    (module.holistic({"local": local}) * normal(4, 12, seed=1)).sum().backward()
    for leaf in (local, *module.weigh.parameters()):
        assert leaf.grad.norm() > 1e-3


# ---- one granularity against a loop of fast-reid's usual modules


@cases("training", [True, False])
@cases("embedding_dim", [0, 4])
@cases("features", [1, 3])
def test_side_by_side_features_are_a_loop_of_linear_and_batch_norm(
    features, embedding_dim, training
):
    dim = embedding_dim or 6
    granularity = Granularity(
        features=features, in_dim=6, embedding_dim=embedding_dim, num_classes=5, norm="BN"
    ).double()
    norm = granularity.bottleneck
    with torch.no_grad():
        norm.weight.copy_(1 + 0.1 * normal(features * dim))
        norm.running_mean.copy_(normal(features * dim, seed=1))
        norm.running_var.copy_(0.5 + normal(features * dim, seed=2).abs())
    pooled = normal(7, features, 6, seed=3)
    expected = []
    statistics = []
    for f in range(features):
        own = slice(f * dim, (f + 1) * dim)
        reduction = nn.Linear(6, dim, bias=False).double()
        bottleneck = nn.BatchNorm1d(dim).double().train(training)
        classifier = nn.Linear(dim, 5, bias=False).double()
        with torch.no_grad():
            reduction.weight.copy_(
                granularity.reduction[f] if embedding_dim else torch.eye(6, dtype=torch.float64)
            )
            classifier.weight.copy_(granularity.classifier[f])
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(bottleneck, name).copy_(getattr(norm, name)[own])
        feature = reduction(pooled[:, f])
        neck = bottleneck(feature)
        expected.append((feature, neck, classifier(neck)))
        statistics.append((bottleneck.running_mean, bottleneck.running_var))
    output = granularity.train(training)(pooled)
    for got, want in zip(
        (*output, granularity.classify(output.neck)), zip(*expected, strict=True), strict=True
    ):
        assert_close(got, torch.stack(want, 1))
    means, variances = (torch.cat(s) for s in zip(*statistics, strict=True))
    assert_close(norm.running_mean, means)
    assert_close(norm.running_var, variances)


def test_without_a_norm_the_neck_is_the_feature():
    granularity = Granularity(features=2, in_dim=6, embedding_dim=4, num_classes=5, norm="")
    output = granularity(torch.randn(3, 2, 6))
    assert granularity.bottleneck is None
    assert torch.equal(output.features, output.neck)


def test_the_bnnecks_bias_is_frozen_at_0():
    bias = Granularity(
        features=2, in_dim=6, embedding_dim=4, num_classes=5, norm="BN"
    ).bottleneck.bias
    assert not bias.requires_grad
    assert not bias.any()


# ---- the head


@cases("embedding_dim", [0, 4])
@cases("stripes", [1, 2, 3, 6])
def test_there_are_one_global_s_local_and_s_minus_1_accumulated_features(stripes, embedding_dim):
    module = head(stripes=stripes, embedding_dim=embedding_dim)
    outputs = module(*maps())
    dim = embedding_dim or 6
    shapes = {"global": (4, 1, 6), "local": (4, stripes, dim)}
    if stripes > 1:
        shapes["accumulated"] = (4, stripes - 1, dim)
    assert {k: v.features.shape for k, v in outputs.items()} == shapes
    assert {k: v.neck.shape for k, v in outputs.items()} == shapes
    logits = {k: v.shape for k, v in module.classify(outputs).items()}
    assert logits == {name: (4, shape[1], 5) for name, shape in shapes.items()}
    assert module.embed(outputs).shape == (4, stripes * dim + 6)


@cases(
    ("pool_type", "power"),
    [("GlobalAvgPool", 1), ("GeneralizedMeanPooling", 3), ("GeneralizedMeanPoolingP", 2.5)],
)
def test_features_are_pooled_from_their_streams_rows(pool_type, power):
    module = head(pool_type=pool_type, embedding_dim=0)
    for pool in (module.global_pool, module.stripe_pool):
        if pool_type == "GeneralizedMeanPoolingP":
            pool.p.data.fill_(power)
    global_map, local_map = maps()

    def pooled(x):
        return x.pow(power).mean((2, 3)).pow(1 / power)

    outputs = module(global_map, local_map)
    # 6 rows, 3 stripes of 2
    stripes = [pooled(local_map[:, :, 2 * k : 2 * k + 2]) for k in range(3)]
    unions = [pooled(local_map[:, :, : 2 * k + 2]) for k in (1, 2)]
    assert_close(outputs["global"].features, pooled(global_map)[:, None])
    assert_close(outputs["local"].features, torch.stack(stripes, 1))
    assert_close(outputs["accumulated"].features, torch.stack(unions, 1))


def test_stripes_that_do_not_divide_the_height_still_give_finite_features():
    outputs = head(stripes=3)(*maps(size=(7, 3)))
    assert all(out.neck.isfinite().all() for out in outputs.values())


def test_a_learned_power_gets_its_gradient_from_accumulated_features_too():
    module = head(pool_type="GeneralizedMeanPoolingP")
    module(*maps())["accumulated"].features.sum().backward()
    assert module.stripe_pool.p.grad.abs() > 1e-6


@cases("pool_type", ["GlobalAvgPool", "GeneralizedMeanPooling"])
def test_dead_maps_have_finite_features_and_gradients(pool_type):
    module = head(pool_type=pool_type)
    zeros = [torch.zeros(4, 6, 6, 2, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    outputs = module(*zeros)
    sum(out.neck.sum() for out in outputs.values()).backward()
    assert module.embed(outputs).isfinite().all()
    assert all(x.grad.isfinite().all() for x in zeros)


# ---- the test feature


def outputs_of(**features):
    return {name: GranularityOutput(torch.full_like(x, 9.0), x) for name, x in features.items()}


def test_the_test_feature_by_hand():
    # One weight each of 1/2: local (3, 4) -> (0.3, 0.4), (0, 2) -> (0, 0.5); normalised by
    # sqrt(1/4 + 1/4): (0.6, 0.8, 0, 1) / sqrt 2; global (5, 12) -> (5, 12) / 13.
    module = head(stripes=2, embedding_dim=2, feat_dim=2, test_beta=0.6)
    module.weigh.logits.data.zero_()
    outputs = outputs_of(
        **{
            "local": torch.tensor([[[3.0, 4.0], [0.0, 2.0]]], dtype=torch.float64),
            "global": torch.tensor([[[5.0, 12.0]]], dtype=torch.float64),
        }
    )
    local = 0.6 * torch.tensor([0.6, 0.8, 0.0, 1.0], dtype=torch.float64) / 2**0.5
    overall = 0.4 * torch.tensor([5.0, 12.0], dtype=torch.float64) / 13
    assert_close(module.embed(outputs), torch.cat((local, overall))[None])


@cases("kind", ["model", "image"])
@cases("accumulated", [True, False])
@cases("beta", [0.0, 0.6, 1.0])
def test_the_parts_have_norms_beta_and_1_minus_beta(beta, accumulated, kind):
    module = head(test_beta=beta, test_accumulated=accumulated, local_weights=kind)
    embedding = module.embed(module(*maps()))
    local, overall = embedding[:, :-6], embedding[:, -6:]
    assert local.shape[1] == (3 + 2 if accumulated else 3) * 4
    for part, norm in ((local, beta), (overall, 1 - beta)):
        assert_close(part.norm(dim=1), torch.full((4,), norm, dtype=torch.float64))


def test_the_local_part_is_the_holistic_feature_of_the_necks():
    module = head()
    outputs = module(*maps())
    holistic = module.holistic({"local": outputs["local"].neck})
    expected = 0.6 * holistic / holistic.norm(dim=1, keepdim=True)
    assert_close(module.embed(outputs)[:, :-6], expected)


def test_accumulated_features_join_behind_the_holistic_one_with_equal_weight():
    module = head(test_accumulated=True)
    outputs = module(*maps())
    embedding = module.embed(outputs)
    assert_close(embedding[:, :12].norm(dim=1), embedding[:, 12:20].norm(dim=1))
    direction = outputs["accumulated"].neck / outputs["accumulated"].neck.norm(dim=-1, keepdim=True)
    assert_close(embedding[:, 12:20], 0.6 / 2**0.5 * direction.flatten(1) / 2**0.5)


def test_with_one_stripe_there_is_nothing_accumulated_to_join():
    with_them, without = (head(stripes=1, test_accumulated=a) for a in (True, False))
    assert_close(with_them.embed(with_them(*maps())), without.embed(without(*maps())))


# ---- fewer granularities


@cases("count", [1, 2])
def test_a_head_with_fewer_granularities_is_the_full_one_without_the_rest(count):
    names = ("global", "local", "accumulated")
    full, fewer = head(), head(granularities=names[:count])
    fewer.load_state_dict({k: full.state_dict()[k] for k in fewer.state_dict()})
    assert list(fewer.granularities) == list(names[:count])
    global_map, local_map = maps()
    outputs = fewer(global_map, local_map if count > 1 else None)
    assert_close(outputs, {k: v for k, v in full(*maps()).items() if k in names[:count]})
    assert list(fewer.classify(outputs)) == list(names[:count])


def test_without_local_features_the_global_one_is_holistic_and_searched_with():
    module = head(granularities=["global"])
    outputs = module(maps()[0], None)
    neck = outputs["global"].neck[:, 0]
    expected = neck / neck.norm(dim=1, keepdim=True)
    assert_close(module.embed(outputs), expected)
    assert_close(module.holistic({"global": outputs["global"].neck}), expected)
    assert module.weigh is None


def test_without_accumulated_features_the_test_feature_is_the_usual_one():
    full, fewer = head(), head(granularities=["global", "local"])
    fewer.load_state_dict({k: full.state_dict()[k] for k in fewer.state_dict()})
    assert_close(fewer.embed(fewer(*maps())), full.embed(full(*maps())))


@cases(
    "granularities",
    [(), ("local",), ("local", "global"), ("global", "accumulated"), ("global", "stripes")],
)
def test_other_granularities_are_refused(granularities):
    with pytest.raises(InputError, match=r"MODEL\.HEADS\.GRANULARITIES") as caught:
        head(granularities=granularities)
    assert f"got {granularities}" in str(caught.value)


# ---- options


@cases(
    ("options", "key"),
    [
        ({"POOL_LAYER": "GlobalMaxPool"}, "MODEL.HEADS.POOL_LAYER"),
        ({"POOL_LAYER": "FastGlobalAvgPool"}, "MODEL.HEADS.POOL_LAYER"),
        ({"LOCAL_WEIGHTS": "stripe"}, "MODEL.HEADS.LOCAL_WEIGHTS"),
        ({"STRIPES": 0}, "MODEL.HEADS.STRIPES"),
        ({"TEST_BETA": 1.5}, "MODEL.HEADS.TEST_BETA"),
        ({"TEST_BETA": -0.1}, "MODEL.HEADS.TEST_BETA"),
        ({"CLS_LAYER": "ArcSoftmax"}, "MODEL.HEADS.CLS_LAYER"),
    ],
)
def test_a_value_outside_its_range_is_refused_by_key(options, key):
    opts = [str(x) for k, v in options.items() for x in (f"MODEL.HEADS.{k}", v)]
    with pytest.raises(InputError, match=key) as caught:
        MultiGranularityHead(load_config(DEMO, opts))
    assert str(next(iter(options.values()))) in str(caught.value)


@cases("with_bnneck", [True, False])
def test_it_builds_from_a_configuration(with_bnneck):
    options = {"NUM_CLASSES": 5, "EMBEDDING_DIM": 16, "STRIPES": 4, "WITH_BNNECK": with_bnneck}
    opts = [str(x) for k, v in options.items() for x in (f"MODEL.HEADS.{k}", v)]
    module = MultiGranularityHead(load_config(DEMO, opts))
    shapes = {name: tuple(g.classifier.shape) for name, g in module.granularities.items()}
    assert shapes == {"global": (1, 5, 128), "local": (4, 5, 16), "accumulated": (3, 5, 16)}
    assert all((g.bottleneck is not None) == with_bnneck for g in module.granularities.values())
    assert (module.test_beta, module.test_accumulated) == (0.6, False)
