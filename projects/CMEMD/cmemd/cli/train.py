"""``cmemd train``: train and evaluate, as tools/train_net.py does."""

import argparse
import os

__all__ = ["HELP", "add_arguments", "run", "train_one_process"]

HELP = "train and evaluate a network; the same as tools/train_net.py"

_FIRST_PORT, _PORTS = 49152, 16384  # the dynamic ones; a user always gets the same, as in fast-reid


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare fast-reid's arguments, and ours."""
    parser.add_argument(
        "--config-file",
        "--config",
        default="",
        metavar="F",
        help="a yaml, or the name of one that comes with the package, such as demo (default: the "
        "defaults of all keys alone)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint of OUTPUT_DIR, if there is one",
    )
    parser.add_argument(
        "--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS without training"
    )
    parser.add_argument(
        "--num-gpus", type=int, default=1, metavar="N", help="of each machine (default: 1)"
    )
    parser.add_argument(
        "--num-machines", type=int, default=1, metavar="N", help="of the run (default: 1)"
    )
    parser.add_argument(
        "--machine-rank",
        type=int,
        default=0,
        metavar="N",
        help="this machine's number, from 0 (default: 0)",
    )
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_FIRST_PORT + os.getuid() % _PORTS}",
        metavar="URL",
        help="the first machine's address, of several (default: %(default)s)",
    )
    parser.add_argument(
        "--trials",
        metavar="1-10",
        help="RegDB: train and test these trials one after the other and average them; goes on "
        "where an interrupted command stopped",
    )
    parser.add_argument(
        "--archive",
        action="store_true",
        help="start anew in a folder that holds a run: its files move to OUTPUT_DIR/archive-1, "
        "archive-2, ...",
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="configuration overrides")


def run(args: argparse.Namespace) -> int:
    """Train, or evaluate, and return the exit status."""
    from cmemd import Trainer  # noqa: F401  registers the plugin, before torch
    from cmemd.config_file import find_config
    from cmemd.engine import trials
    from cmemd.engine.launch import launch

    args.config_file = find_config(args.config_file)
    if args.trials:
        trials.run_trials(args, trials.start_process("-m", "cmemd", "train"))
    else:
        launch(train_one_process, args)
    return 0


def train_one_process(args: argparse.Namespace) -> None:
    """Run one process of a training or an evaluation."""
    from cmemd.engine.setup import setup
    from cmemd.engine.testing import evaluate
    from cmemd.engine.trainer import train

    with setup(args) as start:
        if args.eval_only:
            evaluate(start.cfg, start.data.test, start.weights)
        else:
            train(start, resume=args.resume)
