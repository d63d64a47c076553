"""Memory, operations and memory traffic of a training step, counted without a GPU and without data.

    python tests/benchmarks/bm_memory.py [--config-file projects/CMEMD/configs/sysu.yml]
                                         [KEY VALUE ...]

A step of the backbone, the head and the identity losses runs on tensors without numbers. For each
setting of the keys that save memory, the table gives

- saved: what the forward pass keeps for the backward pass;
- peak: the most bytes that are alive at once during a step: parameters, gradients, optimizer state,
  EMA weights, activations and their gradients. A convolution's workspace, the allocator's
  fragments and CUDA's own memory come on top; so does what the other losses keep, which is small;
- TFLOP and GB of a step: products and sums of convolutions and matrix products, and the bytes that
  unfused operations read and write.

With these, the second table bounds the images a second of a card from above: no operation takes
less than its FLOPs over the card's peak rate, or its bytes over the card's bandwidth. Both tables
are estimates. Operations that share a kernel move fewer bytes, and no kernel reaches a peak rate.
"""

import argparse
import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import cmemd.plugin  # noqa: F401  before torch and fastreid

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import flop_registry

from cmemd import load_config
from cmemd.engine.averaging import AveragedWeights
from cmemd.engine.optimizer import build_optimizer
from cmemd.engine.precision import autocast, half_type
from cmemd.engine.rehearsal import outline
from cmemd.engine.room import rows_of_step
from cmemd.losses.identity import identity_loss
from cmemd.losses.precision import at_least_float32, without_autocast

IDENTITIES = 395  # of SYSU-MM01's training set
HALF = ["SOLVER.AMP.ENABLED", "True"]
AGAIN = ["MODEL.BACKBONE.CHECKPOINT_ACTIVATIONS", "True"]
SETTINGS = {
    "float32": [],
    "SOLVER.AMP": HALF,
    "CHECKPOINT_ACTIVATIONS": AGAIN,
    "both": HALF + AGAIN,
    "SOLVER.ACCUMULATE 2": ["SOLVER.ACCUMULATE", "2"],
    "both, SOLVER.EMA": [*HALF, *AGAIN, "SOLVER.EMA.DECAY", "0.999"],
}


class Card(NamedTuple):
    """Peak rates as NVIDIA publishes them: dense, float32 sums."""

    memory: int  # GB
    single: float  # TFLOPS of float32 convolutions: TF32 where the card has it
    half: float  # TFLOPS of the half precision
    bandwidth: float  # GB/s


CARDS = {
    "RTX 2080 Ti": Card(11, 14.2, 56.9, 616),  # FP16; it has no bfloat16
    "V100 SXM2": Card(16, 15.7, 125, 900),  # FP16; it has no bfloat16
    "RTX 3090": Card(24, 35.6, 71, 936),
    "RTX 4090": Card(24, 82.6, 165.2, 1008),
    "A100 SXM": Card(80, 156, 312, 2039),
    "H100 SXM": Card(80, 494.7, 989.4, 3350),
}


