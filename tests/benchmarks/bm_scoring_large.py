"""Time and peak memory of scoring a set far larger than the published ones.

    python tests/benchmarks/bm_scoring_large.py [--images 50000] [--dimension 512] [--people 5000]
        [--spread 1]

As many queries as gallery images, under one protocol of every image. Distances are made in blocks
of queries, so memory grows with the features and never with queries times gallery images.
"""

import argparse
import os
import resource
import time

import numpy as np

from cmemd.evaluation.protocols import PROTOCOLS
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.scoring import score


def main() -> None:
    """Print the machine, the time, and the peak memory beside that of features and distances."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=50_000, help="of each modality")
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument(
        "--spread",
        type=float,
        default=1,
        help="of the people's centres; less is harder, and slower",
    )
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    pids = np.tile(np.arange(args.images) % args.people, 2)
    features = rng.standard_normal((2 * args.images, args.dimension), np.float32)
    centres = rng.standard_normal((args.people, args.dimension), np.float32)
    centres *= np.float32(args.spread)
    features += centres[pids]
    modalities = np.repeat([0, 1], args.images)
    samples = Samples(
        features=features,
        pids=pids,
        camids=modalities + 1,
        modalities=modalities,
        frames=np.tile(np.arange(args.images), 2),
        paths=np.full(len(pids), "x"),
    )
    before = peak()
    started = time.perf_counter()
    result = score(samples, PROTOCOLS["regdb-v2t"])
    print(
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}; {args.images} "
        f"queries among {args.images} images, {args.dimension} dimensions: "
        f"{time.perf_counter() - started:.0f} s, mAP {100 * result.mean()['mAP']:.1f} %"
    )
    print(
        f"peak memory {peak():.2f} GiB, {before:.2f} before scoring; features "
        f"{features.nbytes / 2**30:.2f} GiB, all distances would take "
        f"{8 * args.images**2 / 2**30:.1f} GiB"
    )


def peak() -> float:
    """Return the largest memory of this process so far, in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
