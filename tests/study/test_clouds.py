"""Where uniform alignment does damage and transport does not."""

import math

import pytest
import torch
from PIL import Image

from cmemd.losses.cm_emd import ground_cost
from cmemd.losses.transport import exact_plan
from cmemd.study.clouds import NOISE, PLANS, POSE, SHIFT, learn_map, make_clouds, rank1
from cmemd.study.figures import draw_clouds_figure

UNIFORM, TRANSPORT = PLANS
SEEDS = range(8)


def test_uniform_alignment_gives_up_identity_and_transport_the_modality_gap():
    # Uniform weights: 2 pose^2 = 1.28 along y against shift^2 = 1 along x; transport: 0 against 1.
    for seed in SEEDS:
        clouds = make_clouds(seed)
        uniform, transport = (learn_map(clouds, name) for name in PLANS)
        assert uniform[0].norm() > 5 * uniform[1].norm(), seed
        assert transport[1].norm() > 5 * transport[0].norm(), seed
        for matrix in (uniform, transport):
            assert matrix.norm() == pytest.approx(math.sqrt(2)), seed
        before = rank1(clouds)
        assert 0.2 < before < 0.8, seed
        assert rank1(clouds.mapped(uniform)) < before, seed
        assert rank1(clouds.mapped(transport)) == 1, seed


def test_the_moments_are_those_of_the_formula():
    slack = 10 * NOISE
    for seed in SEEDS:
        clouds = make_clouds(seed)
        difference = clouds.visible[:, :, None] - clouds.thermal[:, None]  # (P, K, K, 2)
        along = {
            name: (plan(ground_cost(clouds.visible, clouds.thermal))[..., None] * difference**2)
            .sum((1, 2))
            .mean(0)
            for name, plan in PLANS.items()
        }
        expected = [SHIFT**2, 2 * POSE**2]
        assert along[UNIFORM].tolist() == pytest.approx(expected, abs=slack), seed
        assert along[TRANSPORT].tolist() == pytest.approx([SHIFT**2, 0], abs=slack), seed


def test_where_poses_differ_less_than_the_modalities_uniform_weights_do_as_well():
    for seed in SEEDS:
        clouds = make_clouds(seed, pose=0.3)  # 2 x 0.09 < 1
        for name in PLANS:
            assert rank1(clouds.mapped(learn_map(clouds, name))) == 1, (seed, name)


def test_transport_pairs_like_poses_whatever_the_shift():
    for seed in SEEDS:
        clouds = make_clouds(seed)
        for shift in ([0.0, 0.0], [-5.0, 2.0], [0.0, 7.0]):
            moved = clouds.thermal + torch.tensor(shift, dtype=torch.float64)
            plan = exact_plan(ground_cost(clouds.visible, moved))
            pairs = torch.eye(2, dtype=torch.float64).expand_as(plan) / 2
            assert torch.equal(plan, pairs), (seed, shift)


def test_the_picture_and_its_rank1(tmp_path):
    found = draw_clouds_figure(tmp_path / "new" / "clouds.png")
    assert list(found) == ["before", *PLANS]
    assert found[UNIFORM] < found["before"] < found[TRANSPORT] == 1
    with Image.open(tmp_path / "new" / "clouds.png") as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(2**20)) > 5
