import math
from itertools import product

import cmemd.compat  # noqa: F401  before torch and fastreid

import numpy as np
import ot
import pytest
import torch
from fastreid.config import CfgNode
from tests.cases import cases
from tests.losses.generators import seeded
from tests.losses.test_cm_emd import pair_distance
from torch.nn import functional
from torch.testing import assert_close

from cmemd.config import load_config
from cmemd.data.grouping import IdentityRows
from cmemd.errors import InputError
from cmemd.losses.alignment import (
    ALIGNMENTS,
    CloudAlignment,
    DebiasedAlignment,
    PairAlignment,
    build_alignment,
)
from cmemd.losses.cm_emd import (
    GROUND_DISTANCES,
    PAIR_DISTANCES,
    cm_emd_loss,
    ground_cost,
    plan_saving,
    plan_sharpness,
)
from cmemd.losses.interface import LossOutput
from cmemd.losses.transport import exact_plan, plan_to_others

NAMES = [name for name in ALIGNMENTS if name != "none"]
DEFAULTS = dict(load_config("").MODEL.LOSSES.ALIGN)
# Weighted pairs of an identity, whose weights have the sum 1; of any sum; and of a batch.
BY_PLAN = ("cm_emd", "uniform", "sinkhorn", "affinity")
LESS_MASS = ("partial", "unbalanced")
BATCH = ("batch_transport", "batch_nearest")
DEBIASED = ("cm_emd_debiased", "sinkhorn_divergence")
CLOUDS = ("centre", "kl", "mmd")

# ---- CM-EMD against plain loops

DIMS = {"global": (1, 6), "local": (3, 4), "accumulated": (2, 4)}  # F, D


def batch_of_features(visible=4, thermal=4, identities=3):
    """Return features of every granularity for a shuffled batch, and its rows."""
    generator = seeded(visible * 10 + thermal)
    count = identities * (visible + thermal)
    rows = torch.randperm(count, generator=generator)
    own = rows.split([identities * visible, identities * thermal])
    features = {
        name: torch.randn(count, *dims, dtype=torch.float64, generator=generator)
        for name, dims in DIMS.items()
    }
    return features, IdentityRows(*(r.view(identities, -1) for r in own))


@cases("distance", GROUND_DISTANCES)
@cases("normalize", [True, False])
@cases("counts", [(4, 4), (2, 3)])
def test_the_module_is_a_plain_loop_over_features_and_identities(distance, normalize, counts):
    features, rows = batch_of_features(*counts)
    output = PairAlignment(distance, normalize)(features, rows)
    losses = output.terms
    assert list(losses) == list(DIMS)
    assert output.plan.shape == (6, 3, *counts)
    for name, (count, _) in DIMS.items():
        total = 0.0
        for f in range(count):
            feature = features[name][:, f]
            if normalize:
                feature = torch.stack([x / x.square().sum().sqrt() for x in feature])
            for own_visible, own_thermal in zip(*rows, strict=True):
                cost = [
                    [pair_distance(feature[i], feature[j], distance) for j in own_thermal]
                    for i in own_visible
                ]
                total += ot.emd2([], [], torch.tensor(cost, dtype=torch.float64).numpy()) / 3
        assert_close(losses[name].item(), float(total), rtol=1e-12, atol=1e-12)


def test_all_plans_come_from_one_call_for_any_number_of_features():
    calls = []

    def counted(cost):
        calls.append(cost.shape)
        return exact_plan(cost)

    features, rows = batch_of_features()
    PairAlignment(plan=counted)(features, rows)
    assert calls == [(6 * 3, 4, 4)]  # (1 + 3 + 2) features x 3 identities


def test_normalising_makes_the_loss_blind_to_the_lengths_of_features():
    features, rows = batch_of_features()
    scaled = {name: 7 * feature for name, feature in features.items()}
    for distance in GROUND_DISTANCES:
        loss = PairAlignment(distance, normalize=True)
        assert_close(loss(scaled, rows).terms, loss(features, rows).terms)


def test_not_normalising_leaves_lengths_in():
    features, rows = batch_of_features()
    scaled = {name: 7 * feature for name, feature in features.items()}
    for distance, factor in (("sqeuclidean", 49), ("euclidean", 7), ("cosine", 1)):
        loss = PairAlignment(distance, normalize=False)
        expected = {name: factor * value for name, value in loss(features, rows).terms.items()}
        assert_close(loss(scaled, rows).terms, expected)


