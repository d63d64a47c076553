"""Starts the processes of a run."""

import os
from argparse import Namespace
from collections.abc import Callable

import cmemd.compat  # noqa: F401  before fastreid
from cmemd.compat import set_local_group

import torch
from fastreid.engine import launch as fastreid_launch
from torch import distributed

from cmemd.errors import InputError

__all__ = ["launch"]


def launch(main: Callable[[Namespace], object], args: Namespace) -> None:
    """Run ``main(args)`` in as many processes as the command line says.

    Under torchrun these are the processes that it started (NCCL, or gloo without CUDA); else
    ``--num-gpus`` processes of fast-reid's own launcher, which needs CUDA.

    Raises:
        InputError: several processes without torchrun and without CUDA, or numbers of processes
            that contradict each other.
    """
    if min(args.num_gpus, args.num_machines) < 1 or not 0 <= args.machine_rank < args.num_machines:
        raise InputError(
            "--num-gpus and --num-machines of at least 1, and --machine-rank below --num-machines",
            f"{args.num_gpus}, {args.num_machines} and {args.machine_rank}",
            "leave them out for one process",
        )
    if "TORCHELASTIC_RUN_ID" in os.environ:
        if args.num_gpus * args.num_machines > 1:
            raise InputError(
                "processes from torchrun, or from --num-gpus and --num-machines",
                "both",
                "leave those two out: torchrun's --nproc-per-node and --nnodes count",
            )
        _join_torchrun()
        try:
            main(args)
        finally:
            distributed.destroy_process_group()
    elif args.num_gpus * args.num_machines > 1:
        if not torch.cuda.is_available():
            raise InputError(
                f"CUDA devices for --num-gpus {args.num_gpus}",
                "a machine on which PyTorch finds none",
                "start processes on CPUs with "
                f"`torchrun --nproc-per-node {args.num_gpus} tools/train_net.py ...`",
            )
        fastreid_launch(
            main,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(args,),
        )
    else:
        main(args)


def _join_torchrun() -> None:
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    local = int(os.environ["LOCAL_WORLD_SIZE"])
    # All processes must create all groups, also those of other machines.
    for machine in range(distributed.get_world_size() // local):
        group = distributed.new_group(range(machine * local, (machine + 1) * local))
        if machine == int(os.environ["GROUP_RANK"]):
            set_local_group(group)
