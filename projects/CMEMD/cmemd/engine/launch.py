"""Starts a run: its processes, its checks, its logs and its random numbers."""

import logging
import os
from argparse import Namespace
from collections.abc import Callable

import cmemd.compat  # noqa: F401  before fastreid

import torch
from fastreid.config import CfgNode
from fastreid.engine import default_setup
from fastreid.engine import launch as fastreid_launch
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger
from torch import distributed

from cmemd.config import check_config, load_config
from cmemd.data.build import build_dataset, test_dataset, train_dataset
from cmemd.data.images import check_images
from cmemd.engine.provenance import UNTRAINED, Weights, training_record
from cmemd.engine.trainer import Trainer
from cmemd.errors import InputError

__all__ = ["launch", "setup"]


def launch(main: Callable[[Namespace], object], args: Namespace) -> None:
    """Runs ``main(args)`` in as many processes as asked for.

    Under torchrun in those that it started (NCCL, or gloo without CUDA); else in ``--num-gpus``
    processes by fast-reid's own launcher, which needs CUDA.

    Raises:
        InputError: for several processes without torchrun and without CUDA.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _join_torchrun()
        try:
            main(args)
        finally:
            distributed.destroy_process_group()
    elif args.num_gpus * args.num_machines > 1:
        if not torch.cuda.is_available():
            raise InputError(
                f"--num-gpus {args.num_gpus} needs CUDA: on CPUs start the processes with "
                f"`torchrun --nproc-per-node {args.num_gpus} tools/train_net.py ...`"
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
    # fast-reid asks this group for a process's number on its machine; all must create all groups.
    for machine in range(distributed.get_world_size() // local):
        group = distributed.new_group(range(machine * local, (machine + 1) * local))
        if machine == int(os.environ["GROUP_RANK"]):
            comm._LOCAL_PROCESS_GROUP = group


def setup(args: Namespace) -> CfgNode:
    """Loads and checks configuration and data, then sets up logs and random numbers.

    Args:
        args: of fast-reid's ``default_argument_parser``.

    Returns:
        The frozen configuration.

    Raises:
        InputError: for bad input, before anything is written.
    """
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg, world_size=comm.get_world_size(), training=not args.eval_only)
    if comm.is_main_process():
        _check_data(cfg, training=not args.eval_only)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="cmemd")
    # The log keeps the traceback of a defect; what a user can mend is one line, shown at the end.
    logging.getLogger("fastreid.engine.train_loop").addFilter(_is_no_input_error)
    if cfg.SEED >= 0:
        seed_all_rng(cfg.SEED + comm.get_rank())
    return cfg


def _check_data(cfg: CfgNode, training: bool) -> None:
    """Looks at every image file, and builds what evaluation needs, before hours of training.

    The leak guard speaks first: an answer in a second, however many images there are.
    """
    name = test_dataset(cfg)
    weights, splits = _weights(cfg, training), ["test"]
    if training and cfg.SOLVER.SELECTION == "validation":
        if tuple(cfg.DATASETS.NAMES) != (name,):
            raise InputError(
                "expected the same data set in DATASETS.NAMES and TESTS for SOLVER.SELECTION "
                f"validation, got {list(cfg.DATASETS.NAMES)} and {name}: TEST.PROTOCOLS is for both"
            )
        splits.append("validation")
    loaders = [Trainer.build_evaluator(cfg, name, weights=weights, split=s)[0] for s in splits]
    if training:
        check_images(item.path for item in build_dataset(cfg, train_dataset(cfg)).train)
    for loader in loaders:
        check_images(item.path for item in loader.dataset.img_items)


def _weights(cfg: CfgNode, training: bool) -> Weights:
    """What is known at the start of the weights that the run will score."""
    if not training:
        return Weights.read(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else UNTRAINED
    record = training_record(cfg, build_dataset(cfg, train_dataset(cfg)))
    if cfg.MODEL.WEIGHTS:
        record.start_from(Weights.read(cfg.MODEL.WEIGHTS).record)
    return Weights(record=record)


def _is_no_input_error(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], InputError))
