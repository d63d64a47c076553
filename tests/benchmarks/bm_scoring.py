"""Time of scoring full-size SYSU-MM01 features, against the released Python way.

    python tests/benchmarks/bm_scoring.py [--dimension 3584] [--reference-trials 1] [--people 96]

Random features with the genuine test set's counts, all four settings, ten trials each. The released
way goes trial by trial: dot products, a full sort, a loop over queries. It takes minutes, so it is
timed on the first trials of each setting and multiplied. The benchmark compares both results.
"""

import argparse
import os
import resource
import time

import numpy as np

from cmemd.data.layouts import sysu
from cmemd.data.layouts.permutations import RandPermCam
from cmemd.evaluation.protocols import PROTOCOLS
from cmemd.evaluation.samples import Samples
from cmemd.evaluation.sampling import sample_trials
from cmemd.evaluation.scoring import METRICS, score_all

# Camera: number of the 96 test identities under it, and of its images.
COUNTS = {1: (56, 1374), 2: (56, 1565), 3: (93, 1883), 4: (94, 1918), 5: (95, 1918), 6: (96, 1920)}
PEOPLE = 96
SETTINGS = ("sysu-all-1shot", "sysu-indoor-1shot", "sysu-all-10shot", "sysu-indoor-10shot")
TRIALS = sysu.LAYOUT.trials
SPREAD = 0.2  # spread of the identities' centres; gives a Rank-1 of about 60 %


def main() -> None:
    """Print the machine, both times, their ratio, the memory and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dimension", type=int, default=3584)
    parser.add_argument("--reference-trials", type=int, default=1, choices=range(1, TRIALS + 1))
    parser.add_argument("--people", type=int, default=PEOPLE, help="fewer for a quick look")
    args = parser.parse_args()
    samples, perm = random_samples(args.dimension, args.people)
    protocols = [PROTOCOLS[name] for name in SETTINGS]
    print(
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, NumPy "
        f"{np.__version__}; {samples.features.shape[0]} features of {args.dimension}"
    )

    started, worked = time.perf_counter(), time.process_time()
    scores = score_all(samples, protocols, "official", perm)
    ours, work = time.perf_counter() - started, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"score_all, four settings, ten trials: {ours:.2f} s, {work:.2f} s of processor time, peak "
        f"memory {peak:.2f} GiB"
    )
    print(f"Rank-1 {100 * scores['sysu-all-1shot'].mean()['rank1']:.1f} % (all-search, 1-shot)")

    parts, difference, worked = np.zeros(3), 0.0, time.process_time()
    for protocol in protocols:
        trials = sample_trials(samples, protocol, "official", perm)[: args.reference_trials]
        for number, trial in enumerate(trials):
            metrics, seconds = released_way(samples, trial.queries, trial.gallery)
            parts += seconds
            got = [scores[protocol.name].trials[name][number] for name in METRICS]
            difference = max(difference, np.abs(np.array(got) - metrics).max())
    parts *= TRIALS / args.reference_trials
    part = args.reference_trials
    print(
        f"released way: {parts.sum():.1f} s (dot products {parts[0]:.1f}, sorting {parts[1]:.1f}, "
        f"loop {parts[2]:.1f}){f', extrapolated from {part} of ten trials' * (part < TRIALS)}"
    )
    slow = (time.process_time() - worked) * TRIALS / args.reference_trials
    print(f"ratio {parts.sum() / ours:.0f}; of processor time {slow / work:.0f}")
    print(f"largest difference of a metric {difference:.1e}")


def random_samples(dimension: int, people: int) -> tuple[Samples, RandPermCam]:
    """Return features around a centre for each identity, L2-normalised, and permutations."""
    rng = np.random.default_rng(0)
    rows, cells = [], []
    for camera, (seen, images) in COUNTS.items():
        seen = round(seen * people / PEOPLE)
        # The number is the seed, so cameras 1 and 2 have the same people, as in the genuine set.
        present = np.sort(np.random.default_rng(seen).choice(people, seen, replace=False)) + 1
        each = np.full(seen, images // COUNTS[camera][0])
        each[: images - each.sum() if people == PEOPLE else 0] += 1
        of_camera = [np.empty((TRIALS, 0), dtype=np.int64)] * people
        for pid, count in zip(present, each, strict=True):
            rows += [(pid, camera, frame) for frame in range(1, count + 1)]
            of_camera[pid - 1] = np.array([1 + rng.permutation(count) for _ in range(TRIALS)])
        cells.append(of_camera)
    pids, camids, frames = np.array(rows).T
    features = rng.standard_normal((len(rows), dimension), np.float32)
    scale = np.float32(SPREAD * (3584 / dimension) ** 0.25)  # as hard in any dimension
    features += scale * rng.standard_normal((people + 1, dimension), np.float32)[pids]
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    samples = Samples(
        features=features,
        pids=pids,
        camids=camids,
        modalities=[sysu.CAMERAS[camera] for camera in camids.tolist()],
        frames=frames,
        paths=[f"cam{camera}/{pid:04d}/{frame:04d}.jpg" for pid, camera, frame in rows],
    )
    return samples, RandPermCam(cells)


def released_way(
    samples: Samples, queries: np.ndarray, gallery: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the metrics of one trial as the field's released code gets them, and its seconds.

    Returns:
        CMC at 1, 5, 10, 20, mAP and mINP; seconds of dot products, sorting and loop.
    """
    clock = [time.perf_counter()]
    similarity = samples.features[queries] @ samples.features[gallery].T
    clock.append(time.perf_counter())
    indices = np.argsort(-similarity, axis=1)
    clock.append(time.perf_counter())
    query_pids, query_cameras = samples.pids[queries], samples.camids[queries]
    gallery_pids, gallery_cameras = samples.pids[gallery], samples.camids[gallery]
    ranked = gallery_pids[indices]
    matches = (ranked == query_pids[:, None]).astype(np.int32)
    curves, precisions, penalties = [], [], []
    for query, order in enumerate(indices):
        keep = ~((query_cameras[query] == 3) & (gallery_cameras[order] == 2))
        match = matches[query][keep]
        if not match.any():
            continue
        pids = ranked[query][keep]
        first = np.unique(pids, return_index=True)[1]
        identities = np.array([pids[place] for place in sorted(first)])
        curves.append((identities == query_pids[query]).cumsum()[:20])
        found = match.cumsum()
        last = np.max(np.where(match == 1))
        penalties.append(found[last] / (last + 1.0))
        precision = [hits / (place + 1.0) for place, hits in enumerate(found)]
        precisions.append((np.asarray(precision) * match).sum() / match.sum())
    cmc = np.mean([np.pad(curve, (0, 20 - len(curve)), "edge") for curve in curves], axis=0)
    clock.append(time.perf_counter())
    metrics = [*cmc[[0, 4, 9, 19]], np.mean(precisions), np.mean(penalties)]
    return np.array(metrics), np.diff(clock)


if __name__ == "__main__":
    main()
