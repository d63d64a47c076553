"""Losses of a batch split over processes are those of the whole batch, through DDP too."""

from functools import partial

import cmemd.compat  # noqa: F401  before torch and fastreid

import pytest
import torch
from fastreid.utils import comm
from fastreid.utils.events import EventStorage
from tests.cases import cases
from tests.processes import CONTEXT
from torch import distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from cmemd.config import load_config
from cmemd.data.grouping import group_by_identity
from cmemd.engine.step import TrainingStep
from cmemd.engine.update import Update
from cmemd.errors import InputError
from cmemd.losses.alignment import ALIGNMENTS
from cmemd.losses.build import build_losses
from cmemd.losses.distributed import check_split, gather
from cmemd.modeling.cmemd_net import CMEMDNet
from cmemd.modeling.multi_granularity import MultiGranularityHead

WORLDS = (2, 3)
IDENTITIES, VISIBLE, THERMAL = 6, 2, 3
EACH = VISIBLE + THERMAL


class Pixels(nn.Module):
    """Stands for the backbone: a positive 1x1 convolution for each stream."""

    def __init__(self):
        super().__init__()
        self.streams = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(2))

    def forward(self, images, modalities):
        return tuple(stream(images).square() + 0.1 for stream in self.streams)


def network(alignment):
    """Build the method with both baseline terms, without BatchNorm: its statistics are local."""
    options = ["ALIGN.NAME", alignment, "NAME", "('CrossEntropyLoss','TripletLoss')"]
    options += [
        "CENTRE.WEIGHT",
        "1.0",
        "CENTRE.MARGIN",
        "1.5",
        "DL.WEIGHT",
        "1.0",
        "RANK.WEIGHT",
        "1.0",
    ]
    options += ["WRT.WEIGHT", "1.0", "WRT.SQUARED", "True"]
    options += ["HCT.WEIGHT", "1.0", "MSEL.WEIGHT", "1.0", "DCL.WEIGHT", "1.0"]
    options = [f"MODEL.LOSSES.{w}" if i % 2 == 0 else w for i, w in enumerate(options)]
    torch.manual_seed(0)
    heads = MultiGranularityHead(
        feat_dim=4,
        num_classes=IDENTITIES,
        stripes=3,
        embedding_dim=2,
        pool_type="GeneralizedMeanPooling",
        norm="",
        local_weights="image",
        test_beta=0.6,
        test_accumulated=False,
    )
    return CMEMDNet(
        backbone=Pixels(),
        heads=heads,
        losses=build_losses(load_config("", options)),
        align_neck=False,
        pixel_mean=[100.0, 110.0, 120.0],
        pixel_std=[50.0, 60.0, 70.0],
    ).double()


def batch_of(identities=slice(None)):
    """Return a batch, identity by identity, or its part with some of them."""
    generator = torch.Generator().manual_seed(0)
    shape = (IDENTITIES, EACH, 3, 6, 2)
    batch = {
        "images": 255 * torch.rand(shape, dtype=torch.float64, generator=generator),
        "targets": torch.arange(IDENTITIES)[:, None].expand(-1, EACH),
        "modalities": torch.tensor([0] * VISIBLE + [1] * THERMAL).expand(IDENTITIES, -1),
    }
    return {name: value[identities].flatten(0, 1) for name, value in batch.items()}


def losses_and_gradients(model, batch):
    with EventStorage(0):
        losses = model.train()(batch)
    sum(losses.values()).backward()
    return (
        {name: loss.detach() for name, loss in losses.items()},
        {name.removeprefix("module."): p.grad for name, p in model.named_parameters()},
    )


def message_of(work):
    try:
        work()
    except InputError as error:
        return str(error)


def check(targets, modalities):
    targets = torch.tensor(targets)
    check_split(targets, group_by_identity(targets, torch.tensor(modalities)))