def test_of_normalised_features_the_squared_distance_is_twice_the_cosine_distance():
    # |v - t|^2 = 1 + 1 - 2 cos = 2 (1 - cos)
    features, rows = batch_of_features()
    squared = PairAlignment("sqeuclidean")(features, rows).terms
    cosine = PairAlignment("cosine")(features, rows).terms
    assert_close(squared, {name: 2 * value for name, value in cosine.items()})


def test_the_module_reaches_every_image_of_every_feature_and_changes_none():
    features, rows = batch_of_features()
    before = {name: feature.clone() for name, feature in features.items()}
    leaves = {name: feature.requires_grad_() for name, feature in features.items()}
    sum(PairAlignment()(leaves, rows).terms.values()).backward()
    for name, leaf in leaves.items():
        assert torch.equal(leaf.detach(), before[name])
        assert (leaf.grad.norm(dim=-1) > 0).all()


def test_the_functional_and_the_module_agree_on_one_feature():
    features, rows = batch_of_features()
    feature = functional.normalize(features["global"][:, 0], dim=-1)
    expected = cm_emd_loss(ground_cost(feature[rows.visible], feature[rows.thermal]))
    assert_close(PairAlignment()({"global": features["global"]}, rows).terms["global"], expected)


# ---- every alignment under its name


def named(name, **options):
    """Build the alignment of MODEL.LOSSES.ALIGN.NAME ``name``, defaults but for ``options``."""
    return build_alignment(CfgNode(DEFAULTS | options | {"NAME": name}))


def terms(result):
    """Return name -> scalar of what an alignment returns."""
    return LossOutput.of(result).terms


def value_and_gradient(loss, features, rows):
    leaf = features.clone().requires_grad_()
    value = terms(loss({"global": leaf}, rows))["global"]
    value.backward()
    return value.detach(), leaf.grad


def one_batch(visible=4, thermal=4, identities=3, dtype=torch.float64):
    """Return features (N, 1, D) of a shuffled batch, and its rows."""
    features, rows = batch_of_features(visible, thermal, identities)
    return features["global"].to(dtype), rows


def test_the_names_are_these_and_none_has_no_loss():
    modules = dict.fromkeys(BY_PLAN, PairAlignment) | dict.fromkeys(CLOUDS, CloudAlignment)
    modules |= dict.fromkeys((*LESS_MASS, *BATCH), PairAlignment)
    modules |= dict.fromkeys(DEBIASED, DebiasedAlignment)
    assert {name: type(named(name)) for name in NAMES} == modules
    assert named("none") is None


@cases("name", NAMES)
def test_each_gives_a_term_for_each_granularity_and_watches_its_plan_if_it_has_one(name):
    features, rows = batch_of_features()
    output = LossOutput.of(named(name)(features, rows))
    assert list(output.terms) == list(DIMS)
    assert all(loss.dim() == 0 and loss > 0 for loss in output.terms.values())
    if name in CLOUDS:
        assert output.watched == {}
        return
    shape = (6, 1, 12, 12) if name in BATCH else (6, 3, 4, 4)
    assert output.plan.shape == output.cost.shape == shape
    assert ("within_ratio" in output.watched) == (name in DEBIASED)
    assert {name: x for name, x in output.watched.items() if name != "within_ratio"} == {
        "plan_sharpness": plan_sharpness(output.plan),
        "plan_saving": plan_saving(output.cost, output.plan),
    }


@cases("name", NAMES)
def test_the_terms_of_a_granularity_are_summed(name):
    features, rows = batch_of_features()
    whole = terms(named(name)(features, rows))["local"]
    each = [terms(named(name)({"x": features["local"][:, [f]]}, rows))["x"] for f in range(3)]
    assert_close(whole, sum(each))


@cases("name", [name for name in NAMES if name not in BATCH])
def test_they_are_means_over_identities(name):
    features, rows = one_batch()
    loss = named(name)
    each = [
        terms(loss({"x": features}, IdentityRows(*(own[[p]] for own in rows))))["x"]
        for p in range(3)
    ]
    assert_close(terms(loss({"x": features}, rows))["x"], sum(each) / 3)


