"""Time of a training step, of its optimiser and its losses, and what waits for the device in it.

    python tests/benchmarks/bm_step.py [--config-file projects/CMEMD/configs/sysu.yml] [--steps 1]

Random images, no data set, no pretrained weights. A step of sysu.yml takes minutes on a CPU. The
share of the losses counts their forward and backward passes, down to the heads' outputs; alignment
is CM-EMD and CM-DL. Ratios are medians of interleaved runs, of CPU time without a GPU. What waits
for the device is counted on meta tensors, which go a GPU's way on any machine.
"""

import argparse
import copy
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import torch
from fastreid.modeling import build_model
from fastreid.solver import build_optimizer as build_flat_optimizer
from fastreid.utils.events import EventStorage
from torch import nn

from cmemd import load_config
from cmemd.data.grouping import group_by_identity
from cmemd.engine.optimizer import build_optimizer
from cmemd.engine.step import TrainingStep
from cmemd.engine.update import Update

sys.path.insert(0, str(Path(__file__).parents[2]))
from tests.engine.synchronisations import DEVICE, Synchronisations  # noqa: E402

IDENTITIES = 395  # of SYSU-MM01's training set


def main() -> None:
    """Print one line on the machine and one for each measured time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="projects/CMEMD/configs/sysu.yml")
    parser.add_argument("--steps", type=int, default=1, help="timed steps after one warm-up")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, cfg = _network(args.config_file, device)
    batch = _batch(cfg, device)
    targets, rows = batch["targets"], batch["rows"]
    print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads", flush=True)
    with EventStorage():
        bare_model = copy.deepcopy(model)
        bare_optimizer = build_optimizer(cfg, bare_model).optimizer

        def bare() -> None:
            losses = bare_model(batch)
            bare_optimizer.zero_grad()
            sum(losses.values()).backward()
            bare_optimizer.step()

        step = _step(cfg, model, batch).run_step
        whole, loop = _interleaved([step, bare], args.steps)
        print(f"{args.config_file}: {len(targets)} images a batch, {whole:.3f} s a step")
        print(f"the trainer's step against a bare loop: {whole / loop:.3f} of its time")
        _print_optimizers(cfg, model, args.steps)
        with torch.no_grad():
            outputs = model.heads(*model.backbone(_normalised(model, batch), None, rows))

        def losses() -> None:
            sum(model._losses(_leaves(outputs), targets, rows).values()).backward()

        def alignment() -> None:
            leaves = _leaves(outputs)
            features = {name: output.features for name, output in leaves.items()}
            aligned = model.loss_modules["align"](features, rows).terms
            apart = model.loss_modules["dl"](model.heads.holistic(features), rows)
            (sum(aligned.values()) + apart).backward()

        for name, part in (("all losses", losses), ("alignment", alignment)):
            (seconds,) = _interleaved([part], 10)
            print(f"{name}: {1000 * seconds:.1f} ms, {100 * seconds / whole:.2f} % of the step")
        _print_synchronisations(args.config_file)


def _network(config_file: str, device: str) -> tuple[nn.Module, object]:
    opts = ["MODEL.DEVICE", device, "MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = load_config(config_file, [*opts, "MODEL.HEADS.NUM_CLASSES", str(IDENTITIES)])
    return build_model(cfg).train(), cfg


def _step(cfg, model: nn.Module, batch: dict) -> TrainingStep:
    optimizer = build_optimizer(cfg, model).optimizer
    return TrainingStep(model, itertools.repeat(batch), Update(optimizer))


def _print_optimizers(cfg, model: nn.Module, steps: int) -> None:
    """Print the time of an update beside fast-reid's, with its flat buffers."""
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    optimizer = build_optimizer(cfg, ours).optimizer
    flat, buffers = build_flat_optimizer(cfg, theirs)

    def update() -> None:
        optimizer.step()

    def flat_update() -> None:
        flat.step()
        buffers.assert_buffer_is_valid()  # as fast-reid's trainer does in each step

    for parameter in ours.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    for parameter in theirs.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(1e-3)
    own, other = _interleaved([update, flat_update], max(steps, 10))
    print(
        f"optimiser: {1000 * own:.1f} ms; over flat buffers {1000 * other:.1f}, {other / own:.2f}x"
    )


def _print_synchronisations(config_file: str) -> None:
    """Print how often a step waits for the device."""
    model, cfg = _network(config_file, DEVICE.type)
    step = _step(cfg, model, _batch(cfg, DEVICE.type))
    step.run_step()  # an optimiser makes its state
    with Synchronisations() as counted:
        step.run_step()
    print(f"the host waits for the device {sum(counted.found.values())} times in a step")


def _normalised(model: nn.Module, batch: dict) -> torch.Tensor:
    return (batch["images"] - model.pixel_mean) / model.pixel_std


def _batch(cfg, device: str) -> dict:
    visible, thermal = cfg.DATALOADER.NUM_VISIBLE, cfg.DATALOADER.NUM_THERMAL
    identities = cfg.SOLVER.IMS_PER_BATCH // (visible + thermal)
    targets = torch.arange(identities).repeat_interleave(visible + thermal)
    modalities = torch.tensor(([0] * visible + [1] * thermal) * identities)
    images = torch.rand(cfg.SOLVER.IMS_PER_BATCH, 3, *cfg.INPUT.SIZE_TRAIN, device=device)
    return {
        "images": 255 * images,
        "targets": targets.to(device),
        "modalities": modalities,
        "rows": group_by_identity(targets, modalities).to(device),
    }


def _leaves(outputs: dict) -> dict:
    return {
        name: type(output)(*(tensor.detach().requires_grad_() for tensor in output))
        for name, output in outputs.items()
    }


def _interleaved(works: list[Callable[[], None]], times: int) -> list[float]:
    """Return the median seconds of each work, called in turn after one warm-up call each."""
    cuda = torch.cuda.is_available()
    clock = time.perf_counter if cuda else time.process_time
    spent = [[] for _ in works]
    for _ in range(times + 1):
        for seconds, work in zip(spent, works, strict=True):
            start = clock()
            work()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(clock() - start)
    return [statistics.median(seconds[1:]) for seconds in spent]


if __name__ == "__main__":
    main()
