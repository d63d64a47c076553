"""Share of damaged JPEGs that `cmemd doctor` finds without checksums, and that Pillow alone finds.

    python tests/benchmarks/bm_damage.py [--images 60] [--size 288x144] [--tries 20]

Drawn people are saved in several ways and each file is damaged at random places of its pixel data.
With `cmemd doctor --sums` all of this damage is found.
"""

import argparse
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from cmemd.data.images import damage
from cmemd.standin import draw_sysu

SAVED = {
    "quality 75": {"quality": 75},
    "quality 95": {"quality": 95},
    "progressive": {"quality": 75, "progressive": True},
}


def main() -> None:
    """Prints a line for each kind of damage and way of saving."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--size", default="288x144", help="HxW in pixels")
    parser.add_argument("--tries", type=int, default=20, help="for each image")
    args = parser.parse_args()
    height, width = map(int, args.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "s")
        draw_sysu(root, ids=args.images // 4 + 5, per_camera=1, size=(height, width), seed=0)
        paths = sorted(root.glob("cam*/*/*.jpg"))[: args.images]
        images = [Image.open(path).convert("RGB") for path in paths]
    print(f"{len(images)} images of {args.size}, {args.tries} tries each; found, found by Pillow")
    for saved, options in SAVED.items():
        files = [_encoded(image, options) for image in images]
        for kind, spoil in DAMAGE.items():
            rng = random.Random(0)
            tried = [spoil(rng, file) for file in files for _ in range(args.tries)]
            strict = sum(damage(file, "JPEG") is not None for file in tried) / len(tried)
            loose = sum(not _decodes(file) for file in tried) / len(tried)
            print(f"{saved:12} {kind:26} {strict:6.1%} {loose:6.1%}")


def _encoded(image: Image.Image, options: dict) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def _decodes(file: bytes) -> bool:
    try:
        Image.open(io.BytesIO(file)).load()
    except Exception:  # noqa: BLE001 - any means that Pillow noticed
        return False
    return True


def _place(rng: random.Random, file: bytes, length: int) -> int:
    return rng.randrange(file.find(b"\xff\xda") + 14, len(file) - 2 - length)


def flip(rng: random.Random, file: bytes) -> bytes:
    """Changes one byte."""
    at = _place(rng, file, 1)
    return file[:at] + bytes([file[at] ^ rng.randrange(1, 256)]) + file[at + 1 :]


def overwrite(length: int, fill: Callable[[random.Random, int], bytes]) -> Callable:
    """Overwrites some bytes."""

    def spoil(rng: random.Random, file: bytes) -> bytes:
        at = _place(rng, file, length)
        return file[:at] + fill(rng, length) + file[at + length :]

    return spoil


def cut(end: bytes) -> Callable:
    """Cuts the file anywhere in its pixel data, and puts an end in place."""
    return lambda rng, file: file[: _place(rng, file, 1)] + end


DAMAGE = {
    "one byte": flip,
    "16 random bytes": overwrite(16, lambda rng, n: rng.randbytes(n)),
    "512 random bytes": overwrite(512, lambda rng, n: rng.randbytes(n)),
    "512 zero bytes": overwrite(512, lambda _, n: bytes(n)),
    "cut": cut(b""),
    "cut, end marker put there": cut(b"\xff\xd9"),
    "cut, zeros put there": cut(bytes(1000)),
}


if __name__ == "__main__":
    main()