@cases("name", NAMES)
def test_neither_the_order_within_an_identity_nor_that_of_identities_matters(name):
    features, rows = one_batch(4, 5)
    moved = IdentityRows(
        rows.visible[[2, 0, 1]][:, [3, 1, 0, 2]], rows.thermal[[2, 0, 1]][:, [4, 0, 3, 1, 2]]
    )
    before, after = (value_and_gradient(named(name), features, r) for r in (rows, moved))
    assert_close(after, before)


@cases("name", [name for name in NAMES if name != "affinity"])
@cases("counts", [(4, 4), (2, 3)])
def test_the_modalities_can_change_roles(name, counts):
    features, rows = one_batch(*counts)
    changed = IdentityRows(rows.thermal, rows.visible)
    # Sinkhorn's iterations converge; three of four shares of five are no whole number
    loss = named(name, EPSILON=0.5, MASS=0.5)  # at which Sinkhorn's iterations converge
    before, after = (value_and_gradient(loss, features, r) for r in (rows, changed))
    assert_close(after, before)


def test_affinity_is_one_sided():
    features, rows = one_batch()
    changed = IdentityRows(rows.thermal, rows.visible)
    values = [terms(named("affinity")({"x": features}, r))["x"] for r in (rows, changed)]
    assert (values[0] - values[1]).abs() > 1e-3


@cases("name", [name for name in NAMES if name != "kl"])
@cases("distance", [distance for distance in GROUND_DISTANCES if distance != "manhattan"])
def test_rotating_the_feature_space_does_not_matter(name, distance):
    features, rows = one_batch()
    rotation = torch.linalg.qr(batch_of_features(6, 6, 1)[0]["global"][:6, 0]).Q
    loss = named(name, DISTANCE=distance)
    rotated = terms(loss({"x": features @ rotation}, rows))["x"]
    assert_close(rotated, terms(loss({"x": features}, rows))["x"])


@cases("name", ["cm_emd", "partial", *BATCH, "sinkhorn_divergence", "centre", "kl", "mmd"])
def test_coinciding_clouds_cost_nothing(name):
    features, rows = one_batch()
    features[rows.thermal[:, [2, 0, 3, 1]]] = features[rows.visible]
    loss = named(name, EPSILON=1.0)  # at which Sinkhorn's iterations converge
    value, gradient = value_and_gradient(loss, features, rows)
    assert_close(value.item(), 0.0, rtol=0, atol=1e-12)
    assert gradient.norm() < 1e-12


@cases("name", BY_PLAN)
@cases("counts", [(4, 4), (2, 3), (1, 4)])
@cases("distance", GROUND_DISTANCES)
def test_no_plan_costs_less_than_the_exact_nor_more_than_the_uniform_one(name, counts, distance):
    features, rows = one_batch(*counts)
    exact, value, uniform = (
        terms(named(n, DISTANCE=distance)({"x": features}, rows))["x"]
        for n in ("cm_emd", name, "uniform")
    )
    assert value <= uniform * (1 + 1e-9)
    if name != "affinity":  # whose plan need not serve every thermal image
        assert value >= exact * (1 - 1e-5)


@cases("name", [*BY_PLAN, *LESS_MASS, *BATCH])
def test_plans_are_constant_in_the_backward_pass(name):
    features, rows = one_batch()
    leaf = features.clone().requires_grad_()
    aligned = named(name)({"x": leaf}, rows)
    assert not aligned.plan.requires_grad
    aligned.cost.retain_grad()
    aligned.terms["x"].backward()
    assert_close(aligned.cost.grad, aligned.plan / (1 if name in BATCH else 3))


@cases("name", NAMES)
@cases("distance", GROUND_DISTANCES)
@cases("counts", [(1, 1), (1, 3), (4, 4), (3, 4)])
@cases(("identities", "normalize"), [(1, True), (1, False), (2, True)])
def test_identical_features_cost_nothing_and_have_a_finite_gradient(
    identities, normalize, counts, distance, name
):
    sizes = [identities * k for k in counts]
    rows = IdentityRows(*(x.view(identities, -1) for x in torch.arange(sum(sizes)).split(sizes)))
    leaves = {
        value: torch.full((sum(sizes), 1, 6), value, requires_grad=True)
        for value in (0.0, 1.0, 0.1)
    }
    losses = terms(named(name, DISTANCE=distance, NORMALIZE=normalize)(leaves, rows))
    sum(losses.values()).backward()
    for value, leaf in leaves.items():
        # by the cosine distance zero vectors are orthogonal to all
        apart = distance == "cosine" and value == 0 and name not in ("kl", "mmd")
        cost = losses[value].item()
        expected = float(apart)
        if apart and name in DEBIASED:  # zero vectors are orthogonal to each other too
            own = sum(k > 1 for k in counts) / 2 if name == "cm_emd_debiased" else 2
            expected -= 0.5 * own
        if apart and name == "partial":
            expected = 0.75
        if apart and name == "unbalanced":  # exp(-c / (EPSILON + 2 MARGINAL_PENALTY)) of the mass
            expected = math.exp(-1 / 1.05)
        assert cost == pytest.approx(expected, abs=1e-6), value
        assert leaf.grad.isfinite().all(), value