class Counter(TorchDispatchMode):
    """Counts FLOPs, bytes moved and bytes alive of all operations.

    Attributes:
        work: FLOPs, bytes and element size of each operation.
        alive: bytes of all storages that exist.
        peak: the most of them so far.
    """

    def __init__(self) -> None:
        super().__init__()
        self.work: list[tuple[float, float, int]] = []
        self.alive = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # noqa: D105
        kwargs = kwargs or {}
        output = function(*args, **kwargs)
        given = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
        made = [x for x in tree_flatten(output)[0] if isinstance(x, torch.Tensor)]
        for tensor in made:
            self.add(tensor)
        packet = function._overloadpacket
        flops = (
            flop_registry[packet](*args, **kwargs, out_val=output) if packet in flop_registry else 0
        )
        if not function.is_view:
            moved = sum(x.numel() * x.element_size() for x in (*given, *made))
            size = min((x.element_size() for x in given if x.is_floating_point()), default=4)
            self.work.append((flops, moved, size))
        return output

    def add(self, tensor: torch.Tensor) -> None:
        """Count a tensor's storage until it is freed."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        weakref.finalize(storage, self._freed, key, size)
        self.alive += size
        self.peak = max(self.peak, self.alive)

    def _freed(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.alive -= size


class Counted(NamedTuple):
    """What a step of a setting takes."""

    saved: int
    peak: int
    forward: float  # FLOPs
    work: list[tuple[float, float, int]]


def count(cfg) -> Counted:
    """Count a step of a configuration."""
    parts, dtype = cfg.SOLVER.ACCUMULATE, half_type(cfg)
    images = rows_of_step(cfg) // parts
    counter = Counter()
    network = outline(cfg, IDENTITIES)
    with FakeTensorMode(allow_non_fake_inputs=True), counter:
        network = network.to_empty(device="cpu").train()
        optimizer = build_optimizer(cfg, network).optimizer
        averages = AveragedWeights(network, 0.999) if cfg.SOLVER.EMA.DECAY > 0 else None
        for _ in range(2):  # the first step makes the optimizer's state
            counter.work.clear()
            counter.peak = counter.alive
            optimizer.zero_grad()
            for _ in range(parts):
                with _saved(counter, network) as saved:
                    before = len(counter.work)
                    loss = _loss(network, images, cfg, dtype)
                    forward = sum(flops for flops, _, _ in counter.work[before:])
                loss.backward()
                del loss
            optimizer.step()
            if averages is not None:
                averages.update()
        return Counted(sum(saved.values()), counter.peak, forward / images, list(counter.work))


def _loss(network: nn.Module, images: int, cfg, dtype: torch.dtype | None) -> torch.Tensor:
    """Return the identity loss of a batch, half of each modality."""
    pixels = torch.empty(images, 3, *cfg.INPUT.SIZE_TRAIN)
    targets = torch.empty(images, dtype=torch.int64)
    backbone = network.backbone
    with autocast("cpu", dtype):
        halves = zip(backbone.stems, pixels.chunk(2), strict=True)
        shallow = torch.cat([backbone._run(stem, own) for stem, own in halves])
        maps = backbone.after_stems(shallow)
    with without_autocast(pixels.device.type):
        outputs = network.heads(*(None if one is None else at_least_float32(one) for one in maps))
        logits = network.heads.classify(outputs)
        return sum(identity_loss(logit, targets) for logit in logits.values())


@contextmanager
def _saved(counter: Counter, network: nn.Module) -> Iterator[dict[int, int]]:
    """Yield storage -> bytes of what is saved for the backward pass, parameters aside."""
    own = {p.untyped_storage()._cdata for p in (*network.parameters(), *network.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        yield saved


def seconds(work: list[tuple[float, float, int]], card: Card) -> float:
    """Return the least time of a step on a card."""
    rates = {size: 1e12 * (card.half if size == 2 else card.single) for size in (1, 2, 4, 8)}
    return sum(
        max(flops / rates[size], moved / (1e9 * card.bandwidth)) for flops, moved, size in work
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default="projects/CMEMD/configs/sysu.yml")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    args = parser.parse_args()
    fixed = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]

    def config(keys: list[str]) -> object:
        return load_config(args.config_file, [*fixed, *args.opts, *keys])

    counted: dict[str, Counted] = {}
    for name, keys in SETTINGS.items():
        counted[name] = count(config(keys))
    batch, rows = config([]).SOLVER.IMS_PER_BATCH, rows_of_step(config([]))
    views = f", {rows} with second views" * (rows != batch)
    print(f"{args.config_file}: {batch} images a step{views}, torch {torch.__version__}")
    print(f"forward pass: {counted['float32'].forward / 1e9:.2f} GFLOP an image")
    print(
        "\n| setting | saved, GiB | peak, GiB | TFLOP a step | GB a step |\n|---|---|---|---|---|"
    )
    for name, one in counted.items():
        total = [math.fsum(x[place] for x in one.work) for place in (0, 1)]
        print(
            f"| {name} | {one.saved / 2**30:.1f} | {one.peak / 2**30:.1f} | "
            f"{total[0] / 1e12:.1f} | {total[1] / 1e9:.0f} |"
        )
    chosen = ("float32", "SOLVER.AMP", "CHECKPOINT_ACTIVATIONS", "both")
    print("\nat most images a second")
    print(f"| card | memory, GB | {' | '.join(chosen)} |\n|---|---|{'---|' * len(chosen)}")
    for name, card in CARDS.items():
        rates = " | ".join(f"{batch / seconds(counted[c].work, card):.0f}" for c in chosen)
        print(f"| {name} | {card.memory} | {rates} |")


if __name__ == "__main__":
    main()
