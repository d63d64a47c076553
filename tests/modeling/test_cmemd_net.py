from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import pytest
import torch
from fastreid.config import CfgNode
from fastreid.modeling.meta_arch import build_model
from fastreid.utils.events import EventStorage
from tests.cases import cases
from torch import nn
from torch.testing import assert_close

from cmemd import CMEMDNet, load_config
from cmemd.data.grouping import IdentityRows, group_by_identity
from cmemd.data.modality import Modality
from cmemd.errors import InputError
from cmemd.losses.alignment import PairAlignment
from cmemd.losses.build import LOSSES, LossRow, WeightedLoss
from cmemd.losses.centre_cluster import CentreClusterLoss
from cmemd.losses.cm_dl import CMDLLoss
from cmemd.losses.identity import IdentityLoss
from cmemd.losses.triplet import TripletLoss
from cmemd.modeling.cmemd_net import modality_gap
from cmemd.modeling.multi_granularity import MultiGranularityHead

DEMO = Path(__file__).parents[2] / "projects/CMEMD/configs/demo.yml"
VISIBLE, THERMAL = int(Modality.VISIBLE), int(Modality.THERMAL)
NARROWER = {
    "BACKBONE__WIDTH": 0.125,
    "BACKBONE__FEAT_DIM": 64,
    "HEADS__EMBEDDING_DIM": 8,
    "HEADS__NUM_CLASSES": 5,
}
IDENTITY_TERMS = {"loss_id_global", "loss_id_local", "loss_id_accumulated"}
ALIGN_TERMS = {"loss_align_global", "loss_align_local", "loss_align_accumulated"}


def narrow_config(**options):
    """Load demo.yml, narrower; HEADS__STRIPES=1 stands for MODEL.HEADS.STRIPES 1."""
    opts = []
    for name, value in (NARROWER | options).items():
        opts += ["MODEL." + name.replace("__", "."), str(value)]
    return load_config(DEMO, opts)


def build(**options):
    """Build the network of ``narrow_config``."""
    torch.manual_seed(0)
    return build_model(narrow_config(**options))


def batch_of(identities=3, visible=2, thermal=2, seed=0):
    """Return a shuffled training batch of noise, identities labelled 1, 2, ..."""
    generator = torch.Generator().manual_seed(seed)
    each = visible + thermal
    targets = torch.arange(1, identities + 1).repeat_interleave(each)
    modalities = torch.tensor([VISIBLE] * visible + [THERMAL] * thermal).repeat(identities)
    order = torch.randperm(len(targets), generator=generator)
    images = 255 * torch.rand(len(targets), 3, 48, 24, generator=generator)
    return {"images": images, "modalities": modalities[order], "targets": targets[order]}


def run(network, batch):
    """Return the losses, and what is watched beside them."""
    with EventStorage(0):
        losses = network(batch)
    return losses, {name: value.item() for name, value in network.watched.items()}


# ---- training

ALIGN_WATCHED = {"plan_sharpness", "plan_saving"}