@cases("counts", [(1, 1), (1, 3), (2, 1)])
@cases("name", NAMES)
def test_one_identity_and_one_image_a_modality_have_a_finite_value_and_gradient(name, counts):
    features, rows = one_batch(*counts, identities=1)
    value, gradient = value_and_gradient(named(name), features, rows)
    assert value > 0
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


@cases("dtype", [torch.float16, torch.bfloat16])
@cases("name", NAMES)
def test_half_precision_features_are_compared_in_float32(name, dtype):
    features, rows = one_batch(dtype=dtype)
    value, gradient = value_and_gradient(named(name), features, rows)
    expected, _ = value_and_gradient(named(name), features.float(), rows)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert gradient.isfinite().all()


@cases("dtype", [torch.float16, torch.bfloat16])
@cases("distance", GROUND_DISTANCES)
@cases("name", NAMES)
def test_autocast_changes_nothing(name, distance, dtype):
    features, rows = one_batch(dtype=torch.float32)
    loss = named(name, DISTANCE=distance)
    plain = value_and_gradient(loss, features, rows)
    with torch.autocast("cpu", dtype):
        cast = value_and_gradient(loss, features, rows)
    assert cast[0].dtype == torch.float32
    assert torch.equal(cast[0], plain[0])
    assert torch.equal(cast[1], plain[1])


@cases("name", ["centre", "mmd", "kl"])
def test_clouds_are_normalised_or_not(name):
    features, rows = one_batch()
    direct = functional.normalize(features, dim=-1)
    whole = terms(named(name)({"x": features}, rows))["x"]
    assert_close(terms(named(name, NORMALIZE=False)({"x": direct}, rows))["x"], whole)


# ---- one plan for all features


def joined(features, rows, which):
    """Return the vectors (N, D) whose distances make the shared plan, in plain steps."""
    chosen = features if which == "all" else {"global": features["global"]}
    vectors = []
    for image in range(len(features["global"])):
        parts = [x / x.square().sum().sqrt() for f in chosen.values() for x in f[image]]
        vectors.append(torch.cat(parts) / len(parts) ** 0.5)
    return torch.stack(vectors)


@cases("which", ["global", "all"])
@cases("name", ["cm_emd", "sinkhorn", "affinity", "partial", "unbalanced"])
@cases("counts", [(4, 4), (2, 3)])
def test_a_shared_plan_is_that_of_its_feature_and_weighs_the_costs_of_each(name, which, counts):
    features, rows = batch_of_features(*counts)
    vectors = joined(features, rows, which)
    plan = named(name, NORMALIZE=False)({"x": vectors[:, None]}, rows).plan  # (1, P, K_v, K_t)
    output = named(name, PLAN_FEATURE=which)(features, rows)
    own = named(name)(features, rows)
    assert_close(output.plan, plan.expand(6, -1, -1, -1))
    assert torch.equal(output.cost, own.cost)
    expected = (plan * own.cost).sum((2, 3)).mean(1).split([1, 3, 2])
    assert_close(list(output.terms.values()), [part.sum() for part in expected])
    if which == "global":
        assert_close(output.terms["global"], own.terms["global"])


def test_a_shared_plan_within_the_modalities_is_that_of_its_feature_too():
    features, rows = batch_of_features()
    vectors = joined(features, rows, "all")[:, None]
    output = named("cm_emd_debiased", PLAN_FEATURE="all", SHARE=1.0)(features, rows)
    within = 0.0
    for side in rows:
        plan = plan_to_others(ground_cost(vectors[side, 0], vectors[side, 0]))
        for f in range(3):
            local = functional.normalize(features["local"][side, f], dim=-1)
            within = within + (plan * ground_cost(local, local)).sum((1, 2)).mean() / 2
    between = named("cm_emd", PLAN_FEATURE="all")(features, rows).terms["local"]
    assert_close(output.terms["local"], between - within)


