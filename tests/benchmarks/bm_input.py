"""Images per second that one core prepares for training, in a loader's worker process.

    python tests/benchmarks/bm_input.py [--images 480] [--batches 6] [--repeats 5]

Drawn people in JPEGs of 400 x 180 pixels, quality 90; sysu.yml's size, 384 x 192, and augmentation.
The first row is fast-reid's own reader, transforms and collate function. Every row runs in one
worker of a DataLoader; rows take turns, and each ratio is of the rows of one turn. Times are the
worker's CPU time, so that other work on the machine matters less. The last columns compare pixels
with the first row's, for equal random states and whole grey levels of the eraser.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import torch
from fastreid.data import CommDataset
from fastreid.data.build import fast_batch_collator
from fastreid.data.transforms import build_transforms
from PIL import Image
from torch.utils.data import DataLoader

from cmemd import load_config
from cmemd.data.collate import collate
from cmemd.data.dataset import VisibleThermalDataset
from cmemd.data.images import read_pixels
from cmemd.data.items import ImageItem
from cmemd.data.modality import Modality
from cmemd.data.random_state import Draws
from cmemd.data.transform import build_transform
from cmemd.engine.caching import open_cache
from cmemd.standin.figure import Figure
from cmemd.standin.image import render
from cmemd.standin.person import draw_person
from cmemd.standin.shot import draw_shot

CONFIG = Path(__file__).parents[2] / "projects/CMEMD/configs/sysu.yml"
WHOLE = "[124, 116, 104]"
FIRST = "fast-reid"


def main() -> None:
    """Print one line on the machine and a row for each way of input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=480)
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        items = draw(Path(folder), args.images)
        size = statistics.mean(Path(item.path).stat().st_size for item in items)
        print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}")
        print(f"{len(items)} JPEGs of 400 x 180, {size / 1000:.1f} KB each")
        configs = {
            FIRST: config(),
            "default": config(),
            "INPUT.RESIZE opencv": config("INPUT.RESIZE", "opencv"),
            "DATALOADER.CACHE": config("DATALOADER.CACHE", folder),
        }
        loaders = {name: loader_of(name, cfg, items) for name, cfg in configs.items()}
        speeds: dict[str, list[float]] = {name: [] for name in loaders}
        sizes = {}
        for _ in range(args.repeats):
            for name, loader in loaders.items():
                speed, sizes[name] = measure(loader, args.batches)
                speeds[name].append(speed)
        print(f"{'':22}{'images/s':>10}{'ratio':>8}{'MB/batch':>10}{'mean diff':>11}{'largest':>9}")
        for name, values in speeds.items():
            ratios = [own / first for own, first in zip(values, speeds[FIRST], strict=True)]
            mean, largest = difference(name, configs[name], items)
            print(
                f"{name:22}{statistics.median(values):10.0f}{statistics.median(ratios):8.2f}"
                f"{sizes[name] / 1e6:10.1f}{mean:11.3f}{largest:9.0f}"
            )


def draw(folder: Path, count: int) -> list[ImageItem]:
    """Draw stand-in people, half of them thermal."""
    items = []
    for number in range(count):
        rng = np.random.default_rng([0, number])
        modality = Modality(number % 2)
        person = draw_person(rng)
        pixels = render(
            Figure(person, person.tones(modality)),
            draw_shot(rng),
            camera=1 + modality,
            modality=modality,
            size=(400, 180),
            rng=rng,
        )
        path = folder / f"{number}.jpg"
        Image.fromarray(np.ascontiguousarray(pixels[..., ::-1])).save(path, quality=90)
        items.append(ImageItem(str(path), number // 16, 1 + modality, modality))
    return items


def config(*keys: str):
    """Return the configuration of sysu.yml with a few keys changed."""
    return load_config(CONFIG, ["INPUT.REA.VALUE", WHOLE, *keys])


def loader_of(name: str, cfg, items: list[ImageItem]) -> Callable[[int], DataLoader]:
    """Return a function that makes a loader of so many batches, with one worker."""
    if name == FIRST:
        dataset, join = CommDataset(items, build_transforms(cfg), True), fast_batch_collator
    else:
        transform = build_transform(cfg, training=True)
        cache = open_cache(cfg, items)
        dataset = VisibleThermalDataset(items, transform, True, seed=0, cache=cache)
        join = collate
    size = cfg.SOLVER.IMS_PER_BATCH

    def make(batches: int) -> DataLoader:
        numbers = [n % len(items) for n in range(size * batches)]
        keys = numbers if name == FIRST else [(n, place) for place, n in enumerate(numbers)]
        return DataLoader(
            dataset,
            batch_sampler=[keys[i : i + size] for i in range(0, len(keys), size)],
            num_workers=1,
            collate_fn=Clocked(join),
        )

    return make


class Clocked:
    """A collate function that adds the CPU time that its process has used."""

    def __init__(self, join: Callable) -> None:
        self.join = join

    def __call__(self, samples: list) -> dict:
        """Return the batch and the time after it."""
        return {**self.join(samples), "clock": time.process_time()}


def measure(make: Callable[[int], DataLoader], batches: int) -> tuple[float, int]:
    """Return images per second of CPU time after the first batch, and bytes of its images."""
    clocks = []
    for batch in make(1 + batches):
        clocks.append(batch["clock"])
        images = batch["images"]
    return len(images) * batches / (clocks[-1] - clocks[0]), images.nbytes


def difference(name: str, cfg, items: list[ImageItem]) -> tuple[float, float]:
    """Return the mean and the largest difference of training images from fast-reid's."""
    theirs, found = build_transforms(cfg), []
    dataset = VisibleThermalDataset(
        items, build_transform(cfg, training=True), True, 0, open_cache(cfg, items)
    )
    for place in range(min(len(items), 96)):
        with Draws(0, place).as_global():
            expected = theirs(Image.fromarray(read_pixels(items[place].path)))
        own = expected if name == FIRST else dataset[place, place]["images"].transpose(2, 0, 1)
        found.append(np.abs(np.asarray(expected) - np.asarray(own, dtype=np.float32)))
    return float(np.mean(found)), float(np.max(found))


if __name__ == "__main__":
    main()