@cases(
    ("options", "terms", "logged"),
    [
        ({}, IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl"}, ALIGN_WATCHED),
        ({"LOSSES__ALIGN__WEIGHT": 0.0}, IDENTITY_TERMS | {"loss_dl"}, set()),
        (
            {"LOSSES__DL__WEIGHT": 0.0},
            IDENTITY_TERMS | ALIGN_TERMS,
            ALIGN_WATCHED,
        ),
        ({"LOSSES__DL__WEIGHT": 0.0, "LOSSES__ALIGN__WEIGHT": 0.0}, IDENTITY_TERMS, set()),
        (
            {"HEADS__STRIPES": 1},
            {"loss_id_global", "loss_id_local", "loss_align_global", "loss_align_local", "loss_dl"},
            ALIGN_WATCHED,
        ),
        (
            {"HEADS__LOCAL_WEIGHTS": "image", "HEADS__NECK_FEAT": "after"},
            IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl"},
            ALIGN_WATCHED,
        ),
        (
            {"HEADS__WITH_BNNECK": False, "HEADS__POOL_LAYER": "GeneralizedMeanPoolingP"},
            IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl"},
            ALIGN_WATCHED,
        ),
        (
            {"HEADS__GRANULARITIES": ("global",)},
            {"loss_id_global", "loss_align_global", "loss_dl"},
            ALIGN_WATCHED,
        ),
        (
            {"HEADS__GRANULARITIES": ("global", "local")},
            {n for n in IDENTITY_TERMS | ALIGN_TERMS if "acc" not in n} | {"loss_dl"},
            ALIGN_WATCHED,
        ),
        (
            {"HEADS__GRANULARITIES": ("global",), "LOSSES__DL__WEIGHT": 0.0},
            {"loss_id_global", "loss_align_global"},
            ALIGN_WATCHED,
        ),
        ({"LOSSES__ALIGN__NAME": "none"}, IDENTITY_TERMS | {"loss_dl"}, set()),
        (
            {"LOSSES__ALIGN__NAME": "affinity"},
            IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl"},
            ALIGN_WATCHED,
        ),
        ({"LOSSES__ALIGN__NAME": "kl"}, IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl"}, set()),
        (
            {"LOSSES__NAME": ("CrossEntropyLoss", "TripletLoss"), "LOSSES__CENTRE__WEIGHT": 1.0},
            IDENTITY_TERMS | ALIGN_TERMS | {"loss_dl", "loss_tri", "loss_centre"},
            ALIGN_WATCHED,
        ),
    ],
)
def test_training_gives_every_term_and_reaches_every_parameter(options, terms, logged):
    network = build(**options).train()
    losses, watched = run(network, batch_of())
    assert set(losses) == terms
    assert all(loss.isfinite() and loss.dim() == 0 for loss in losses.values())
    assert set(watched) == {"modality_gap", "cls_accuracy"} | logged
    assert 0 <= watched["cls_accuracy"] <= 1
    assert 0 <= watched["modality_gap"] <= 2
    sum(losses.values()).backward()
    trained = {n: p for n, p in network.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    assert [n for n, p in trained.items() if not p.grad.isfinite().all()] == []
    frozen = {n for n, p in network.named_parameters() if not p.requires_grad}
    weights_rest = "loss_dl" not in terms and "loss_id_local" in terms
    assert {n for n in frozen if "bottleneck.bias" not in n} == (
        {"heads.weigh.logits"} if weights_rest else set()
    )


@cases(
    ("option", "prefix"),
    [
        ("CE__SCALE", "loss_id"),
        ("ALIGN__WEIGHT", "loss_align"),
        ("DL__WEIGHT", "loss_dl"),
        ("TRI__SCALE", "loss_tri"),
        ("CENTRE__WEIGHT", "loss_centre"),
    ],
)
def test_a_weight_multiplies_its_own_terms(option, prefix):
    batch = batch_of()
    names = {"LOSSES__NAME": ("CrossEntropyLoss", "TripletLoss")}
    once, _ = run(build(**names, **{f"LOSSES__{option}": 1.0}).train(), batch)
    thrice, _ = run(build(**names, **{f"LOSSES__{option}": 3.0}).train(), batch)
    assert any(name.startswith(prefix) for name in once)
    for name, loss in once.items():
        assert_close(thrice[name], loss * (3 if name.startswith(prefix) else 1))


def test_the_alignments_weight_follows_the_iteration():
    network = build(LOSSES__ALIGN__WARMUP_ITERS=40).train()
    batch = batch_of()
    losses = {}
    for iteration in (0, 10, 40, 90):
        with EventStorage(iteration):
            losses[iteration] = network(batch)
    for name, full in losses[90].items():
        for iteration, factor in ((0, 0), (10, 0.25), (40, 1)):
            expected = full * (factor if name in ALIGN_TERMS else 1)
            assert_close(losses[iteration][name], expected)


def test_the_alignment_may_start_after_some_epochs_of_a_length_that_the_trainer_sets():
    network, batch = build(LOSSES__ALIGN__START_EPOCH=2).train(), batch_of()
    with EventStorage(0), pytest.raises(InputError, match="iterations of an epoch"):
        network(batch)
    network.epoch_length = 7
    losses = {}
    for iteration in (13, 14):
        with EventStorage(iteration):
            losses[iteration] = network(batch)
    for name, full in losses[14].items():
        assert_close(losses[13][name], full * (0 if name in ALIGN_TERMS else 1))
        assert full > 0


def test_baseline_terms_see_the_global_feature():
    options = {"LOSSES__NAME": ("CrossEntropyLoss", "TripletLoss"), "LOSSES__CENTRE__WEIGHT": 2.0}
    network, batch = build(**options).train(), batch_of()
    losses, _ = run(network, batch)
    images = (batch["images"] - network.pixel_mean) / network.pixel_std
    outputs = network.heads(*network.backbone(images, batch["modalities"]))
    feature = outputs["global"].features[:, 0]
    rows = group_by_identity(batch["targets"], batch["modalities"])
    assert_close(losses["loss_tri"], TripletLoss(0.3)(feature, batch["targets"]))
    assert_close(losses["loss_centre"], 2 * CentreClusterLoss()(feature, rows))


class Norms(nn.Module):
    """A loss of another file: the mean norms of what it reads."""

    def __init__(self, power):
        super().__init__()
        self.power = power

    def forward(self, holistic, features, targets):
        assert len(holistic) == len(targets)
        return {name: x.norm(dim=-1).pow(self.power).mean() for name, x in features.items()}


def test_a_new_loss_needs_a_row_and_its_keys_and_may_have_an_underscore(monkeypatch):
    cfg = narrow_config(LOSSES__DL__WEIGHT=0.0).clone()
    cfg.defrost()
    cfg.MODEL.LOSSES.NORMS = CfgNode({"STRENGTH": 4.0, "POWER": 2.0, "WARMUP_ITERS": 10})
    reads = ("holistic", "features", "targets")
    row = LossRow("NORMS", "STRENGTH", lambda options: Norms(options.POWER), reads)
    monkeypatch.setitem(LOSSES, "dl_norm_id", row)
    network = build_model(cfg).train()
    assert network.losses["dl_norm_id"].module.power == 2.0
    assert network.heads.weigh.logits.requires_grad  # it reads the holistic feature
    batch = batch_of()
    with EventStorage(5):
        losses = network(batch)
    terms = {f"loss_dl_norm_id_{k}": k for k in ("global", "local", "accumulated")}
    assert set(losses) == IDENTITY_TERMS | ALIGN_TERMS | set(terms)
    images = (batch["images"] - network.pixel_mean) / network.pixel_std
    outputs = network.heads(*network.backbone(images, batch["modalities"]))
    for name, granularity in terms.items():  # weight 4, half of it at iteration 5 of 10
        expected = 2 * outputs[granularity].features.norm(dim=-1).square().mean()
        assert_close(losses[name], expected, msg=lambda m, name=name: f"{name}: {m}")


def test_every_term_has_some_value_at_the_start():
    losses, _ = run(build().train(), batch_of())
    assert all(loss > 0 for loss in losses.values())


@cases("counts", [(1, 2, 2), (3, 1, 1), (1, 1, 1), (2, 2, 3)])
def test_small_and_uneven_batches_train(counts):
    network = build().train()
    losses, watched = run(network, batch_of(*counts))
    assert len(losses) == 7
    assert all(loss.isfinite() for loss in losses.values())
    if counts[0] == 1:
        assert losses["loss_dl"].item() == 0
    if 1 in counts[1:]:
        assert watched["plan_sharpness"] == 0
    sum(losses.values()).backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_identical_images_train():
    batch = batch_of()
    batch["images"] = torch.full_like(batch["images"], 80.0)
    network = build().train()
    losses, _ = run(network, batch)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    assert all(p.grad.isfinite().all() for p in network.parameters() if p.requires_grad)


def test_the_order_of_a_training_batch_does_not_matter():
    batch = batch_of()
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    first, _ = run(build().train(), batch)
    second, _ = run(build().train(), {k: v[order] for k, v in batch.items()})
    assert_close(second, first, rtol=1e-4, atol=1e-5)


@cases("training", [True, False])
def test_the_callers_batch_stays_as_it_was(training):
    batch = batch_of()
    before = {k: v.clone() for k, v in batch.items()}
    network = build().train(training)
    with EventStorage(0):
        network(batch)
    assert batch.keys() == before.keys()
    assert all(torch.equal(batch[k], before[k]) for k in before)


def test_precise_bns_batch_without_labels_gives_no_losses_but_updates_statistics():
    network = build().train()
    batch = batch_of()
    batch["targets"] = torch.full_like(batch["targets"], -1)
    before = network.backbone.stems[0][1].running_mean.clone()
    losses, watched = run(network, batch)
    assert losses == {}
    assert watched == {}
    assert not torch.equal(network.backbone.stems[0][1].running_mean, before)


def test_a_training_batch_of_one_modality_is_refused():
    batch = batch_of()
    batch["modalities"] = torch.zeros_like(batch["modalities"])
    with pytest.raises(InputError, match="both modalities"):
        run(build().train(), batch)


def test_a_ragged_training_batch_is_refused():
    batch = batch_of()
    batch["targets"] = torch.arange(12) % 4
    batch["modalities"] = torch.tensor([0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 1, 0])
    with pytest.raises(InputError, match="number of visible images"):
        run(build().train(), batch)


# ---- evaluation


def test_embeddings_come_in_the_order_of_the_images():
    network = build().eval()
    batch = batch_of()
    with torch.no_grad():
        embeddings = network(batch)
        for i in range(12):
            alone = {k: v[i : i + 1] for k, v in batch.items()}
            assert_close(network(alone), embeddings[i : i + 1])
    assert embeddings.shape == (12, 3 * 8 + 64)
    assert torch.pdist(embeddings).min() > 1e-4


@cases("modality", [VISIBLE, THERMAL])
def test_an_evaluation_batch_needs_neither_targets_nor_both_modalities(modality):
    batch = {"images": batch_of()["images"], "modalities": torch.full((12,), modality)}
    with torch.no_grad():
        embeddings = build().eval()(batch)
    assert embeddings.shape == (12, 88)
    # parts of norms 0.6 and 0.4
    assert_close(embeddings.norm(dim=1), torch.full((12,), 0.52**0.5))


def test_images_are_normalised_by_the_configured_mean_and_deviation():
    network = build(PIXEL_MEAN=[10.0, 20.0, 30.0], PIXEL_STD=[1.0, 2.0, 4.0]).eval()
    seen = []
    network.backbone.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    images = torch.full((1, 3, 48, 24), 50.0)
    with torch.no_grad():
        network({"images": images, "modalities": torch.tensor([VISIBLE])})
    # (50 - 10) / 1, (50 - 20) / 2, (50 - 30) / 4
    assert seen[0][0, :, 0, 0].tolist() == [40.0, 15.0, 5.0]


@cases("training", [True, False])
@cases("batch", [{"images": torch.zeros(1, 3, 48, 24)}, torch.zeros(1, 3, 48, 24)])
def test_a_batch_without_modalities_is_refused(batch, training):
    with pytest.raises(InputError, match="'modalities'"):
        build().train(training)(batch)


def test_an_unknown_neck_feature_is_refused():
    with pytest.raises(InputError, match=r"MODEL\.HEADS\.NECK_FEAT"):
        build(HEADS__NECK_FEAT="beside")


def test_the_checkpoint_holds_no_pixel_statistics():
    assert not [name for name in build().state_dict() if "pixel" in name]


# ---- the modality gap


def test_the_modality_gap_by_hand():
    # visible (2, 0), (0, 3) -> (1, 0), (0, 1): centre (1/2, 1/2)
    # thermal (0, -5), (-1, 0) -> centre (-1/2, -1/2): distance sqrt(1 + 1)
    features = torch.tensor([[2.0, 0.0], [0.0, -5.0], [0.0, 3.0], [-1.0, 0.0]])
    rows = IdentityRows(torch.tensor([[0], [2]]), torch.tensor([[1], [3]]))
    assert_close(modality_gap(features, rows).item(), 2**0.5)


def test_the_modality_gap_is_0_for_equal_clouds_and_carries_no_gradient():
    features = torch.randn(3, 5).repeat(2, 1).requires_grad_()
    rows = IdentityRows(torch.tensor([[0, 1, 2]]), torch.tensor([[4, 5, 3]]))
    gap = modality_gap(features, rows)
    assert not gap.requires_grad
    assert_close(gap.item(), 0.0, rtol=0, atol=1e-6)


def test_opposite_modalities_have_the_largest_gap():
    features = torch.tensor([[3.0, 0.0], [-0.1, 0.0]]).bfloat16()
    rows = IdentityRows(torch.tensor([[0]]), torch.tensor([[1]]))
    assert modality_gap(features, rows).item() == 2.0


# ---- golden forward


class Waves(nn.Module):
    """Stands for the backbone: two positive maps of fixed waves, one per image."""

    def forward(self, images, modalities):
        image = torch.arange(len(images), dtype=torch.float64).view(-1, 1, 1, 1)
        channel = torch.arange(4, dtype=torch.float64).view(1, -1, 1, 1)
        row = torch.arange(6, dtype=torch.float64).view(1, 1, -1, 1)
        shift = 0.5 * modalities.view(-1, 1, 1, 1)
        wave = torch.sin(0.7 * image + 1.3 * channel + 0.4 * row + shift)
        return wave + 1.5, wave.square() + 0.1


def waving_network():
    """Build the whole method on ``Waves``, every parameter a fixed wave."""
    heads = MultiGranularityHead(
        feat_dim=4,
        num_classes=3,
        stripes=3,
        embedding_dim=2,
        pool_type="GeneralizedMeanPooling",
        norm="BN",
        local_weights="model",
        test_beta=0.6,
        test_accumulated=True,
    )
    losses = {
        "id": WeightedLoss(IdentityLoss(), LOSSES["id"].reads, 1.0),
        "align": WeightedLoss(PairAlignment(), LOSSES["align"].reads, 0.5),
        "dl": WeightedLoss(CMDLLoss(), LOSSES["dl"].reads, 0.1),
    }
    network = CMEMDNet(
        backbone=Waves(),
        heads=heads,
        losses=losses,
        align_neck=False,
        pixel_mean=[0.0, 0.0, 0.0],
        pixel_std=[1.0, 1.0, 1.0],
    ).double()
    with torch.no_grad():
        for i, parameter in enumerate(network.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(torch.cos(0.9 * steps + i).view_as(parameter))
    return network


GOLDEN_BATCH = {
    "images": torch.zeros(12, 3, 6, 1),
    "targets": torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]),
    "modalities": torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1]),
}
GOLDEN_LOSSES = {
    "loss_id_global": 1.5863428268249293,
    "loss_id_local": 5.16760793263723,
    "loss_id_accumulated": 2.8532092254490173,
    "loss_align_global": 0.05014669460051821,
    "loss_align_local": 0.03375467835937623,
    "loss_align_accumulated": 0.0015383447377179684,
    "loss_dl": 0.3094199797415724,
}
GOLDEN_WATCHED = {
    "cls_accuracy": 1 / 3,
    "modality_gap": 0.24104245007038116,
    "plan_sharpness": 1.0,
    "plan_saving": 0.5831775004002201,
}
GOLDEN_EMBEDDING_SUMS = [
    -0.49335315855034184,
    -0.4993130918965476,
    -0.6105900503964442,
    -0.5286010314611407,
    -0.6418539276048956,
    -0.6519268845601978,
    -0.6685181830833559,
    -0.636927433769332,
    -0.4454083574731276,
    -0.4875711700242379,
    -0.5831833202697458,
    -0.5857393646412221,
]


def test_the_golden_forwards_losses_are_as_they_were():
    losses, watched = run(waving_network().train(), GOLDEN_BATCH)
    losses = {name: loss.item() for name, loss in losses.items()}
    message = f"now:\nGOLDEN_LOSSES = {losses}\nGOLDEN_WATCHED = {watched}"
    assert losses == pytest.approx(GOLDEN_LOSSES, rel=1e-10), message
    assert watched == pytest.approx(GOLDEN_WATCHED, rel=1e-6), message


def test_the_golden_forwards_embeddings_are_as_they_were():
    with torch.no_grad():
        embeddings = waving_network().eval()(GOLDEN_BATCH)
    assert embeddings.shape == (12, 3 * 2 + 2 * 2 + 4)
    sums = embeddings.sum(1).tolist()
    assert sums == pytest.approx(GOLDEN_EMBEDDING_SUMS, rel=1e-10), (
        f"now:\nGOLDEN_EMBEDDING_SUMS = {sums}"
    )