class Stub(torch.nn.Module):
    """A network with one weight."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, batch):
        return {"loss": self.weight * 1.0}


LATER = ("fine", "identities", "images")


def later(rank, case):
    """Train two steps on batches from a loader, the second of which may be split wrongly."""
    batches = []
    for number in range(2):
        wrong = number == 1 and case != "fine"
        same = wrong and case == "identities"
        modalities = [0, 1, 1] if wrong and case == "images" else [0, 1]
        targets = torch.tensor([7 if same else rank] * len(modalities))
        rows = group_by_identity(targets, torch.tensor(modalities))
        batches.append({"targets": targets, "rows": rows})
    network = Stub()
    update = Update(torch.optim.SGD(network.parameters(), lr=0.1))
    step = TrainingStep(network, batches, update)
    for step.iter in range(2):
        step.run_step()
    step.pending.write_to(EventStorage(0))


def process(rank, folder):
    """Save what one process finds, in a group of each size in turn."""
    for world in WORLDS:
        if rank >= world:
            continue
        distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/join{world}", rank=rank, world_size=world
        )
        share = IDENTITIES // world
        own = batch_of(slice(rank * share, (rank + 1) * share))
        found = {
            name: losses_and_gradients(DistributedDataParallel(network(name)), own)
            for name in ALIGNMENTS
        }
        leaf = torch.full((2, 1), rank + 1.0, requires_grad=True)
        gathered = gather(leaf)
        (gathered.square().sum() * (rank + 1)).backward()
        found["gather"] = gathered.detach(), leaf.grad
        found["integers"] = gather(torch.tensor([rank, 10]))
        shared = own | {"targets": own["targets"] % share}  # the same identities on every rank
        two, three = [0, 1], [0, 1, 1]  # modalities
        works = {
            "fine": partial(check, [2 * rank] * 2 + [2 * rank + 1] * 2, two + two),
            "split": partial(network("cm_emd").train(), shared),
            "identities": partial(check, [rank] * 2, two),
            "images": partial(check, [rank] * 3, three),
        }
        if rank == 1:
            works["identities"] = partial(check, [1, 1, 9, 9], two + two)
            works["images"] = partial(check, [1, 1], two)
        found |= {case: message_of(work) for case, work in works.items()}
        comm._get_global_gloo_group.cache_clear()  # of the group before
        found |= {f"later {case}": message_of(partial(later, rank, case)) for case in LATER}
        torch.save(found, f"{folder}/{world}-{rank}.pt")
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """World size -> what each of its processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.start_processes(
        process, (str(folder),), nprocs=max(WORLDS), start_method=CONTEXT.get_start_method()
    )
    return {w: [torch.load(folder / f"{w}-{r}.pt") for r in range(w)] for w in WORLDS}


@cases("world", WORLDS)
@cases("alignment", ALIGNMENTS)
def test_values_and_ddps_gradients_are_those_of_one_process_on_the_whole_batch(
    found, world, alignment
):
    expected, gradients = losses_and_gradients(network(alignment), batch_of())
    kinds = {name.split("_")[1] for name in expected}
    assert kinds == {
        *("id", "dl", "tri", "rank", "centre", "wrt", "align", "hct", "msel", "dcl"),
    } - ({"align"} if alignment == "none" else set())
    assert all(loss > 1e-3 for loss in expected.values())
    parts = [of_rank[alignment] for of_rank in found[world]]
    means = {name: sum(losses[name] for losses, _ in parts) / world for name in expected}
    assert_close(means, expected, rtol=1e-9, atol=1e-12)
    for name in (
        "loss_dl",
        "loss_tri",
        "loss_rank",
        "loss_centre",
        "loss_wrt",
        "loss_dcl",
    ):  # gathered: the same everywhere
        assert_close([losses[name] for losses, _ in parts], [expected[name]] * world)
    assert all(gradient.norm() > 1e-6 for gradient in gradients.values())
    for _, of_rank in parts:
        assert_close(of_rank, gradients, rtol=1e-9, atol=1e-12)


@cases("world", WORLDS)
def test_gathering_puts_ranks_in_order_and_sums_the_gradients_of_all_of_them(found, world):
    # The sum over processes of (r + 1) times a square: gradient 2 x (1 + ... + W).
    for rank, of_rank in enumerate(found[world]):
        gathered, gradient = of_rank["gather"]
        assert gathered.flatten().tolist() == [float(r + 1) for r in range(world) for _ in "ab"]
        factor = world * (world + 1) / 2
        assert gradient.flatten().tolist() == [2 * (rank + 1) * factor] * 2
        assert of_rank["integers"].tolist() == [n for r in range(world) for n in (r, 10)]


@cases("world", WORLDS)
@cases(
    ("case", "words"),
    [
        ("split", ["each identity of a batch on one process", "labels [0, 1"]),
        ("identities", ["same number of identities", "[1, 1, 1], [2, 1, 1]"]),
        ("images", ["thermal images of each, on every process", "[1, 1, 2], [1, 1, 1]"]),
    ],
)
def test_a_batch_that_is_not_split_by_identity_and_evenly_is_refused_on_every_rank(
    found, world, case, words
):
    for of_rank in found[world]:
        assert of_rank["fine"] is None
        for word in [*words, "CrossModalitySampler"]:
            assert word in of_rank[case]


@cases("world", WORLDS)
def test_a_wrong_split_after_the_first_batch_is_refused_on_every_rank(found, world):
    for of_rank in found[world]:
        assert of_rank["later fine"] is None
        # Of W equal labels, all but the first repeat one.
        assert f"{world - 1} of iteration 1 on several" in of_rank["later identities"]
        assert "each identity of a batch on one process" in of_rank["later identities"]
        assert "as in the first batch, got (1, 1, 2)" in of_rank["later images"]


def test_one_process_alone_gathers_and_checks_nothing():
    leaf = torch.ones(2, requires_grad=True)
    assert gather(leaf) is leaf
    check([5, 5], [0, 1])
