"""Images a second of a training by 1 and 2 processes on a CPU, one thread each.

    python tests/benchmarks/bm_processes.py [--steps 20]

A small network on random images; the batch of all processes is the same.
"""

import argparse
import os
import platform
import sys
import time

import cmemd.plugin  # noqa: F401  before torch and fastreid

import torch
from torch import distributed
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.nn.parallel import DistributedDataParallel

IMAGES = 32


def main() -> None:
    """Print the machine, both rates and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="timed steps after two others")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.stdout.write(f"{platform.processor()} {os.cpu_count()} cores, torch {torch.__version__}\n")
    rates = {}
    for size in (1, 2):
        config = LaunchConfig(
            1, 1, size, run_id="bm", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
            max_restarts=0, start_method="spawn", local_addr="127.0.0.1",
        )  # fmt: skip
        rates[size] = elastic_launch(config, work)(args.steps)[0]
        sys.stdout.write(f"{size} process(es): {rates[size]:.1f} images/s\n")
    sys.stdout.write(f"2 over 1: {rates[2] / rates[1]:.2f}\n")


def work(steps: int) -> float:
    """Return the images a second of all processes together."""
    from torchvision.models import resnet18

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    network = DistributedDataParallel(resnet18())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    images = torch.rand(IMAGES // distributed.get_world_size(), 3, 128, 64)
    for step in range(steps + 2):
        if step == 2:
            distributed.barrier()
            begun = time.perf_counter()
        optimizer.zero_grad()
        network(images).square().mean().backward()
        optimizer.step()
    distributed.barrier()
    seconds = time.perf_counter() - begun
    distributed.destroy_process_group()
    return steps * IMAGES / seconds


if __name__ == "__main__":
    main()