def test_one_feature_shares_its_plan_with_itself():
    features, rows = one_batch()
    for name in NAMES:
        if name not in CLOUDS:
            values = [
                value_and_gradient(named(name, PLAN_FEATURE=which), features, rows)
                for which in ("own", "global", "all")
            ]
            assert_close(values[1], values[0])
            assert_close(values[2], values[0])


# ---- all pairs of the batch


@cases("counts", [(4, 4), (2, 3)])
def test_the_batchs_transport_is_one_problem_over_all_images_whatever_their_identity(counts):
    features, rows = one_batch(*counts)
    unit = functional.normalize(features[:, 0], dim=-1)
    cost = ground_cost(*(unit[side.flatten()] for side in rows))
    expected = ot.emd2([], [], cost.numpy())
    found = terms(named("batch_transport")({"x": features}, rows))["x"]
    assert_close(found.item(), float(expected), rtol=1e-12, atol=0)
    # an identity's own images need not be the cheapest, so the mean over identities is no less
    assert found <= terms(named("cm_emd")({"x": features}, rows))["x"] * (1 + 1e-12)


def test_an_image_far_from_its_own_identity_goes_to_another():
    # identities 0 and 1 with one image of each modality at 0, 10 and 10, 0: crossed pairs cost 0
    feature = torch.tensor([0.0, 10.0, 10.0, 0.0]).view(4, 1, 1)
    rows = IdentityRows(torch.tensor([[0], [1]]), torch.tensor([[2], [3]]))
    values = {
        name: terms(named(name, NORMALIZE=False)({"x": feature}, rows))["x"].item()
        for name in ("cm_emd", "batch_transport", "batch_nearest")
    }
    assert values == {"cm_emd": 100.0, "batch_transport": 0.0, "batch_nearest": 0.0}


def test_the_nearest_images_of_a_batch_are_those_of_plain_loops():
    features, rows = one_batch(2, 3)
    unit = functional.normalize(features[:, 0], dim=-1)
    sides = [[unit[row] for row in side.flatten()] for side in rows]
    total = 0.0
    for first, second in (sides, sides[::-1]):
        for x in first:
            nearest = sorted(pair_distance(x, y, "sqeuclidean") for y in second)[:2]
            total += sum(nearest) / (2 * 2 * len(first))
    found = terms(named("batch_nearest", NEIGHBOURS=2)({"x": features}, rows))["x"]
    assert_close(found.item(), total)


# ---- gradients


@cases("name", [*LESS_MASS, *BATCH, *DEBIASED])
def test_gradients_are_those_of_finite_differences_of_what_is_minimised(name):
    features, rows = one_batch(3, 3, 2)
    loss = named(name, EPSILON=0.5)  # at which Sinkhorn's iterations converge

    def minimised(x):
        output = loss({"x": x}, rows)
        if name != "unbalanced":
            return output.terms["x"]
        # the whole minimum, of which the logged term is a part with the same gradient
        marginals = [output.plan.sum(axis) for axis in (2, 3)]
        parts = [(0.5, output.plan, 1 / 9)] + [(0.5, marginal, 1 / 3) for marginal in marginals]
        entropies = [
            factor * (torch.xlogy(p, p / whole) - p + whole).sum() / 2 for factor, p, whole in parts
        ]
        return output.terms["x"] + sum(entropies)

    leaf = features.clone().requires_grad_()
    assert torch.autograd.gradcheck(minimised, leaf, atol=1e-6)


def test_the_sinkhorn_divergence_is_that_of_pots_plans():
    features, rows = one_batch(4, 3)
    unit = functional.normalize(features[:, 0], dim=-1)

    def regularised(x, y):
        cost = ground_cost(x, y).numpy()
        plan = ot.sinkhorn([], [], cost, 0.5, "sinkhorn_log", stopThr=1e-14, numItermax=10_000)
        product = 1 / cost.size
        return float((plan * cost).sum() + 0.5 * (plan * np.log(plan / product)).sum())

    total = 0.0
    for own in zip(*rows, strict=True):
        v, t = (unit[side] for side in own)
        total += regularised(v, t) - regularised(v, v) / 2 - regularised(t, t) / 2
    found = terms(named("sinkhorn_divergence", EPSILON=0.5)({"x": features}, rows))["x"]
    assert_close(found.item(), total / 3)


