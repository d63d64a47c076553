"""Searches a second and their times, of a server on this machine, loopback only.

    python tests/benchmarks/bm_server.py --model logs/demo/model [--rows 100000] [--clients 16]

Draws a gallery, starts ``cmemd serve`` on it, and lets each client search without a pause for a
bounded time. Clients share the processors with the server. Rounds with a given pace follow: as many
searches a second as asked for, spread evenly over the clients.
"""

import argparse
import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image
from tabulate import tabulate

from cmemd.data.modality import Modality
from cmemd.gallery.rows import make_rows
from cmemd.gallery.sources import Source
from cmemd.gallery.table import create_gallery

CHUNK = 25_000  # rows of a commit
MOST_SECONDS = 60  # of a round
CLOCK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the machine and a table of rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True, type=Path)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--pace", type=float, default=50, help="searches a second")
    args = parser.parse_args()
    seconds = min(args.seconds, MOST_SECONDS)
    document = json.loads((args.model / "model.json").read_text())
    print(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        size = document["embedding"]["size"]
        draw_gallery(Path(folder, "g"), document["digest"], size, args.rows)
        with start(args.model, Path(folder, "g")) as server:
            port = int(re.search(r":(\d+)$", server.stdout.readline().decode().strip())[1])
            requests = [request_of(port, seed, document["input"]) for seed in range(64)]
            load(port, requests, args.clients, 3, None)  # until its threads are at rest
            table = []
            for pace in [None, args.pace] * args.rounds:
                before = processor_seconds(server.pid)
                times, spent = load(port, requests, args.clients, seconds, pace)
                processor = processor_seconds(server.pid) - before
                table.append(
                    [
                        f"{pace:g} a second" if pace else "no pause",
                        f"{len(times) / spent:.0f}",
                        *(f"{1000 * np.quantile(times, q):.0f}" for q in (0.5, 0.99, 1)),
                        f"{1000 * processor / len(times):.1f}",
                        f"{os.getloadavg()[0]:.1f}",
                    ]
                )
            server.terminate()
    print(f"{args.rows} x {size}, {args.clients} clients")
    heads = ["pace", "searches/s", "median ms", "p99 ms", "most ms", "processor ms", "load"]
    print(tabulate(table, heads, disable_numparse=True))


def draw_gallery(path: Path, model: str, size: int, rows: int) -> None:
    """Write a gallery of random unit vectors, of visible images of six cameras."""
    rng = np.random.default_rng(0)
    with create_gallery(path, model, size) as gallery:
        for start_row in range(0, rows, CHUNK):
            count = min(CHUNK, rows - start_row)
            vectors = rng.standard_normal((count, size), dtype=np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            sources = [
                Source(f"/a/folder/{start_row + n:08d}.jpg", f"p{n % 5000}", f"c{n % 6}")
                for n in range(count)
            ]
            gallery.add_rows(make_rows(sources, vectors, Modality.VISIBLE, model), gallery.version)


def start(model: Path, gallery: Path) -> "subprocess.Popen[bytes]":
    """Start the server on a free port; it says which on its first line."""
    words = ["serve", "--model", model, "--gallery", gallery, "--port", "0", "--rate", "100000"]
    return subprocess.Popen(
        [sys.executable, "-m", "cmemd", *map(str, words)], stdout=subprocess.PIPE
    )


def request_of(port: int, seed: int, size: dict) -> bytes:
    """Return a search in HTTP, of a smooth random image, twice as large as the model's."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (16, 8), np.uint8))
    image, file = small.resize((2 * size["width"], 2 * size["height"])), io.BytesIO()
    image.save(file, "JPEG", quality=90)
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="modality"\r\n\r\nthermal\r\n',
        b'--b\r\nContent-Disposition: form-data; name="image"; filename="q.jpg"\r\n',
        b"Content-Type: image/jpeg\r\n\r\n" + file.getvalue() + b"\r\n--b--\r\n",
    ]
    body = b"".join(parts)
    head = (
        f"POST /v1/search HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: {len(body)}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    return head.encode() + body


def load(
    port: int, requests: list[bytes], clients: int, seconds: float, pace: float | None
) -> tuple[np.ndarray, float]:
    """Let clients search; return the seconds of each search and of all together."""
    times: list[float] = []
    began = time.perf_counter()
    end = began + seconds

    def work(number: int) -> None:
        mine, turn = [], 0
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                asked = time.perf_counter()
                if pace:  # a late answer counts from the time at which it was due
                    due = began + (turn * clients + number) / pace
                    time.sleep(max(0, due - asked))
                    asked = due
                if asked >= end:
                    break
                connection.sendall(requests[(turn * clients + number) % len(requests)])
                read_answer(connection)
                mine.append(time.perf_counter() - asked)
                turn += 1
        times.extend(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return np.array(times), time.perf_counter() - began


def read_answer(connection: socket.socket) -> None:
    """Read an answer to its end; raise unless its status is 200."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(1 << 16)
    head, _, body = data.partition(b"\r\n\r\n")
    if b" 200 " not in head[:16]:
        raise ValueError(data[:300])
    left = int(re.search(rb"content-length: (\d+)", head)[1]) - len(body)
    while left > 0:
        left -= len(connection.recv(1 << 16))


def processor_seconds(process: int) -> float:
    """Return the processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK


if __name__ == "__main__":
    main()
