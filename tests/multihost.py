"""Check that two machines train one network, and end together when the cable is cut.

    python -m tests.multihost

Each machine is a network namespace of this one; a veth pair is the cable between them. It takes
root and the command `ip`; without them the check is skipped, with a line that says so.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tests.conftest import CONFIGS, REPOSITORY, TINY

from cmemd.standin import draw_sysu

ADDRESSES = ("10.211.7.1", "10.211.7.2")
PORT = "29517"
MOST_SECONDS = 60  # between a cut cable and the end of both machines
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


def main() -> int:
    """Run all checks; return the exit status."""
    reason = _obstacle()
    if reason:
        sys.stdout.write(f"skipped: two machines need {reason}\n")
        return 0
    with tempfile.TemporaryDirectory() as folder, _machines() as names:
        root = Path(folder)
        draw_sysu(root / "data" / "SYSU-MM01", ids=20, per_camera=2, size=(48, 24), seed=0)
        environment = os.environ | {
            "FASTREID_DATASETS": str(root / "data"),
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "OMP_NUM_THREADS": "1",
            "TORCH_CPP_LOG_LEVEL": "ERROR",  # or each connection warns that hosts have no names
        }
        alone = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", *_training(root / "alone")]
        subprocess.run(
            alone, cwd=REPOSITORY, env=environment, check=True, stdout=subprocess.DEVNULL
        )
        for name, machine in (("torchrun", _torchrun), ("dist-url", _dist_url)):
            runs = _start(names, machine, root / name, environment)
            statuses = [run.wait(300) for run in runs]
            assert statuses == [0, 0], (name, statuses)
            ends = [torch.load(root / f / "model_final.pth")["model"] for f in ("alone", name)]
            worst = max(float((ends[0][key] - ends[1][key]).abs().max()) for key in ends[0])
            assert worst <= 1e-6, (name, worst)
            sys.stdout.write(f"{name}: largest difference from one machine's run: {worst:.1g}\n")
        _cut(names, root / "cut", environment)
    return 0


def _cut(names: Sequence[str], output: Path, environment: dict[str, str]) -> None:
    """Take the cable away from a running training; both machines must end by themselves."""
    words = ("SOLVER.MAX_EPOCH", "9999", "TEST.EVAL_PERIOD", "9999")
    words += ("SOLVER.CHECKPOINT_PERIOD", "9999")
    runs = _start(names, _dist_url, output, environment, *words, stderr=subprocess.PIPE)
    log = output / "metrics.json"
    while not log.is_file() or not log.stat().st_size:  # it is made before the first step
        assert all(run.poll() is None for run in runs), "it ended too early"
        time.sleep(0.1)
    time.sleep(3)
    _ip("-n", names[1], "link", "set", "cable", "down")
    begun = time.monotonic()
    statuses = [run.wait(2 * MOST_SECONDS) for run in runs]
    seconds = time.monotonic() - begun
    assert 0 not in statuses, statuses
    assert seconds < MOST_SECONDS, seconds
    lines = [run.stderr.read().decode() for run in runs]
    assert all(line.startswith("error: ") and line.count("\n") == 1 for line in lines), lines
    sys.stdout.write(f"cut cable: both ended after {seconds:.0f} s, statuses {statuses}\n")
    sys.stdout.writelines(lines)


def _training(output: Path, *words: str) -> list[str]:
    options = TINY | {"OUTPUT_DIR": str(output), "SEED": "3"}
    pairs = [word for pair in options.items() for word in pair]
    return ["tools/train_net.py", "--config-file", str(CONFIGS / "demo.yml"), *pairs, *words]


def _torchrun(number: int, output: Path, *words: str) -> list[str]:
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"{ADDRESSES[0]}:{PORT}"]
    meeting += ["--rdzv-id", output.name, "--local-addr", ADDRESSES[number]]
    # A host's own name does not lead to the address of its namespace.
    meeting += ["--rdzv-conf", f"is_host={'false' if number else 'true'}"]
    nodes = ["--nnodes", "2", "--nproc-per-node", "1"]
    return [*TORCHRUN, *nodes, *meeting, *_training(output, *words)]


def _dist_url(number: int, output: Path, *words: str) -> list[str]:
    place = ["--dist-url", f"tcp://{ADDRESSES[0]}:{PORT}"]
    machines = ["--num-machines", "2", "--machine-rank", str(number)]
    return [sys.executable, *_training(output, *machines, *place, *words)]


def _start(
    names: Sequence[str],
    machine: object,
    output: Path,
    environment: dict[str, str],
    *words: str,
    stderr: int | None = None,
) -> list[subprocess.Popen]:
    return [
        subprocess.Popen(
            ["ip", "netns", "exec", name, *machine(number, output, *words)],
            cwd=REPOSITORY,
            env=environment | {"GLOO_SOCKET_IFNAME": "cable"},
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )
        for number, name in enumerate(names)
    ]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _obstacle() -> str | None:
    if os.geteuid() != 0:
        return "root, for network namespaces"
    if shutil.which("ip") is None:
        return "the command `ip` (package iproute2)"
    try:
        with _machines():
            return None
    except subprocess.CalledProcessError as error:
        return f"network namespaces, which this system refuses ({error.stderr.decode().strip()})"


@contextlib.contextmanager
def _machines() -> Iterator[list[str]]:
    """Yield the names of two namespaces with a cable between them; remove them at the end."""
    names = [f"cmemd-{os.getpid()}-{number}" for number in (0, 1)]
    with contextlib.ExitStack() as end:
        for name in names:
            _ip("netns", "add", name)
            end.callback(_ip, "netns", "del", name)
        far = ["peer", "name", "cable", "netns", names[1]]
        _ip("link", "add", "cable", "netns", names[0], "type", "veth", *far)
        for name, address in zip(names, ADDRESSES, strict=True):
            _ip("-n", name, "addr", "add", f"{address}/24", "dev", "cable")
            for link in ("lo", "cable"):
                _ip("-n", name, "link", "set", link, "up")
        yield names


if __name__ == "__main__":
    sys.exit(main())