def test_the_sinkhorn_divergence_goes_from_cm_emd_to_the_centre_distance():
    features, rows = one_batch()
    values = {
        epsilon: terms(named("sinkhorn_divergence", EPSILON=epsilon)({"x": features}, rows))["x"]
        for epsilon in (1e-3, 0.5, 1e3)
    }
    assert all(value > 0 for value in values.values())
    for epsilon, limit in ((1e-3, "cm_emd"), (1e3, "centre")):
        expected = terms(named(limit)({"x": features}, rows))["x"]
        assert_close(values[epsilon], expected, rtol=0.01, atol=0)


# ---- building


def test_options_reach_their_alignment():
    features, rows = one_batch()

    def value(name, **options):
        return terms(named(name, **options)({"x": features}, rows))["x"]

    for name, option, numbers in (
        ("sinkhorn", "EPSILON", (0.05, 0.5)),
        ("affinity", "TEMPERATURE", (0.1, 1.0)),
        ("kl", "VARIANCE_FLOOR", (0.1, 1.0)),
        ("sinkhorn_divergence", "EPSILON", (0.05, 0.5)),
        ("unbalanced", "EPSILON", (0.05, 0.5)),
        ("unbalanced", "MARGINAL_PENALTY", (0.1, 1.0)),
        ("partial", "MASS", (0.25, 0.6, 1.0)),
        ("batch_nearest", "NEIGHBOURS", (1, 2, 3)),
        ("cm_emd_debiased", "SHARE", (0.1, 0.9)),
        # MMD is blind to scale, and of unit vectors the squared is twice the cosine distance
        *((name, "DISTANCE", ("euclidean", "cosine", "manhattan")) for name in ("centre", "mmd")),
        *((name, "DISTANCE", PAIR_DISTANCES) for name in NAMES if name not in CLOUDS),
        *((name, "NORMALIZE", (True, False)) for name in NAMES),
    ):
        values = [value(name, **{option: number}).item() for number in numbers]
        assert len({round(v, 6) for v in values}) == len(numbers), (name, option, values)


# Option -> a bad value, and the alignments that read it.
BAD_OPTIONS = {
    "DISTANCE": (["chebyshev"], {name for name in NAMES if name != "kl"}),
    "PLAN_FEATURE": (["local", ""], {name for name in NAMES if name not in CLOUDS}),
    "EPSILON": ([0.0, -1.0, math.nan], {"sinkhorn", "sinkhorn_divergence", "unbalanced"}),
    "MASS": ([0.0, 1.1, math.nan], {"partial"}),
    "MARGINAL_PENALTY": ([0.0, -1.0, math.nan], {"unbalanced"}),
    "NEIGHBOURS": ([0, -1], {"batch_nearest"}),
    "TEMPERATURE": ([0.0, -1.0, math.nan], {"affinity"}),
    "SHARE": ([-0.1, 1.1, math.nan], {"cm_emd_debiased"}),
    "VARIANCE_FLOOR": ([0.0, -1.0, math.nan], {"kl"}),
}


@cases(
    ("option", "value", "name"),
    [
        (option, value, name)
        for option, (values, _) in BAD_OPTIONS.items()
        for value, name in product(values, NAMES)
    ],
)
def test_a_bad_option_is_refused_by_the_alignments_that_read_it(option, value, name):
    if name not in BAD_OPTIONS[option][1]:
        named(name, **{option: value})
        return
    with pytest.raises(InputError, match=rf"expected .*MODEL\.LOSSES\.ALIGN\.{option}") as caught:
        named(name, **{option: value})
    assert f"got {value!r}: " in str(caught.value)


@cases("name", ["centre", "mmd"])
def test_a_distance_of_pairs_alone_is_refused_for_whole_clouds(name):
    with pytest.raises(InputError, match=rf"DISTANCE that {name} takes, got 'kernel'"):
        named(name, DISTANCE="kernel")


@cases("name", ["emd", ""])
def test_an_unknown_name_is_refused(name):
    words = rf"expected a known MODEL\.LOSSES\.ALIGN\.NAME, got '{name}': choose none, cm_emd"
    with pytest.raises(InputError, match=words):
        named(name)
