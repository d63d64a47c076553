"""Time of searching a gallery: exact against bare faiss, and by the approximate index.

    python tests/benchmarks/bm_search.py [--rows 100000] [--dimension 2048] [--queries 1000]
    python tests/benchmarks/bm_search.py --rows 1000000 --dimension 128 --index
    python tests/benchmarks/bm_search.py --embeddings F.npz --index

Random embeddings lie around a centre for each of rows / 20 people. ``--embeddings`` takes those of
``cmemd embed --output`` instead, and takes the queries from them. The gallery is in a temporary
folder; ``--folder`` names the disk.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import faiss
import lancedb
import numpy as np

from cmemd.data.modality import Modality
from cmemd.gallery import table
from cmemd.gallery.embeddings_file import read_embeddings
from cmemd.gallery.exact import search_exact
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import create_gallery, open_gallery

MODEL = "ab" * 32
CHUNK = 10_000
TOP = 10
SPREAD = 0.7  # of a person's embeddings, relative to the spread of the centres
OPEN = (
    "import sys, time; began = time.perf_counter()\n"
    "import numpy as np\n"
    "from cmemd.gallery.search import find_matches\n"
    "from cmemd.gallery.table import open_gallery\n"
    "imported = time.perf_counter()\n"
    "with open_gallery(sys.argv[1]) as gallery:\n"
    "    assert gallery.indexed\n"
    "    find_matches(gallery, np.load(sys.argv[2])[:1], 10)\n"
    "print(f'imports {imported - began:.2f} s, opening and first answer '\n"
    "      f'{time.perf_counter() - imported:.2f} s')\n"
)


def main() -> None:
    """Print the machine, times, the ratio to bare faiss, recall and bytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--index", action="store_true", help="time the index, not exact search")
    parser.add_argument("--embeddings", type=Path, help="F.npz of cmemd embed --output")
    parser.add_argument("--folder", type=Path, help="folder for the temporary gallery")
    args = parser.parse_args()
    print(
        f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}, faiss "
        f"{faiss.__version__} with {faiss.omp_get_max_threads()} threads, LanceDB "
        f"{lancedb.__version__}"
    )
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        gallery, queries = Path(folder) / "g", make_embeddings(args)[1]
        began = time.perf_counter()
        fill(gallery, make_embeddings(args)[0])
        print(f"written in {time.perf_counter() - began:.1f} s")
        (time_index if args.index else time_exact)(gallery, queries)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GiB")


def make_embeddings(args: argparse.Namespace) -> tuple[Iterator[np.ndarray], np.ndarray]:
    """Return chunks of the gallery's vectors, and queries ``(Q, D)``."""
    if args.embeddings:
        vectors = read_embeddings(args.embeddings)["vector"]
        picked = np.random.default_rng(0).permutation(len(vectors))
        return iter([vectors[picked[args.queries :]]]), vectors[picked[: args.queries]]
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(1, args.rows // 20), args.dimension), dtype=np.float32)

    def around(count: int) -> np.ndarray:
        vectors = SPREAD * rng.standard_normal((count, args.dimension), dtype=np.float32)
        vectors += centres[rng.integers(len(centres), size=count)]
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    queries = around(args.queries)
    return (around(min(CHUNK, args.rows - at)) for at in range(0, args.rows, CHUNK)), queries


def fill(address: Path, chunks: Iterator[np.ndarray]) -> None:
    """Write a gallery and compact it."""
    rows = 0
    for vectors in chunks:
        with create_gallery(address, MODEL, vectors.shape[1]) as gallery:
            sources = [Source(f"/{rows + n}.jpg") for n in range(len(vectors))]
            gallery.add_rows(make_rows(sources, vectors, Modality.VISIBLE, MODEL))
        rows += len(vectors)
    with open_gallery(address, alone=True) as gallery:
        gallery.compact()


def time_exact(address: Path, queries: np.ndarray) -> None:
    """Time reading, our search and bare faiss in memory, and reading with searching from disk."""
    with open_gallery(address) as gallery:
        began = time.perf_counter()
        batches = list(gallery.batches())
        print(f"reading {len(gallery)} rows: {time.perf_counter() - began:.2f} s")
        bare = faiss.IndexFlatIP(gallery.size)
        for _, vectors in batches:
            bare.add(vectors)
        ours, theirs = [], []
        for _ in range(3):  # alternating, so that both meet the same load
            began = time.perf_counter()
            scores, _ = search_exact(batches, queries, TOP)
            ours.append(time.perf_counter() - began)
            began = time.perf_counter()
            expected, _ = bare.search(queries, TOP)
            theirs.append(time.perf_counter() - began)
        ratio = min(ours) / min(theirs)
        print(
            f"{len(queries)} queries: {min(ours):.2f} s, bare faiss {min(theirs):.2f} s, ratio "
            f"{ratio:.2f}; largest difference of a score {np.abs(scores - expected).max():.1e}"
        )
        began = time.perf_counter()
        search_exact(gallery.batches(), queries, TOP)
        print(f"reading and searching: {time.perf_counter() - began:.2f} s")


def time_index(address: Path, queries: np.ndarray) -> None:
    """Time building and a fresh process's first answer; measure recall and bytes per vector."""
    table.INDEX_FROM = 0
    with open_gallery(address, alone=True) as gallery:
        began = time.perf_counter()
        gallery.build_index()
        print(f"index built in {time.perf_counter() - began:.1f} s")
        info = gallery.info()
        rows = info["rows"]
        print(
            f"{rows} rows of {gallery.size}: {info['bytes'] / rows:.0f} bytes per row, "
            f"{info['index bytes'] / rows:.1f} of them the index"
        )
    asked = address.with_name("queries.npy")
    np.save(asked, queries)
    subprocess.run([sys.executable, "-c", OPEN, address, asked], check=True)
    with open_gallery(address) as gallery:
        _, expected = search_exact(gallery.batches(), queries, TOP)
        began = time.perf_counter()
        found = [gallery.search_index(query, TOP)[1] for query in queries]
        seconds = (time.perf_counter() - began) / len(queries)
        hits = sum(len(np.intersect1d(*pair)) for pair in zip(found, expected, strict=True))
        print(f"recall@10 {hits / expected.size:.4f}, {1000 * seconds:.1f} ms per query")


if __name__ == "__main__":
    main()
