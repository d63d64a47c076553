"""Time that `cmemd doctor` takes for a tree as large as SYSU-MM01.

    python tests/benchmarks/bm_doctor.py [--images 45000] [--size 340x130]

People are drawn into a temporary folder and their images linked there many times over,
so that every file is decoded, yet comes from memory: a slow disk adds its own time.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

from cmemd.doctor import examine
from cmemd.standin import draw_sysu

PEOPLE = 60
DRAWN = 2  # images per person and camera before linking


def main() -> None:
    """Prints one line on the tree, one on the machine, and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=45_000)
    parser.add_argument("--size", default="340x130", help="mean HxW in pixels")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "SYSU-MM01")
        draw_sysu(root, ids=PEOPLE, per_camera=DRAWN, size=(height, width), seed=0)
        (root / "exp/rand_perm_cam.mat").unlink()  # it would not know of the links
        mean = _link(root, args.images)
        print(f"{args.images:,} JPEGs of {args.size} and {mean / 1024:.1f} KiB on average")
        load = os.getloadavg()[0]
        print(f"{os.cpu_count()} CPUs, load of the last minute {load:.1f}", flush=True)
        start = time.perf_counter()
        report = examine("sysu", root)
        seconds = time.perf_counter() - start
        print(
            f"usable: {report.usable}; {seconds:.1f} s, {1000 * seconds / args.images:.2f} ms each"
        )


def _link(root: Path, images: int) -> float:
    """Links the drawn images until there are as many; their mean size in bytes."""
    drawn = sorted(root.glob("cam*/*/*.jpg"))
    for n in range(images - len(drawn)):
        source = drawn[n % len(drawn)]
        number = int(source.stem) + DRAWN * (1 + n // len(drawn))
        os.link(source, source.with_name(f"{number:04d}.jpg"))
    return sum(path.stat().st_size for path in drawn) / len(drawn)


if __name__ == "__main__":
    main()
