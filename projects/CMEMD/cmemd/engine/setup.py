"""Sets up a run: configuration, data and weights are checked before any work is done."""

import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import NamedTuple

import cmemd.compat  # noqa: F401  before fastreid

from fastreid.config import CfgNode
from fastreid.engine import default_setup
from fastreid.utils import comm
from fastreid.utils.env import seed_all_rng
from fastreid.utils.logger import setup_logger

from cmemd.config import load_config
from cmemd.data.build import RunData, read_data, split_files
from cmemd.engine.archive import archive_run, holds_results, holds_run
from cmemd.engine.identity import RunIdentity, RunLog, read_run
from cmemd.engine.preflight import Forecast, check_config, check_data
from cmemd.engine.provenance import UNTRAINED, Weights, files_sha256, labels_sha256
from cmemd.engine.ranks import wait_for_main
from cmemd.errors import InputError
from cmemd.files import one_writer, write_whole

__all__ = [
    "EVALUATION",
    "Start",
    "draw_seed",
    "run_identity",
    "setup",
    "with_seed",
]

logger = logging.getLogger(__name__)

EVALUATION = "evaluation"  # subfolder for the results of --eval-only in a training's folder


class Start(NamedTuple):
    """What a run starts with.

    Attributes:
        cfg: the frozen configuration, with the seed that is used.
        data: its data sets.
        weights: the start-up weights of a training, or the weights under evaluation.
        run: the record of a training; None for an evaluation.
    """

    cfg: CfgNode
    data: RunData
    weights: Weights
    run: RunLog | None


@contextmanager
def setup(args: Namespace) -> Iterator[Start]:
    """Load and check configuration, data and weights; then set up the folder, logs and seeds.

    ``OUTPUT_DIR`` is locked inside the context. ``run.json`` is the first file that a training
    writes there.

    Args:
        args: of fast-reid's ``default_argument_parser``, and ``archive``.

    Raises:
        InputError: bad input, a folder in use, or a changed configuration of a resumed run; nothing
            has been written then.
    """
    training = not args.eval_only
    cfg = load_config(args.config_file, args.opts)
    check_config(cfg, world_size=comm.get_world_size(), training=training)
    folder = Path(cfg.OUTPUT_DIR)
    if args.archive and not training:
        raise InputError("--archive with a training", "--eval-only", "leave one of the two out")
    old = _check_folder(folder, args) if training else None
    weights = Weights.read(cfg.MODEL.WEIGHTS) if cfg.MODEL.WEIGHTS else UNTRAINED
    early: list[logging.LogRecord] = []
    with _kept_log(early):
        data = read_data(cfg, training)
    if cfg.SEED < 0:
        cfg = with_seed(cfg, old.identity.config["SEED"] if old else draw_seed())
    run = None
    if training:
        identity = run_identity(cfg, data, weights)
        run = RunLog(identity)
        if old is not None:
            run = RunLog(identity, old.starts, old.identity.check_same_run(identity, folder))
    elif holds_run(folder):
        cfg = _with(cfg, OUTPUT_DIR=str(folder / EVALUATION))
        folder = folder / EVALUATION
    splits = split_files(data)
    forecast = Forecast("", [])
    if comm.is_main_process():
        _check_splits(folder, splits, archive=bool(args.archive))
        with _kept_log(early):
            forecast = check_data(cfg, data, weights, resumed=old is not None)
        folder.mkdir(parents=True, exist_ok=True)
    wait_for_main()
    with one_writer(folder) if comm.is_main_process() else nullcontext():
        if comm.is_main_process() and run is not None:
            if args.archive:
                archive_run(folder)
            run.write(folder)
        if comm.is_main_process():
            for name, text in splits.items():
                write_whole(folder / name, text.encode())
        default_setup(cfg, args)
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="cmemd")
        if comm.is_main_process():
            for record in early:
                logging.getLogger("cmemd").handle(record)
        if forecast.schedule:
            logger.info("Schedule: %s", forecast.schedule)
        if splits:
            logger.info("The split of the images is in %s", ", ".join(map(str, splits)))
        for warning in forecast.warnings:
            logger.warning("%s", warning)
        seed_all_rng(cfg.SEED)  # the same on all processes: they must build the same network
        yield Start(cfg, data, weights, run)


def _check_splits(folder: Path, splits: Mapping[str, str], *, archive: bool) -> None:
    """Raise where a file that no run wrote has the name of one that this run writes."""
    if archive or holds_run(folder) or holds_results(folder):
        return
    for name in splits:
        if (folder / name).exists():
            raise InputError(
                f"no file at {folder / name}, where the run writes its split",
                "one that no run wrote",
                "move it away, or set another OUTPUT_DIR",
            )


@contextmanager
def _kept_log(records: list[logging.LogRecord]) -> Iterator[None]:
    """Keep what cmemd logs for the log file, which does not exist before all checks."""
    logger, handler = logging.getLogger("cmemd"), MemoryHandler(10**6, flushLevel=10**6)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
    records += handler.buffer


def run_identity(cfg: CfgNode, data: RunData, weights: Weights) -> RunIdentity:
    """Return the identity of a training; all processes must call it.

    Args:
        cfg: the configuration, with the seed that is used.
        data: its data sets.
        weights: the start-up weights.
    """
    digests = None
    if comm.is_main_process():
        of = data.to_train
        digests = {"training images": files_sha256(of.train, of)}
        digests["training labels"] = labels_sha256(of.train, of)
        if of.validation:
            digests["validation images"] = files_sha256(of.validation, of)
        if weights.checkpoint is not None:
            digests["start-up weights"] = weights.sha256
    wait_for_main()
    return RunIdentity.of(cfg, comm.all_gather(digests)[0])


def draw_seed() -> int:
    """Return a random seed, the same on all processes; all of them must call it."""
    return comm.all_gather(int.from_bytes(os.urandom(4), "big") % 2**31)[0]


def with_seed(cfg: CfgNode, seed: int) -> CfgNode:
    """Return the configuration with another ``SEED``."""
    return _with(cfg, SEED=seed)


def _with(cfg: CfgNode, **values: object) -> CfgNode:
    cfg = cfg.clone()
    cfg.defrost()
    for name, value in values.items():
        cfg[name] = value
    cfg.freeze()
    return cfg


def _check_folder(folder: Path, args: Namespace) -> RunLog | None:
    """Return the record of the run that is to be resumed, if there is one.

    Raises:
        InputError: the folder holds a run, and neither --resume nor --archive says what to do with
            it; or both do.
    """
    if args.resume and args.archive:
        raise InputError(
            "--resume or --archive",
            "both",
            "--resume goes on with the run in OUTPUT_DIR, --archive starts a new one there",
        )
    if args.archive:
        return None
    if not holds_run(folder):
        if holds_results(folder):
            raise InputError(
                f"an OUTPUT_DIR without results, {folder}",
                "the results of an evaluation",
                "set another OUTPUT_DIR, or start with --archive, which moves them to a folder of "
                "their own",
            )
        return None
    if not args.resume:
        raise InputError(
            f"an OUTPUT_DIR without a run, {folder}",
            "one that holds a run",
            "go on with it by --resume, set another OUTPUT_DIR, or start anew with --archive, "
            "which moves the old run to a folder of its own",
        )
    return read_run(folder)
