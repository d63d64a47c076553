"""Ratios of serving: single images and batches, commits of a large gallery, LanceDB's import.

    python tests/benchmarks/bm_serving.py [--rows 200000] [--dimension 64] [--rounds 200]

Ways alternate, so that a busy machine slows all alike. A time is the twentieth part from below, as
other processes only add to it; processor time is the median.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import cmemd.plugin  # noqa: F401  before torch and fastreid

import numpy as np
import onnxruntime
from fastreid.modeling.meta_arch import build_model
from tabulate import tabulate

from cmemd import load_config
from cmemd.data.modality import Modality
from cmemd.export.formats import trace, write_onnx
from cmemd.export.network import inference_config
from cmemd.export.wrapper import EmbeddingGraph
from cmemd.gallery.embedding import CHUNK, in_commits
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import create_gallery
from cmemd.inference.backends import _session

MODEL = "ab" * 32
IMPORT = "import time; began = time.process_time(); {}; print(time.process_time() - began)"
QUICK = "from cmemd.gallery.quick_lancedb import lancedb; lancedb()"


def main() -> None:
    """Print the machine and a table of each part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=200)
    args = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        time_sessions(Path(folder, "model.onnx"), args.rounds)
        time_commits(Path(folder), args.rows, args.dimension)
    time_imports()


def time_sessions(path: Path, rounds: int) -> None:
    """Compare sessions that never spin, spin for a short time, and spin as ONNX Runtime does."""
    opts = ["MODEL.DEVICE", "cpu", "MODEL.BACKBONE.PRETRAIN", "False"]
    cfg = inference_config(load_config("projects/CMEMD/configs/demo.yml", opts))
    network = build_model(cfg).eval().requires_grad_(False)
    height, width = cfg.INPUT.SIZE_TEST
    write_onnx(trace(EmbeddingGraph(network), height, width), path)
    quiet = partial(_session, path, ["CPUExecutionProvider"])
    sessions = {
        "batches: no spinning": quiet(spins=False),
        "single images: short spinning": quiet(spins=True),
        "ONNX Runtime's default": onnxruntime.InferenceSession(path),
    }
    rng, rows = np.random.default_rng(0), []
    for count in (1, 64):
        images = rng.integers(0, 256, (count, height, width, 3), np.uint8)
        inputs = {"images": images, "modalities": np.zeros(count, dtype=np.int64)}
        spent = {name: [] for name in sessions}
        for _ in range(max(10, rounds // count)):
            for name, session in sessions.items():
                session.run(None, inputs)
                wall, processor = time.perf_counter(), time.process_time()
                session.run(None, inputs)
                spent[name].append((time.perf_counter() - wall, time.process_time() - processor))
                time.sleep(0.01)  # until its threads are at rest
        for name, times in spent.items():
            wall, processor = zip(*times, strict=True)
            quick = 1000 * np.quantile(wall, 0.05)
            rows.append([count, name, f"{quick:.2f}", f"{1000 * statistics.median(processor):.2f}"])
    print(tabulate(rows, ["images", "session", "ms", "processor ms"], disable_numparse=True))


def time_commits(folder: Path, rows: int, size: int) -> None:
    """Write a gallery in the commits of ``cmemd embed``, and in equal ones with a search each."""
    rng, table = np.random.default_rng(0), []

    def chunks():
        for start in range(0, rows, CHUNK):
            vectors = rng.standard_normal((CHUNK, size), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            sources = [Source(f"/a/folder/{start + n:08d}.jpg") for n in range(CHUNK)]
            yield make_rows(sources, vectors, Modality.VISIBLE, MODEL)

    for name in ("growing, no search", "equal, a search each"):
        with create_gallery(folder / name, MODEL, size) as gallery:
            version, spent, marks = gallery.version, [], []
            parts = in_commits(chunks(), gallery) if name.startswith("growing") else chunks()
            for part in parts:
                began = time.process_time()
                gallery.add_rows(part, version if name.startswith("growing") else None)
                spent.append(time.process_time() - began)
                marks.append(len(part))
        done = np.cumsum(marks)
        half = int(np.searchsorted(done, rows / 2))
        first, last = sum(spent[: half + 1]), sum(spent[half + 1 :])
        table.append([name, len(spent), f"{first:.2f}", f"{last:.2f}"])
    print(f"\nprocessor seconds of writing {rows} rows of {size}")
    print(tabulate(table, ["commits", "number", "first half", "second half"]))


def time_imports() -> None:
    """Compare the import of LanceDB with and without what galleries do not use."""
    spent = {"import lancedb": [], QUICK: []}
    for _ in range(5):
        for code, times in spent.items():
            done = subprocess.run(
                [sys.executable, "-c", IMPORT.format(code)],
                capture_output=True,
                text=True,
                check=True,
            )
            times.append(float(done.stdout))
    print(f"\nLanceDB's import: {' and '.join(f'{min(t):.2f}' for t in spent.values())} s, as it")
    print("is and as galleries import it")


if __name__ == "__main__":
    main()
