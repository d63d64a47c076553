"""CPU time of an epoch on a frozen backbone's features, against one through the whole network.

    python tests/benchmarks/bm_frozen.py [--config-file F] [--ids 40] [--epochs 3] [KEY VALUE ...]

Drawn people in SYSU-MM01's layout. Images are read in the training process, so that its CPU time is
that of all work. Epochs take turns; each ratio is of one turn. The features of all images are
computed once, before the first epoch.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import torch
from fastreid.utils.events import EventStorage

from cmemd import load_config
from cmemd.engine.trainer import Trainer
from cmemd.standin import draw_sysu


def main() -> None:
    """Print one line on the machine, one for the features and one for each kind of epoch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config-file", default="projects/CMEMD/configs/demo.yml")
    parser.add_argument("--ids", type=int, default=40, help="of people")
    parser.add_argument("--epochs", type=int, default=3, help="of each kind")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")
    args = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASTREID_DATASETS"] = folder
        draw_sysu(Path(folder, "SYSU-MM01"), ids=args.ids, per_camera=4, size=(96, 48), seed=0)
        common = ["DATALOADER.NUM_WORKERS", "0", "SEED", "0", *args.opts]
        whole, frozen = (
            _trainer(args.config_file, Path(folder, name), [*common, *keys])
            for name, keys in {
                "whole": [],
                "frozen": ["MODEL.BACKBONE.FROZEN", "True", *_without_augmentations()],
            }.items()
        )
        start = time.process_time()
        frozen._freeze()
        once = time.process_time() - start
        images = len(whole.data_loader.dataset)
        size = sum(path.stat().st_size for path in Path(folder, "frozen").rglob("features.bin"))
        print(f"{images} images, {whole.iters_per_epoch} steps an epoch")
        print(f"features, once: {once:.1f} s, {size / 1e6:.1f} MB")
        turns = [[_epoch(trainer) for trainer in (whole, frozen)] for _ in range(args.epochs)]
        for name, seconds in zip(("whole", "frozen"), zip(*turns, strict=True), strict=True):
            print(f"epoch, {name}: {statistics.median(seconds):.2f} s")
        ratios = [own / all_ for all_, own in turns]
        print(f"ratio: {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


def _without_augmentations() -> list[str]:
    return ["INPUT.PADDING.ENABLED", "False", "INPUT.REA.ENABLED", "False"]


def _trainer(config: str, folder: Path, keys: list[str]) -> Trainer:
    folder.mkdir()
    return Trainer(load_config(config, [*keys, "OUTPUT_DIR", str(folder)]))


def _epoch(trainer: Trainer) -> float:
    """Return the CPU seconds of an epoch's steps."""
    start = time.process_time()
    with EventStorage(0):
        for _ in range(trainer.iters_per_epoch):
            trainer._trainer.run_step()
    return time.process_time() - start


if __name__ == "__main__":
    main()
