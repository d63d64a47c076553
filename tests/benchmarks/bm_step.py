"""Time of a training step, and the share of the losses in it.

    python tests/benchmarks/bm_step.py [--config-file projects/CMEMD/configs/sysu.yml] [--steps 1]

Random images, no data set, no pretrained weights. A step of sysu.yml takes minutes on a CPU. The
share counts the forward and backward passes of the losses, down to the heads' outputs; alignment is
CM-EMD and CM-DL.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cmemd.plugin  # noqa: F401  before torch and fastreid

import torch
from fastreid.engine import DefaultTrainer
from fastreid.utils.events import EventStorage

from cmemd import load_config
from cmemd.data.grouping import group_by_identity

IDENTITIES = 395  # of SYSU-MM01's training set


def main() -> None:
    """Print one line on the machine and one for each measured time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="projects/CMEMD/configs/sysu.yml")
    parser.add_argument("--steps", type=int, default=1, help="timed steps after one warm-up")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    opts = ["MODEL.DEVICE", device, "MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = load_config(args.config_file, [*opts, "MODEL.HEADS.NUM_CLASSES", str(IDENTITIES)])
    model = DefaultTrainer.build_model(cfg).train()
    optimizer, _ = DefaultTrainer.build_optimizer(cfg, model)
    batch = _batch(cfg)
    targets, modalities = batch["targets"].to(device), batch["modalities"].to(device)
    rows = group_by_identity(targets, modalities)

    def step() -> None:
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    with EventStorage():
        images = (batch["images"].to(device) - model.pixel_mean) / model.pixel_std
        with torch.no_grad():
            outputs = model.heads(*model.backbone(images, batch["modalities"]))

        def losses() -> None:
            sum(model._losses(_leaves(outputs), targets, modalities).values()).backward()

        def alignment() -> None:
            leaves = _leaves(outputs)
            features = {name: output.features for name, output in leaves.items()}
            aligned = model.loss_modules["align"](features, rows).terms
            apart = model.loss_modules["dl"](model.heads.holistic(features), rows)
            (sum(aligned.values()) + apart).backward()

        print(f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads", flush=True)
        whole = _seconds(step, args.steps)
        print(f"{args.config_file}: {len(targets)} images a batch, {whole:.3f} s a step")
        for name, part in (("all losses", losses), ("alignment", alignment)):
            seconds = _seconds(part, 10)
            print(f"{name}: {1000 * seconds:.1f} ms, {100 * seconds / whole:.2f} % of the step")


def _batch(cfg) -> dict[str, torch.Tensor]:
    visible, thermal = cfg.DATALOADER.NUM_VISIBLE, cfg.DATALOADER.NUM_THERMAL
    identities = cfg.SOLVER.IMS_PER_BATCH // (visible + thermal)
    return {
        "images": 255 * torch.rand(cfg.SOLVER.IMS_PER_BATCH, 3, *cfg.INPUT.SIZE_TRAIN),
        "targets": torch.arange(identities).repeat_interleave(visible + thermal),
        "modalities": torch.tensor(([0] * visible + [1] * thermal) * identities),
    }


def _leaves(outputs: dict) -> dict:
    return {
        name: type(output)(*(tensor.detach().requires_grad_() for tensor in output))
        for name, output in outputs.items()
    }


def _seconds(work: Callable[[], None], times: int) -> float:
    """Return the median time of a call, after one warm-up call."""
    spent = []
    for _ in range(times + 1):
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent[1:])


if __name__ == "__main__":
    main()
