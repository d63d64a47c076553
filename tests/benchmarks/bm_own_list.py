"""Time the start on a list of 100,000 rows: reading, splitting, digests, and a look at each image.

Run with ``python tests/benchmarks/bm_own_list.py``. It draws nothing: the rows are boxes in 1,000
frames, and then 100,000 files. Processor seconds of one core, the least of three.
"""

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cmemd.plugin  # noqa: F401  before fastreid

import numpy as np
from PIL import Image

from cmemd.config import load_config
from cmemd.data.build import RunData, read_data, split_files
from cmemd.data.images import check_items
from cmemd.engine.provenance import files_sha256, labels_sha256

ROWS = 100_000


def jpeg(rng: np.random.Generator) -> bytes:
    """Return a picture of noise, 128 x 64."""
    content = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (128, 64, 3), np.uint8)).save(content, "JPEG")
    return content.getvalue()


def write_data(folder: Path, rows: int, files: int) -> Path:
    """Write files and a list of rows, and return the list; several rows of a file are boxes."""
    rng = np.random.default_rng(0)
    pictures = [jpeg(rng) for _ in range(16)]
    for number in range(files):
        (folder / f"{number}.jpg").write_bytes(pictures[number % 16])
    lines = ["path,identity,modality,camera,x,y,w,h"]
    for row in range(rows):
        modality = "visible" if row % 2 else "thermal"
        box = f"{row // files % 60},{row // files // 60},4,8"
        lines.append(f"{row % files}.jpg,p{row // 2 % 1000},{modality},c{row % 4},{box}")
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    return folder / "people.csv"


def least(work: Callable[[], object]) -> float:
    """Return the least processor time of three runs, in seconds."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def digests(data: RunData) -> None:
    """Take the digests of a run's identity."""
    files_sha256(data.train.train, data.train)
    labels_sha256(data.train.train, data.train)


def main() -> None:
    """Print a line for each step."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    rows = parser.parse_args().rows
    for files in (max(rows // 100, 1), rows):
        with tempfile.TemporaryDirectory() as folder:
            measure(write_data(Path(folder), rows, files), rows, files)


def measure(people: Path, rows: int, files: int) -> None:
    """Print the times of one list."""
    names = ["DATASETS.NAMES", "('Own',)", "DATASETS.TESTS", "('Own',)"]
    cfg = load_config("", ["DATASETS.OWN.LIST", str(people), *names])
    data = read_data(cfg)
    items = [*data.train.train, *data.test.query, *data.test.gallery]
    steps: dict[str, Callable[[], object]] = {
        "list read and split": lambda: read_data(cfg),
        "digests": lambda: digests(data),
        "split written": lambda: split_files(data),
        "images looked at": lambda: check_items(items),
    }
    times = {step: least(work) for step, work in steps.items()}
    print(f"{rows:,} rows, {files:,} files")
    for step, seconds in {**times, "together": sum(times.values())}.items():
        print(f"  {step:20} {seconds:6.2f} s")


if __name__ == "__main__":
    main()
